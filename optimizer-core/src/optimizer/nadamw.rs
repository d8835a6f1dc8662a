//! NAdamW: Nesterov Adam with decoupled weight decay (arXiv 2002.11887), as the reference's `nadamw.py` has it.
//!
//! ```text
//!  g ← g − l2 · p          m ← β1 m + (1−β1) g      v ← β2 v + (1−β2) g²      lr' = lr · √(1−β2ⁿ)/(1−β1ⁿ)
//!  p ← p − ( lr' · (β1 m + (1−β1) g) / (√v + eps) + lr' · wd · p )
//! ```
//!
//! Two things are odd and part of it: `l2_weight_decay` has the sign of growth, and the decoupled decay is scaled by the
//! bias-corrected learning rate. The schedule it was published with is [`Schedule::NadamwCosine`].

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// NAdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NAdamW {
    /// Step size; 1e-4.
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
    /// Decay of parameters a step, times the bias-corrected learning rate; 0.
    pub adamw_weight_decay: f64,
    /// Times the parameters, subtracted from the gradient; 0.
    pub l2_weight_decay: f64,
    /// Whether the newest gradient counts twice in the direction; true.
    pub use_nesterov: bool,
}

impl Default for NAdamW {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4.into(),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            adamw_weight_decay: 0.0,
            l2_weight_decay: 0.0,
            use_nesterov: true,
        }
    }
}

impl Rule for NAdamW {
    /// The bias-corrected learning rate and the averages.
    type Numbers = (f32, Averages);

    fn name(&self) -> &'static str {
        "nadamw"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("adamw_weight_decay", self.adamw_weight_decay)?;
        settings::non_negative("l2_weight_decay", self.l2_weight_decay)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (f32, Averages) {
        let averages = Averages::at(now, self.beta1, self.beta2);
        let corrected = now.of(&self.learning_rate) * averages.collected2.sqrt() / averages.collected1;
        (corrected, averages)
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
        let (eps, l2) = (self.epsilon as f32, self.l2_weight_decay as f32);
        let decay = learning_rate * self.adamw_weight_decay as f32;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            let g = g - *p * l2;
            *m = averages.first.mix(*m, g);
            *v = averages.second.mix(*v, g * g);
            let direction = if self.use_nesterov { averages.first.mix(*m, g) } else { *m };
            *p -= learning_rate * direction / (v.sqrt() + eps) + decay * *p;
        }
    }
}
