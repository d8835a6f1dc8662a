//! Adam and AdamW (optax semantics; with the reference library's `eps_root` for Adam).
//!
//! ```text
//!  m ← β1 m + (1−β1) g        m̂ = m / (1 − β1ⁿ)
//!  v ← β2 v + (1−β2) g²       v̂ = v / (1 − β2ⁿ)        p ← p − lr · ( m̂ / (√(v̂ + eps_root) + eps) + wd · p )
//! ```

use super::decay::Decay;
use super::{OptState, Optimizer, TensorSlots};
use crate::Result;
use crate::params::Params;

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
        let count = state.step[lane] + 1;
        let (collected1, collected2) = (self.beta1.collected(count), self.beta2.collected(count));
        for index in 0..grads.layout().len() {
            let [m, v] = &mut state.slots[2 * index..2 * index + 2] else { unreachable!("a slice of two slots") };
            let (m, v) = (m.lane_mut(lane), v.lane_mut(lane));
            let params = state.params.lane_mut(index, lane);
            for (((p, &g), m), v) in params.iter_mut().zip(grads.lane(index, lane)).zip(m).zip(v) {
                *m = self.beta1.take * g + self.beta1.keep * *m;
                *v = self.beta2.take * (g * g) + self.beta2.keep * *v;
                let direction = (*m / collected1) / ((*v / collected2 + self.eps_root).sqrt() + self.eps);
                *p -= self.learning_rate * (direction + self.weight_decay * *p);
            }
        }
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        MOMENTS.check(&state)?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}

/// Adam with β1 0.9, β2 0.999, eps 1e-8 and the reference's `eps_root` 1e-8.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    rule: AdamRule,
}

impl Adam {
    /// Adam with the reference's defaults.
    pub fn new(learning_rate: f32) -> Self {
        let (beta1, beta2) = (Decay::literal(0.9), Decay::literal(0.999));
        Self { rule: AdamRule { learning_rate, beta1, beta2, eps: 1e-8, eps_root: 1e-8, weight_decay: 0.0 } }
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let slots = MOMENTS.zeros(&params);
        OptState::new(params, horizon, slots)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        self.rule.update(state, grads, losses)
    }

    fn learning_rate(&self) -> Option<f32> {
        Some(self.rule.learning_rate)
    }

    fn with_learning_rate(&self, learning_rate: f32) -> Option<Box<dyn Optimizer>> {
        Some(Box::new(Self { rule: AdamRule { learning_rate, ..self.rule } }))
    }
}

/// Adam with decoupled weight decay: β1 0.9, β2 0.999, eps 1e-8, nothing inside the root.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    rule: AdamRule,
}

impl AdamW {
    /// AdamW with the reference's defaults.
    pub fn new(learning_rate: f32, weight_decay: f32) -> Self {
        let (beta1, beta2) = (Decay::literal(0.9), Decay::literal(0.999));
        Self { rule: AdamRule { learning_rate, beta1, beta2, eps: 1e-8, eps_root: 0.0, weight_decay } }
    }
}

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adam_w"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let slots = MOMENTS.zeros(&params);
        OptState::new(params, horizon, slots)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        self.rule.update(state, grads, losses)
    }

    fn learning_rate(&self) -> Option<f32> {
        Some(self.rule.learning_rate)
    }

    fn with_learning_rate(&self, learning_rate: f32) -> Option<Box<dyn Optimizer>> {
        Some(Box::new(Self { rule: AdamRule { learning_rate, ..self.rule } }))
    }
}
