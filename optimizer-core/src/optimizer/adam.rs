//! Adam and AdamW (optax semantics; with the reference library's `epsilon_root` for Adam).
//!
//! ```text
//!  m ← β1 m + (1−β1) g        m̂ = m / (1 − β1ⁿ)
//!  v ← β2 v + (1−β2) g²       v̂ = v / (1 − β2ⁿ)        p ← p − lr · ( m̂ / (√(v̂ + eps_root) + eps) + wd · p )
//! ```

use serde::{Deserialize, Serialize};

use super::decay::Decay;
use super::rule::{Buffer, Moment, Rule};
use super::{OptState, Schedule, TensorSlots, moments, settings};
use crate::Result;
use crate::params::{Params, TensorSpec};

/// Two slots a tensor: `m/NAME` and `v/NAME`.
pub(crate) const MOMENTS: TensorSlots = TensorSlots { prefixes: &["m", "v"] };

/// All numbers of one Adam step, for one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamRule {
    /// Step size.
    pub(crate) learning_rate: f32,
    /// First moment.
    pub(crate) beta1: Decay,
    /// Second moment.
    pub(crate) beta2: Decay,
    /// Added to the root.
    pub(crate) eps: f32,
    /// Added inside the root.
    pub(crate) eps_root: f32,
    /// Decoupled decay, times the learning rate.
    pub(crate) weight_decay: f32,
}

impl AdamRule {
    /// Updates one lane of a state whose slots are [`MOMENTS`]. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        let count = state.step[lane].saturating_add(1);
        for index in 0..grads.layout().len() {
            let [m, v] = &mut state.slots[2 * index..2 * index + 2] else { unreachable!("a slice of two slots") };
            let (m, v) = (m.lane_mut(lane), v.lane_mut(lane));
            self.update_tensor(count, state.params.lane_mut(index, lane), grads.lane(index, lane), m, v);
        }
    }

    /// Update number `count` (from 1) of one tensor.
    pub(crate) fn update_tensor(&self, count: u32, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (collected1, collected2) = (self.beta1.collected(count), self.beta2.collected(count));
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m = self.beta1.mix(*m, g);
            *v = self.beta2.mix(*v, g * g);
            let direction = (*m / collected1) / ((*v / collected2 + self.eps_root).sqrt() + self.eps);
            *p -= self.learning_rate * (direction + self.weight_decay * *p);
        }
    }
}

/// Adam (Kingma, Ba, arXiv 1412.6980, Algorithm 1) with the defaults of the reference's `Adam` (optax has nothing
/// inside the root):
///
/// ```text
///  m ← β1 m + (1−β1) g        m̂ = m / (1 − β1ⁿ)
///  v ← β2 v + (1−β2) g²       v̂ = v / (1 − β2ⁿ)        p ← p − lr · m̂ / (√(v̂ + eps_root) + eps)
/// ```
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
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
    /// Added inside the root; 1e-8.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), beta1: 0.9, beta2: 0.999, epsilon: 1e-8, epsilon_root: 1e-8 }
    }
}

impl Adam {
    /// Adam with the reference's defaults and this learning rate.
    pub fn new(learning_rate: impl Into<Schedule>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }
}

impl Rule for Adam {
    type Numbers = (u32, AdamRule);

    fn name(&self) -> &'static str {
        "adam"
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

    fn numbers(&self, now: Moment) -> (u32, AdamRule) {
        let rule = AdamRule {
            learning_rate: now.of(&self.learning_rate),
            beta1: Decay::literal(self.beta1),
            beta2: Decay::literal(self.beta2),
            eps: self.epsilon as f32,
            eps_root: self.epsilon_root as f32,
            weight_decay: 0.0,
        };
        (now.count(), rule)
    }

    fn update(
        &self,
        (count, rule): &(u32, AdamRule),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        rule.update_tensor(*count, p, g, m, v);
    }
}

/// Adam with decoupled weight decay of all tensors (Loshchilov, Hutter, arXiv 1711.05101, Algorithm 2), as the
/// reference's `AdamW` (optax 0.2.8 `adamw`): [`Adam`]'s direction plus `wd · p`, both times the learning rate.
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
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
    /// Decay of parameters a step, times the learning rate; 1e-4.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { learning_rate, beta1, beta2, epsilon, .. } = Adam::default();
        Self { learning_rate, beta1, beta2, epsilon, epsilon_root: 0.0, weight_decay: 1e-4 }
    }
}

impl AdamW {
    /// AdamW's settings without the decay are Adam's.
    fn adam(&self) -> Adam {
        let Self { ref learning_rate, beta1, beta2, epsilon, epsilon_root, weight_decay: _ } = *self;
        Adam { learning_rate: learning_rate.clone(), beta1, beta2, epsilon, epsilon_root }
    }
}

impl Rule for AdamW {
    type Numbers = (u32, AdamRule);

    fn name(&self) -> &'static str {
        "adam_w"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.adam().validate()?;
        settings::non_negative("weight_decay", self.weight_decay)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (u32, AdamRule) {
        let (count, rule) = self.adam().numbers(now);
        (count, AdamRule { weight_decay: self.weight_decay as f32, ..rule })
    }

    fn update(
        &self,
        (count, rule): &(u32, AdamRule),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        rule.update_tensor(*count, p, g, m, v);
    }
}
