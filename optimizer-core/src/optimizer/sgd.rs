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
const TRACE: TensorSlots = TensorSlots { prefixes: &["trace"] };

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        OptState::new(params, horizon, Vec::new())
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        for index in 0..grads.layout().len() {
            for (p, g) in state.params.tensor_mut(index).iter_mut().zip(grads.tensor(index)) {
                *p = fused(-self.learning_rate, *g, *p);
            }
        }
        state.count_step();
        Ok(state)
    }

    fn learning_rate(&self) -> Option<f32> {
        Some(self.learning_rate)
    }

    fn with_learning_rate(&self, learning_rate: f32) -> Option<Box<dyn Optimizer>> {
        Some(Box::new(Self { learning_rate }))
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
        for index in 0..grads.layout().len() {
            let trace = &mut state.slots[index].values;
            let params = state.params.tensor_mut(index).iter_mut();
            for ((p, g), a) in params.zip(grads.tensor(index)).zip(trace) {
                *a = fused(self.momentum, *a, *g);
                *p = fused(-self.learning_rate, *a, *p);
            }
        }
        state.count_step();
        Ok(state)
    }

    fn learning_rate(&self) -> Option<f32> {
        Some(self.learning_rate)
    }

    fn with_learning_rate(&self, learning_rate: f32) -> Option<Box<dyn Optimizer>> {
        Some(Box::new(Self { learning_rate, ..*self }))
    }
}
