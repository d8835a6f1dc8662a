//! Gradient descent, with and without heavy-ball momentum (optax semantics: no dampening, no Nesterov term).
//!
//! A product is added with one rounding, as in the reference's compiled code: where parameters grow large, the last bit
//! of each is all there is to compare.

use super::decay::fused;
use super::{OptState, Optimizer, TensorSlots};
use crate::Result;
use crate::params::Params;

/// Gradient descent: `p ← p − lr · g`.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
}

/// Gradient descent with a trace: `a ← g + momentum · a`, `p ← p − lr · a`.
#[derive(Clone, Copy, Debug)]
pub struct Sgdm {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the trace.
    pub momentum: f32,
}

/// One slot a tensor: `trace/NAME`.
pub(crate) const TRACE: TensorSlots = TensorSlots { prefixes: &["trace"] };

impl Sgd {
    /// Updates one lane of a state. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        for index in 0..grads.layout().len() {
            for (p, g) in state.params.lane_mut(index, lane).iter_mut().zip(grads.lane(index, lane)) {
                *p = fused(-self.learning_rate, *g, *p);
            }
        }
    }
}

impl Sgdm {
    /// Updates one lane of a state whose slots are [`TRACE`]. Does not count the step.
    pub(crate) fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        for index in 0..grads.layout().len() {
            let trace = state.slots[index].lane_mut(lane);
            let params = state.params.lane_mut(index, lane).iter_mut();
            for ((p, g), a) in params.zip(grads.lane(index, lane)).zip(trace) {
                *a = fused(self.momentum, *a, *g);
                *p = fused(-self.learning_rate, *a, *p);
            }
        }
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        OptState::new(params, horizon, Vec::new())
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}

impl Optimizer for Sgdm {
    fn name(&self) -> &'static str {
        "sgdm"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let slots = TRACE.zeros(&params);
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        TRACE.check(&state)?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}
