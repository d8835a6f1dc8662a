//! HyperV2 with a theta: its state and one update.
//!
//! Slots: the accumulators of every tensor, then five of its own, each a lane:
//!
//! ```text
//!  loss/decays [10]   loss/means [10]   loss/running_min [10]   lstm/hidden [tensors, H]   lstm/cell [tensors, H]
//! ```

use super::HyperV2Config;
use super::bank::{Bank, ROWS};
use super::hypernetwork::{Advice, Hypernetwork};
use super::loss_buffer::{LossBuffer, NO_MINIMUM, TIMESCALES, decays};
use super::tensor_features::{self, SharedFeatures};
use crate::learned::accumulators::{Decays, TensorPlan, check_slots, new_slots, plans};
use crate::learned::channels::Channels;
use crate::learned::float::{mean, minimum};
use crate::learned::network::{Layer, StepRule, apply};
use crate::learned::{check_lanes, lane_of};
use crate::optimizer::{OptState, Optimizer, Slot};
use crate::params::Params;
use crate::{Error, Result, Theta};

/// Gradients are clipped to this, element by element.
const GRADIENT_BOUND: f32 = 1000.0;

/// Slots beside the accumulators.
const OWN_SLOTS: usize = 5;

/// HyperV2 with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: HyperV2Config,
    theta: Theta,
    /// One a theta lane.
    banks: Vec<Bank>,
}

impl Bound {
    /// `theta` has been checked against the layout of `config`.
    pub(super) fn new(config: HyperV2Config, theta: Theta) -> Self {
        let banks = (0..theta.lanes()).map(|lane| Bank::gather(&config, &theta, lane)).collect();
        Self { config, theta, banks }
    }

    fn tensor(&self, lane: usize, name: &str) -> &[f32] {
        let index = self.theta.layout().index_of(name).expect("the layout was made from these names");
        self.theta.tensor(lane, index)
    }

    fn hypernetwork(&self, lane: usize) -> Hypernetwork<'_> {
        let layer = |name: &str| Layer {
            w: self.tensor(lane, &format!("rnn_params/{name}/w")),
            b: self.tensor(lane, &format!("rnn_params/{name}/b")),
        };
        Hypernetwork {
            mixing: self.config.mix_layers.then(|| [layer("linear_1"), layer("linear_2")]),
            lstm: layer("rnn/linear"),
            controls: layer("rnn_to_controls"),
            step_size: layer("step_size"),
        }
    }

    /// The loss enters its lane's buffer, which gives the features that all tensors share.
    fn shared_features(&self, own: &mut [Slot], lane: usize, step: u32, horizon: u32, loss: f32) -> SharedFeatures {
        let [decays, means, running_min, ..] = own else { unreachable!("checked to be five slots") };
        let mut buffer = LossBuffer {
            decays: decays.lane(lane),
            means: means.lane_mut(lane),
            running_min: running_min.lane_mut(lane),
        };
        buffer.update(step, if self.config.constant_loss { 1.0 } else { loss });
        let flag = if self.config.validation_mode { 1.0 } else { 0.0 };
        SharedFeatures {
            fraction: step as f32 / horizon as f32,
            loss: buffer.features(step + 1),
            validation: self.config.with_validation_feature_dim.then_some(flag),
        }
    }

    /// Asks the hypernetwork about all tensors of a lane, from parameters and accumulators as they are before the step.
    fn advise(&self, state: &OptState, plans: &[TensorPlan], lane: usize, shared: &SharedFeatures) -> Advice {
        let layout = state.params.layout();
        let mut features = Vec::with_capacity(plans.len() * self.config.features());
        for (index, (plan, tensor)) in plans.iter().zip(layout.tensors()).enumerate() {
            let (m, rms) = plan.moments(&state.slots, lane);
            tensor_features::append(&mut features, shared, tensor.shape(), state.params.lane(index, lane), m, rms);
        }
        let [.., hidden, cell] = &state.slots[..] else { unreachable!("checked to be five slots") };
        let theta_lane = lane_of(self.theta.lanes(), lane);
        self.hypernetwork(theta_lane).advise(&features, hidden.lane(lane), cell.lane(lane))
    }

    fn rule(&self, rate: f32, p: &[f32]) -> StepRule {
        let mut scale = 1.0;
        if self.config.param_scale_mult {
            scale = (mean(p, |p| p * p) + 1e-9).sqrt();
            if let Some(amount) = self.config.clip_param_scale_amount {
                scale = minimum(scale, amount * (p.len() as f32).sqrt());
            }
        }
        let &HyperV2Config { exp_mult, step_mult, precondition_output: precondition, .. } = &self.config;
        StepRule { rate, scale, exp_mult, step_mult, precondition }
    }

    fn update_lane(&self, state: &mut OptState, plans: &[TensorPlan], grads: &Params, lane: usize, loss: f32) {
        let (step, horizon) = (state.step[lane], state.horizon[lane]);
        let first_own = state.slots.len() - OWN_SLOTS;
        let shared = self.shared_features(&mut state.slots[first_own..], lane, step, horizon, loss);
        let advice = self.advise(state, plans, lane, &shared);
        let bank = &self.banks[lane_of(self.theta.lanes(), lane)];
        let weights = bank.combine(&advice.control);
        let mut clipped = Vec::new();
        for (index, (plan, weights)) in plans.iter().zip(weights.chunks_exact(weights.len() / plans.len())).enumerate()
        {
            clipped.clear();
            clipped.extend(grads.lane(index, lane).iter().map(|g| g.clamp(-GRADIENT_BOUND, GRADIENT_BOUND)));
            let p = state.params.lane_mut(index, lane);
            let rule = self.rule(advice.rate[index], p);
            let mut accumulators = plan.accumulators(&mut state.slots, lane);
            accumulators.update(&clipped, &accumulator_decays());
            let channels = Channels::new(&clipped, &accumulators, 0.0);
            apply(p, &channels, &ROWS, &bank.network(weights), rule);
        }
        if !self.config.use_bugged_next_lstm_state {
            let keep = 1.0 - self.config.rnn_state_decay;
            let [.., hidden, cell] = &mut state.slots[..] else { unreachable!("checked to be five slots") };
            for (stored, next) in [(hidden, &advice.state.hidden), (cell, &advice.state.cell)] {
                for (stored, next) in stored.lane_mut(lane).iter_mut().zip(next) {
                    *stored = next * keep;
                }
            }
        }
    }
}

/// The decays of all accumulators; HyperV2 does not learn them.
fn accumulator_decays() -> Decays {
    Decays::new([0.9, 0.99, 0.999], 0.999, [0.9, 0.99, 0.999])
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "hyper_v2"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let (lanes, tensors, size) = (params.lanes(), params.layout().len(), self.config.lstm_hidden_size);
        check_lanes(self.theta.lanes(), lanes)?;
        if horizon.contains(&0) {
            return Err(Error::setting("horizon", "must be at least 1: it sets the timescales of the loss", 0));
        }
        let mut slots = new_slots(params.layout(), lanes);
        let mut loss_decays = Slot::filled("loss/decays", [TIMESCALES], lanes, 0.0);
        for (lane, &horizon) in horizon.iter().enumerate().take(lanes) {
            let longest = if self.config.use_bugged_loss_features { 10 } else { horizon };
            loss_decays.lane_mut(lane).copy_from_slice(&decays(longest));
        }
        slots.push(loss_decays);
        slots.push(Slot::filled("loss/means", [TIMESCALES], lanes, 0.0));
        slots.push(Slot::filled("loss/running_min", [TIMESCALES], lanes, NO_MINIMUM));
        for part in ["hidden", "cell"] {
            let mut slot = Slot::filled(format!("lstm/{part}"), [tensors, size], lanes, 0.0);
            for lane in 0..lanes {
                let initial = self.tensor(lane_of(self.theta.lanes(), lane), &format!("lstm_init_state/{part}"));
                slot.lane_mut(lane).chunks_exact_mut(size).for_each(|row| row.copy_from_slice(initial));
            }
            slots.push(slot);
        }
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        let plans = plans(grads.layout());
        let lstm = plans.len() * self.config.lstm_hidden_size;
        check_slots(&state, &plans, &[TIMESCALES, TIMESCALES, TIMESCALES, lstm, lstm])?;
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
}
