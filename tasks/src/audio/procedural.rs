//! Sounds drawn from a seed, for machines without recordings.
//!
//! ```text
//!  spectrum   harmonics of a random pitch, gliding up or down, louder near one of four formants, in noise
//!             label = formant and direction of the glide: magnitudes tell it
//!  phase      harmonics of a fixed period with random magnitudes, delayed by label × period / 8, in noise
//!             label = delay: magnitudes carry nothing, the phase of any harmonic tells it
//! ```
//!
//! A period is [`PERIOD`] samples: with n_fft and hop multiples of it, harmonics lie on bins and a bin's phase is the same
//! in every frame. One label in [`WRONG_LABEL`] is drawn anew, as in the procedural images.
//!
//! Only additions, multiplications, divisions, square roots and [`noise`] take part, so a waveform has the same bits on
//! every host. Features of it go through the system's sine, logarithm and arc tangent: those agree to rounding.

use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::{Purpose, Seed};

use crate::phasor::cis;

/// Classes of either kind.
pub(crate) const CLASSES: u32 = 8;
/// Examples of train, inner_valid, outer_valid, test.
pub(crate) const EXAMPLES: [usize; 4] = [1_024, 128, 128, 256];
/// Period of the phase kind, in samples.
const PERIOD: usize = 64;
/// One label in this many is drawn anew.
const WRONG_LABEL: u32 = 25;
/// Centres of the formants, in cycles a sample.
const FORMANTS: [f64; 4] = [0.05, 0.09, 0.15, 0.24];
/// Half width of a formant, relative to its centre.
const FORMANT_WIDTH: f64 = 0.25;
/// Slowest and fastest fundamental, in cycles a sample.
const PITCHES: [f64; 2] = [0.012, 0.02];
/// By how much the pitch changes over a segment, either way.
const GLIDE: f64 = 0.3;
/// Harmonics of the phase kind.
const HARMONICS: usize = 12;
/// Standard deviation of noise, relative to the sound's.
const NOISE: f64 = 0.5;

/// What carries the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cue {
    Spectrum,
    Phase,
}

/// Example `index` of the data set of `seed`: `length` samples and a label.
pub(crate) fn draw(seed: Seed, cue: Cue, index: u64, length: usize) -> (Vec<f32>, u32) {
    let seed = seed.purpose(Purpose::Data).fold_in(index);
    let mut draws = Draws::new(seed);
    let class = draws.below(CLASSES);
    let mut sound = vec![0.0; length];
    match cue {
        Cue::Spectrum => glide(&mut sound, class, &mut draws),
        Cue::Phase => delayed(&mut sound, class, &mut draws),
    }
    let energy: f64 = sound.iter().map(|value| value * value).sum();
    let deviation = (energy / length.max(1) as f64).sqrt();
    let mut samples = vec![0.0; length];
    noise::normals(seed, 0, &mut samples);
    for (sample, value) in samples.iter_mut().zip(&sound) {
        *sample = (0.2 * (value / deviation + NOISE * f64::from(*sample))) as f32;
    }
    let label = if draws.below(WRONG_LABEL) == 0 { draws.below(CLASSES) } else { class };
    (samples, label)
}

fn between(draws: &mut Draws, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * draws.uniform()
}

fn glide(sound: &mut [f64], class: u32, draws: &mut Draws) {
    let pitch = between(draws, PITCHES);
    let formant = FORMANTS[class as usize % FORMANTS.len()] * between(draws, [0.9, 1.1]);
    let direction = if class as usize / FORMANTS.len() == 0 { 1.0 } else { -1.0 };
    let change = direction * GLIDE * between(draws, [0.7, 1.3]);
    let harmonics = (0.4 / (pitch * 1.4)) as usize;
    for harmonic in 1..=harmonics {
        let frequency = pitch * harmonic as f64;
        let distance = (frequency - formant) / (FORMANT_WIDTH * formant);
        let amplitude = 1.0 / (1.0 + distance * distance);
        let phase = draws.uniform();
        // A phasor turned by an angle that itself grows: the pitch is right in the middle of the segment.
        let mut phasor = cis(phase) * amplitude;
        let mut turn = cis(frequency * (1.0 - change / 2.0));
        let bend = cis(frequency * change / sound.len() as f64);
        for value in sound.iter_mut() {
            *value += phasor.re;
            phasor *= turn;
            turn *= bend;
        }
    }
}

fn delayed(sound: &mut [f64], class: u32, draws: &mut Draws) {
    let mut period = [0.0; PERIOD];
    let delay = class as usize * PERIOD / CLASSES as usize;
    for harmonic in 1..=HARMONICS {
        let amplitude = between(draws, [0.3, 1.0]);
        for (n, value) in period.iter_mut().enumerate() {
            let turns = (harmonic * (n + PERIOD - delay)) % PERIOD;
            *value += amplitude * cis(turns as f64 / PERIOD as f64).re;
        }
    }
    sound.iter_mut().zip(period.iter().cycle()).for_each(|(value, sample)| *value = *sample);
}

#[cfg(test)]
mod tests {
    use num_complex::Complex;

    use super::*;
    use crate::audio::stft::{Padding, Stft};

    #[test]
    fn a_seed_and_a_place_are_an_example() {
        for cue in [Cue::Spectrum, Cue::Phase] {
            let of = |seed, index| draw(Seed::new(seed), cue, index, 512);
            assert_eq!(of(1, 5), of(1, 5));
            assert_ne!(of(1, 5).0, of(1, 6).0);
            assert_ne!(of(1, 5).0, of(2, 5).0);
        }
    }

    #[test]
    fn the_bits_are_pinned() {
        // Recorded runs depend on them. A sum over f64 is exact enough to be the same everywhere and to see any change.
        let sums = [Cue::Spectrum, Cue::Phase].map(|cue| {
            let examples = (0..64).map(|index| draw(Seed::new(0), cue, index, 600));
            examples.fold((0.0, 0), |(sum, labels), (samples, label)| {
                let weighted = samples.iter().enumerate().map(|(n, &sample)| n as f64 * f64::from(sample));
                (sum + weighted.sum::<f64>(), 9 * labels % 1_000_003 + label)
            })
        });
        assert_eq!(sums, PINNED);
    }

    const PINNED: [(f64, u32); 2] = [(-8_643.000_726_681_89, 662_874), (-9_592.916_243_810_449, 631_242)];

    /// The fundamental of an example of the phase kind.
    fn fundamental(samples: &[f32]) -> Complex<f64> {
        let samples: Vec<f64> = samples.iter().copied().map(f64::from).collect();
        let spectrum = Stft::new(2 * PERIOD, PERIOD, Padding::None).transform(&samples);
        spectrum.row(2).iter().sum::<Complex<f64>>() / spectrum.frames() as f64
    }

    #[test]
    fn phase_tells_the_class_of_the_phase_kind_and_magnitude_does_not() {
        let mut hits = 0;
        let mut magnitudes = [(0.0, 0.0); CLASSES as usize];
        for index in 0..800 {
            let (samples, label) = draw(Seed::new(2), Cue::Phase, index, 1024);
            let value = fundamental(&samples);
            let sector = (-value.arg() / std::f64::consts::TAU * f64::from(CLASSES)).round() as i32;
            hits += u32::from(sector.rem_euclid(CLASSES as i32) as u32 == label);
            let (sum, count) = &mut magnitudes[label as usize];
            (*sum, *count) = (*sum + value.norm(), *count + 1.0);
        }
        assert!((760..=790).contains(&hits), "the phase names {hits} of 800 labels, of which one in 25 is drawn anew");
        let means = magnitudes.map(|(sum, count)| sum / count);
        let all = means.iter().sum::<f64>() / means.len() as f64;
        assert!(means.iter().all(|mean| (mean / all - 1.0).abs() < 0.1), "{means:?}");
    }

    #[test]
    fn the_spectrum_tells_the_formant_of_the_spectrum_kind() {
        // The middle half of the power below each formant's reach, as the nearest class mean.
        let bands = |samples: &[f32]| {
            let samples: Vec<f64> = samples.iter().copied().map(f64::from).collect();
            let spectrum = Stft::new(256, 128, Padding::None).transform(&samples);
            let power = |formant: f64| {
                let bins = (formant * 0.8 * 256.0) as usize..=(formant * 1.2 * 256.0) as usize;
                bins.clone().flat_map(|bin| spectrum.row(bin)).map(|value| value.norm_sqr()).sum::<f64>()
                    / bins.count() as f64
            };
            FORMANTS.map(power)
        };
        let hits = (0..200)
            .filter(|&index| {
                let (samples, label) = draw(Seed::new(2), Cue::Spectrum, index, 2048);
                let power = bands(&samples);
                let loudest = (0..4).max_by(|&a, &b| power[a].total_cmp(&power[b])).unwrap();
                loudest == label as usize % 4
            })
            .count();
        assert!(hits > 170, "{hits} of 200");
    }
}
