//! NNAdam: Adam whose four settings an LSTM moves, tensor by tensor.
//!
//! ```text
//!  g clipped at ±1000 ─► m ← β1 m + (1−β1) g,  rms ← β2 rms + (1−β2) g²      p ← p − lr (1+ε)/(ε + √(rms + 1e-10)) · m
//!
//!  statistics of p, g, m, rms and the settings ─► LSTM (a row a tensor) ─► Δ of the encoded lr, β1, β2, ε ─► next step
//! ```
//!
//! There is no bias correction. The factor `1 + ε` lets ε grow, which turns the second moment off, without lr having to
//! grow with it. Settings live encoded in the state (`0.1 · ln lr`, `0.1 · ln(1 − β)`, `0.1 · ln ε`); what the LSTM says
//! takes effect one step later. The loss and the horizon are not used. Source: `NNAdam` of google/learned_optimization
//! @ 32186aa4.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::affine;
use super::float::{exact_exp, ln, log_magnitude, mean, mean_square_around, sign};
use super::initial::{InitialTheta, ThetaTensors, scalar, zeros};
use super::lstm;
use super::{
    LearnedOptimizer, LearnedOptimizerConfig, check_decays, check_finite, check_lanes, check_range, check_theta,
    lane_of, theta_layer, theta_tensor,
};
use crate::optimizer::{Decay, OptState, Optimizer, Slot};
use crate::params::{Layout, Params, TensorSpec};
use crate::{Error, Result, Seed, Theta};

/// Settings of [`NnAdam`]. A key that is absent takes the default of the reference's constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NnAdamConfig {
    /// Factor of what the LSTM adds to the encoded settings.
    pub output_scale: f32,
    /// Learning rate of the initial theta, positive.
    pub initial_learning_rate: f32,
    /// Decay of the momentum of the initial theta, in `[0, 1)`.
    pub initial_beta1: f32,
    /// Decay of the second moment of the initial theta, in `[0, 1)`.
    pub initial_beta2: f32,
    /// Epsilon of the initial theta, positive.
    pub initial_epsilon: f32,
    /// Part of the way that encoded settings go back to theta's in each step, 0 to 1.
    pub decay_strength: f32,
    /// Units of the LSTM, 1 to 4096.
    pub lstm_hidden_size: usize,
}

impl Default for NnAdamConfig {
    fn default() -> Self {
        Self {
            output_scale: 0.01,
            initial_learning_rate: 1e-4,
            initial_beta1: 0.9,
            initial_beta2: 0.999,
            initial_epsilon: 1e-8,
            decay_strength: 0.0,
            lstm_hidden_size: 32,
        }
    }
}

impl NnAdamConfig {
    fn check(&self) -> Result<()> {
        check_finite("output_scale", self.output_scale)?;
        check_decays("initial_beta1", &[self.initial_beta1])?;
        check_decays("initial_beta2", &[self.initial_beta2])?;
        for (field, value) in
            [("initial_learning_rate", self.initial_learning_rate), ("initial_epsilon", self.initial_epsilon)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(field, "must be a positive number", value));
            }
        }
        if !(0.0..=1.0).contains(&self.decay_strength) {
            return Err(Error::setting("decay_strength", "must lie between 0 and 1", self.decay_strength));
        }
        check_range("lstm_hidden_size", self.lstm_hidden_size, 1..=4096)
    }
}

/// How one of Adam's settings is encoded: a tenth of a logarithm.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// `0.1 · ln x`, decoded to a value within bounds.
    Log { least: f32, most: f32 },
    /// `0.1 · ln(1 − x)`, decoded to a value between 0 and 1 − e⁻¹⁰.
    LogOneMinus,
}

/// The settings in the order of the LSTM's outputs: names in theta and in slots, and encodings.
const SETTINGS: [(&str, Encoding); 4] = [
    ("per_layer_lr", Encoding::Log { least: 1e-8, most: 1e3 }),
    ("per_layer_beta1", Encoding::LogOneMinus),
    ("per_layer_beta2", Encoding::LogOneMinus),
    ("per_layer_epsilon", Encoding::Log { least: 1e-11, most: 1e4 }),
];

impl Encoding {
    fn encode(self, value: f32) -> f32 {
        match self {
            Self::Log { .. } => 0.1 * ln(value),
            Self::LogOneMinus => 0.1 * ln(1.0 - value),
        }
    }

    fn decode(self, encoded: f32) -> f32 {
        match self {
            Self::Log { least, most } => exact_exp(10.0 * encoded).clamp(least, most),
            Self::LogOneMinus => 1.0 - exact_exp((10.0 * encoded).clamp(-10.0, 0.0)),
        }
    }
}

/// Inputs of the LSTM.
const FEATURES: usize = 19;

/// Gradients are clipped to this, element by element.
const GRADIENT_BOUND: f32 = 1000.0;

/// Slots of a tensor: `m` and `rms` of its shape, then the settings.
const TENSOR_SLOTS: usize = 2 + SETTINGS.len();

/// Adam with settings a tensor, moved by an LSTM.
///
/// Theta (6856 values by default): `lstm_init_state/hidden`, `lstm_init_state/cell` \[1, 32\]; `rnn_params/rnn/linear/w`
/// \[51, 128\], `/b` \[128\]; `rnn_to_controls_params/rnn_to_controls/w` \[32, 4\], `/b` \[4\] (all 0 at first, so an
/// untrained NNAdam is Adam without bias correction); scalars `per_layer_lr`, `per_layer_beta1`, `per_layer_beta2`,
/// `per_layer_epsilon`, encoded.
#[derive(Clone, Debug)]
pub struct NnAdam {
    config: NnAdamConfig,
    theta: InitialTheta,
}

impl NnAdam {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting is out of its range.
    pub fn new(config: NnAdamConfig) -> Result<Self> {
        config.check()?;
        let theta = InitialTheta::new(tensors(&config))?;
        Ok(Self { config, theta })
    }
}

/// All tensors of theta.
fn tensors(config: &NnAdamConfig) -> ThetaTensors {
    let hidden = config.lstm_hidden_size;
    let mut tensors = lstm::theta_tensors(FEATURES, hidden);
    tensors.push(zeros("rnn_to_controls_params/rnn_to_controls/w", [hidden, SETTINGS.len()]));
    tensors.push(zeros("rnn_to_controls_params/rnn_to_controls/b", [SETTINGS.len()]));
    let initial = [config.initial_learning_rate, config.initial_beta1, config.initial_beta2, config.initial_epsilon];
    tensors.extend(SETTINGS.into_iter().zip(initial).map(|((name, code), value)| scalar(name, code.encode(value))));
    tensors
}

impl LearnedOptimizer for NnAdam {
    fn config(&self) -> LearnedOptimizerConfig {
        LearnedOptimizerConfig::NnAdam(self.config.clone())
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(Bound { config: self.config.clone(), theta }))
    }
}

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

#[derive(Debug)]
struct Bound {
    config: NnAdamConfig,
    theta: Theta,
}

impl Bound {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_the_reference() {
        let encoded = |setting: usize, value: f32| SETTINGS[setting].1.encode(value);
        for (got, expected) in [
            (encoded(0, 1e-4), -0.921_034),
            (encoded(1, 0.9), -0.230_258_5),
            (encoded(2, 0.999), -0.690_776_8),
            (encoded(3, 1e-8), -1.842_068_1),
        ] {
            assert!((got - expected).abs() <= 1.2e-7, "{got} instead of {expected}");
        }
    }

    #[test]
    fn decoded_settings_stay_within_their_bounds() {
        let decoded = |setting: usize, encoded: f32| SETTINGS[setting].1.decode(encoded);
        assert_eq!([decoded(0, 9.0), decoded(0, -9.0)], [1e3, 1e-8]);
        assert_eq!([decoded(3, 9.0), decoded(3, -9.0)], [1e4, 1e-11]);
        assert_eq!(decoded(1, 1.0), 0.0);
        assert!((decoded(2, -9.0) - (1.0 - (-10.0_f32).exp())).abs() < 1e-7);
        assert!(decoded(0, f32::NAN).is_nan() && decoded(1, f32::NAN).is_nan());
    }
}
