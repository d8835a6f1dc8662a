//! MLPLOpt ("LOLv2", arXiv:1810.10180): one network on the gradient, the parameter and six momenta.
//!
//! ```text
//!  g, p, m (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999) ─► normalise over the tensor ─┐
//!  time embedding (11) ───────────────────────────────────────────────────────┴► 19-32-32-2 ─► p ← p − step
//! ```
//!
//! `step = o0 · exp(exp_mult · o1) · step_mult`. There is no second moment and nothing is clipped; the loss and the
//! horizon are not used. Source: `MLPLOpt` of google/learned_optimization @ 32186aa4.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decays::{TIME_CHANNELS, time_embedding};
use super::first_layer::FirstLayer;
use super::initial::InitialTheta;
use super::mlp_theta::{mlp_layers, mlp_tensors};
use super::network::{Inputs, Layer, Network, element_normalisers, sweep_with};
use super::rolling::{self, roll};
use super::step::StepRule;
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_finite, check_lanes, check_range, check_theta, lane_of};
use crate::optimizer::{Decay, OptState, Optimizer};
use crate::params::{Layout, Params, TensorSpec};
use crate::simd::Simd;
use crate::{Result, Seed, Theta, ThetaHash};

/// Settings of [`Mlp`]. A key that is absent takes the default of the reference's constructor (whose `compute_summary`
/// only logs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Units of a hidden layer, 1 to 256; 32.
    pub hidden_size: usize,
    /// Hidden layers, 1 to 8; 2.
    pub hidden_layers: usize,
    /// Factor of the magnitude output inside the exponential; 0.001.
    pub exp_mult: f32,
    /// Factor of the direction output; 0.001.
    pub step_mult: f32,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden_size: 32, hidden_layers: 2, exp_mult: 0.001, step_mult: 0.001 }
    }
}

/// Decays of the momenta; they are not learned.
const DECAYS: [f32; 6] = [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999];

/// Channels that are normalised: g, p and the momenta. The time embedding follows.
const CHANNELS: usize = 2 + DECAYS.len();

/// Direction and magnitude.
const OUTPUTS: usize = 2;

/// A per-parameter network on the gradient, the parameter, six momenta and the time: `MLPLOpt` of the reference's
/// `learned_optimizers/mlp_lopt.py` (google/learned_optimization @ 32186aa4), "LOLv2" of Metz et al., arXiv 1810.10180.
///
/// With the network's two outputs, `p ← p − o0 · exp(exp_mult · o1) · step_mult`. The loss and the horizon are not
/// used.
///
/// Theta (1762 values by default): `mlp/~/linear_0` \[19, 32\], `mlp/~/linear_1` \[32, 32\], `mlp/~/linear_2`
/// \[32, 2\], each with `/w` and a bias `/b`. Slot: `m/NAME` \[6, shape\].
#[derive(Clone, Debug)]
pub struct Mlp {
    config: MlpConfig,
    theta: InitialTheta,
}

impl Mlp {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: MlpConfig) -> Result<Self> {
        check_range("hidden_size", config.hidden_size, 1..=256)?;
        check_range("hidden_layers", config.hidden_layers, 1..=8)?;
        check_finite("exp_mult", config.exp_mult)?;
        check_finite("step_mult", config.step_mult)?;
        let inputs = CHANNELS + TIME_CHANNELS;
        let theta = InitialTheta::new(mlp_tensors("mlp", inputs, config.hidden_size, config.hidden_layers, OUTPUTS))?;
        Ok(Self { config, theta })
    }
}

impl LearnedOptimizer for Mlp {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::Mlp(self.config.clone()))
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        let rule = StepRule::plain(self.config.exp_mult, self.config.step_mult);
        Ok(Box::new(Bound { theta, hidden_layers: self.config.hidden_layers, rule }))
    }
}

/// One tensor in one lane: its gradient and momenta `[6, size]`.
struct Momenta<'a> {
    g: &'a [f32],
    m: &'a [f32],
}

impl Inputs<CHANNELS> for Momenta<'_> {
    #[inline(always)]
    fn element<S: Simd>(&self, s: S, p: S::Vector, start: usize, length: usize) -> [S::Vector; CHANNELS] {
        let mut x = [s.zero(); CHANNELS];
        (x[0], x[1]) = (s.load_part(&self.g[start..start + length]), p);
        for a in 0..DECAYS.len() {
            x[2 + a] = s.load_part(&self.m[a * self.g.len() + start..][..length]);
        }
        x
    }
}

#[derive(Debug)]
struct Bound {
    theta: Theta,
    hidden_layers: usize,
    rule: StepRule,
}

impl Bound {
    fn update_lane(&self, state: &mut OptState, grads: &Params, lane: usize) {
        let layers = mlp_layers(&self.theta, lane_of(self.theta.lanes(), lane), "mlp", self.hidden_layers);
        let bias = layers[0].bias_with(CHANNELS, &time_embedding(state.step[lane]));
        let first = Layer { b: &bias, ..layers[0] };
        let network = Network::new(first, &layers[1..]);
        for index in 0..grads.layout().len() {
            let g = grads.lane(index, lane);
            let m = state.slots[index].lane_mut(lane);
            roll(m, &DECAYS.map(Decay::traced), g, |g| g);
            let inputs = Momenta { g, m };
            let p = state.params.lane_mut(index, lane);
            let first = FirstLayer::new(first, &element_normalisers(&inputs, p));
            sweep_with(p, &inputs, &first, &network, OUTPUTS, self.rule);
        }
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "mlp"
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.theta.lanes(), params.lanes())?;
        let momenta =
            |tensor: &TensorSpec| rolling::slot("m", tensor.name(), DECAYS.len(), tensor.shape(), params.lanes());
        let slots = params.layout().tensors().iter().map(momenta).collect();
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.theta.lanes(), state.lanes())?;
        state.check_slots(grads.layout().tensors().iter().map(|tensor| DECAYS.len() * tensor.size()))?;
        for lane in 0..state.lanes() {
            self.update_lane(&mut state, grads, lane);
        }
        state.count_step();
        Ok(state)
    }
}
