//! How much of a meta-gradient is signal: two numbers that a run shows beside its loss.
//!
//! ```text
//!  even slots ─► g₀ ┐  g₀ · g₁               unbiased for |E g|²                     (the halves' noises are independent)
//!  odd slots  ─► g₁ ┘  |g₀ − g₁|² n₀n₁/n²    unbiased for the variance of the mean
//! ```
//!
//! Slots are independent draws of tasks and perturbations, so the split needs no extra inner step and works for dense
//! results, too.

use crate::estimator::PairReport;

/// Variance telemetry of one outer step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Variance {
    /// Squared norm of the expected meta-gradient over the variance of its estimate, from split halves; negative where
    /// noise hides the signal. `None` with a single slot, or if the halves agree to the bit.
    pub signal_to_noise: Option<f64>,
    /// Correlation of the two lanes' losses over the pairs of the step. Pairs differ by task and by place in their
    /// trajectory, so it is near 1 unless the perturbation itself decides the loss: a sigma too large, or lanes that
    /// diverge. `None` with fewer than two seed-coded pairs, or if losses do not vary.
    pub antithetic_correlation: Option<f64>,
}

/// Signal over noise from the summed gradients of two halves of `pairs[0]` and `pairs[1]` pairs.
pub(super) fn signal_to_noise(halves: &[Vec<f64>; 2], pairs: [f64; 2]) -> Option<f64> {
    if pairs.contains(&0.0) {
        return None;
    }
    let (mut signal, mut difference) = (0.0, 0.0);
    for (&even, &odd) in halves[0].iter().zip(&halves[1]) {
        let (even, odd) = (even / pairs[0], odd / pairs[1]);
        signal += even * odd;
        difference += (even - odd) * (even - odd);
    }
    let total = pairs[0] + pairs[1];
    let ratio = signal / (difference * (pairs[0] / total) * (pairs[1] / total));
    ratio.is_finite().then_some(ratio)
}

/// Running sums for the correlation of `l+` and `l−`, about the first pair's losses so that large losses cancel first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Correlation {
    count: f64,
    origin: [f64; 2],
    sums: [f64; 2],
    squares: [f64; 2],
    product: f64,
}

impl Correlation {
    pub(super) fn add(&mut self, report: &PairReport) {
        let losses = [report.loss_plus, report.loss_minus];
        if self.count == 0.0 {
            self.origin = losses;
        }
        let [plus, minus] = [losses[0] - self.origin[0], losses[1] - self.origin[1]];
        self.count += 1.0;
        self.sums[0] += plus;
        self.sums[1] += minus;
        self.squares[0] += plus * plus;
        self.squares[1] += minus * minus;
        self.product += plus * minus;
    }

    pub(super) fn value(&self) -> Option<f64> {
        let variance = |sign: usize| self.count * self.squares[sign] - self.sums[sign] * self.sums[sign];
        let covariance = self.count * self.product - self.sums[0] * self.sums[1];
        let correlation = covariance / (variance(0).sqrt() * variance(1).sqrt());
        correlation.is_finite().then(|| correlation.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_separates_signal_from_noise() {
        // Means (3, 1) and (1, 1): signal 4, difference 4, of which a quarter is the variance of the mean.
        assert_eq!(signal_to_noise(&[vec![6.0, 2.0], vec![2.0, 2.0]], [2.0, 2.0]), Some(4.0));
        assert_eq!(signal_to_noise(&[vec![1.0], vec![-1.0]], [1.0, 1.0]), Some(-1.0));
        assert_eq!(signal_to_noise(&[vec![1.0], vec![1.0]], [1.0, 1.0]), None, "no noise to divide by");
        assert_eq!(signal_to_noise(&[vec![1.0], vec![0.0]], [4.0, 0.0]), None, "one slot");
        // Unequal halves: means 1 and 4 of 1 and 3 pairs; 4 / (9 · 1/4 · 3/4).
        assert_eq!(signal_to_noise(&[vec![1.0], vec![12.0]], [1.0, 3.0]), Some(4.0 / (9.0 * 3.0 / 16.0)));
    }

    fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
        let mut correlation = Correlation::default();
        for &(loss_plus, loss_minus) in pairs {
            correlation.add(&PairReport { fresh: 0.0, carried: 0.0, loss_plus, loss_minus });
        }
        correlation.value()
    }

    #[test]
    fn losses_that_move_together_are_correlated() {
        assert_eq!(correlation(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]), Some(1.0));
        assert_eq!(correlation(&[(1.0, 3.0), (2.0, 1.0)]), Some(-1.0));
        let some = correlation(&[(1e9 + 1.0, 0.0), (1e9 + 2.0, 1.0), (1e9 + 3.0, 0.0), (1e9 + 4.0, 1.0)]).unwrap();
        assert!((some - 1.0 / 5.0_f64.sqrt()).abs() < 1e-9, "{some}");
        assert_eq!(correlation(&[(1.0, 3.0)]), None);
        assert_eq!(correlation(&[(1.0, 3.0), (1.0, 4.0)]), None);
    }
}
