//! Gradient descent, with and without heavy-ball momentum (optax semantics: no dampening, no Nesterov term).
//!
//! A product is added with one rounding, as in the reference's compiled code: where parameters grow large, the last bit
//! of each is all there is to compare.

use serde::{Deserialize, Serialize};

use super::decay::fused;
use super::rule::{Buffer, Moment, Rule};
use super::{OptState, Schedule, TensorSlots, settings};
use crate::Result;
use crate::params::{Params, TensorSpec};

/// One slot a tensor: `trace/NAME`.
pub(crate) const TRACE: TensorSlots = TensorSlots { prefixes: &["trace"] };

/// Gradient descent of one lane, with its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdRule {
    /// Step size.
    pub(crate) learning_rate: f32,
}

impl SgdRule {
    /// Updates one lane of a state. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        for index in 0..grads.layout().len() {
            self.update_tensor(state.params.lane_mut(index, lane), grads.lane(index, lane));
        }
    }

    fn update_tensor(&self, p: &mut [f32], g: &[f32]) {
        for (p, &g) in p.iter_mut().zip(g) {
            *p = fused(-self.learning_rate, g, *p);
        }
    }
}

/// Momentum descent of one lane, with its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdmRule {
    /// Step size.
    pub(crate) learning_rate: f32,
    /// Decay of the trace.
    pub(crate) momentum: f32,
}

impl SgdmRule {
    /// Updates one lane of a state whose slots are [`TRACE`]. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        for index in 0..grads.layout().len() {
            let trace = state.slots[index].lane_mut(lane);
            self.update_tensor(state.params.lane_mut(index, lane), grads.lane(index, lane), trace);
        }
    }

    fn update_tensor(&self, p: &mut [f32], g: &[f32], trace: &mut [f32]) {
        for ((p, &g), a) in p.iter_mut().zip(g).zip(trace) {
            *a = fused(self.momentum, *a, g);
            *p = fused(-self.learning_rate, *a, *p);
        }
    }
}

/// Gradient descent: `p ← p − lr · g`. The reference's `SGD` (optax 0.2.8 `sgd`).
///
/// It has no slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 0.01.into() }
    }
}

impl Rule for Sgd {
    type Numbers = SgdRule;

    fn name(&self) -> &'static str {
        "sgd"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")
    }

    fn buffers(&self, _: &TensorSpec) -> Vec<Buffer> {
        Vec::new()
    }

    fn numbers(&self, now: Moment) -> SgdRule {
        SgdRule { learning_rate: now.of(&self.learning_rate) }
    }

    fn update(&self, rule: &SgdRule, _: &TensorSpec, p: &mut [f32], g: &[f32], _: &mut [&mut [f32]]) {
        rule.update_tensor(p, g);
    }
}

/// Gradient descent with a trace (heavy ball, Polyak 1964): `a ← g + momentum · a`, `p ← p − lr · a`, without
/// dampening. The reference's `SGDM` (optax 0.2.8 `sgd`).
///
/// Slot: `trace/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgdm {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the trace; 0.9.
    pub momentum: f64,
}

impl Default for Sgdm {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), momentum: 0.9 }
    }
}

impl Rule for Sgdm {
    type Numbers = SgdmRule;

    fn name(&self) -> &'static str {
        "sgdm"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::decay("momentum", self.momentum)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        vec![Buffer::like(tensor, TRACE.prefixes[0])]
    }

    fn numbers(&self, now: Moment) -> SgdmRule {
        SgdmRule { learning_rate: now.of(&self.learning_rate), momentum: self.momentum as f32 }
    }

    fn update(&self, rule: &SgdmRule, _: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [trace] = buffers else { unreachable!("one buffer a tensor") };
        rule.update_tensor(p, g, trace);
    }
}
