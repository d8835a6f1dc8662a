//! HyperV2 with a theta: its state and one update.
//!
//! Slots: the accumulators of every tensor, then five of its own, each a lane:
//!
//! ```text
//!  loss/decays [10]   loss/means [10]   loss/running_min [10]   lstm/hidden [tensors, H]   lstm/cell [tensors, H]
//! ```

use super::HyperV2Config;
use super::tensor_features::{self, SharedFeatures};
use crate::learned::accumulators::{Decays, TensorPlan, check_slots, clip_gradient, new_slots, plans};
use crate::learned::bank::Bank;
use crate::learned::channels::{CLIPPED, Channels, Guards, InputRows};
use crate::learned::course;
use crate::learned::hyper_theta::{HyperShape, OWN_SLOTS};
use crate::learned::hypernetwork::Advice;
use crate::learned::network::apply;
use crate::learned::{check_horizons, check_lanes, lane_of};
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::{Result, Theta, ThetaHash};

/// HyperV2 with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: HyperV2Config,
    shape: HyperShape,
    decays: Decays,
    /// Where the channels stand among the inputs of the networks.
    rows: InputRows<CLIPPED>,
    theta: Theta,
    /// One a theta lane.
    banks: Vec<Bank>,
}

impl Bound {
    /// `shape` is that of `config`, and `theta` has been checked against it.
    pub(super) fn new(config: HyperV2Config, shape: HyperShape, theta: Theta) -> Self {
        let (decays, rows) = (config.decays(), shape.network.inputs.rows());
        let banks = shape.banks(&theta);
        Self { config, shape, decays, rows, theta, banks }
    }

    /// Asks the hypernetwork about all tensors of a lane, from parameters and accumulators as they are before the step.
    fn advise(&self, state: &OptState, plans: &[TensorPlan], lane: usize, shared: &SharedFeatures) -> Advice {
        let layout = state.params.layout();
        let mut features = Vec::with_capacity(plans.len() * self.shape.features);
        for (index, (plan, tensor)) in plans.iter().zip(layout.tensors()).enumerate() {
            let (m, rms) = plan.moments(&state.slots, lane);
            tensor_features::append(&mut features, shared, tensor.shape(), state.params.lane(index, lane), m, rms);
        }
        let [.., hidden, cell] = &state.slots[..] else { unreachable!("checked to be five slots") };
        let theta_lane = lane_of(self.theta.lanes(), lane);
        self.shape.hypernetwork(&self.theta, theta_lane).advise(&features, hidden.lane(lane), cell.lane(lane))
    }

    fn update_lane(&self, state: &mut OptState, plans: &[TensorPlan], grads: &Params, lane: usize, loss: f32) {
        let (step, horizon) = (state.step[lane], state.horizon[lane]);
        let first_own = state.slots.len() - OWN_SLOTS;
        let loss = if self.config.constant_loss { 1.0 } else { loss };
        let course = course::enter(&mut state.slots[first_own..], lane, step, horizon, loss);
        let shared = SharedFeatures { course, validation: self.config.validation() };
        let advice = self.advise(state, plans, lane, &shared);
        let bank = &self.banks[lane_of(self.theta.lanes(), lane)];
        let weights = bank.combine(&advice.control, self.config.ff_mult);
        let mut clipped = Vec::new();
        for (index, (plan, weights)) in plans.iter().zip(weights.chunks_exact(weights.len() / plans.len())).enumerate()
        {
            clip_gradient(&mut clipped, grads.lane(index, lane));
            let p = state.params.lane_mut(index, lane);
            let rule = self.config.step().rule(advice.rate[index], p);
            let mut accumulators = plan.accumulators(&mut state.slots, lane);
            accumulators.update(&clipped, &self.decays);
            let channels = Channels::new(&clipped, &accumulators, Guards::HYPER_V2);
            apply(p, &channels, &self.rows, &self.shape.network.network(weights), rule);
        }
        let keep = 1.0 - self.config.rnn_state_decay;
        let [.., hidden, cell] = &mut state.slots[..] else { unreachable!("checked to be five slots") };
        for (stored, next) in [(hidden, &advice.state.hidden), (cell, &advice.state.cell)] {
            for (stored, next) in stored.lane_mut(lane).iter_mut().zip(next) {
                let next = if self.config.use_bugged_next_lstm_state { *stored } else { *next };
                *stored = next * keep;
            }
        }
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "hyper_v2"
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.theta.lanes(), params.lanes())?;
        check_horizons(params.lanes(), horizon)?;
        let longest = |&horizon| if self.config.use_bugged_loss_features { 10 } else { horizon };
        let longest: Vec<u32> = horizon.iter().map(longest).collect();
        let mut slots = new_slots(params.layout(), params.lanes());
        slots.extend(self.shape.slots(&self.theta, &longest, params.layout().len()));
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        let plans = plans(grads.layout());
        check_slots(&state, &plans, &self.shape.slot_sizes(plans.len()))?;
        if plans.is_empty() {
            state.count_step();
            return Ok(state);
        }
        for (lane, &loss) in losses.iter().enumerate() {
            self.update_lane(&mut state, &plans, grads, lane, loss);
        }
        state.count_step();
        Ok(state)
    }

    fn needs_loss(&self) -> bool {
        !self.config.constant_loss
    }
}
