//! AdaBelief (arXiv 2010.07468, optax semantics): Adam whose second moment is of the surprise, not of the gradient.
//!
//! ```text
//!  m ← β1 m + (1−β1) g      v ← β2 v + (1−β2) (g − m)² + eps_root      p ← p − lr · m̂ / (√v̂ + eps)
//! ```
//!
//! `g − m` is taken with the new average, and `epsilon_root` is added at every step, so it accumulates.

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// AdaBelief (Zhuang et al., arXiv 2010.07468), as the reference's `AdaBelief` (optax 0.2.8 `adabelief`):
/// `m ← β1 m + (1−β1) g`, `v ← β2 v + (1−β2) (g − m)² + eps_root`, `p ← p − lr · m̂ / (√v̂ + eps)`.
///
/// `g − m` is taken with the new average, and `epsilon_root` is added at every step, so it accumulates. Slots: `m/NAME`
/// and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaBelief {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-16.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added to the second moment at every step; 1e-16.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
}

impl Default for AdaBelief {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), beta1: 0.9, beta2: 0.999, epsilon: 1e-16, epsilon_root: 1e-16 }
    }
}

impl Rule for AdaBelief {
    /// The learning rate and the averages.
    type Numbers = (f32, Averages);

    fn name(&self) -> &'static str {
        "adabelief"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("epsilon_root", self.epsilon_root)
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
        let (eps, eps_root) = (self.epsilon as f32, self.epsilon_root as f32);
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            *m = averages.first.mix(*m, g);
            let surprise = g - *m;
            *v = averages.second.mix(*v, surprise * surprise) + eps_root;
            let direction = (*m / averages.collected1) / ((*v / averages.collected2).sqrt() + eps);
            *p -= learning_rate * direction;
        }
    }
}
