//! A hand-designed rule whose numbers theta sets: one rule a theta lane.
//!
//! ```text
//!  theta [lanes, D] ─► one rule a lane ─► each lane of parameters moves by its rule, or all by the only one
//! ```

use super::{check_lanes, lane_of};
use crate::optimizer::{AdamRule, MOMENTS, OptState, Optimizer, SgdRule, SgdmRule, TRACE, TensorSlots};
use crate::params::Params;
use crate::{Result, Theta, ThetaHash};

/// A rule that can update a lane, under the name that the learned optimizer of its numbers has.
pub(super) trait LaneRule: std::fmt::Debug + Send + Sync {
    /// Name of the learned optimizer.
    const NAME: &'static str;
    /// Buffers it keeps of a tensor.
    const SLOTS: TensorSlots;

    /// Updates one lane of a state with [`Self::SLOTS`]. Does not count the step.
    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize);
}

impl LaneRule for SgdRule {
    const NAME: &'static str = "learnable_sgd";
    const SLOTS: TensorSlots = TensorSlots { prefixes: &[] };

    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        self.update_lane(state, grads, lane);
    }
}

impl LaneRule for SgdmRule {
    const NAME: &'static str = "learnable_sgdm";
    const SLOTS: TensorSlots = TRACE;

    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        self.update_lane(state, grads, lane);
    }
}

impl LaneRule for AdamRule {
    const NAME: &'static str = "learnable_adam";
    const SLOTS: TensorSlots = MOMENTS;

    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        self.update_lane(state, grads, lane);
    }
}

/// The optimizer that a theta of such numbers makes.
#[derive(Debug)]
pub(super) struct BoundRules<R> {
    theta: Theta,
    /// One a theta lane.
    rules: Vec<R>,
}

impl<R: LaneRule> BoundRules<R> {
    /// With the rule that `read` makes of each lane's values.
    pub(super) fn new(theta: Theta, read: impl Fn(&[f32]) -> R) -> Self {
        Self { rules: (0..theta.lanes()).map(|lane| read(theta.lane(lane))).collect(), theta }
    }
}

impl<R: LaneRule> Optimizer for BoundRules<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.rules.len(), params.lanes())?;
        let slots = R::SLOTS.zeros(&params);
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.rules.len(), state.lanes())?;
        R::SLOTS.check(&state)?;
        for lane in 0..state.lanes() {
            self.rules[lane_of(self.rules.len(), lane)].update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}
