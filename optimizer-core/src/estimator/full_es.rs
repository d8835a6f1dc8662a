//! Full ES: one number of a whole unroll, compared between the signs.
//!
//! ```text
//!  l+ ● ● ● ● ● ● ●  ─ average, min or last ─► L+ ┐
//!                                                 ├─ d = L+ − L− ─► finite? clip, sign ─► fresh = d, carried = 0
//!  l− ○ ○ ○ ○ ○ ○ ○  ─────────────────────────► L− ┘
//! ```

use super::{Estimate, EstimatorConfig, MetaLoss, PairReport, finite_difference, sign};

/// In which precision the mean over an unroll is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f64, as everything in Paceline that is summed.
    Double,
    /// f32, step by step, as the JAX reference does: only to compare with it. The difference of two means near 2 that
    /// differ by 0.1 is then off by some 1e-6 of itself.
    Single,
}

/// The report of one pair from the normalised losses of every inner step, `[horizon]` a sign. For
/// [`MetaLoss::LastRecompute`] the last entry is the recomputed loss. The estimator of the reference's `FullES`.
pub fn estimate(config: &EstimatorConfig, loss: MetaLoss, plus: &[f64], minus: &[f64]) -> Estimate {
    estimate_in(Precision::Double, config, loss, plus, minus)
}

/// [`estimate`] with the means formed in `precision`.
pub fn estimate_in(
    precision: Precision,
    config: &EstimatorConfig,
    loss: MetaLoss,
    plus: &[f64],
    minus: &[f64],
) -> Estimate {
    debug_assert!(plus.len() == minus.len() && !plus.is_empty(), "both signs unroll equally far, at least one step");
    let (loss_plus, loss_minus) = (reduce(precision, loss, plus), reduce(precision, loss, minus));
    let mut non_finite = 0;
    let mut delta = finite_difference(loss_plus, loss_minus, &mut non_finite);
    if let Some(bound) = config.clip_delta {
        delta = delta.clamp(-bound, bound);
    }
    if let Some(scale) = config.sign_delta {
        delta = scale * sign(delta);
    }
    Estimate { report: PairReport { fresh: delta, carried: 0.0, loss_plus, loss_minus }, non_finite }
}

fn reduce(precision: Precision, loss: MetaLoss, losses: &[f64]) -> f64 {
    match loss {
        MetaLoss::Average => match precision {
            Precision::Double => losses.iter().sum::<f64>() / losses.len() as f64,
            Precision::Single => f64::from(losses.iter().map(|loss| *loss as f32).sum::<f32>() / losses.len() as f32),
        },
        // A NaN stays one: `f64::min` would pass over it.
        MetaLoss::Min => losses.iter().copied().fold(f64::INFINITY, |a, b| if b < a || b.is_nan() { b } else { a }),
        MetaLoss::Last | MetaLoss::LastRecompute { .. } => losses.last().copied().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::EstimatorKind;
    use crate::schedule::HorizonSchedule;

    fn config(clip_delta: Option<f64>, sign_delta: Option<f64>) -> EstimatorConfig {
        let kind = EstimatorKind::FullEs { loss: MetaLoss::Average };
        let horizon = HorizonSchedule::Constant { steps: 3 };
        EstimatorConfig { clip_delta, sign_delta, ..EstimatorConfig::new(kind, 0.1, horizon) }
    }

    #[test]
    fn each_loss_compares_what_it_says() {
        let (plus, minus) = ([3.0, 1.0, 2.0], [2.0, 2.0, 5.0]);
        for (loss, expected) in
            [(MetaLoss::Average, 2.0 - 3.0), (MetaLoss::Min, 1.0 - 2.0), (MetaLoss::Last, 2.0 - 5.0)]
        {
            let report = estimate(&config(None, None), loss, &plus, &minus).report;
            assert_eq!((report.fresh, report.carried), (expected, 0.0), "{loss:?}");
        }
    }

    #[test]
    fn clip_and_sign_act_on_the_difference() {
        let fresh = |clip, sign, minus| estimate(&config(clip, sign), MetaLoss::Last, &[1.0], &[minus]).report.fresh;
        assert_eq!(fresh(Some(0.5), None, 3.0), -0.5);
        assert_eq!(fresh(None, Some(2.0), 3.0), -2.0);
        assert_eq!(fresh(None, Some(2.0), 1.0), 0.0);
    }

    #[test]
    fn a_difference_that_is_not_finite_contributes_nothing_and_is_counted() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for loss in [MetaLoss::Average, MetaLoss::Last] {
                let got = estimate(&config(Some(1.0), Some(1.0)), loss, &[1.0, bad], &[1.0, 2.0]);
                assert_eq!((got.report.fresh, got.non_finite), (0.0, 1), "{bad} {loss:?}");
            }
        }
        let got = estimate(&config(None, None), MetaLoss::Min, &[f64::NAN, 1.0, 2.0], &[1.0; 3]);
        assert_eq!((got.report.fresh, got.non_finite), (0.0, 1));
    }
}
