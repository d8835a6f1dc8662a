//! What an outer loop is between two steps, and how a folded step moves it.

use super::{Folded, OuterConfig, Variance, adam};
use crate::{Error, Result, Theta};

/// Theta and everything its optimizer remembers: the whole state of an outer loop between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterState {
    /// Meta-parameters, one lane.
    pub theta: Theta,
    /// First moment, as long as theta.
    pub moment1: Vec<f32>,
    /// Second moment, as long as theta.
    pub moment2: Vec<f32>,
    /// Clipped meta-gradients summed since the last update of theta; as long as theta.
    pub pending: Vec<f64>,
    /// Outer steps in `pending`.
    pub pending_steps: u32,
    /// Updates of theta so far.
    pub updates: u64,
    /// Outer steps folded so far; the version of theta.
    pub outer_step: u64,
    /// Inner steps trained so far, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite so far.
    pub diverged_lanes: u64,
    /// What the last folded step looked like; `None` before the first.
    pub last: Option<StepSummary>,
}

/// What one outer step looked like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSummary {
    /// Mean normalised meta-loss.
    pub meta_loss: f64,
    /// Euclidean norm of the meta-gradient before clipping.
    pub grad_norm: f64,
    /// How noisy the meta-gradient was.
    pub variance: Variance,
}

impl OuterState {
    /// Before the first outer step. `theta` has one lane.
    pub fn new(theta: Theta) -> Self {
        debug_assert_eq!(theta.lanes(), 1, "the outer loop moves one theta");
        let size = theta.values().len();
        Self {
            theta,
            moment1: vec![0.0; size],
            moment2: vec![0.0; size],
            pending: vec![0.0; size],
            pending_steps: 0,
            updates: 0,
            outer_step: 0,
            inner_steps: 0,
            diverged_lanes: 0,
            last: None,
        }
    }

    /// After one more folded step: the meta-gradient is clipped by element, then by norm, and added to the pending
    /// ones; every `accumulation` steps their mean moves theta by Adam (arXiv 1412.6980, Algorithm 1), or AdamW where
    /// there is weight decay (arXiv 1711.05101, Algorithm 2).
    ///
    /// # Errors
    /// [`Error::Length`] if the gradient is not as long as theta; [`Error::NotFinite`] if the gradient, or theta after
    /// the move, is not finite.
    pub fn apply(mut self, config: &OuterConfig, folded: &Folded) -> Result<Self> {
        let size = self.theta.values().len();
        if folded.gradient.len() != size {
            let what = "meta-gradient".to_owned();
            return Err(Error::Length { what, expected: size, got: folded.gradient.len() });
        }
        let grad_norm = norm(folded.gradient.iter().copied());
        // The norm of finite values can be too large for a number, too.
        if !grad_norm.is_finite() || !folded.gradient.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { what: format!("meta-gradient of outer step {}", self.outer_step) });
        }
        let clipped = |value: f64| config.clip.map_or(value, |bound| value.clamp(-bound, bound));
        let clipped_norm = norm(folded.gradient.iter().map(|&value| clipped(value)));
        let shrink = match config.clip_norm {
            Some(bound) if clipped_norm > bound => bound / clipped_norm,
            _ => 1.0,
        };
        for (pending, &value) in self.pending.iter_mut().zip(&folded.gradient) {
            *pending += clipped(value) * shrink;
        }
        self.pending_steps += 1;
        if self.pending_steps >= config.accumulation {
            self.updates += 1;
            let steps = f64::from(self.pending_steps);
            let mean = self.pending.iter().map(|sum| sum / steps);
            let theta = self.theta.values_mut();
            adam::step(&config.optimizer, self.updates, mean, theta, &mut self.moment1, &mut self.moment2);
            if !theta.iter().chain(&self.moment1).chain(&self.moment2).all(|value| value.is_finite()) {
                return Err(Error::NotFinite { what: format!("theta after outer step {}", self.outer_step) });
            }
            self.pending.fill(0.0);
            self.pending_steps = 0;
        }
        self.outer_step += 1;
        self.inner_steps = self.inner_steps.saturating_add(folded.inner_steps);
        self.diverged_lanes += folded.diverged_lanes;
        self.last = Some(StepSummary { meta_loss: folded.loss, grad_norm, variance: folded.variance });
        Ok(self)
    }
}

/// Euclidean norm; scaled by the largest element, so that squares of finite values do not overflow.
fn norm(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let squares: f64 = values.map(|value| (value / largest) * (value / largest)).sum();
    largest * squares.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outer::{Report, ThetaOptimizer};
    use crate::params::{Layout, TensorSpec};

    fn config(clip: Option<f64>, clip_norm: Option<f64>, accumulation: u32) -> OuterConfig {
        OuterConfig {
            steps: 10,
            slots: 1,
            pairs_per_slot: 1,
            // β₁ = β₂ = 0 and a large eps make an update lr · g / (|g| + 1000): close to a thousandth of g.
            optimizer: ThetaOptimizer {
                learning_rate: 1000.0,
                beta1: 0.0,
                beta2: 0.0,
                eps: 1000.0,
                eps_root: 0.0,
                weight_decay: 0.0,
            },
            clip,
            clip_norm,
            accumulation,
            report: Report::Auto,
        }
    }

    fn state() -> OuterState {
        let layout = Layout::new(vec![TensorSpec::new("x", [2])]).unwrap();
        OuterState::new(Theta::zeros(&layout, 1))
    }

    fn folded(gradient: [f64; 2]) -> Folded {
        Folded {
            gradient: gradient.to_vec(),
            loss: 1.5,
            inner_steps: 100,
            diverged_lanes: 1,
            variance: Variance::default(),
        }
    }

    fn close(theta: &Theta, expected: [f32; 2]) {
        for (got, want) in theta.values().iter().zip(expected) {
            assert!((got - want).abs() < 0.02 * want.abs().max(0.01), "{:?} is not {expected:?}", theta.values());
        }
    }

    #[test]
    fn elements_are_clipped_before_the_norm_and_the_summary_is_of_neither() {
        let after = state().apply(&config(None, None, 1), &folded([6.0, -8.0])).unwrap();
        close(&after.theta, [-6.0, 8.0]);
        let after = state().apply(&config(Some(3.0), None, 1), &folded([6.0, -2.0])).unwrap();
        close(&after.theta, [-3.0, 2.0]);
        let after = state().apply(&config(Some(3.0), Some(1.0), 1), &folded([3.0, -8.0])).unwrap();
        close(&after.theta, [-0.5_f32.sqrt(), 0.5_f32.sqrt()]);
        let StepSummary { meta_loss, grad_norm, .. } = after.last.unwrap();
        assert!(meta_loss == 1.5 && (grad_norm - 73.0_f64.sqrt()).abs() < 1e-12, "{meta_loss} {grad_norm}");
        let after = state().apply(&config(Some(3.0), None, 1), &folded([1e300, -1e300])).unwrap();
        close(&after.theta, [-3.0, 3.0]);
        assert!(after.last.unwrap().grad_norm.is_finite());
    }

    #[test]
    fn theta_moves_by_the_mean_of_the_accumulated_steps() {
        let config = config(Some(3.0), None, 2);
        let first = state().apply(&config, &folded([9.0, 1.0])).unwrap();
        assert_eq!((first.theta.values(), first.updates, first.pending_steps), (&[0.0, 0.0][..], 0, 1));
        assert_eq!(first.pending, [3.0, 1.0]);
        let second = first.apply(&config, &folded([1.0, 1.0])).unwrap();
        close(&second.theta, [-2.0, -1.0]);
        assert_eq!((second.updates, second.pending_steps, second.outer_step), (1, 0, 2));
        assert_eq!((second.inner_steps, second.diverged_lanes), (200, 2));
        assert_eq!(second.pending, [0.0, 0.0]);
    }

    #[test]
    fn gradients_that_do_not_fit_are_refused() {
        let short = Folded { gradient: vec![1.0], ..folded([0.0; 2]) };
        assert!(matches!(state().apply(&config(None, None, 1), &short), Err(Error::Length { .. })));
        for bad in [f64::NAN, f64::INFINITY] {
            let result = state().apply(&config(Some(1.0), None, 1), &folded([bad, 0.0]));
            assert!(matches!(result, Err(Error::NotFinite { .. })), "{bad}");
        }
    }
}
