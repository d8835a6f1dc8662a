//! AdafacMLPLOpt, the "small_fc_lopt" of arXiv:2203.11860: one small network moves every parameter.
//!
//! ```text
//!  g, p, momenta, second moments, factored second moments ─► normalise over the tensor ─┐
//!  time embedding (11) ─────────────────────────────────────────────────────────────────┴► 39-4-4-2 ─► p ← p − step
//! ```
//!
//! `step = o0 · exp(exp_mult · o1) · step_mult`. The gradient is not clipped, the step is not scaled by the parameters,
//! the loss and the horizon are not used. Source: `AdafacMLPLOpt` of google/learned_optimization @ 32186aa4.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::{check_slots, new_slots, plans};
use super::adafac_network::{AdafacNetwork, LaneTheta, WeightLayout, biases, networks, step};
use super::initial::InitialTheta;
use super::jobs::for_each_tensor;
use super::step::StepRule;
use super::{
    LearnedOptimizer, LearnedOptimizerConfig, check_finite, check_lanes, check_theta, init_unperturbed, lane_of,
};
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params};
use crate::perturbation::Antithetic;
use crate::{Result, Seed, Theta, ThetaHash};

/// Settings of [`AdafacMlp`]. A key that is absent takes the default of the reference's constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdafacMlpConfig {
    /// Units of a hidden layer, 1 to 256; 4.
    pub hidden_size: usize,
    /// Hidden layers, 1 to 8; 2.
    pub hidden_layers: usize,
    /// Factor of the magnitude output inside the exponential; 0.001.
    pub exp_mult: f32,
    /// Factor of the direction output; 0.001.
    pub step_mult: f32,
    /// How theta holds the weights; matrices.
    pub weights: WeightLayout,
    /// Decays of the momenta where theta's offsets are 0, each in `[0, 1)`; 0.9, 0.99, 0.999.
    pub initial_momentum_decays: [f32; 3],
    /// Decay of the second moment where theta's offset is 0, in `[0, 1)`; 0.999.
    pub initial_rms_decays: [f32; 1],
    /// Decays of the factored second moments where theta's offsets are 0, each in `[0, 1)`; 0.9, 0.99, 0.999.
    pub initial_adafactor_decays: [f32; 3],
}

impl Default for AdafacMlpConfig {
    fn default() -> Self {
        Self {
            hidden_size: 4,
            hidden_layers: 2,
            exp_mult: 0.001,
            step_mult: 0.001,
            weights: WeightLayout::Matrices,
            initial_momentum_decays: [0.9, 0.99, 0.999],
            initial_rms_decays: [0.999],
            initial_adafactor_decays: [0.9, 0.99, 0.999],
        }
    }
}

impl AdafacMlpConfig {
    fn network(&self) -> AdafacNetwork {
        AdafacNetwork {
            hidden_size: self.hidden_size,
            hidden_layers: self.hidden_layers,
            outputs: OUTPUTS,
            weights: self.weights,
            momentum_decays: self.initial_momentum_decays,
            rms_decays: self.initial_rms_decays,
            adafactor_decays: self.initial_adafactor_decays,
        }
    }
}

/// Direction and magnitude.
const OUTPUTS: usize = 2;

/// A per-parameter network on momenta, second moments, factored second moments and the time: `AdafacMLPLOpt` of the
/// reference's `learned_optimizers/adafac_mlp_lopt.py` (google/learned_optimization @ 32186aa4), "small_fc_lopt" of
/// Metz et al., arXiv 2203.11860.
///
/// With the network's two outputs, `p ← p − o0 · exp(exp_mult · o1) · step_mult`. The loss and the horizon are not
/// used. Slots, with a = 3 timescales: `m/NAME` \[a, shape\], `rms/NAME` \[1, shape\], and `v_row/NAME`
/// \[a, row shape\] and `v_col/NAME` \[a, column shape\], or `v_diag/NAME` \[a, shape\] below rank 2.
///
/// Theta (197 values by default): offsets of the decays `momentum_decays` \[3\], `rms_decays` \[1\], `adafactor_decays`
/// \[3\]; weights `nn/~/w0` \[39, 4\], `w1` \[4, 4\], `w2` \[4, 2\] and biases `b0`, `b1`, `b2`, or a scalar each
/// ([`WeightLayout`]).
#[derive(Clone, Debug)]
pub struct AdafacMlp {
    config: AdafacMlpConfig,
    theta: InitialTheta,
}

impl AdafacMlp {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: AdafacMlpConfig) -> Result<Self> {
        let network = config.network();
        network.check()?;
        check_finite("exp_mult", config.exp_mult)?;
        check_finite("step_mult", config.step_mult)?;
        Ok(Self { config, theta: InitialTheta::new(network.tensors())? })
    }
}

impl LearnedOptimizer for AdafacMlp {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::AdafacMlp(self.config.clone()))
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
        Ok(Box::new(Bound { lanes: self.config.network().unpack(&theta), theta, rule }))
    }

    /// Nothing of theta enters the state.
    fn init_pairs(&self, lanes: &Antithetic, params: Params, horizon: &[u32]) -> Result<OptState> {
        init_unperturbed(self, lanes, params, horizon)
    }
}

#[derive(Debug)]
struct Bound {
    theta: Theta,
    /// One a theta lane.
    lanes: Vec<LaneTheta>,
    rule: StepRule,
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "adafac_mlp"
    }

    fn theta_hash(&self) -> Option<ThetaHash> {
        Some(self.theta.hash())
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        check_lanes(self.lanes.len(), params.lanes())?;
        let slots = new_slots(params.layout(), params.lanes());
        OptState::new(params, horizon, slots)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        check_lanes(self.lanes.len(), state.lanes())?;
        let plans = plans(grads.layout());
        check_slots(&state, &plans, &[])?;
        let biases = biases(&self.lanes, &state);
        let networks = networks(&self.lanes, &biases);
        for_each_tensor(&mut state, &plans, grads, |job| {
            let step = step(&self.lanes[lane_of(self.lanes.len(), job.lane)], &networks[job.lane]);
            step.take(job.p, job.g, job.accumulators, |_| self.rule);
        });
        state.count_step();
        Ok(state)
    }
}
