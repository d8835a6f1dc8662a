//! From reports back to a meta-gradient.
//!
//! ```text
//!  pair report (fresh, carried) ─► terms (outer step, slot, pair, weight) ─┐
//!                                  seed ─► ε, a block at a time ───────────┴─► Σ weight ε ─► mean over pairs
//!  even slots ─► g₀ ┐
//!                   ├─► g₀ + g₁ is the sum, their disagreement the noise
//!  odd slots  ─► g₁ ┘
//! ```
//!
//! Terms are summed in f64, in slot order, then pair order, then oldest perturbation first, and the halves last: a fixed
//! order, whatever order results arrived in.

use std::borrow::Borrow;

use super::OuterConfig;
use super::variance::{Correlation, Variance, signal_to_noise};
use crate::estimator::{EstimatorConfig, PairReport};
use crate::params::Layout;
use crate::perturbation::{Term, weighted_sum};
use crate::schedule::Window;
use crate::work::{Executor, Sequential};
use crate::{Error, Result, Seed};

/// Terms gathered before they are summed: bounds memory, and is many enough that a block of theta stays in cache.
const TERMS: usize = 8192;

/// One slot's part of an outer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The slot.
    pub slot: u32,
    /// What it ran.
    pub window: Window,
    /// What came back.
    pub result: SlotResult,
    /// Inner steps trained for it, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u32,
}

/// A slot's result, seed-coded or dense.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotResult {
    /// One report a pair, in pair order.
    SeedCoded(Vec<PairReport>),
    /// Already summed over the slot's pairs: `Σ [carried (A + ε) + fresh ε] / (2 sigma)`.
    Dense {
        /// As long as theta.
        gradient: Vec<f32>,
        /// Mean normalised meta-loss over pairs and signs.
        loss: f64,
    },
}

impl SlotResult {
    /// Mean normalised meta-loss over pairs and signs.
    pub fn loss(&self) -> f64 {
        match self {
            Self::SeedCoded(pairs) => {
                let losses: f64 = pairs.iter().map(|pair| pair.loss_plus + pair.loss_minus).sum();
                losses / (2 * pairs.len()) as f64
            }
            Self::Dense { loss, .. } => *loss,
        }
    }
}

/// A whole outer step, folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// Mean meta-gradient over all pairs, before clipping; as long as theta.
    pub gradient: Vec<f64>,
    /// Mean normalised meta-loss.
    pub loss: f64,
    /// Inner steps trained, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u64,
    /// How noisy the gradient is.
    pub variance: Variance,
}

/// The terms of one slot's pairs, in pair order.
fn slot_terms<'a>(
    outer_step: u64,
    slot: u32,
    window: &'a Window,
    estimator: &'a EstimatorConfig,
    pairs: &'a [PairReport],
) -> impl Iterator<Item = Term> + use<'a> {
    let kind = estimator.kind;
    (0..).zip(pairs).flat_map(move |(pair, report)| kind.terms(window, outer_step, slot, pair, report, estimator.sigma))
}

/// The sum over one slot's pairs of `[carried (A + ε) + fresh ε] / (2 sigma)`, in f64, pairs in order, with perturbations
/// rebuilt from seeds. As long as theta, whose layout is given.
pub fn slot_gradient(
    run: Seed,
    outer_step: u64,
    slot: u32,
    window: &Window,
    estimator: &EstimatorConfig,
    pairs: &[PairReport],
    layout: &Layout,
) -> Vec<f64> {
    let summing = Summing { run, estimator, layout, executor: &Sequential };
    let mut half = Half::new(layout.size());
    half.extend(slot_terms(outer_step, slot, window, estimator, pairs), &summing);
    half.finish(&summing)
}

/// What every sum of an outer step shares.
#[derive(Clone, Copy)]
struct Summing<'a> {
    run: Seed,
    estimator: &'a EstimatorConfig,
    layout: &'a Layout,
    executor: &'a dyn Executor,
}

/// A growing sum of terms.
struct Half {
    sum: Vec<f64>,
    terms: Vec<Term>,
}

impl Half {
    fn new(size: usize) -> Self {
        Self { sum: vec![0.0; size], terms: Vec::new() }
    }

    fn extend(&mut self, terms: impl Iterator<Item = Term>, summing: &Summing<'_>) {
        for term in terms {
            self.terms.push(term);
            if self.terms.len() == TERMS {
                self.flush(summing);
            }
        }
    }

    fn flush(&mut self, summing: &Summing<'_>) {
        let &Summing { run, estimator, layout, executor } = summing;
        weighted_sum(estimator.noise, layout, run, &self.terms, &mut self.sum, executor);
        self.terms.clear();
    }

    fn finish(mut self, summing: &Summing<'_>) -> Vec<f64> {
        self.flush(summing);
        self.sum
    }
}

/// Folds the slots of one outer step in slot order, in whatever order they are given. `layout` is theta's.
///
/// # Errors
/// [`Error::Length`] if a slot is missing or there twice, or a contribution has the wrong number of pairs or values;
/// [`Error::NotFinite`] if one holds a number that is not finite, or the losses sum up to one; [`Error::Setting`] if the
/// noise has fewer directions than a slot has pairs.
pub fn fold<C: Borrow<Contribution>>(
    run: Seed,
    outer_step: u64,
    config: &OuterConfig,
    estimator: &EstimatorConfig,
    layout: &Layout,
    contributions: &[C],
) -> Result<Folded> {
    fold_with(&Sequential, run, outer_step, config, estimator, layout, contributions)
}

/// [`fold`] on the threads of an executor: the same bits.
///
/// # Errors
/// As [`fold`].
pub fn fold_with<C: Borrow<Contribution>>(
    executor: &dyn Executor,
    run: Seed,
    outer_step: u64,
    config: &OuterConfig,
    estimator: &EstimatorConfig,
    layout: &Layout,
    contributions: &[C],
) -> Result<Folded> {
    let size = layout.size();
    estimator.noise.check_pairs(config.pairs_per_slot, size)?;
    let summing = Summing { run, estimator, layout, executor };
    let ordered = in_slot_order(config.slots, contributions)?;
    let (mut loss, mut inner_steps, mut diverged_lanes) = (0.0, 0_u64, 0);
    let mut correlation = Correlation::default();
    let mut halves = [Half::new(size), Half::new(size)];
    for contribution in ordered {
        check(config, size, contribution)?;
        let slot = contribution.slot;
        let half = &mut halves[slot as usize % 2];
        match &contribution.result {
            SlotResult::SeedCoded(pairs) => {
                half.extend(slot_terms(outer_step, slot, &contribution.window, estimator, pairs), &summing);
                pairs.iter().for_each(|pair| correlation.add(pair));
            }
            SlotResult::Dense { gradient, loss: _ } => {
                // Terms that came before are summed before.
                half.flush(&summing);
                half.sum.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        loss += contribution.result.loss();
        inner_steps = inner_steps.saturating_add(contribution.inner_steps);
        diverged_lanes += u64::from(contribution.diverged_lanes);
    }
    let halves = halves.map(|half| half.finish(&summing));
    let slots = [config.slots.div_ceil(2), config.slots / 2];
    let pairs = slots.map(|slots| f64::from(slots) * f64::from(config.pairs_per_slot));
    let signal_to_noise = signal_to_noise(&halves, pairs);
    let variance = Variance { signal_to_noise, antithetic_correlation: correlation.value() };
    let [mut gradient, odd] = halves;
    gradient.iter_mut().zip(odd).for_each(|(even, odd)| *even = (*even + odd) / (pairs[0] + pairs[1]));
    loss /= f64::from(config.slots);
    if !loss.is_finite() {
        return Err(Error::NotFinite { what: "sum of the meta-losses".into() });
    }
    Ok(Folded { gradient, loss, inner_steps, diverged_lanes, variance })
}

/// The contributions of slots 0, 1, 2 …, each exactly once.
fn in_slot_order<C: Borrow<Contribution>>(slots: u32, contributions: &[C]) -> Result<Vec<&Contribution>> {
    let mut ordered: Vec<&Contribution> = contributions.iter().map(Borrow::borrow).collect();
    ordered.sort_by_key(|contribution| contribution.slot);
    let complete = ordered.iter().map(|contribution| contribution.slot).eq(0..slots);
    if complete {
        return Ok(ordered);
    }
    let given: Vec<u32> = ordered.iter().map(|contribution| contribution.slot).collect();
    let what = format!("an outer step of slots 0..{slots}, each once; given slots {given:?}");
    Err(Error::Length { what, expected: slots as usize, got: contributions.len() })
}

fn check(config: &OuterConfig, size: usize, contribution: &Contribution) -> Result<()> {
    let slot = contribution.slot;
    let (what, expected, got, finite) = match &contribution.result {
        SlotResult::SeedCoded(pairs) => {
            let numbers = |pair: &PairReport| [pair.fresh, pair.carried, pair.loss_plus, pair.loss_minus];
            let finite = pairs.iter().flat_map(numbers).all(f64::is_finite);
            (format!("pairs of slot {slot}"), config.pairs_per_slot as usize, pairs.len(), finite)
        }
        SlotResult::Dense { gradient, loss } => {
            let finite = loss.is_finite() && gradient.iter().all(|value| value.is_finite());
            (format!("gradient of slot {slot}"), size, gradient.len(), finite)
        }
    };
    if expected != got {
        return Err(Error::Length { what, expected, got });
    }
    if finite { Ok(()) } else { Err(Error::NotFinite { what }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::EstimatorKind;
    use crate::noise;
    use crate::outer::{Report, ThetaOptimizer};
    use crate::params::TensorSpec;
    use crate::schedule::{HorizonSchedule, Trajectory, perturbation_seed};
    use std::sync::Arc;

    const RUN: Seed = Seed::new(11);
    const SIGMA: f32 = 0.1;

    fn estimator() -> EstimatorConfig {
        EstimatorConfig::new(EstimatorKind::Pes { window: 4 }, SIGMA, HorizonSchedule::Constant { steps: 30 })
    }

    fn layout(size: usize) -> Arc<Layout> {
        Layout::new(vec![TensorSpec::new("theta", [size])]).unwrap()
    }

    fn config(slots: u32, pairs_per_slot: u32) -> OuterConfig {
        OuterConfig {
            steps: 1,
            slots,
            pairs_per_slot,
            optimizer: ThetaOptimizer::default(),
            clip: None,
            clip_norm: None,
            accumulation: 1,
            report: Report::Auto,
        }
    }

    fn window(began: u64) -> Window {
        Window { current: Trajectory { began, inner_step: 8, horizon: 30, ..Trajectory::default() }, next: None }
    }

    fn report(fresh: f64, carried: f64) -> PairReport {
        PairReport { fresh, carried, loss_plus: 1.0 + fresh, loss_minus: 2.0 }
    }

    fn epsilon(outer_step: u64, slot: u32, pair: u32, size: usize) -> Vec<f64> {
        let mut values = vec![0.0; size];
        noise::normals(perturbation_seed(RUN, outer_step, slot, pair), 0, &mut values);
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn a_slot_is_the_weighted_sum_of_its_perturbations() {
        // More than two blocks of the sum, the last one ragged.
        let size = 2 * 1024 + 37;
        let pairs = [report(0.3, 0.0), report(0.0, 0.0), report(-0.2, 0.7)];
        let got = slot_gradient(RUN, 9, 5, &window(7), &estimator(), &pairs, &layout(size));
        for i in (0..size).step_by(97).chain([1023, 1024, size - 1]) {
            let e = |outer_step, pair| epsilon(outer_step, 5, pair, size)[i];
            let whole = e(7, 2) + e(8, 2) + e(9, 2);
            let expected = (0.3 * e(9, 0) + 0.7 * whole - 0.2 * e(9, 2)) / (2.0 * f64::from(SIGMA));
            assert!((got[i] - expected).abs() < 1e-12, "{i}: {} is not {expected}", got[i]);
        }
    }

    fn contributions(size: usize) -> Vec<Contribution> {
        let seed_coded = |slot: u32| Contribution {
            slot,
            window: window(u64::from(slot)),
            result: SlotResult::SeedCoded(vec![report(0.1 * f64::from(slot), 0.5), report(0.2, -0.1)]),
            inner_steps: 10,
            diverged_lanes: slot,
        };
        let dense = SlotResult::Dense { gradient: vec![2.0; size], loss: 5.0 };
        vec![seed_coded(0), seed_coded(1), Contribution { result: dense, ..seed_coded(2) }]
    }

    #[test]
    fn a_step_is_the_mean_over_all_pairs() {
        let parts = contributions(6);
        let folded = fold(RUN, 3, &config(3, 2), &estimator(), &layout(6), &parts).unwrap();
        let slot = |slot: usize| match &parts[slot].result {
            SlotResult::SeedCoded(pairs) => {
                slot_gradient(RUN, 3, slot as u32, &parts[slot].window, &estimator(), pairs, &layout(6))
            }
            SlotResult::Dense { gradient, .. } => gradient.iter().map(|value| f64::from(*value)).collect(),
        };
        let (a, b, c) = (slot(0), slot(1), slot(2));
        for i in 0..6 {
            let expected = (a[i] + b[i] + c[i]) / 6.0;
            assert!((folded.gradient[i] - expected).abs() < 1e-15 * (1.0 + expected.abs()), "{i}");
        }
        let losses = (3.0 + 3.2) / 4.0 + (3.1 + 3.2) / 4.0 + 5.0;
        assert!((folded.loss - losses / 3.0).abs() < 1e-12);
        assert_eq!((folded.inner_steps, folded.diverged_lanes), (30, 3));
    }

    #[test]
    fn a_step_tells_how_noisy_it_is() {
        let mut parts = contributions(6);
        let folded = fold(RUN, 3, &config(3, 2), &estimator(), &layout(6), &parts).unwrap();
        let Variance { signal_to_noise, antithetic_correlation } = folded.variance;
        assert!(signal_to_noise.is_some(), "three slots can be split");
        assert_eq!(antithetic_correlation, None, "the - losses of these reports are all alike");
        parts.truncate(1);
        let folded = fold(RUN, 3, &config(1, 2), &estimator(), &layout(6), &parts).unwrap();
        assert_eq!(folded.variance.signal_to_noise, None);
    }

    #[test]
    fn arrival_order_does_not_matter() {
        let mut parts = contributions(50);
        let folded = fold(RUN, 3, &config(3, 2), &estimator(), &layout(50), &parts).unwrap();
        parts.rotate_left(1);
        assert_eq!(fold(RUN, 3, &config(3, 2), &estimator(), &layout(50), &parts).unwrap(), folded);
        parts.swap(0, 1);
        assert_eq!(fold(RUN, 3, &config(3, 2), &estimator(), &layout(50), &parts).unwrap(), folded);
    }

    #[test]
    fn incomplete_and_damaged_steps_are_refused() {
        let try_fold =
            |parts: &[Contribution]| fold(RUN, 3, &config(3, 2), &estimator(), &layout(6), parts).unwrap_err();
        let good = contributions(6);
        assert!(matches!(try_fold(&good[..2]), Error::Length { .. }));
        assert!(matches!(try_fold(&[good.clone(), good.clone()].concat()), Error::Length { .. }));
        let twice = [good[0].clone(), good[1].clone(), good[1].clone()];
        assert!(matches!(try_fold(&twice), Error::Length { .. }));
        for result in
            [SlotResult::SeedCoded(vec![report(0.0, 0.0)]), SlotResult::Dense { gradient: vec![0.0; 5], loss: 0.0 }]
        {
            let mut parts = good.clone();
            parts[1].result = result;
            assert!(matches!(try_fold(&parts), Error::Length { .. }));
        }
        for result in [
            SlotResult::SeedCoded(vec![report(0.0, 0.0), report(0.0, f64::NAN)]),
            SlotResult::Dense { gradient: vec![f32::INFINITY; 6], loss: 0.0 },
            SlotResult::Dense { gradient: vec![0.0; 6], loss: f64::NAN },
            SlotResult::SeedCoded(vec![PairReport { loss_plus: f64::MAX, ..report(0.0, 0.0) }; 2]),
        ] {
            let mut parts = good.clone();
            parts[1].result = result;
            assert!(matches!(try_fold(&parts), Error::NotFinite { .. }));
        }
    }
}
