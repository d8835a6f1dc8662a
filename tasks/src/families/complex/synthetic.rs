//! Signals drawn from a seed whose answers lie in their phases (shared spec, complex-and-audio.md §8). Examples never
//! repeat: a stream is as long as it is read. Only sums, products, divisions and roots take part, so all hosts draw the
//! same bits.
//!
//! | family | signal | to be found out |
//! |---|---|---|
//! | `complex_phase_sum` | n numbers on the unit circle | the sector of `Π zᵢ^kᵢ`, k of ±1 and 0 |
//! | `complex_delay` | a sinusoid twice, in noise | by what part of a turn the second one lags |
//! | `complex_mobius` | a number of the unit disk | `a + b / (z − p)`, p just outside |
//! | `complex_bn_stress` | `x (1 + j/2) + jεy` | the class of x and y |

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use num_complex::Complex64;
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};
use serde::{Deserialize, Serialize};

use super::super::Family;
use super::super::settings::{FamilySettings, check_batch, check_widths, family, refuse};
use super::signals::{Examples, Goal, SignalProblem, Source, Wanted, stream};
use crate::Error;
use crate::layers::complex::ComplexInit;
use crate::models::{ComplexMlp, DelayNet, Hidden, SignalNet};
use crate::phasor::cis;
use crate::sample::Panel;

/// Largest batch, most numbers of a signal, most classes.
const MOST: usize = 4_096;

/// Refuses a setting outside its range.
fn check_ranges<S: FamilySettings>(ranges: &[(&str, usize, usize, usize)]) -> Result<(), Error> {
    match ranges.iter().find(|(_, got, least, most)| !(least..=most).contains(&got)) {
        Some((name, got, least, most)) => Err(refuse::<S>(format!("{name} must be {least} to {most} (got {got})"))),
        None => Ok(()),
    }
}

/// Refuses a number outside its range, and what is none.
fn check_number<S: FamilySettings>(name: &str, got: f64, [least, most]: [f64; 2]) -> Result<(), Error> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(refuse::<S>(format!("{name} must be {least} to {most} (got {got})")))
}

fn build<S: FamilySettings>(net: Box<dyn SignalNet>, draw: Drawn, batch_size: usize) -> Result<Arc<dyn Family>, Error> {
    check_batch::<S>(batch_size, MOST)?;
    family::<S>("hidden", SignalProblem::new(S::NAME, net, Box::new(draw), batch_size))
}

/// Writes one example: its numbers, and the answer.
type Draw = Box<dyn Fn(&mut Draws) -> (Vec<Complex64>, Answer) + Send + Sync>;

enum Answer {
    Class(u32),
    Number(Complex64),
}

/// Signals of a rule.
struct Drawn {
    about: String,
    shape: Vec<usize>,
    goal: Goal,
    seed: Seed,
    draw: Draw,
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "procedural, {}", self.about)
    }
}

impl Source for Drawn {
    fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    fn goal(&self) -> Goal {
        self.goal
    }

    fn append(&self, wanted: Wanted, examples: &mut Examples) {
        let channels = self.shape.last().copied().unwrap_or(1);
        for place in 0..wanted.size {
            let (numbers, answer) = (self.draw)(&mut stream(wanted, place, self.seed));
            for numbers in numbers.chunks_exact(channels) {
                examples.values.extend(numbers.iter().map(|z| z.re as f32));
                examples.values.extend(numbers.iter().map(|z| z.im as f32));
            }
            match answer {
                Answer::Class(class) => examples.labels.push(class),
                Answer::Number(z) => examples.targets.extend([z.re as f32, z.im as f32]),
            }
        }
    }

    /// Parts of a few signals, or of many answers if a signal is one number.
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let wanted = Wanted { seed, split: Split::Train, number: 0, batch_size: 64, size: 64 };
        let examples = (0..wanted.size).map(|place| (self.draw)(&mut stream(wanted, place, self.seed)));
        let part = |numbers: &[Complex64], of: fn(&Complex64) -> f64| numbers.iter().map(|z| of(z) as f32).collect();
        let lines = |name: &str, numbers: &[Complex64]| {
            [(format!("{name} re"), part(numbers, |z| z.re)), (format!("{name} im"), part(numbers, |z| z.im))]
        };
        if let Goal::Numbers(_) = self.goal {
            let (signals, answers): (Vec<Complex64>, Vec<Complex64>) = examples
                .filter_map(|(numbers, answer)| match answer {
                    Answer::Number(z) => Some((*numbers.first()?, z)),
                    Answer::Class(_) => None,
                })
                .unzip();
            let lines = [lines("signal", &signals), lines("answer", &answers)].concat();
            return vec![Panel::Curves { title: self.about.clone(), axis: "example".into(), lines }];
        }
        let channels = self.shape.last().copied().unwrap_or(1);
        let times = self.shape.iter().product::<usize>() / channels.max(1);
        let curves = examples.take(4).map(|(numbers, answer)| {
            let title = match answer {
                Answer::Class(class) => format!("class {class}"),
                Answer::Number(z) => format!("{z}"),
            };
            // A vector is one line; a signal in time has a line a channel.
            let lines = if times == 1 {
                lines("z", &numbers).to_vec()
            } else {
                let of = |channel: usize| numbers.iter().copied().skip(channel).step_by(channels).collect::<Vec<_>>();
                (0..channels).flat_map(|channel| lines(&format!("channel {channel}"), &of(channel))).collect()
            };
            Panel::Curves { title, axis: if times == 1 { "entry" } else { "time" }.into(), lines }
        });
        curves.collect()
    }
}

fn normal(draws: &mut Draws) -> Complex64 {
    let re = f64::from(draws.normal());
    Complex64::new(re, f64::from(draws.normal()))
}

/// A setting that a part of a turn falls into.
fn sector(turns: f64, sectors: usize) -> u32 {
    let part = turns - turns.floor();
    ((part * sectors as f64) as usize).min(sectors - 1) as u32
}

/// Settings of `complex_phase_sum`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct PhaseSum {
    /// Seed of the exponents and of the signals.
    data_seed: u64,
    /// Numbers of a signal.
    inputs: usize,
    /// How many of them count.
    terms: usize,
    /// Sectors of the circle.
    sectors: usize,
    /// Widths of hidden layers.
    hidden: Vec<usize>,
    /// Hidden activation.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for PhaseSum {
    fn default() -> Self {
        Self {
            data_seed: 0,
            inputs: 16,
            terms: 2,
            sectors: 8,
            hidden: vec![32],
            activation: Hidden::Crelu,
            init: ComplexInit::PolarHe,
            batch_size: 64,
        }
    }
}

impl FamilySettings for PhaseSum {
    const NAME: &'static str = "complex_phase_sum";
    const SUMMARY: &'static str = "tell the sector of a product of numbers on the unit circle, by a complex MLP";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { data_seed, inputs, terms, sectors, hidden, activation, init, batch_size } = self;
        check_ranges::<Self>(&[
            ("inputs", inputs, 1, MOST),
            ("terms", terms, 1, inputs),
            ("sectors", sectors, 2, MOST),
        ])?;
        check_widths::<Self>("hidden", &hidden)?;
        let seed = Seed::new(data_seed).purpose(Purpose::Data);
        let exponents = exponents(seed, inputs, terms);
        let draw: Draw = Box::new(move |draws| {
            let turns: Vec<f64> = exponents.iter().map(|_| draws.uniform()).collect();
            let sum: f64 = turns.iter().zip(&exponents).map(|(turn, exponent)| turn * exponent).sum();
            (turns.into_iter().map(cis).collect(), Answer::Class(sector(sum, sectors)))
        });
        let widths = [&[inputs], &hidden[..], &[sectors]].concat();
        let net = Box::new(ComplexMlp::new(widths, activation, false, init));
        let about = format!("{terms} of {inputs} phases, {sectors} classes");
        build::<Self>(net, Drawn { about, shape: vec![inputs], goal: Goal::Class(sectors), seed, draw }, batch_size)
    }
}

/// ±1 at `terms` places, 0 at the others.
fn exponents(seed: Seed, inputs: usize, terms: usize) -> Vec<f64> {
    let mut draws = Draws::new(seed.purpose(Purpose::Instance));
    let mut exponents: Vec<f64> = (0..inputs)
        .map(|place| {
            if place >= terms {
                0.0
            } else if draws.below(2) == 0 {
                1.0
            } else {
                -1.0
            }
        })
        .collect();
    for place in (1..inputs).rev() {
        exponents.swap(place, draws.below(place as u32 + 1) as usize);
    }
    exponents
}

/// Settings of `complex_delay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Delay {
    /// Seed of the signals.
    data_seed: u64,
    /// Times of a signal.
    times: usize,
    /// Parts of a turn to tell apart.
    classes: usize,
    /// Deviation of each part of the noise.
    noise: f64,
    /// Times that the convolution sees.
    kernel: usize,
    /// Its output channels.
    channels: usize,
    /// Hidden activation.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for Delay {
    fn default() -> Self {
        Self {
            data_seed: 0,
            times: 24,
            classes: 4,
            noise: 0.2,
            kernel: 3,
            channels: 16,
            activation: Hidden::Cardioid,
            init: ComplexInit::PolarHe,
            batch_size: 32,
        }
    }
}

/// Slowest and fastest sinusoid, in turns a time.
const FREQUENCIES: [f64; 2] = [0.05, 0.2];

impl FamilySettings for Delay {
    const NAME: &'static str = "complex_delay";
    const SUMMARY: &'static str = "tell by how much one of two noisy sinusoids lags, by a complex convolution in time";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { data_seed, times, classes, noise, kernel, channels, activation, init, batch_size } = self;
        check_ranges::<Self>(&[
            ("times", times, 1, MOST),
            ("classes", classes, 2, MOST),
            ("kernel", kernel, 1, times),
        ])?;
        check_number::<Self>("noise", noise, [0.0, 100.0])?;
        check_widths::<Self>("channels", &[channels])?;
        let seed = Seed::new(data_seed).purpose(Purpose::Data);
        let draw: Draw = Box::new(move |draws| {
            let [slow, fast] = FREQUENCIES;
            let step = cis(slow + (fast - slow) * draws.uniform());
            let lag = draws.uniform();
            let mut channels = [cis(draws.uniform()) * (0.5 + draws.uniform()), Complex64::ONE];
            channels[1] = channels[0] * cis(-lag) * (0.5 + draws.uniform());
            let mut numbers = Vec::with_capacity(2 * times);
            for _ in 0..times {
                for channel in &mut channels {
                    numbers.push(*channel + normal(draws) * noise);
                    *channel *= step;
                }
            }
            (numbers, Answer::Class(sector(lag, classes)))
        });
        let net = Box::new(DelayNet::new([2, channels, classes], kernel, activation, init));
        let about = format!("two sinusoids of {times} times, {classes} classes");
        build::<Self>(
            net,
            Drawn { about, shape: vec![1, times, 2], goal: Goal::Class(classes), seed, draw },
            batch_size,
        )
    }
}

/// Settings of `complex_mobius`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Mobius {
    /// Seed of the map and of the signals.
    data_seed: u64,
    /// Distance of the pole from 0: above 1, the radius of the disk.
    pole: f64,
    /// Widths of hidden layers.
    hidden: Vec<usize>,
    /// Hidden activation.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for Mobius {
    fn default() -> Self {
        Self {
            data_seed: 0,
            pole: 1.25,
            hidden: vec![16, 16],
            activation: Hidden::HolomorphicTanh,
            init: ComplexInit::PolarGlorot,
            batch_size: 64,
        }
    }
}

impl FamilySettings for Mobius {
    const NAME: &'static str = "complex_mobius";
    const SUMMARY: &'static str = "learn a Möbius map of the unit disk with a pole nearby, by a holomorphic MLP";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { data_seed, pole, hidden, activation, init, batch_size } = self;
        check_number::<Self>("pole", pole, [1.01, 100.0])?;
        check_widths::<Self>("hidden", &hidden)?;
        let seed = Seed::new(data_seed).purpose(Purpose::Data);
        let map = MobiusMap::draw(seed, pole);
        let draw: Draw = Box::new(move |draws| {
            let z = in_disk(draws);
            (vec![z], Answer::Number(map.value(z)))
        });
        let widths = [&[1], &hidden[..], &[1]].concat();
        let net = Box::new(ComplexMlp::new(widths, activation, false, init));
        let about = format!("a Möbius map with a pole at distance {pole}");
        build::<Self>(net, Drawn { about, shape: vec![1], goal: Goal::Numbers(1), seed, draw }, batch_size)
    }
}

/// A number of the unit disk, uniformly.
fn in_disk(draws: &mut Draws) -> Complex64 {
    loop {
        let z = Complex64::new(2.0 * draws.uniform() - 1.0, 2.0 * draws.uniform() - 1.0);
        if z.norm_sqr() <= 1.0 {
            return z;
        }
    }
}

/// `a + b / (z − p)`, which every Möbius map with a pole is.
#[derive(Clone, Copy, Debug)]
struct MobiusMap {
    a: Complex64,
    b: Complex64,
    pole: Complex64,
}

impl MobiusMap {
    /// With variance 1 over the disk: 1/(z − p) = −1/p Σ (z/p)ⁿ, and E|z|²ⁿ = 1/(n + 1).
    fn draw(seed: Seed, distance: f64) -> Self {
        let mut draws = Draws::new(seed.purpose(Purpose::Instance));
        let (pole, turn) = (cis(draws.uniform()) * distance, cis(draws.uniform()));
        let ratio = 1.0 / (distance * distance);
        let mut power = 1.0;
        let mut variance = 0.0;
        for n in 1..2_000 {
            power *= ratio;
            variance += power / f64::from(n + 1);
        }
        Self { a: normal(&mut draws) * 0.5, b: turn * (distance / variance.sqrt()), pole }
    }

    fn value(self, z: Complex64) -> Complex64 {
        self.a + self.b / (z - self.pole)
    }
}

/// Settings of `complex_bn_stress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct BnStress {
    /// Seed of the classes and of the signals.
    data_seed: u64,
    /// Numbers of a signal.
    inputs: usize,
    /// Classes.
    classes: usize,
    /// How far imaginary parts are from half of the real ones.
    apart: f64,
    /// Width of the hidden layer.
    hidden: usize,
    /// Hidden activation.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for BnStress {
    fn default() -> Self {
        Self {
            data_seed: 0,
            inputs: 8,
            classes: 8,
            apart: 0.003,
            hidden: 16,
            activation: Hidden::Crelu,
            init: ComplexInit::PolarHe,
            batch_size: 64,
        }
    }
}

impl FamilySettings for BnStress {
    const NAME: &'static str = "complex_bn_stress";
    const SUMMARY: &'static str =
        "classify numbers whose parts are nearly proportional, by a complex MLP with batch norm";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { data_seed, inputs, classes, apart, hidden, activation, init, batch_size } = self;
        check_ranges::<Self>(&[("inputs", inputs, 1, MOST), ("classes", classes, 2, 256)])?;
        check_number::<Self>("apart", apart, [0.0, 1.0])?;
        check_widths::<Self>("hidden", &[hidden])?;
        if batch_size < 2 {
            return Err(refuse::<Self>(format!("batch_size must be at least 2 for a covariance (got {batch_size})")));
        }
        let seed = Seed::new(data_seed).purpose(Purpose::Data);
        let mut centres = Draws::new(seed.purpose(Purpose::Instance));
        let centres: Vec<Complex64> = (0..classes * inputs).map(|_| normal(&mut centres)).collect();
        let draw: Draw = Box::new(move |draws| {
            let class = draws.below(classes as u32);
            let of_class = &centres[class as usize * inputs..][..inputs];
            let numbers = of_class.iter().map(|centre| {
                let noisy = centre + normal(draws);
                Complex64::new(noisy.re, noisy.re / 2.0 + apart * noisy.im)
            });
            (numbers.collect(), Answer::Class(class))
        });
        let net = Box::new(ComplexMlp::new(vec![inputs, hidden, classes], activation, true, init));
        let about = format!("{inputs} numbers {apart} off a line, {classes} classes");
        build::<Self>(net, Drawn { about, shape: vec![inputs], goal: Goal::Class(classes), seed, draw }, batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mobius_maps_have_variance_1_over_the_disk() {
        for distance in [1.25, 2.0] {
            let map = MobiusMap::draw(Seed::new(3), distance);
            let mut draws = Draws::new(Seed::new(4));
            let values: Vec<Complex64> = (0..200_000).map(|_| map.value(in_disk(&mut draws))).collect();
            let mean = values.iter().sum::<Complex64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).norm_sqr()).sum::<f64>() / values.len() as f64;
            // At the centre a harmonic function is its mean.
            assert!((mean - map.value(Complex64::ZERO)).norm() < 0.02, "{distance}: {mean}");
            assert!((variance - 1.0).abs() < 0.05, "{distance}: {variance}");
        }
    }

    #[test]
    fn sectors_are_those_of_the_product() {
        let exponents = exponents(Seed::new(5), 16, 3);
        assert_eq!(exponents.iter().filter(|exponent| **exponent != 0.0).count(), 3);
        for seed in 0..50 {
            let mut draws = Draws::new(Seed::new(seed));
            let turns: Vec<f64> = (0..16).map(|_| draws.uniform()).collect();
            let sum: f64 = turns.iter().zip(&exponents).map(|(turn, exponent)| turn * exponent).sum();
            let product: Complex64 =
                turns.iter().zip(&exponents).map(|(&turn, &exponent)| cis(turn).powi(exponent as i32)).product();
            let angle = product.arg() / std::f64::consts::TAU;
            assert_eq!(sector(sum, 8), ((angle + 1.0) * 8.0) as u32 % 8, "{product}");
        }
    }
}
