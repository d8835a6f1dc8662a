//! AdafacMLPLOpt, the "small_fc_lopt" of arXiv:2203.11860: one small network moves every parameter.
//!
//! ```text
//!  g, p, momenta, second moments, factored second moments ─► normalise over the tensor ─┐
//!  time embedding (11) ─────────────────────────────────────────────────────────────────┴► 39-4-4-2 ─► p ← p − step
//! ```
//!
//! The gradient is not clipped, the step is not scaled by the parameters, the loss and the horizon are not used.
//! Source: `spec/optimizers.md` §2.2.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::{Decays, check_slots, new_slots, plans};
use super::channels::{Channels, Guards, InputRows, PLAIN};
use super::decays::{TIME_CHANNELS, moved_decay, time_embedding};
use super::initial::{Initial, ThetaTensors, draw, sorted};
use super::network::{Layer, Network, StepRule, apply};
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_finite, check_lanes, check_range, check_theta, lane_of};
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params, TensorSpec};
use crate::{Result, Seed, Theta, ThetaHash};

/// Settings of [`AdafacMlp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdafacMlpConfig {
    /// Units of a hidden layer, 1 to 256.
    pub hidden_size: usize,
    /// Hidden layers, 1 to 8.
    pub hidden_layers: usize,
    /// Factor of the magnitude output inside the exponential.
    pub exp_mult: f32,
    /// Factor of the direction output.
    pub step_mult: f32,
}

impl Default for AdafacMlpConfig {
    fn default() -> Self {
        Self { hidden_size: 4, hidden_layers: 2, exp_mult: 0.001, step_mult: 0.001 }
    }
}

/// Channels that are normalised; the time embedding follows.
const NORMALISED: usize = 28;

/// Inputs of the network.
const INPUTS: usize = NORMALISED + TIME_CHANNELS;

/// Direction and magnitude.
const OUTPUTS: usize = 2;

/// Where each channel stands among the inputs: g, p, m, rms, m·q, q, fac_g, row, col, 1/√row, 1/√col, fac_m.
const ROWS: InputRows<PLAIN> = {
    let mut element = [Some(0); PLAIN];
    let mut channel = 0;
    while channel < PLAIN {
        // fac_m stands behind the separable channels.
        element[channel] = Some(if channel < 13 { channel } else { channel + 12 });
        channel += 1;
    }
    InputRows { element, row: Some(13), col: Some(16), rsqrt_row: Some(19), rsqrt_col: Some(22) }
};

/// What is added inside roots.
const GUARDS: Guards = Guards { q: 1e-6, fac_m: 1e-6, normaliser: Some(1e-5) };

/// Decays of momenta and of factored second moments at offset 0.
const DECAYS: [f32; 3] = [0.9, 0.99, 0.999];

/// Decay of the full second moment at offset 0.
const RMS_DECAY: f32 = 0.999;

/// A per-parameter network on momenta, second moments and factored second moments.
#[derive(Clone, Debug)]
pub struct AdafacMlp {
    config: AdafacMlpConfig,
    layout: Arc<Layout>,
    initial: Vec<Initial>,
}

impl AdafacMlp {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: AdafacMlpConfig) -> Result<Self> {
        check_range("hidden_size", config.hidden_size, 1..=256)?;
        check_range("hidden_layers", config.hidden_layers, 1..=8)?;
        check_finite("exp_mult", config.exp_mult)?;
        check_finite("step_mult", config.step_mult)?;
        let (specs, initial): (Vec<_>, Vec<_>) = sorted(tensors(&config)).into_iter().unzip();
        Ok(Self { config, layout: Layout::new(specs)?, initial })
    }
}

/// All tensors of theta.
fn tensors(config: &AdafacMlpConfig) -> ThetaTensors {
    let zeros = |name: String, size: usize| (TensorSpec::new(name, [size]), Initial::Constant(0.0));
    let mut tensors = vec![
        zeros("momentum_decays".into(), DECAYS.len()),
        zeros("rms_decays".into(), 1),
        zeros("adafactor_decays".into(), DECAYS.len()),
    ];
    for layer in 0..=config.hidden_layers {
        let fan_in = if layer == 0 { INPUTS } else { config.hidden_size };
        let outputs = if layer == config.hidden_layers { OUTPUTS } else { config.hidden_size };
        let weights = TensorSpec::new(format!("nn/~/w{layer}"), [fan_in, outputs]);
        tensors.push((weights, Initial::TruncatedNormal { fan_in }));
        tensors.push(zeros(format!("nn/~/b{layer}"), outputs));
    }
    tensors
}

impl LearnedOptimizer for AdafacMlp {
    fn config(&self) -> LearnedOptimizerConfig {
        LearnedOptimizerConfig::AdafacMlp(self.config.clone())
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        draw(&self.layout, &self.initial, seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(&self.layout, &theta)?;
        let index = |name: String| self.layout.index_of(&name).expect("the layout was made from these names");
        let layers = 0..=self.config.hidden_layers;
        let layers = layers.map(|layer| (index(format!("nn/~/w{layer}")), index(format!("nn/~/b{layer}")))).collect();
        let [momentum, rms, second] =
            ["momentum_decays", "rms_decays", "adafactor_decays"].map(|name| index(name.to_owned()));
        let moved = |offsets: &[f32]| std::array::from_fn(|a| moved_decay(DECAYS[a], offsets[a]));
        let decays = (0..theta.lanes())
            .map(|lane| {
                let rms = moved_decay(RMS_DECAY, theta.tensor(lane, rms)[0]);
                Decays::new(moved(theta.tensor(lane, momentum)), rms, moved(theta.tensor(lane, second)))
            })
            .collect();
        let rule = StepRule {
            rate: 1.0,
            scale: 1.0,
            exp_mult: self.config.exp_mult,
            step_mult: self.config.step_mult,
            precondition: false,
        };
        Ok(Box::new(Bound { theta, layers, decays, rule }))
    }
}

#[derive(Debug)]
struct Bound {
    theta: Theta,
    /// Theta's tensors of weights and bias, a layer.
    layers: Vec<(usize, usize)>,
    /// One a theta lane.
    decays: Vec<Decays>,
    rule: StepRule,
}

impl Bound {
    fn layer(&self, lane: usize, layer: usize) -> Layer<'_> {
        let (w, b) = self.layers[layer];
        Layer { w: self.theta.tensor(lane, w), b: self.theta.tensor(lane, b) }
    }

    /// The first layer's bias with the time embedding, which is the same for all parameters, added in.
    fn bias_at(&self, lane: usize, step: u32) -> Vec<f32> {
        let Layer { w, b } = self.layer(lane, 0);
        let mut bias = b.to_vec();
        for (w, time) in w.chunks_exact(b.len()).skip(NORMALISED).zip(time_embedding(step)) {
            for (bias, w) in bias.iter_mut().zip(w) {
                *bias += time * w;
            }
        }
        bias
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "adafac_mlp"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.theta.lanes(), params.lanes())?;
        let slots = new_slots(params.layout(), params.lanes());
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        let plans = plans(grads.layout());
        check_slots(&state, &plans, &[])?;
        let depth = self.layers.len() - 1;
        for lane in 0..state.lanes() {
            let theta_lane = lane_of(self.theta.lanes(), lane);
            let bias = self.bias_at(theta_lane, state.step[lane]);
            let network = Network {
                first: Layer { b: &bias, ..self.layer(theta_lane, 0) },
                hidden: (1..depth).map(|layer| self.layer(theta_lane, layer)).collect(),
                last: self.layer(theta_lane, depth),
            };
            for (index, plan) in plans.iter().enumerate() {
                let g = grads.lane(index, lane);
                let mut accumulators = plan.accumulators(&mut state.slots, lane);
                accumulators.update(g, &self.decays[theta_lane]);
                let channels = Channels::new(g, &accumulators, GUARDS);
                apply(state.params.lane_mut(index, lane), &channels, &ROWS, &network, self.rule);
            }
        }
        state.count_step();
        Ok(state)
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }
}
