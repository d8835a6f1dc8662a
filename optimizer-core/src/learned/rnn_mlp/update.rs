//! RNNMLPLOpt with a theta: its state and one update.
//!
//! Slots: three a tensor, then those of the lane, then its scalars:
//!
//! ```text
//!  m/NAME [5, shape]   rms/NAME [5, shape]   from_mlp/NAME [16]
//!  lstm/hidden [tensors, H]   lstm/cell [tensors, H]   from_lstm [18]
//!  train_loss/{mean, var, updates}   valid_loss/{mean, var, updates}   gradient_clip/{iteration, value}      [] each
//! ```

use super::loss_statistics::{GradientClip, LossStatistics, TRAIN, VALIDATION, clip};
use super::parameter_inputs::{CHANNELS, shared};
use super::tensor_features::{SharedFeatures, TensorView, append};
use super::{RnnMlpConfig, TIMESCALES};
use crate::learned::dense::affine;
use crate::learned::first_layer::FirstLayer;
use crate::learned::float::{mean, minus, partial_sum};
use crate::learned::mlp_theta::mlp_layers;
use crate::learned::name_order::NameOrder;
use crate::learned::network::{Layer, Network, element_normalisers, sweep};
use crate::learned::rolling::{self, roll};
use crate::learned::step::StepRule;
use crate::learned::{check_lanes, lane_of, lstm, theta_layer, theta_tensor};
use crate::optimizer::{Decay, OptState, Optimizer, Slot};
use crate::params::{Params, TensorSpec};
use crate::{Result, Theta, ThetaHash};

/// Direction and magnitude; the outputs that follow are the message to the LSTM.
pub(super) const STEP_OUTPUTS: usize = 2;

/// Slots of a tensor.
const TENSOR_SLOTS: usize = 3;

/// The lane's scalars, in order.
const SCALARS: [&str; 8] = [
    "train_loss/mean",
    "train_loss/var",
    "train_loss/updates",
    "valid_loss/mean",
    "valid_loss/var",
    "valid_loss/updates",
    "gradient_clip/iteration",
    "gradient_clip/value",
];

/// The scalars of one lane.
#[derive(Clone, Copy, Debug)]
struct Scalars {
    train: LossStatistics,
    valid: LossStatistics,
    clip: GradientClip,
}

impl Scalars {
    /// From the last slots of a state.
    fn read(slots: &[Slot], lane: usize) -> Self {
        let first = slots.len() - SCALARS.len();
        let value = |scalar: usize| slots[first + scalar].lane(lane)[0];
        let loss = |at: usize| LossStatistics { mean: value(at), var: value(at + 1), updates: value(at + 2) };
        Self { train: loss(0), valid: loss(3), clip: GradientClip { iteration: value(6), value: value(7) } }
    }

    fn write(self, slots: &mut [Slot], lane: usize) {
        let Self { train, valid, clip } = self;
        let values = [train.mean, train.var, train.updates, valid.mean, valid.var, valid.updates];
        let values = values.into_iter().chain([clip.iteration, clip.value]);
        let first = slots.len() - SCALARS.len();
        for (slot, value) in slots[first..].iter_mut().zip(values) {
            slot.lane_mut(lane)[0] = value;
        }
    }
}

/// RNNMLPLOpt with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: RnnMlpConfig,
    theta: Theta,
}

impl Bound {
    /// `theta` has been checked against the layout of `config`.
    pub(super) fn new(config: RnnMlpConfig, theta: Theta) -> Self {
        Self { config, theta }
    }

    /// Checks that a state is one of this optimizer's.
    fn check(&self, state: &OptState) -> Result<()> {
        check_lanes(self.theta.lanes(), state.lanes())?;
        let config = &self.config;
        let tensors = state.params.layout().tensors();
        let of_tensor =
            |tensor: &TensorSpec| [TIMESCALES * tensor.size(), TIMESCALES * tensor.size(), config.from_mlp_size];
        let lstm = tensors.len() * config.lstm_hidden_size;
        let of_lane = [lstm, lstm, config.from_lstm_size].into_iter().chain([1; SCALARS.len()]);
        let sizes: Vec<usize> = tensors.iter().flat_map(of_tensor).chain(of_lane).collect();
        state.check_slots(sizes.into_iter())
    }

    /// The gradients of a lane, clipped, one vector a tensor; the statistics learn of them.
    fn clip(scalars: &mut Scalars, grads: &Params, lane: usize, order: &NameOrder) -> Vec<Vec<f32>> {
        let bound = scalars.clip.bound();
        let clipped = |index| grads.lane(index, lane).iter().map(|&g| clip(g, bound)).collect();
        let clipped: Vec<Vec<f32>> = (0..order.len()).map(clipped).collect();
        scalars.clip = scalars.clip.after(order.mean(|index| mean(&clipped[index], |g| g * g)));
        clipped
    }

    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize, loss: f32, order: &NameOrder) {
        let theta_lane = lane_of(self.theta.lanes(), lane);
        let tensors = order.len();
        let mut scalars = Scalars::read(&state.slots, lane);
        scalars.train = scalars.train.after(TRAIN, loss);
        let train_loss = scalars.train.score(TRAIN, loss);
        let valid_loss = scalars.train.score(TRAIN, scalars.valid.corrected_mean(VALIDATION));
        let clipped = Self::clip(&mut scalars, grads, lane, order);
        let decays = self.config.decays.map(Decay::traced);
        for (slots, g) in state.slots.chunks_exact_mut(TENSOR_SLOTS).zip(&clipped) {
            roll(slots[0].lane_mut(lane), &decays, g, |g| g);
            roll(slots[1].lane_mut(lane), &decays, g, |g| g * g);
        }
        // Everything is read from the state as it is now; parameters and messages are replaced at the end.
        let (tensor_slots, of_lane) = state.slots.split_at_mut(TENSOR_SLOTS * tensors);
        let [hidden, cell, from_lstm, ..] = of_lane else { unreachable!("checked") };
        let shared_features = SharedFeatures { from_lstm: from_lstm.lane(lane), train_loss, valid_loss };
        let mut features = Vec::new();
        for (index, slots) in tensor_slots.chunks_exact(TENSOR_SLOTS).enumerate() {
            let tensor = view(&state.params, slots, &clipped, index, lane);
            append(&mut features, &shared_features, slots[2].lane(lane), &tensor);
        }
        let layer = |module: &str| theta_layer(&self.theta, theta_lane, module);
        let recurrent = layer("rnn_params/rnn/linear");
        let next = lstm::step(&features, hidden.lane(lane), cell.lane(lane), recurrent.w, recurrent.b);
        hidden.lane_mut(lane).copy_from_slice(&next.hidden);
        cell.lane_mut(lane).copy_from_slice(&next.cell);
        let to_in = layer("rnn_to_in_params/rnn_to_in");
        let told = affine(&next.hidden, to_in.w, to_in.b);
        for (j, message) in from_lstm.lane_mut(lane).iter_mut().enumerate() {
            *message = order.mean(|index| told[index * self.config.from_lstm_size + j]);
        }
        let to_ff = layer("rnn_to_ff_params/rnn_to_ff");
        let messages = affine(&next.hidden, to_ff.w, to_ff.b);
        let layers = mlp_layers(&self.theta, theta_lane, "ffmod_params/mlp", self.config.hidden_layer);
        let messages = messages.chunks_exact(self.config.lstm_to_ff);
        for (index, (slots, message)) in tensor_slots.chunks_exact_mut(TENSOR_SLOTS).zip(messages).enumerate() {
            let mut p = state.params.lane(index, lane).to_vec();
            let bias = layers[0].bias_with(CHANNELS, &shared(state.step[lane], tensors, &p, message));
            let tensor = view(&state.params, slots, &clipped, index, lane);
            let from_mlp = self.apply(&mut p, &tensor, &Network::new(Layer { b: &bias, ..layers[0] }, &layers[1..]));
            slots[2].lane_mut(lane).copy_from_slice(&from_mlp);
            state.params.lane_mut(index, lane).copy_from_slice(&p);
        }
        scalars.write(&mut state.slots, lane);
    }

    /// Moves the parameters of one tensor and returns the mean of the other outputs, the message to the LSTM.
    fn apply(&self, p: &mut [f32], tensor: &TensorView<'_>, network: &Network<'_>) -> Vec<f32> {
        let first = FirstLayer::new(network.first, &element_normalisers(tensor, p));
        let rule = StepRule::plain(self.config.magnitude_rate, self.config.step_multiplier);
        let mut sums = vec![0.0_f64; self.config.from_mlp_size];
        sweep(p, tensor, &first, network, STEP_OUTPUTS + sums.len(), |block| {
            let (own, message) = block.outputs.split_at(STEP_OUTPUTS);
            for (sum, output) in sums.iter_mut().zip(message) {
                *sum += partial_sum(*output, block.length);
            }
            minus(*block.p, &rule.step(&own[0], &own[1]))
        });
        sums.into_iter().map(|sum| (sum / tensor.g.len().max(1) as f64) as f32).collect()
    }
}

/// One tensor in one lane, from its slots.
fn view<'a>(
    params: &'a Params,
    slots: &'a [Slot],
    clipped: &'a [Vec<f32>],
    index: usize,
    lane: usize,
) -> TensorView<'a> {
    let shape = params.layout().tensors()[index].shape();
    let (m, rms) = (slots[0].lane(lane), slots[1].lane(lane));
    TensorView { shape, p: params.lane(index, lane), g: &clipped[index], m, rms }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "rnn_mlp"
    }

    fn needs_loss(&self) -> bool {
        true
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let lanes = params.lanes();
        check_lanes(self.theta.lanes(), lanes)?;
        let from_theta = |slot: &str, name: &str, size: usize| {
            let mut slot = Slot::filled(slot, [size], lanes, 0.0);
            for lane in 0..lanes {
                let initial = theta_tensor(&self.theta, lane_of(self.theta.lanes(), lane), name);
                slot.lane_mut(lane).copy_from_slice(initial);
            }
            slot
        };
        let mut slots = Vec::new();
        for tensor in params.layout().tensors() {
            for prefix in ["m", "rms"] {
                slots.push(rolling::slot(prefix, tensor.name(), TIMESCALES, tensor.shape(), lanes));
            }
            let name = format!("from_mlp/{}", tensor.name());
            slots.push(from_theta(&name, "initial_from_mlp", self.config.from_mlp_size));
        }
        slots.extend(lstm::slots(&self.theta, params.layout().len(), lanes));
        slots.push(from_theta("from_lstm", "initial_from_lstm", self.config.from_lstm_size));
        slots.extend(SCALARS.map(|name| Slot::filled(name, [], lanes, 0.0)));
        let nothing = LossStatistics { mean: 0.0, var: 0.0, updates: 0.0 };
        let initial = Scalars { train: nothing, valid: nothing, clip: GradientClip::initial() };
        (0..lanes).for_each(|lane| initial.write(&mut slots, lane));
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        self.check(&state)?;
        let order = NameOrder::of(grads.layout());
        if order.len() > 0 {
            for (lane, &loss) in losses.iter().enumerate() {
                self.update_lane(&mut state, grads, lane, loss, &order);
            }
        }
        state.count_step();
        Ok(state)
    }

    /// The validation loss enters its statistics and the step is counted; nothing else changes.
    fn observe_validation(&self, mut state: OptState, losses: &[f32]) -> Result<OptState> {
        state.check_losses(losses)?;
        self.check(&state)?;
        for (lane, &loss) in losses.iter().enumerate() {
            let mut scalars = Scalars::read(&state.slots, lane);
            scalars.valid = scalars.valid.after(VALIDATION, loss);
            scalars.write(&mut state.slots, lane);
        }
        state.count_step();
        Ok(state)
    }
}
