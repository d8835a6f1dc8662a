//! LARS (arXiv 1708.03888, optax semantics): momentum descent with steps scaled a tensor at a time to its size.
//!
//! ```text
//!  w = g + wd · p      w ← w · trust · ‖p‖/(‖w‖ + eps)      a ← −lr · w + momentum · a      p ← p + a
//! ```
//!
//! The ratio is 1 if either norm is 0.

use serde::{Deserialize, Serialize};

use super::decay::fused;
use super::norm::norm;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// LARS (You, Gitman, Ginsburg, arXiv 1708.03888, Algorithm 1), as the reference's `Lars` (optax 0.2.8 `lars`):
/// `w = g + wd · p`, `w ← w · trust · ‖p‖/(‖w‖ + eps)`, `a ← −lr · w + momentum · a`, `p ← p + a`. Norms are Euclidean,
/// of one tensor; the ratio is 1 if either is 0.
///
/// Slot: `trace/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lars {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Times the parameters, added to the gradient; 0.
    pub weight_decay: f64,
    /// Size of a step relative to that of the tensor; 0.001.
    pub trust_coefficient: f64,
    /// Added to the norm of the gradient; 0.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Decay of the trace of steps; 0.9.
    pub momentum: f64,
    /// Whether the newest step counts twice; false.
    pub nesterov: bool,
}

impl Default for Lars {
    fn default() -> Self {
        Self {
            learning_rate: 0.01.into(),
            weight_decay: 0.0,
            trust_coefficient: 0.001,
            epsilon: 0.0,
            momentum: 0.9,
            nesterov: false,
        }
    }
}

impl Rule for Lars {
    /// The learning rate.
    type Numbers = f32;

    fn name(&self) -> &'static str {
        "lars"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::non_negative("weight_decay", self.weight_decay)?;
        settings::positive("trust_coefficient", self.trust_coefficient)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::decay("momentum", self.momentum)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        vec![Buffer::like(tensor, "trace")]
    }

    fn numbers(&self, now: Moment) -> f32 {
        now.of(&self.learning_rate)
    }

    fn update(&self, &learning_rate: &f32, _: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [trace] = buffers else { unreachable!("one buffer a tensor") };
        let (decay, momentum) = (self.weight_decay as f32, self.momentum as f32);
        let decayed: Vec<f32> = p.iter().zip(g).map(|(&p, &g)| fused(decay, p, g)).collect();
        let (size, step) = (norm(p), norm(&decayed));
        let trust = self.trust_coefficient as f32;
        let ratio = if size == 0.0 || step == 0.0 { 1.0 } else { trust * size / (step + self.epsilon as f32) };
        for ((p, w), a) in p.iter_mut().zip(decayed).zip(trace.iter_mut()) {
            let step = -learning_rate * (w * ratio);
            *a = fused(momentum, *a, step);
            *p += if self.nesterov { fused(momentum, *a, step) } else { *a };
        }
    }
}
