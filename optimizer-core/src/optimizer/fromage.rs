//! Fromage (arXiv 2002.03432, optax semantics): steps relative to a tensor's size, and a shrinkage that keeps the size.
//!
//! ```text
//!  μ = 1/√(1 + lr²)      p ← p − lr · μ · g · max(‖p‖, least)/max(‖g‖, least) + (μ − 1) · p
//! ```

use serde::{Deserialize, Serialize};

use super::lamb::trust_ratio;
use super::norm::norm;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// Fromage (Bernstein et al., arXiv 2002.03432), as the reference's `Fromage` (optax 0.2.8 `fromage`): with
/// `μ = 1/√(1 + lr²)`, `p ← p − lr · μ · g · max(‖p‖, least)/max(‖g‖, least) + (μ − 1) · p`. Norms are Euclidean, of
/// one tensor.
///
/// It has no slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fromage {
    /// Size of a step relative to that of the tensor; 0.01.
    pub learning_rate: Schedule,
    /// Least norm of a tensor or gradient; 1e-6.
    pub min_norm: f64,
}

impl Default for Fromage {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), min_norm: 1e-6 }
    }
}

impl Rule for Fromage {
    /// Size of a step and shrinkage: `lr · μ` and `μ − 1`.
    type Numbers = (f32, f32);

    fn name(&self) -> &'static str {
        "fromage"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::non_negative("min_norm", self.min_norm)
    }

    fn buffers(&self, _: &TensorSpec) -> Vec<Buffer> {
        Vec::new()
    }

    fn numbers(&self, now: Moment) -> (f32, f32) {
        let learning_rate = self.learning_rate.value(now.step.into(), now.horizon.into());
        let shrunk = 1.0 / (1.0 + learning_rate * learning_rate).sqrt();
        ((learning_rate * shrunk) as f32, (shrunk - 1.0) as f32)
    }

    fn update(&self, &(size, shrinkage): &(f32, f32), _: &TensorSpec, p: &mut [f32], g: &[f32], _: &mut [&mut [f32]]) {
        let least = self.min_norm as f32;
        // A NaN stays one.
        let bounded = |norm: f32| if norm <= least { least } else { norm };
        let ratio = trust_ratio(bounded(norm(p)), bounded(norm(g)));
        for (p, &g) in p.iter_mut().zip(g) {
            *p += shrinkage * *p - size * (g * ratio);
        }
    }
}
