//! HyperV2 with a theta: its state and one update.
//!
//! ```text
//!  lane 0  features ┐                                ┌ control, rate ─► lane 0  bank ─► networks ─► p
//!  lane 1  features ┴─► hypernetwork, all rows in one ┴ control, rate ─► lane 1  bank ─► networks ─► p
//! ```
//!
//! Slots: the accumulators of every tensor, then six of its own, each a lane:
//!
//! ```text
//!  loss/decays [10]   loss/means [10]   loss/running_min [10]   loss/iteration [2]
//!  lstm/hidden [tensors, H]   lstm/cell [tensors, H]
//! ```

use std::sync::Arc;

use super::HyperV2Config;
use super::tensor_features::{self, SharedFeatures};
use crate::learned::accumulators::{Decays, TensorPlan, check_slots, new_slots, plans};
use crate::learned::bank::combine;
use crate::learned::channels::{CLIPPED, Guards, InputRows};
use crate::learned::course;
use crate::learned::dense::Matrix;
use crate::learned::fused::Step;
use crate::learned::hyper_theta::{HyperShape, OWN_SLOTS};
use crate::learned::hypernetwork::Advice;
use crate::learned::jobs::for_each_tensor;
use crate::learned::lane_theta::LaneTheta;
use crate::learned::lstm::LstmState;
use crate::learned::{check_horizons, check_lanes};
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::{Result, ThetaHash};

/// HyperV2 with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: HyperV2Config,
    shape: HyperShape,
    decays: Decays,
    /// Where the channels stand among the inputs of the networks.
    rows: InputRows<CLIPPED>,
    theta: LaneTheta,
    /// One a theta lane.
    banks: Vec<Matrix>,
}

impl Bound {
    /// `shape` is that of `config`, and `theta` has been checked against it.
    pub(super) fn new(config: HyperV2Config, shape: HyperShape, theta: LaneTheta) -> Self {
        let (decays, rows) = (config.decays(), shape.network.inputs.rows());
        let banks = shape.banks(&theta);
        Self { config, shape, decays, rows, theta, banks }
    }

    /// The losses enter their lanes' buffers; then the hypernetwork is asked about all tensors of all lanes, from
    /// parameters and accumulators as they are before the step.
    fn advise(&self, state: &mut OptState, plans: &[TensorPlan], losses: &[f32]) -> Advice {
        let layout = Arc::clone(state.params.layout());
        let first_own = state.slots.len() - OWN_SLOTS;
        let mut features = Vec::with_capacity(losses.len() * plans.len() * self.shape.features);
        for (lane, &loss) in losses.iter().enumerate() {
            let loss = if self.config.constant_loss { 1.0 } else { loss };
            let (step, horizon) = (state.step[lane], state.horizon[lane]);
            let course = course::enter(&mut state.slots[first_own..], lane, step, horizon, loss);
            let shared = SharedFeatures { course, validation: self.config.validation() };
            for (index, (plan, tensor)) in plans.iter().zip(layout.tensors()).enumerate() {
                let (m, rms) = plan.moments(&state.slots, lane);
                let p = state.params.lane(index, lane);
                tensor_features::append(&mut features, &shared, tensor.shape(), p, m, rms);
            }
        }
        let [.., hidden, cell] = &state.slots[..] else { unreachable!("checked to be six slots") };
        self.shape.hypernetwork(&self.theta).advise(losses.len(), &features, &hidden.values, &cell.values)
    }

    /// Moves all parameters, with the networks `[lanes, tensors, weights]` and rates `[lanes, tensors]` of all tensors.
    fn follow(&self, state: &mut OptState, plans: &[TensorPlan], grads: &Params, weights: &[f32], rates: &[f32]) {
        let weights: Vec<&[f32]> = weights.chunks_exact(weights.len() / rates.len()).collect();
        for_each_tensor(state, plans, grads, |job| {
            let of_tensor = job.lane * plans.len() + job.index;
            let step = Step {
                decays: &self.decays,
                rows: &self.rows,
                guards: Guards::HYPER_V2,
                network: &self.shape.network.network(weights[of_tensor]),
                corrected: None,
                by_matrices: false,
            };
            let (settings, rate, size) = (self.config.step(), rates[of_tensor], job.p.len());
            step.take(job.p, job.g, job.accumulators, |mean_square| settings.rule(rate, size, mean_square));
        });
    }

    /// The LSTM's next state enters its slots.
    fn store(&self, state: &mut OptState, next: &LstmState) {
        let keep = 1.0 - self.config.rnn_state_decay;
        let [.., hidden, cell] = &mut state.slots[..] else { unreachable!("checked to be six slots") };
        for (stored, next) in [(hidden, &next.hidden), (cell, &next.cell)] {
            for (stored, next) in stored.values.iter_mut().zip(next) {
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
        if plans.is_empty() || losses.is_empty() {
            state.count_step();
            return Ok(state);
        }
        let advice = self.advise(&mut state, &plans, losses);
        let weights = combine(&self.banks, &advice.control, self.config.ff_mult);
        self.follow(&mut state, &plans, grads, &weights, &advice.rate);
        self.store(&mut state, &advice.state);
        state.count_step();
        Ok(state)
    }

    fn needs_loss(&self) -> bool {
        !self.config.constant_loss
    }
}
