//! Yogi (Zaheer et al., NeurIPS 2018, optax semantics): Adam whose second moment moves by a bounded amount.
//!
//! ```text
//!  m ← β1 m + (1−β1) g      v ← v − (1−β2) · sign(v − g²) · g²      p ← p − lr · m̂ / (√v̂ + eps)
//! ```
//!
//! Both averages begin at 1e-6, the first moment too.

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::learned::float::sign;
use crate::params::TensorSpec;

/// Yogi (Zaheer et al., NeurIPS 2018), as the reference's `Yogi` (optax 0.2.8 `yogi`): `m ← β1 m + (1−β1) g`,
/// `v ← v − (1−β2) · sign(v − g²) · g²`, `p ← p − lr · m̂ / (√v̂ + eps)`. Both averages begin at 1e-6.
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Yogi {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-3.
    #[serde(alias = "eps")]
    pub epsilon: f64,
}

impl Default for Yogi {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), beta1: 0.9, beta2: 0.999, epsilon: 1e-3 }
    }
}

/// What both averages hold before the first update.
const INITIAL: f32 = 1e-6;

impl Rule for Yogi {
    /// The learning rate and the averages.
    type Numbers = (f32, Averages);

    fn name(&self) -> &'static str {
        "yogi"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, INITIAL)
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
        let eps = self.epsilon as f32;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            let square = g * g;
            *m = averages.first.mix(*m, g);
            *v -= averages.second.take * sign(*v - square) * square;
            let direction = (*m / averages.collected1) / ((*v / averages.collected2).sqrt() + eps);
            *p -= learning_rate * direction;
        }
    }
}
