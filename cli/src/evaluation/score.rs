//! What a set of training curves is worth: pure arithmetic on losses.
//!
//! ```text
//!  loss                                       speed-up = B / C, with
//!   │╲ contender                              B: step from which on the baseline stays at or below its final loss
//!   │ ╲ ╲ baseline                            C: step from which on the contender does
//!   │  ╲   ╲
//!   │···╲······╲___ ◄─ baseline's final loss  (a contender that ends above it: the step from which on the baseline
//!   └────C──────B──► step                      stays at or below the contender's final loss, divided by B; below 1)
//! ```
//!
//! Losses of one step are noisy, so "the loss at a step" is the mean of the last [`WINDOW`] steps up to it, of curves
//! averaged over seeds. Both curves are read by the same rule, so that an optimizer is exactly as fast as itself: dividing
//! the horizon by the first touch instead, as is common, makes a tuned Adam whose loss has flattened out 1.5 times as
//! fast as itself (measured), and every rival with it.

use paceline_optimizer_core::evaluation::Curve;
use serde::Serialize;

/// Steps that a "final" or momentary training loss is the mean of.
pub(crate) const WINDOW: usize = 20;

/// Mean and spread over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Mean.
    pub(crate) mean: f64,
    /// Standard deviation (n − 1); 0 for a single seed.
    pub(crate) std: f64,
    /// Least.
    pub(crate) min: f64,
    /// Greatest.
    pub(crate) max: f64,
}

/// The scores of one optimizer on one family.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Score {
    /// Training loss, mean over the whole run.
    pub(crate) mean_train_loss: Spread,
    /// Training loss, mean over the last steps.
    pub(crate) final_train_loss: Spread,
    /// Test loss at the last evaluation.
    pub(crate) final_test_loss: Spread,
    /// Test accuracy at the last evaluation, for classifiers.
    pub(crate) final_test_accuracy: Option<Spread>,
}

/// How much faster a contender gets to the baseline's final loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SpeedUp {
    /// Baseline steps per contender step: 2 means twice as fast, 0.5 half as fast.
    pub(crate) ratio: f64,
    /// Step from which on the contender's loss is at or below the baseline's final one; `None` if it ends above.
    pub(crate) reached_at: Option<usize>,
    /// The steps were too few to measure it: the ratio is only a bound (a lower one above 1, an upper one below).
    pub(crate) saturated: bool,
}

/// Mean and spread of some values. Of none, everything is NaN.
pub(crate) fn spread(values: &[f64]) -> Spread {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let std = if values.len() > 1 { (squares / (values.len() - 1) as f64).sqrt() } else { 0.0 };
    let min = values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN);
    let max = values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN);
    Spread { mean, std, min, max }
}

/// The scores of the curves of one optimizer, one curve a seed.
pub(crate) fn score(curves: &[Curve]) -> Score {
    let each = |of: &dyn Fn(&Curve) -> f64| spread(&curves.iter().map(of).collect::<Vec<_>>());
    let accuracies: Option<Vec<f64>> =
        curves.iter().map(|curve| curve.test_accuracy.last().copied().flatten()).collect();
    Score {
        mean_train_loss: each(&|curve| mean(&curve.train_loss)),
        final_train_loss: each(&|curve| mean(tail(&curve.train_loss))),
        final_test_loss: each(&|curve| curve.test_loss.last().copied().unwrap_or(f64::NAN)),
        final_test_accuracy: accuracies.filter(|values| !values.is_empty()).map(|values| spread(&values)),
    }
}

/// The training loss at each step, averaged over seeds.
pub(crate) fn mean_curve(curves: &[Curve]) -> Vec<f64> {
    let steps = curves.iter().map(|curve| curve.train_loss.len()).min().unwrap_or(0);
    (0..steps)
        .map(|step| curves.iter().map(|curve| curve.train_loss[step]).sum::<f64>() / curves.len() as f64)
        .collect()
}

/// The mean of the last [`WINDOW`] values at each step, of fewer at the beginning.
pub(crate) fn smoothed(losses: &[f64]) -> Vec<f64> {
    (1..=losses.len()).map(|end| mean(tail(&losses[..end]))).collect()
}

/// The speed-up of a contender over a baseline of the same length, from their mean curves.
pub(crate) fn speed_up(contender: &[f64], baseline: &[f64]) -> SpeedUp {
    let (contender, baseline) = (smoothed(contender), smoothed(baseline));
    let (Some(&own), Some(&target)) = (contender.last(), baseline.last()) else {
        return SpeedUp { ratio: f64::NAN, reached_at: None, saturated: true };
    };
    let needed = settles(&baseline, target);
    if own <= target {
        let step = settles(&contender, target);
        return SpeedUp { ratio: needed as f64 / step as f64, reached_at: Some(step), saturated: step <= WINDOW };
    }
    if own > target {
        let step = settles(&baseline, own);
        return SpeedUp { ratio: step as f64 / needed as f64, reached_at: None, saturated: step <= WINDOW };
    }
    // A loss that is not finite is neither.
    SpeedUp { ratio: 0.0, reached_at: None, saturated: false }
}

/// The step from which on a smoothed curve that ends at or below `goal` stays there. Not before the first full window: the
/// noise of smaller ones would be taken for speed.
fn settles(losses: &[f64], goal: f64) -> usize {
    let above = losses.iter().rposition(|loss| *loss > goal).map_or(0, |index| index + 1);
    (above + 1).max(WINDOW).min(losses.len())
}

/// Place of the least value; not-finite ones lose. The first wins a draw.
pub(crate) fn best(values: impl IntoIterator<Item = f64>) -> Option<usize> {
    let finite = values.into_iter().enumerate().filter(|(_, value)| value.is_finite());
    finite.reduce(|best, next| if next.1 < best.1 { next } else { best }).map(|(index, _)| index)
}

fn tail(values: &[f64]) -> &[f64] {
    &values[values.len().saturating_sub(WINDOW)..]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// loss = (step / scale)^-0.5: reaches any loss `scale` times later.
    fn power_law(scale: f64, steps: u32) -> Vec<f64> {
        (1..=steps).map(|step| (f64::from(step) / scale).powf(-0.5)).collect()
    }

    fn curve(train_loss: Vec<f64>, accuracy: Option<f64>) -> Curve {
        Curve {
            steps: vec![0, 10],
            test_loss: vec![3.0, train_loss[0]],
            test_accuracy: vec![None, accuracy],
            train_loss,
        }
    }

    #[test]
    fn a_power_law_twice_as_fast_has_speed_up_two() {
        let result = speed_up(&power_law(1.0, 2000), &power_law(2.0, 2000));
        assert!((result.ratio - 2.0).abs() < 0.03, "{result:?}");
        assert!(result.reached_at.is_some_and(|step| (990..=1010).contains(&step)), "{result:?}");
        assert!(!result.saturated);
    }

    #[test]
    fn a_power_law_four_times_slower_has_speed_up_a_quarter() {
        let result = speed_up(&power_law(4.0, 2000), &power_law(1.0, 2000));
        assert!((result.ratio - 0.25).abs() < 0.01, "{result:?}");
        assert_eq!(result.reached_at, None);
        assert!(!result.saturated);
    }

    #[test]
    fn equal_curves_have_speed_up_one() {
        let curve = power_law(1.0, 300);
        let result = speed_up(&curve, &curve);
        assert_eq!((result.ratio, result.reached_at), (1.0, Some(300)));
        // Just better and just worse are just off 1, also where the curves are flat.
        let flat: Vec<f64> = (0..300).map(|step| if step < 100 { 2.0 - 0.01 * f64::from(step) } else { 1.0 }).collect();
        let shifted = |by: f64| flat.iter().map(|loss| loss + by).collect::<Vec<_>>();
        assert!((speed_up(&shifted(-1e-3), &flat).ratio - 1.0).abs() < 0.2);
        assert!((speed_up(&shifted(1e-3), &flat).ratio - 1.0).abs() < 0.2);
    }

    #[test]
    fn noise_does_not_make_a_curve_faster_than_itself() {
        let noise = |step: usize| 0.3 * ((step * 7919 % 101) as f64 / 101.0 - 0.5) + 0.1 * (step as f64 / 40.0).sin();
        let noisy: Vec<f64> = power_law(1.0, 500).iter().enumerate().map(|(step, loss)| loss + noise(step)).collect();
        let first_touch = smoothed(&noisy).iter().position(|loss| loss <= smoothed(&noisy).last().expect("500 steps"));
        assert!(first_touch < Some(450), "the example is too quiet to show anything: {first_touch:?}");
        let result = speed_up(&noisy, &noisy);
        assert_eq!(result.ratio, 1.0, "{result:?}");
    }

    #[test]
    fn a_curve_that_dips_and_rises_again_has_not_arrived() {
        let mut dips = vec![1.0; 500];
        dips[100..200].fill(0.0);
        assert_eq!(speed_up(&dips, &power_law(1.0, 500)).reached_at, None);
    }

    #[test]
    fn what_is_faster_than_the_window_resolves_is_flagged() {
        let result = speed_up(&power_law(0.001, 500), &power_law(1.0, 500));
        assert!(result.saturated, "{result:?}");
        assert_eq!(result.ratio, 500.0 / WINDOW as f64);
        let result = speed_up(&[5.0; 500], &power_law(1.0, 500));
        assert!(result.saturated && result.ratio <= WINDOW as f64 / 500.0, "{result:?}");
    }

    #[test]
    fn a_contender_that_is_not_finite_has_no_speed() {
        assert_eq!(speed_up(&[f64::NAN; 50], &power_law(1.0, 50)).ratio, 0.0);
        assert!(speed_up(&[], &[]).ratio.is_nan());
    }

    #[test]
    fn spread_is_the_textbooks() {
        let spread = spread(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((spread.mean, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert!((spread.std - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_score_takes_the_last_steps_for_final_and_all_for_mean() {
        let mut losses = vec![2.0; 30];
        losses[10..].fill(1.0);
        let score = score(&[curve(losses.clone(), Some(0.5)), curve(losses, Some(0.7))]);
        assert_eq!(score.final_train_loss.mean, 1.0);
        assert!((score.mean_train_loss.mean - 40.0 / 30.0).abs() < 1e-12);
        assert_eq!(score.final_test_loss.mean, 2.0);
        assert!((score.final_test_accuracy.expect("classifiers").mean - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_family_without_classes_has_no_accuracy() {
        assert_eq!(score(&[curve(vec![1.0], None)]).final_test_accuracy, None);
    }

    #[test]
    fn the_best_is_finite_and_first() {
        assert_eq!(best([f64::NAN, 2.0, 1.0, 1.0, f64::INFINITY]), Some(2));
        assert_eq!(best([f64::NAN]), None);
    }

    #[test]
    fn smoothing_looks_back_only() {
        let mut losses = vec![1.0; 50];
        losses[25..].fill(0.0);
        let smoothed = smoothed(&losses);
        assert_eq!((smoothed[24], smoothed[25], smoothed[44]), (1.0, 19.0 / 20.0, 0.0));
    }
}
