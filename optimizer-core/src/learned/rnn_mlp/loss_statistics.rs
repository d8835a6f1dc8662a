//! Scalars that RNNMLPLOpt follows over a trajectory: the losses and the norm of the gradient.
//!
//! ```text
//!  mean ← δ mean + (1−δ) L                      loss feature = clip( (L − mean κ) / √(var κ + 1e-8), ±5 )
//!  var  ← δ var  + (1−δ) (mean − L)²  (new mean)           κ = 1/(1 − δⁿ + 1e-8)
//!
//!  bound = 10 value/(1 − 0.99ᵗ)                 value ← 0.99 value + 0.01 √(1e-8 + mean over tensors of mean g²)
//! ```
//!
//! Unlike the decays of the accumulators, these are Python floats in the reference: `1 − δ` is formed in f64.

use crate::learned::float::{maximum, minimum};
use crate::optimizer::Decay;

/// A moving mean and variance of one kind of loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LossStatistics {
    pub(super) mean: f32,
    pub(super) var: f32,
    /// Losses that entered. (The mean of 2²⁴ losses is the mean of more: f32 counts far enough.)
    pub(super) updates: f32,
}

/// Decay of the statistics of training losses.
pub(super) const TRAIN: f64 = 0.9;

/// Decay of the statistics of validation losses.
pub(super) const VALIDATION: f64 = 0.95;

impl LossStatistics {
    /// One loss enters.
    pub(super) fn after(self, decay: f64, loss: f32) -> Self {
        let Decay { keep, take } = Decay::literal(decay);
        let mean = keep * self.mean + take * loss;
        let var = keep * self.var + take * ((mean - loss) * (mean - loss));
        Self { mean, var, updates: self.updates + 1.0 }
    }

    /// κ, by which sums are divided that collected less than everything; 1e8 before the first loss.
    fn correction(self, decay: f64) -> f32 {
        1.0 / (Decay::literal(decay).collected(self.updates as u32) + 1e-8)
    }

    /// The corrected mean, 0 before the first loss.
    pub(super) fn corrected_mean(self, decay: f64) -> f32 {
        self.mean * self.correction(decay)
    }

    /// How far a loss lies from the mean, in standard deviations, at most five.
    pub(super) fn score(self, decay: f64, loss: f32) -> f32 {
        let correction = self.correction(decay);
        let score = (loss - self.mean * correction) * (1.0 / (self.var * correction + 1e-8).sqrt());
        score.clamp(-5.0, 5.0)
    }
}

/// The bound of the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GradientClip {
    /// One more than the gradients that entered.
    pub(super) iteration: f32,
    /// Moving average of the norm.
    pub(super) value: f32,
}

/// Decay of the moving average of the norm.
const CLIP_DECAY: f64 = 0.99;

impl GradientClip {
    /// Before the first gradient: a norm of 1.
    pub(super) fn initial() -> Self {
        Self { iteration: 1.0, value: Decay::literal(CLIP_DECAY).take }
    }

    /// Largest absolute value of an element.
    pub(super) fn bound(self) -> f32 {
        self.value / Decay::literal(CLIP_DECAY).collected(self.iteration as u32) * 10.0
    }

    /// After clipped gradients whose squares have this mean over tensors of means over elements.
    pub(super) fn after(self, mean_square: f32) -> Self {
        let Decay { keep, take } = Decay::literal(CLIP_DECAY);
        let norm = (1e-8 + mean_square).sqrt();
        Self { iteration: self.iteration + 1.0, value: self.value * keep + norm * take }
    }
}

/// `clip(g, ±bound)` that passes NaN on from either side (`f32::clamp` panics at a bound that is NaN).
pub(super) fn clip(g: f32, bound: f32) -> f32 {
    minimum(maximum(g, -bound), bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: LossStatistics = LossStatistics { mean: 0.0, var: 0.0, updates: 0.0 };

    #[test]
    fn the_variance_is_taken_around_the_new_mean() {
        let after = NONE.after(TRAIN, 2.0).after(TRAIN, 1.0);
        // mean 0.2, then 0.28; var 0.1 · 1.8² = 0.324, then 0.9 · 0.324 + 0.1 · 0.72².
        assert!((after.mean - 0.28).abs() < 1e-7);
        assert!((after.var - (0.9 * 0.324 + 0.1 * 0.5184)).abs() < 1e-7);
        // κ = 1/0.19.
        assert!((after.corrected_mean(TRAIN) - 0.28 / 0.19).abs() < 1e-6);
        let score = (1.0 - 0.28 / 0.19) / (after.var / 0.19).sqrt();
        assert!((after.score(TRAIN, 1.0) - score).abs() < 1e-5);
    }

    #[test]
    fn without_a_validation_loss_its_mean_is_zero() {
        assert_eq!(NONE.corrected_mean(VALIDATION), 0.0);
    }

    #[test]
    fn scores_and_gradients_are_bounded_and_nan_stays_visible() {
        let mut train = NONE;
        for _ in 0..200 {
            train = train.after(TRAIN, 1.0);
        }
        assert_eq!([train.score(TRAIN, 100.0), train.score(TRAIN, -100.0)], [5.0, -5.0]);
        assert!(train.after(TRAIN, f32::NAN).score(TRAIN, 1.0).is_nan());
        assert_eq!([clip(7.0, 2.0), clip(-7.0, 2.0), clip(1.0, 2.0)], [2.0, -2.0, 1.0]);
        assert!(clip(f32::NAN, 2.0).is_nan() && clip(1.0, f32::NAN).is_nan());
    }

    #[test]
    fn the_first_bound_is_ten() {
        let clip = GradientClip::initial();
        assert!((clip.bound() - 10.0).abs() < 1e-4, "{}", clip.bound());
        // value 0.0099 + 0.01 · 2, over 1 − 0.99².
        let next = clip.after(4.0);
        assert!((next.bound() - 10.0 * 0.0299 / 0.0199).abs() < 1e-3, "{}", next.bound());
    }
}
