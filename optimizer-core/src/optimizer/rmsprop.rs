//! RMSProp (optax semantics): the gradient over the root of its second moment, with momentum after the learning rate.
//!
//! ```text
//!  v ← decay · v + (1−decay) g²      w = −lr · g / √(v + eps)      a ← w + momentum · a      p ← p + a
//! ```

use serde::{Deserialize, Serialize};

use super::decay::{Decay, fused};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// RMSProp (Tieleman, Hinton, Coursera lecture 6.5, 2012), as the reference's `RMSProp` (optax 0.2.8 `rmsprop`):
/// `v ← decay · v + (1−decay) g²`, `w = −lr · g / √(v + eps)`, `a ← w + momentum · a`, `p ← p + a`.
///
/// Slots: `v/NAME` and `trace/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the second moment; 0.9.
    pub decay: f64,
    /// Added inside the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Decay of the trace of steps; 0.
    pub momentum: f64,
    /// Whether the newest step counts twice; false.
    pub nesterov: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), decay: 0.9, epsilon: 1e-8, momentum: 0.0, nesterov: false }
    }
}

impl Rule for RmsProp {
    /// The learning rate.
    type Numbers = f32;

    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::decay("decay", self.decay)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::decay("momentum", self.momentum)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        vec![Buffer::like(tensor, "v"), Buffer::like(tensor, "trace")]
    }

    fn numbers(&self, now: Moment) -> f32 {
        now.of(&self.learning_rate)
    }

    fn update(&self, &learning_rate: &f32, _: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [v, trace] = buffers else { unreachable!("two buffers a tensor") };
        let second = Decay::literal(self.decay);
        let (eps, momentum) = (self.epsilon as f32, self.momentum as f32);
        for (((p, &g), v), a) in p.iter_mut().zip(g).zip(v.iter_mut()).zip(trace.iter_mut()) {
            *v = second.mix(*v, g * g);
            let step = -learning_rate * (g / (*v + eps).sqrt());
            *a = fused(momentum, *a, step);
            *p += if self.nesterov { fused(momentum, *a, step) } else { *a };
        }
    }
}
