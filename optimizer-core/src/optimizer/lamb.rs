//! LAMB (arXiv 1904.00962, optax semantics): Adam's direction, scaled a tensor at a time to the size of the tensor.
//!
//! ```text
//!  w = m̂ / (√(v̂ + eps_root) + eps) + wd · p        p ← p − lr · w · ‖p‖/‖w‖        (ratio 1 if either norm is 0)
//! ```

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::norm::norm;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// LAMB (You et al., arXiv 1904.00962, Algorithm 2), as the reference's `Lamb` (optax 0.2.8 `lamb`): with
/// `w = m̂ / (√(v̂ + eps_root) + eps) + wd · p`, `p ← p − lr · w · ‖p‖/‖w‖`. Norms are Euclidean, of one tensor; the
/// ratio is 1 if either is 0.
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lamb {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-6.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added inside the root; 0.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
    /// Decay of parameters, part of the direction; 0.
    pub weight_decay: f64,
}

impl Default for Lamb {
    fn default() -> Self {
        Self {
            learning_rate: 0.01.into(),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            epsilon_root: 0.0,
            weight_decay: 0.0,
        }
    }
}

impl Rule for Lamb {
    /// The learning rate and the averages.
    type Numbers = (f32, Averages);

    fn name(&self) -> &'static str {
        "lamb"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("epsilon_root", self.epsilon_root)?;
        settings::non_negative("weight_decay", self.weight_decay)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (f32, Averages) {
        (now.of(&self.learning_rate), Averages::at(now, self.beta1, self.beta2))
    }

    fn update(
        &self,
        &(learning_rate, ref averages): &(f32, Averages),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        let (eps, eps_root, decay) = (self.epsilon as f32, self.epsilon_root as f32, self.weight_decay as f32);
        let moments = m.iter_mut().zip(v.iter_mut());
        let direction = p.iter().zip(g).zip(moments).map(|((&p, &g), (m, v))| {
            *m = averages.first.mix(*m, g);
            *v = averages.second.mix(*v, g * g);
            (*m / averages.collected1) / ((*v / averages.collected2 + eps_root).sqrt() + eps) + decay * p
        });
        let direction: Vec<f32> = direction.collect();
        let ratio = trust_ratio(norm(p), norm(&direction));
        for (p, direction) in p.iter_mut().zip(direction) {
            *p -= learning_rate * (direction * ratio);
        }
    }
}

/// `size / step`, or 1 where a tensor or its step is all zeros and would else never move.
pub(super) fn trust_ratio(size: f32, step: f32) -> f32 {
    if size == 0.0 || step == 0.0 { 1.0 } else { size / step }
}
