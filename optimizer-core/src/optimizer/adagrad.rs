//! AdaGrad (Duchi et al. 2011, optax semantics): the gradient over the root of the sum of its squares.
//!
//! ```text
//!  s ← s + g²      p ← p − lr · g / √(s + eps)      (no step where s is 0)
//! ```

use serde::{Deserialize, Serialize};

use super::decay::fused;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// AdaGrad (Duchi, Hazan, Singer, JMLR 2011), as the reference's `AdaGrad` (optax 0.2.8 `adagrad`): `s ← s + g²`,
/// `p ← p − lr · g / √(s + eps)`; no step where s is 0.
///
/// Slot: `sum/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaGrad {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// What the sum begins with; 0.1.
    pub initial_accumulator_value: f64,
    /// Added inside the root; 1e-7.
    #[serde(alias = "eps")]
    pub epsilon: f64,
}

impl Default for AdaGrad {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), initial_accumulator_value: 0.1, epsilon: 1e-7 }
    }
}

impl Rule for AdaGrad {
    /// The learning rate.
    type Numbers = f32;

    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::non_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        settings::non_negative("epsilon", self.epsilon)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        vec![Buffer { initial: self.initial_accumulator_value as f32, ..Buffer::like(tensor, "sum") }]
    }

    fn numbers(&self, now: Moment) -> f32 {
        now.of(&self.learning_rate)
    }

    fn update(&self, &learning_rate: &f32, _: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [sum] = buffers else { unreachable!("one buffer a tensor") };
        let eps = self.epsilon as f32;
        for ((p, &g), sum) in p.iter_mut().zip(g).zip(sum.iter_mut()) {
            *sum = fused(g, g, *sum);
            *p -= learning_rate * (g * inverse_root(*sum, eps));
        }
    }
}

/// `1 / √(sum + eps)`, 0 where nothing was summed.
pub(super) fn inverse_root(sum: f32, eps: f32) -> f32 {
    if sum > 0.0 { 1.0 / (sum + eps).sqrt() } else { 0.0 }
}
