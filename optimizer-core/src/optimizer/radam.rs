//! RAdam (arXiv 1908.03265, optax semantics): Adam that trusts its second moment only once that has seen enough.
//!
//! ```text
//!  ρ∞ = 2/(1−β2) − 1      ρ = ρ∞ − 2nβ2ⁿ/(1−β2ⁿ)
//!  ρ ≥ threshold:   p ← p − lr · √( (ρ−4)(ρ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ) ) · m̂ / (√(v̂ + eps_root) + eps)
//!  otherwise:       p ← p − lr · m̂
//! ```
//!
//! ρ is a difference of large numbers, so the first adaptive steps hang on the rounding of `β2ⁿ` to f32.

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// RAdam (Liu et al., arXiv 1908.03265, Algorithm 2), as the reference's `RAdam` (optax 0.2.8 `radam`): Adam that
/// trusts its second moment only once that has seen enough.
///
/// ```text
///  ρ∞ = 2/(1−β2) − 1      ρ = ρ∞ − 2nβ2ⁿ/(1−β2ⁿ)
///  ρ ≥ threshold:   p ← p − lr · √( (ρ−4)(ρ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ) ) · m̂ / (√(v̂ + eps_root) + eps)
///  otherwise:       p ← p − lr · m̂
/// ```
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RAdam {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added inside the root; 0.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
    /// Least ρ at which the second moment is used; 5.
    pub threshold: f64,
}

impl Default for RAdam {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), beta1: 0.9, beta2: 0.999, epsilon: 1e-8, epsilon_root: 0.0, threshold: 5.0 }
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    learning_rate: f32,
    averages: Averages,
    /// Factor of the adaptive step; `None` while the second moment is not trusted.
    rectifier: Option<f32>,
}

impl RAdam {
    /// The rectifier at update `count`, in f32 as in the reference.
    fn rectifier(&self, count: u32, collected2: f32) -> Option<f32> {
        let full = (2.0 / (1.0 - self.beta2) - 1.0) as f32;
        let power = 1.0 - collected2;
        let rho = full - 2.0 * count as f32 * power / collected2;
        let ratio = (rho - 4.0) * (rho - 2.0) * full / ((full - 4.0) * (full - 2.0) * rho);
        (rho >= self.threshold as f32).then(|| ratio.sqrt())
    }
}

impl Rule for RAdam {
    type Numbers = Numbers;

    fn name(&self) -> &'static str {
        "radam"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("epsilon_root", self.epsilon_root)?;
        settings::require(
            "threshold",
            self.threshold,
            self.threshold > 4.0,
            "must be above 4, where the rectifier is 0",
        )
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> Numbers {
        let averages = Averages::at(now, self.beta1, self.beta2);
        let rectifier = self.rectifier(now.count(), averages.collected2);
        Numbers { learning_rate: now.of(&self.learning_rate), averages, rectifier }
    }

    fn update(&self, numbers: &Numbers, _: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        let Numbers { learning_rate, ref averages, rectifier } = *numbers;
        let (eps, eps_root) = (self.epsilon as f32, self.epsilon_root as f32);
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            *m = averages.first.mix(*m, g);
            *v = averages.second.mix(*v, g * g);
            let mean = *m / averages.collected1;
            let direction = match rectifier {
                Some(rectifier) => rectifier * mean / ((*v / averages.collected2 + eps_root).sqrt() + eps),
                None => mean,
            };
            *p -= learning_rate * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_moment_is_trusted_from_the_sixth_step_on() {
        let rule = RAdam::default();
        let rectifier = |count: u32| rule.numbers(Moment { step: count - 1, horizon: 0 }).rectifier;
        assert_eq!([1, 2, 3, 4, 5].map(rectifier), [None; 5]);
        let exact = |n: f64| {
            let (full, power) = (1999.0, 0.999_f64.powf(n));
            let rho = full - 2.0 * n * power / (1.0 - power);
            ((rho - 4.0) * (rho - 2.0) * full / ((full - 4.0) * (full - 2.0) * rho)).sqrt()
        };
        for count in [6, 10, 100, 10_000] {
            let got = f64::from(rectifier(count).unwrap());
            assert!((got / exact(count.into()) - 1.0).abs() < 0.02, "step {count}: {got}");
        }
    }
}
