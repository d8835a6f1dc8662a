//! NNAdam with a theta: its state and one update.
//!
//! Slots: six a tensor, then those of the LSTM:
//!
//! ```text
//!  m/NAME [shape]   rms/NAME [shape]   per_layer_{lr, beta1, beta2, epsilon}/NAME []   lstm/hidden, lstm/cell [tensors, H]
//! ```

use super::NnAdamConfig;
use super::settings::SETTINGS;
use crate::learned::dense::affine;
use crate::learned::float::{log_magnitude, mean, mean_square_around, sign};
use crate::learned::{check_lanes, lane_of, lstm, theta_layer, theta_tensor};
use crate::optimizer::{Decay, OptState, Optimizer, Slot};
use crate::params::{Params, TensorSpec};
use crate::{Result, Theta, ThetaHash};

/// Inputs of the LSTM.
pub(super) const FEATURES: usize = 19;

/// Gradients are clipped to this, element by element.
const GRADIENT_BOUND: f32 = 1000.0;

/// Slots of a tensor: `m` and `rms` of its shape, then the settings.
const TENSOR_SLOTS: usize = 2 + SETTINGS.len();

/// One tensor's slots in one lane.
struct TensorState<'a> {
    m: &'a mut [f32],
    rms: &'a mut [f32],
    /// In the order of [`SETTINGS`].
    encoded: [f32; 4],
}

impl<'a> TensorState<'a> {
    /// From the slots of one tensor.
    fn of(slots: &'a mut [Slot], lane: usize) -> Self {
        let [m, rms, settings @ ..] = slots else { unreachable!("six slots a tensor") };
        let encoded = std::array::from_fn(|setting| settings[setting].lane(lane)[0]);
        Self { m: m.lane_mut(lane), rms: rms.lane_mut(lane), encoded }
    }

    /// One Adam step of the parameters `p` with the clipped gradient `g`.
    fn step(&mut self, p: &mut [f32], g: &[f32]) {
        let [learning_rate, beta1, beta2, epsilon] = std::array::from_fn(|setting| {
            let (_, encoding) = SETTINGS[setting];
            encoding.decode(self.encoded[setting])
        });
        Decay::traced(beta1).accumulate(self.m, g, |g| g);
        Decay::traced(beta2).accumulate(self.rms, g, |g| g * g);
        let rate = learning_rate * (1.0 + epsilon);
        for ((p, m), rms) in p.iter_mut().zip(&*self.m).zip(&*self.rms) {
            *p -= rate / (epsilon + (rms + 1e-10).sqrt()) * m;
        }
    }

    /// Inputs of the LSTM, sorted by their names in the reference, from *old* parameters `p` and new averages.
    fn features(&self, shape: &[usize], p: &[f32], g: &[f32]) -> [f32; FEATURES] {
        let size = |x: f32| 0.5 * log_magnitude(x);
        let setting = |index: usize| 0.2 * self.encoded[index].clamp(-5.0, 5.0);
        let flag = |yes: bool| if yes { 1.0 } else { -1.0 };
        let [mean_g, mean_m, mean_p, mean_rms] = [g, self.m, p, self.rms].map(|x| mean(x, |x| x));
        let spread = |values: &[f32], mean: f32| size(mean_square_around(values, mean));
        [
            setting(1),
            setting(2),
            setting(3),
            flag(shape.len() == 1),
            flag(shape.is_empty()),
            setting(0),
            size(mean_g),
            sign(mean_g),
            size(mean(g, f32::abs)),
            size(mean_m),
            sign(mean_m),
            size(mean_p),
            sign(mean_p),
            size(mean_rms),
            sign(mean_rms),
            spread(g, mean_g),
            spread(self.m, mean_m),
            spread(p, mean_p),
            spread(self.rms, mean_rms),
        ]
    }
}

/// NNAdam with a theta.
#[derive(Debug)]
pub(super) struct Bound {
    config: NnAdamConfig,
    theta: Theta,
}

impl Bound {
    /// `theta` has been checked against the layout of `config`.
    pub(super) fn new(config: NnAdamConfig, theta: Theta) -> Self {
        Self { config, theta }
    }

    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        let theta_lane = lane_of(self.theta.lanes(), lane);
        let mut features = Vec::new();
        let mut clipped = Vec::new();
        for (index, spec) in grads.layout().tensors().iter().enumerate() {
            clipped.clear();
            clipped.extend(grads.lane(index, lane).iter().map(|g| g.clamp(-GRADIENT_BOUND, GRADIENT_BOUND)));
            let slots = &mut state.slots[TENSOR_SLOTS * index..TENSOR_SLOTS * (index + 1)];
            let mut tensor = TensorState::of(slots, lane);
            let p = state.params.lane_mut(index, lane);
            let old = p.to_vec();
            tensor.step(p, &clipped);
            features.extend(tensor.features(spec.shape(), &old, &clipped));
        }
        let [tensor_slots @ .., hidden, cell] = &mut state.slots[..] else { unreachable!("checked") };
        let weights = theta_layer(&self.theta, theta_lane, "rnn_params/rnn/linear");
        let next = lstm::step(&features, hidden.lane(lane), cell.lane(lane), weights.w, weights.b);
        hidden.lane_mut(lane).copy_from_slice(&next.hidden);
        cell.lane_mut(lane).copy_from_slice(&next.cell);
        let head = theta_layer(&self.theta, theta_lane, "rnn_to_controls_params/rnn_to_controls");
        let deltas = affine(&next.hidden, head.w, head.b);
        for (slots, deltas) in tensor_slots.chunks_exact_mut(TENSOR_SLOTS).zip(deltas.chunks_exact(SETTINGS.len())) {
            for ((slot, delta), (name, encoding)) in slots[2..].iter_mut().zip(deltas).zip(SETTINGS) {
                let encoded = &mut slot.lane_mut(lane)[0];
                let initial = theta_tensor(&self.theta, theta_lane, name)[0];
                let mut moved = *encoded + delta * self.config.output_scale;
                if self.config.decay_strength > 0.0 {
                    moved -= self.config.decay_strength * (moved - initial);
                }
                *encoded = encoding.encode(encoding.decode(moved));
            }
        }
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "nn_adam"
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let lanes = params.lanes();
        check_lanes(self.theta.lanes(), lanes)?;
        let mut slots = Vec::new();
        for tensor in params.layout().tensors() {
            for prefix in ["m", "rms"] {
                slots.push(Slot::filled(format!("{prefix}/{}", tensor.name()), tensor.shape(), lanes, 0.0));
            }
            for (name, _) in SETTINGS {
                let mut slot = Slot::filled(format!("{name}/{}", tensor.name()), [], lanes, 0.0);
                for lane in 0..lanes {
                    let theta_lane = lane_of(self.theta.lanes(), lane);
                    slot.lane_mut(lane).copy_from_slice(theta_tensor(&self.theta, theta_lane, name));
                }
                slots.push(slot);
            }
        }
        slots.extend(lstm::slots(&self.theta, params.layout().len(), lanes));
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        let tensors = grads.layout().tensors();
        let lstm = tensors.len() * self.config.lstm_hidden_size;
        let of_tensor = |tensor: &TensorSpec| [tensor.size(), tensor.size(), 1, 1, 1, 1];
        let sizes: Vec<usize> = tensors.iter().flat_map(of_tensor).chain([lstm, lstm]).collect();
        state.check_slots(sizes.into_iter())?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}
