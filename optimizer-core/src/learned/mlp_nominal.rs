//! MLPNomLOpt, the STAR family (Harrison, Metz & Sohl-Dickstein, arXiv:2209.11208): AdafacMLPLOpt's network beside a
//! nominal term that is an optimizer by itself.
//!
//! ```text
//!  inputs of AdafacMLPLOpt ─► 39-4-4-4 ─► direction, magnitude, nominal magnitude, regularisation magnitude
//!
//!  step      direction · exp(e0 · magnitude) · step_mult   [· 1/√(rms + 1e-6)]   [· mean over the tensor of g]
//!  nominal   nominal_stepsize · exp(e1 · nominal magnitude) · ĝ
//!  decay     1 − weight_decay · exp(e2 · regularisation magnitude)
//!
//!  p ← decay · p − step − nominal
//! ```
//!
//! ĝ is the gradient or one of four averages of it ([`NominalGradient`]). Without its controller the nominal magnitude
//! is **1**, not 0, and the regularisation magnitude is 0; weight decay is not multiplied by any step size. With the
//! default settings nothing is left but AdafacMLPLOpt with two unread outputs. Source: `MLPNomLOpt` of
//! google/learned_optimization @ 32186aa4 (`adafac_nominal.py`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::{Accumulators, check_slots, new_slots, plans};
use super::adafac_network::{AdafacNetwork, LaneTheta, WeightLayout, biases, networks, step};
use super::channels::{PLAIN, Q};
use super::float::mean;
use super::fused::{Moved, Said, Step};
use super::initial::InitialTheta;
use super::jobs::for_each_tensor;
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_finite, check_lanes, check_theta, lane_of};
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params};
use crate::simd::{self, Simd};
use crate::{Error, Result, Seed, Theta, ThetaHash};

/// What the nominal term follows. Names are the reference's (`nominal_grad_estimator`), in snake case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NominalGradient {
    /// The gradient (`SGD`).
    Sgd,
    /// The momentum of the longest timescale (`SGDM`).
    Sgdm,
    /// The mean of the momenta (`AggMo`, arXiv 1804.00325).
    AggMo,
    /// The momentum of the longest timescale times `1/√(rms + 1e-6)` (`Adam`).
    Adam,
    /// The mean of the momenta times `1/√(rms + 1e-6)` (`AdamAggMo`).
    #[default]
    AdamAggMo,
}

impl NominalGradient {
    /// ĝ of a vector, from its element channels (g, p, m ×3, rms, m·q ×3, …).
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: &[S::Vector; PLAIN]) -> S::Vector {
        match self {
            Self::Sgd => x[0],
            Self::Sgdm => x[4],
            Self::AggMo => mean_of_three(s, [x[2], x[3], x[4]]),
            Self::Adam => x[8],
            Self::AdamAggMo => mean_of_three(s, [x[6], x[7], x[8]]),
        }
    }
}

#[inline(always)]
fn mean_of_three<S: Simd>(s: S, [a, b, c]: [S::Vector; 3]) -> S::Vector {
    s.div(s.add(s.add(a, b), c), s.splat(3.0))
}

/// Settings of [`MlpNominal`]. A key that is absent takes the default of the reference's constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpNominalConfig {
    /// Units of a hidden layer, 1 to 256; 4.
    pub hidden_size: usize,
    /// Hidden layers, 1 to 8; 2.
    pub hidden_layers: usize,
    /// Factors inside the exponentials of magnitude, nominal magnitude and regularisation magnitude; 0.001 each.
    pub exp_mult: [f32; 3],
    /// Factor of the direction output; 0.001.
    pub step_mult: f32,
    /// Step size of the nominal term; 0.
    pub nominal_stepsize: f32,
    /// Weight decay a step; 0, and not times any step size.
    pub weight_decay: f32,
    /// What the nominal term follows; [`NominalGradient::AdamAggMo`].
    pub nominal_grad_estimator: NominalGradient,
    /// Let the third output move the nominal step size; else that output counts as 1. False.
    pub nominal_controller: bool,
    /// Let the fourth output move the weight decay; else that output counts as 0. False.
    pub regularization_controller: bool,
    /// Take the mean of the magnitude over the tensor; false.
    pub aggregate_magnitude: bool,
    /// Take the mean of the nominal magnitude over the tensor; false.
    pub aggregate_nom_magnitude: bool,
    /// Must be false: the reference reshapes the mean, a single number, to the shape of the tensor, which fails for
    /// every tensor of more than one element, its own example at initialisation included.
    pub aggregate_reg_magnitude: bool,
    /// Multiply the network's step by `1/√(rms + 1e-6)`; false.
    pub normalize_blackbox: bool,
    /// Multiply the network's step by the mean of the gradient over the tensor, sign included; false.
    pub selfnormalize_blackbox: bool,
    /// How theta holds the weights; matrices.
    pub weights: WeightLayout,
    /// Decays of the momenta where theta's offsets are 0, each in `[0, 1)`; 0.9, 0.99, 0.999.
    pub initial_momentum_decays: [f32; 3],
    /// Decay of the second moment where theta's offset is 0, in `[0, 1)`; 0.999.
    pub initial_rms_decays: [f32; 1],
    /// Decays of the factored second moments where theta's offsets are 0, each in `[0, 1)`; 0.9, 0.99, 0.999.
    pub initial_adafactor_decays: [f32; 3],
}

impl Default for MlpNominalConfig {
    fn default() -> Self {
        Self {
            hidden_size: 4,
            hidden_layers: 2,
            exp_mult: [0.001; 3],
            step_mult: 0.001,
            nominal_stepsize: 0.0,
            weight_decay: 0.0,
            nominal_grad_estimator: NominalGradient::AdamAggMo,
            nominal_controller: false,
            regularization_controller: false,
            aggregate_magnitude: false,
            aggregate_nom_magnitude: false,
            aggregate_reg_magnitude: false,
            normalize_blackbox: false,
            selfnormalize_blackbox: false,
            weights: WeightLayout::Matrices,
            initial_momentum_decays: [0.9, 0.99, 0.999],
            initial_rms_decays: [0.999],
            initial_adafactor_decays: [0.9, 0.99, 0.999],
        }
    }
}

impl MlpNominalConfig {
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

    fn check(&self) -> Result<()> {
        self.network().check()?;
        for exp_mult in self.exp_mult {
            check_finite("exp_mult", exp_mult)?;
        }
        check_finite("step_mult", self.step_mult)?;
        check_finite("nominal_stepsize", self.nominal_stepsize)?;
        check_finite("weight_decay", self.weight_decay)?;
        if self.aggregate_reg_magnitude {
            let reason = "must be false: the reference fails with it for every tensor of more than one element";
            return Err(Error::setting("aggregate_reg_magnitude", reason, true));
        }
        Ok(())
    }
}

/// Direction, magnitude, nominal magnitude, regularisation magnitude.
const OUTPUTS: usize = 4;

/// AdafacMLPLOpt's network beside a nominal term and weight decay: `MLPNomLOpt` of the reference's
/// `learned_optimizers/adafac_nominal.py` (google/learned_optimization @ 32186aa4), of the STAR family (Harrison, Metz,
/// Sohl-Dickstein, arXiv 2209.11208).
///
/// With the network's outputs o0 … o3, exponents e0 … e2 ([`MlpNominalConfig::exp_mult`]) and the nominal direction ĝ
/// ([`NominalGradient`]):
///
/// ```text
///  p ← (1 − weight_decay · exp(e2 · o3)) · p − o0 · exp(e0 · o1) · step_mult − nominal_stepsize · exp(e1 · o2) · ĝ
/// ```
///
/// Slots are those of [`super::AdafacMlp`].
///
/// Theta (207 values by default) is that of [`super::AdafacMlp`] with four outputs: `nn/~/w2` \[4, 4\], `nn/~/b2`
/// \[4\].
#[derive(Clone, Debug)]
pub struct MlpNominal {
    config: MlpNominalConfig,
    theta: InitialTheta,
}

impl MlpNominal {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting is out of its range, or is the one with which the reference fails.
    pub fn new(config: MlpNominalConfig) -> Result<Self> {
        config.check()?;
        let theta = InitialTheta::new(config.network().tensors())?;
        Ok(Self { config, theta })
    }
}

impl LearnedOptimizer for MlpNominal {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::MlpNominal(self.config.clone()))
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(Bound { lanes: self.config.network().unpack(&theta), theta, config: self.config.clone() }))
    }
}

#[derive(Debug)]
struct Bound {
    config: MlpNominalConfig,
    theta: Theta,
    /// One a theta lane.
    lanes: Vec<LaneTheta>,
}

/// The step of one tensor.
#[derive(Clone, Copy, Debug)]
struct NominalStep<'a> {
    config: &'a MlpNominalConfig,
    /// Instead of an element's own.
    magnitude: Option<f32>,
    /// Instead of an element's own.
    nominal: Option<f32>,
    /// Factor of the network's step.
    gradient_mean: f32,
}

impl Moved<PLAIN, OUTPUTS> for NominalStep<'_> {
    #[inline(always)]
    fn moved<S: Simd>(&self, s: S, said: &Said<'_, S, PLAIN, OUTPUTS>) -> S::Vector {
        let Self { config, magnitude, nominal, gradient_mean } = *self;
        let [direction, own_magnitude, own_nominal, regularisation] = said.outputs;
        let magnitude = match magnitude {
            Some(mean) => s.splat(mean),
            None => own_magnitude,
        };
        let nominal = match nominal {
            Some(mean) => s.splat(mean),
            None => own_nominal,
        };
        let size = simd::exp(s, s.mul(s.splat(config.exp_mult[0]), magnitude));
        let mut step = s.mul(s.mul(s.mul(direction, size), s.splat(config.step_mult)), s.splat(gradient_mean));
        if config.normalize_blackbox {
            step = s.mul(step, said.x[Q]);
        }
        let nominal = simd::exp(s, s.mul(s.splat(config.exp_mult[1]), nominal));
        let rate = s.mul(s.splat(config.nominal_stepsize), nominal);
        let mut decay = s.splat(config.weight_decay);
        if config.regularization_controller {
            decay = s.mul(decay, simd::exp(s, s.mul(s.splat(config.exp_mult[2]), regularisation)));
        }
        let kept = s.mul(s.sub(s.splat(1.0), decay), said.p);
        s.sub(s.sub(kept, step), s.mul(rate, config.nominal_grad_estimator.of(s, said.x)))
    }
}

/// An output takes the place of the parameters.
struct Output(usize);

impl Moved<PLAIN, OUTPUTS> for Output {
    #[inline(always)]
    fn moved<S: Simd>(&self, _: S, said: &Said<'_, S, PLAIN, OUTPUTS>) -> S::Vector {
        said.outputs[self.0]
    }
}

impl Bound {
    /// Moves the parameters of one tensor in one lane.
    fn apply(&self, step: &Step<'_, PLAIN>, p: &mut [f32], g: &[f32], accumulators: Accumulators<'_>) {
        let config = &self.config;
        let mut entered = step.enter(p, g, accumulators);
        let mut mean_of = |output: usize| {
            let mut outputs = p.to_vec();
            entered.evaluate(&mut outputs, &Output(output));
            mean(&outputs, |output| output)
        };
        let magnitude = config.aggregate_magnitude.then(|| mean_of(1));
        let nominal = match config.nominal_controller {
            true => config.aggregate_nom_magnitude.then(|| mean_of(2)),
            false => Some(1.0),
        };
        let gradient_mean = if config.selfnormalize_blackbox { mean(g, |g| g) } else { 1.0 };
        entered.evaluate(p, &NominalStep { config, magnitude, nominal, gradient_mean });
    }
}

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "mlp_nominal"
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
            self.apply(&step, job.p, job.g, job.accumulators);
        });
        state.count_step();
        Ok(state)
    }
}
