//! From reports back to a meta-gradient.
//!
//! ```text
//!  pair report (fresh, carried) ─┐
//!  seed ─► ε, a block at a time ─┼─► [carried (A + ε) + fresh ε] / (2 sigma) ─► Σ pairs ─► Σ slots ─► mean
//!  seeds since `began` ─► A ─────┘
//! ```
//!
//! Perturbations are rebuilt block by block, so that no temporary is as long as theta and each block stays in cache
//! while the pairs pass over it. A is summed in f64, oldest outer step first: the sum of many f32 perturbations must not
//! depend on how it was cut.

use std::borrow::Borrow;

use crate::estimator::{EstimatorConfig, PairReport};
use crate::schedule::{Window, perturbation_seed};
use crate::{Error, Result, Seed, noise};

use super::OuterConfig;

/// Values of theta handled at once: ε (f32), A and the sum (f64) of a block fit the first-level cache.
const BLOCK: usize = 1024;

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
}

/// Adds one pair's `[carried (A + ε) + fresh ε] / (2 sigma)` to `sum`. All slices are equally long.
pub fn add_pair(sum: &mut [f64], report: &PairReport, sigma: f32, accumulated: &[f64], epsilon: &[f32]) {
    debug_assert!(sum.len() == accumulated.len() && sum.len() == epsilon.len());
    let scale = 0.5 / f64::from(sigma);
    for ((sum, &earlier), &epsilon) in sum.iter_mut().zip(accumulated).zip(epsilon) {
        let epsilon = f64::from(epsilon);
        *sum += scale * (report.carried * (earlier + epsilon) + report.fresh * epsilon);
    }
}

/// The sum over one slot's pairs of `[carried (A + ε) + fresh ε] / (2 sigma)`, in f64, pairs in order, with ε and A
/// rebuilt from seeds: A is the sum of the perturbations of outer steps `window.current.began..outer_step`. `size` is D.
pub fn slot_gradient(
    run: Seed,
    outer_step: u64,
    slot: u32,
    window: &Window,
    estimator: &EstimatorConfig,
    pairs: &[PairReport],
    size: usize,
) -> Vec<f64> {
    let mut gradient = vec![0.0; size];
    let (mut epsilon, mut accumulated) = ([0.0; BLOCK], [0.0; BLOCK]);
    for (index, sum) in gradient.chunks_mut(BLOCK).enumerate() {
        let first = (index * BLOCK) as u64;
        let (epsilon, accumulated) = (&mut epsilon[..sum.len()], &mut accumulated[..sum.len()]);
        for (pair, report) in (0..).zip(pairs) {
            if report.carried == 0.0 && report.fresh == 0.0 {
                continue; // adds exactly nothing
            }
            accumulated.fill(0.0);
            if report.carried != 0.0 {
                for earlier in window.current.began..outer_step {
                    noise::normals(perturbation_seed(run, earlier, slot, pair), first, epsilon);
                    accumulated.iter_mut().zip(&*epsilon).for_each(|(sum, &value)| *sum += f64::from(value));
                }
            }
            noise::normals(perturbation_seed(run, outer_step, slot, pair), first, epsilon);
            add_pair(sum, report, estimator.sigma, accumulated, epsilon);
        }
    }
    gradient
}

/// Folds the slots of one outer step in slot order, in whatever order they are given.
///
/// # Errors
/// [`Error::Length`] if a slot is missing or there twice, or a contribution has the wrong number of pairs or values;
/// [`Error::NotFinite`] if one holds a number that is not finite, or the losses sum up to one.
pub fn fold<C: Borrow<Contribution>>(
    run: Seed,
    outer_step: u64,
    config: &OuterConfig,
    estimator: &EstimatorConfig,
    size: usize,
    contributions: &[C],
) -> Result<Folded> {
    let ordered = in_slot_order(config.slots, contributions)?;
    let mut folded = Folded { gradient: vec![0.0; size], loss: 0.0, inner_steps: 0, diverged_lanes: 0 };
    for contribution in ordered {
        let Contribution { slot, window, result, inner_steps, diverged_lanes } = contribution;
        check(config, size, contribution)?;
        match result {
            SlotResult::SeedCoded(pairs) => {
                let gradient = slot_gradient(run, outer_step, *slot, window, estimator, pairs, size);
                folded.gradient.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
                let losses: f64 = pairs.iter().map(|pair| pair.loss_plus + pair.loss_minus).sum();
                folded.loss += losses / (2 * pairs.len()) as f64;
            }
            SlotResult::Dense { gradient, loss } => {
                folded.gradient.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += f64::from(value));
                folded.loss += loss;
            }
        }
        folded.inner_steps = folded.inner_steps.saturating_add(*inner_steps);
        folded.diverged_lanes += u64::from(*diverged_lanes);
    }
    let pairs = f64::from(config.slots) * f64::from(config.pairs_per_slot);
    folded.gradient.iter_mut().for_each(|value| *value /= pairs);
    folded.loss /= f64::from(config.slots);
    if folded.loss.is_finite() { Ok(folded) } else { Err(Error::NotFinite { what: "sum of the meta-losses".into() }) }
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
    use crate::outer::{Report, ThetaOptimizer};
    use crate::schedule::{HorizonSchedule, Trajectory};

    const RUN: Seed = Seed::new(11);
    const SIGMA: f32 = 0.1;

    fn estimator() -> EstimatorConfig {
        EstimatorConfig {
            kind: EstimatorKind::Pes { window: 4 },
            sigma: SIGMA,
            horizon: HorizonSchedule::Constant { steps: 30 },
            clip_delta: None,
            sign_delta: None,
        }
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
        // More than two blocks, the last one ragged.
        let size = 2 * BLOCK + 37;
        let pairs = [report(0.3, 0.0), report(0.0, 0.0), report(-0.2, 0.7)];
        let got = slot_gradient(RUN, 9, 5, &window(7), &estimator(), &pairs, size);
        for i in (0..size).step_by(97).chain([BLOCK - 1, BLOCK, size - 1]) {
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
        let folded = fold(RUN, 3, &config(3, 2), &estimator(), 6, &parts).unwrap();
        let slot = |slot: usize| match &parts[slot].result {
            SlotResult::SeedCoded(pairs) => {
                slot_gradient(RUN, 3, slot as u32, &parts[slot].window, &estimator(), pairs, 6)
            }
            SlotResult::Dense { gradient, .. } => gradient.iter().map(|value| f64::from(*value)).collect(),
        };
        let (a, b, c) = (slot(0), slot(1), slot(2));
        for i in 0..6 {
            assert_eq!(folded.gradient[i], (a[i] + b[i] + c[i]) / 6.0);
        }
        let losses = (3.0 + 3.2) / 4.0 + (3.1 + 3.2) / 4.0 + 5.0;
        assert!((folded.loss - losses / 3.0).abs() < 1e-12);
        assert_eq!((folded.inner_steps, folded.diverged_lanes), (30, 3));
    }

    #[test]
    fn arrival_order_does_not_matter() {
        let mut parts = contributions(50);
        let folded = fold(RUN, 3, &config(3, 2), &estimator(), 50, &parts).unwrap();
        parts.rotate_left(1);
        assert_eq!(fold(RUN, 3, &config(3, 2), &estimator(), 50, &parts).unwrap(), folded);
        parts.swap(0, 1);
        assert_eq!(fold(RUN, 3, &config(3, 2), &estimator(), 50, &parts).unwrap(), folded);
    }

    #[test]
    fn incomplete_and_damaged_steps_are_refused() {
        let try_fold = |parts: &[Contribution]| fold(RUN, 3, &config(3, 2), &estimator(), 6, parts).unwrap_err();
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
