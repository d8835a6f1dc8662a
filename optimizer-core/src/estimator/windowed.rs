//! Evolution strategies over one window of a longer trajectory: PES, NRES, GPES and truncated ES.
//!
//! ```text
//!  place    0   1   2   3   4   5
//!  live     1   1   1   0   1   1        mask: the reset trains nothing
//!  done     .   .   1   .   .   .        raised at the last step (or at the reset itself: both are understood)
//!           └ carried ┘ R └ fresh ┘
//! ```
//!
//! With `D_t = l+ − l−` and N live places, `carried = (1/N) Σ D_t` over live places before the reset and
//! `fresh = (1/N) Σ D_t` over those after it. The estimators differ in how long a trajectory keeps a perturbation, and
//! so in what `carried` is multiplied by ([`EstimatorKind::terms`]):
//!
//! | estimator | a perturbation is kept for | `carried` multiplies | source |
//! |---|---|---|---|
//! | PES | one window | the sum of all since the trajectory began | Vicol, Metz, Sohl-Dickstein, arXiv 2112.13835 |
//! | GPES(K) | K inner steps | the sum of all since the trajectory began | Li et al., arXiv 2304.12180 |
//! | NRES | the whole trajectory | the one there is | same; "shared noise" in the JAX reference |
//! | truncated ES | one window | nothing: the window counts as `fresh` | biased; kept as a baseline |
//!
//! Truncated ES forgets that theta made the state a window begins with. Both of its lanes go on from the + lane's
//! state.
//!
//! The JAX reference (`truncated_pes.py`) counts the step that raises `done` as fresh, although its loss was caused by
//! all perturbations since the trajectory began; here the flag is exclusive (a place is fresh if `done` was raised
//! *before* it). And A empties at the reset itself, so a reset on the window's last place leaves nothing behind; see
//! [`crate::schedule::Trajectory::began`].

use super::full_es::{self, Precision};
use super::{Estimate, EstimatorConfig, EstimatorKind, MetaLoss, PairReport, finite_difference, sign};

/// The normalised losses of one pair over a window, place by place: all slices are `[window]`, in inner steps.
#[derive(Clone, Copy, Debug)]
pub struct WindowLosses<'a> {
    /// Losses of the + lane.
    pub plus: &'a [f64],
    /// Losses of the − lane.
    pub minus: &'a [f64],
    /// Whether the place trained a step; a reset does not, and its losses are not read.
    pub live: &'a [bool],
    /// Whether the trajectory ended at this place; what follows belongs to the next one.
    pub done: &'a [bool],
}

/// The report of one pair: PES, GPES and NRES, and by [`truncated_in`] truncated ES. A window without a live place
/// reports zeros.
pub fn estimate(config: &EstimatorConfig, losses: &WindowLosses<'_>) -> Estimate {
    let WindowLosses { plus, minus, live, done } = *losses;
    debug_assert!(plus.len() == minus.len() && plus.len() == live.len() && plus.len() == done.len());
    match config.kind {
        EstimatorKind::TruncatedEs { .. } => truncated_in(Precision::Double, config, losses),
        EstimatorKind::FullEs { .. }
        | EstimatorKind::Pes { .. }
        | EstimatorKind::Gpes { .. }
        | EstimatorKind::Nres { .. } => accumulated(config, losses),
    }
}

/// Truncated ES: the live places of the window are a whole unroll of their own. The means are formed in `precision`.
pub fn truncated_in(precision: Precision, config: &EstimatorConfig, losses: &WindowLosses<'_>) -> Estimate {
    let trained = |values: &[f64]| -> Vec<f64> {
        values.iter().zip(losses.live).filter(|(_, live)| **live).map(|(value, _)| *value).collect()
    };
    let (plus, minus) = (trained(losses.plus), trained(losses.minus));
    if plus.is_empty() {
        let report = PairReport { fresh: 0.0, carried: 0.0, loss_plus: 0.0, loss_minus: 0.0 };
        return Estimate { report, non_finite: 0 };
    }
    full_es::estimate_in(precision, config, MetaLoss::Average, &plus, &minus)
}

/// PES, GPES and NRES: differences split at the reset.
fn accumulated(config: &EstimatorConfig, losses: &WindowLosses<'_>) -> Estimate {
    let WindowLosses { plus, minus, live, done } = *losses;
    let (mut carried, mut fresh) = (Sum::default(), Sum::default());
    let (mut loss_plus, mut loss_minus) = (0.0, 0.0);
    let mut non_finite = 0;
    let mut ended = false;
    for place in 0..plus.len() {
        if live[place] {
            loss_plus += plus[place];
            loss_minus += minus[place];
            let delta = finite_difference(plus[place], minus[place], &mut non_finite);
            let delta = config.clip_delta.map_or(delta, |bound| delta.clamp(-bound, bound));
            if ended { &mut fresh } else { &mut carried }.add(delta);
        }
        ended |= done[place];
    }
    let count = carried.count + fresh.count;
    let mean = |sum: f64| if count == 0 { 0.0 } else { sum / f64::from(count) };
    let (carried, fresh) = match config.sign_delta {
        None => (carried.sum, fresh.sum),
        // One sign a window: every live place counts as scale · sign(mean difference).
        Some(scale) => {
            let delta = scale * sign(carried.sum + fresh.sum);
            (delta * f64::from(carried.count), delta * f64::from(fresh.count))
        }
    };
    let report = PairReport {
        fresh: mean(fresh),
        carried: mean(carried),
        loss_plus: mean(loss_plus),
        loss_minus: mean(loss_minus),
    };
    Estimate { report, non_finite }
}

#[derive(Default)]
struct Sum {
    sum: f64,
    count: u32,
}

impl Sum {
    fn add(&mut self, delta: f64) {
        self.sum += delta;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::HorizonSchedule;

    fn weights(
        plus: &[f64],
        live: &str,
        done: &str,
        sign_delta: Option<f64>,
        clip_delta: Option<f64>,
    ) -> (f64, f64, u32) {
        weights_of(EstimatorKind::Pes { window: plus.len() as u32 }, plus, live, done, sign_delta, clip_delta)
    }

    fn weights_of(
        kind: EstimatorKind,
        plus: &[f64],
        live: &str,
        done: &str,
        sign_delta: Option<f64>,
        clip_delta: Option<f64>,
    ) -> (f64, f64, u32) {
        let horizon = HorizonSchedule::Constant { steps: 100 };
        let config = EstimatorConfig { clip_delta, sign_delta, ..EstimatorConfig::new(kind, 0.1, horizon) };
        let flags = |text: &str| text.chars().map(|c| c == '1').collect::<Vec<_>>();
        let (live, done, minus) = (flags(live), flags(done), vec![0.0; plus.len()]);
        let losses = WindowLosses { plus, minus: &minus, live: &live, done: &done };
        let Estimate { report, non_finite } = estimate(&config, &losses);
        (report.carried, report.fresh, non_finite)
    }

    const D: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

    #[test]
    fn without_a_reset_everything_is_carried() {
        assert_eq!(weights(&D, "1111", "0000", None, None), (15.0 / 4.0, 0.0, 0));
    }

    #[test]
    fn the_last_step_of_a_trajectory_is_carried_wherever_done_is_raised() {
        assert_eq!(weights(&D, "1101", "0100", None, None), (1.0, 8.0 / 3.0, 0), "at the last step");
        assert_eq!(weights(&D, "1101", "0010", None, None), (1.0, 8.0 / 3.0, 0), "at the reset");
    }

    #[test]
    fn resets_at_the_edges_of_a_window() {
        assert_eq!(weights(&D, "0111", "1000", None, None), (0.0, 14.0 / 3.0, 0), "reset first");
        assert_eq!(weights(&D, "1110", "0001", None, None), (7.0 / 3.0, 0.0, 0), "reset last");
        assert_eq!(weights(&D, "1111", "0001", None, None), (15.0 / 4.0, 0.0, 0), "ends with the window");
        assert_eq!(weights(&D[..1], "0", "1", None, None), (0.0, 0.0, 0), "nothing but a reset");
    }

    #[test]
    fn sign_is_one_a_window_and_clip_one_a_place() {
        assert_eq!(weights(&D, "1101", "0010", Some(0.3), None), (0.3 * 2.0 / 3.0, 0.3 / 3.0, 0));
        assert_eq!(weights(&[-9.0, 2.0, 4.0, 1.0], "1111", "0000", Some(0.5), None), (-0.5, 0.0, 0));
        assert_eq!(weights(&[0.0; 4], "1111", "0000", Some(0.5), None), (0.0, 0.0, 0));
        assert_eq!(weights(&[-9.0, 2.0, 4.0, 1.0], "1111", "0000", None, Some(3.0)), (3.0 / 4.0, 0.0, 0));
    }

    #[test]
    fn truncated_es_carries_nothing_and_needs_a_live_place() {
        let kind = EstimatorKind::TruncatedEs { window: 4 };
        assert_eq!(weights_of(kind, &D, "1111", "0000", None, None), (0.0, 15.0 / 4.0, 0));
        assert_eq!(weights_of(kind, &D, "1101", "0100", None, None), (0.0, 11.0 / 3.0, 0));
        assert_eq!(weights_of(kind, &D, "1101", "0100", Some(0.3), None), (0.0, 0.3, 0));
        assert_eq!(weights_of(kind, &D, "1101", "0100", None, Some(2.0)), (0.0, 2.0, 0), "clips the mean difference");
        assert_eq!(weights_of(kind, &D[..1], "0", "1", None, None), (0.0, 0.0, 0));
    }

    #[test]
    fn a_bad_place_counts_as_no_difference() {
        assert_eq!(weights(&[1.0, f64::NAN, f64::INFINITY, 8.0], "1111", "0000", None, None), (9.0 / 4.0, 0.0, 2));
    }
}
