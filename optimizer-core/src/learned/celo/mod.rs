//! Celo (arXiv:2501.12670): one per-parameter network, and a learned scheduler that decides how far everything moves.
//!
//! ```text
//!  loss ─► loss buffer ─┐
//!  time ────────────────┴─► 18 features ─► mixing ─► LSTM ─┬─► softmax ─► 1/K Σ_k control_k · bank_k
//!                             (one row a lane)             └─► rate = 0.1 e^x      │ network of all tensors
//!                                                               │                  ▼
//!  g, p, m, rms, factored moments ─► normalise over the tensor ─┼────────────► 30-4-4-3
//!                                                               └──► p ← p − rate · rms(p) · step
//! ```
//!
//! Everything else is HyperV2: accumulators, inputs, clip of the gradient, order of operations. The reference
//! (`amoudgl/celo` @ 66d9761, `celo/optimizers/celo.py`) keeps a row of the LSTM for every tensor, but gives all rows
//! the same input and the same initial state, so they are equal for ever, and their maximum in the mixing layer is any
//! of them. Here there is one row; a state that goes to the reference repeats it for every tensor.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::Decays;
use super::bank::NetworkShape;
use super::course::COURSE_FEATURES;
use super::hyper_theta::{HyperShape, LAYERS};
use super::initial::InitialTheta;
use super::inputs::InputGroups;
use super::lane_theta::{LaneTheta, LastBound};
use super::network::Activation;
use super::step::StepSettings;
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_decays, check_range, check_theta};
use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::perturbation::{Noise, Perturbation};
use crate::{Result, Seed, Theta};

mod update;

/// Settings of [`Celo`]. A key that is absent takes the default of the reference's constructor;
/// [`CeloConfig::published`] has those of the released weights. Ablations and bounds are described at
/// [`HyperV2Config`](super::HyperV2Config).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CeloConfig {
    /// Units of the LSTM, 1 to 4096; 128.
    pub lstm_hidden_size: usize,
    /// Networks in the bank (K), 1 to 4096; 64.
    pub param_inits: usize,
    /// Units of a hidden layer of the per-parameter network, 1 to 256; 4.
    pub ff_hidden_size: usize,
    /// Hidden layers of the per-parameter network, 1 to 8; 2.
    pub ff_hidden_layers: usize,
    /// Whether the scheduler's rate is applied; 1, the network.
    pub train_phase: TrainPhase,
    /// Append one constant LSTM feature that tells whether the loss is a validation loss; false.
    pub with_validation_feature_dim: bool,
    /// The value of that feature; without it, ignored.
    pub validation_mode: bool,
    /// Mix the features before the LSTM; true.
    pub mix_layers: bool,
    /// Factor of the magnitude output inside the exponential; 0.001.
    pub exp_mult: f32,
    /// Factor of the direction output; 0.001.
    pub step_mult: f32,
    /// Multiply steps by the root mean square of the tensor; true.
    pub param_scale_mult: bool,
    /// Bound that root mean square by this times the root of the tensor's size; none.
    pub clip_param_scale_amount: Option<f32>,
    /// Multiply the stored LSTM state by one minus this, from 0 up to but not including 1; 0.
    pub rnn_state_decay: f32,
    /// Divide steps by the root of the second moment; false.
    pub precondition_output: bool,
    /// Pretend that every loss is 1; false.
    pub constant_loss: bool,
    /// Decays of the momenta; 0.9, 0.99, 0.999.
    pub initial_momentum_decays: [f32; 3],
    /// Decay of the second moment; 0.999.
    pub initial_rms_decays: [f32; 1],
    /// Decays of the factored second moments; 0.9, 0.99, 0.999.
    pub initial_adafactor_decays: [f32; 3],
    /// Input `g`.
    pub with_g: bool,
    /// Input `clip(g, ±0.1)`.
    pub with_grad_clip_feat: bool,
    /// Input `p`.
    pub with_p: bool,
    /// Input `m`; needs `with_m_feat` too.
    pub with_m: bool,
    /// As `with_m`.
    pub with_m_feat: bool,
    /// Input `rms`; needs `with_rms_feat` too.
    pub with_rms: bool,
    /// As `with_rms`.
    pub with_rms_feat: bool,
    /// Inputs `m·q`.
    pub with_rms_norm_g: bool,
    /// Input `q`.
    pub with_rsqrt_rms: bool,
    /// Input `g·q`.
    pub with_rms_only_norm_g: bool,
    /// Inputs `fac_g`.
    pub with_fac_norm_g: bool,
    /// Inputs `row` and `col`.
    pub with_fac_rms: bool,
    /// Inputs `1/√row` and `1/√col`.
    pub with_fac_rsqrt: bool,
    /// Inputs `fac_m`.
    pub with_fac_mom_mult: bool,
    /// All inputs of the three flags above.
    pub adafactor_accumulator: bool,
}

/// What of Celo is being meta-trained, 1 or 2 in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum TrainPhase {
    /// The per-parameter network (`ff_mod_stack`) alone. The scheduler runs, but its rate is not applied.
    Network,
    /// The scheduler (`lstm_init_state`, `rnn_params`), on top of a trained network; also the phase of deployment.
    Scheduler,
}

impl TryFrom<u64> for TrainPhase {
    type Error = String;

    fn try_from(phase: u64) -> Result<Self, String> {
        match phase {
            1 => Ok(Self::Network),
            2 => Ok(Self::Scheduler),
            _ => Err(format!("train_phase must be 1 or 2, not {phase}")),
        }
    }
}

impl From<TrainPhase> for u64 {
    fn from(phase: TrainPhase) -> Self {
        match phase {
            TrainPhase::Network => 1,
            TrainPhase::Scheduler => 2,
        }
    }
}

impl Default for CeloConfig {
    fn default() -> Self {
        Self {
            lstm_hidden_size: 128,
            param_inits: 64,
            ff_hidden_size: 4,
            ff_hidden_layers: 2,
            train_phase: TrainPhase::Network,
            with_validation_feature_dim: false,
            validation_mode: false,
            mix_layers: true,
            exp_mult: 0.001,
            step_mult: 0.001,
            param_scale_mult: true,
            clip_param_scale_amount: None,
            rnn_state_decay: 0.0,
            precondition_output: false,
            constant_loss: false,
            initial_momentum_decays: [0.9, 0.99, 0.999],
            initial_rms_decays: [0.999],
            initial_adafactor_decays: [0.9, 0.99, 0.999],
            with_g: true,
            with_grad_clip_feat: true,
            with_p: true,
            with_m: true,
            with_m_feat: true,
            with_rms: true,
            with_rms_feat: true,
            with_rms_norm_g: true,
            with_rsqrt_rms: true,
            with_rms_only_norm_g: true,
            with_fac_norm_g: true,
            with_fac_rms: true,
            with_fac_rsqrt: true,
            with_fac_mom_mult: true,
            adafactor_accumulator: true,
        }
    }
}

impl CeloConfig {
    /// The settings of the released weights (`amoudgl/celo` @ 66d9761), 37 089 numbers: an LSTM of 64, one network, the
    /// scheduler's rate applied.
    pub fn published() -> Self {
        Self { lstm_hidden_size: 64, param_inits: 1, train_phase: TrainPhase::Scheduler, ..Self::default() }
    }

    /// The shape of theta.
    fn check(&self) -> Result<HyperShape> {
        check_range("lstm_hidden_size", self.lstm_hidden_size, 1..=4096)?;
        check_range("param_inits", self.param_inits, 1..=4096)?;
        check_range("ff_hidden_size", self.ff_hidden_size, 1..=256)?;
        check_range("ff_hidden_layers", self.ff_hidden_layers, 1..=8)?;
        check_decays("initial_momentum_decays", &self.initial_momentum_decays)?;
        check_decays("initial_rms_decays", &self.initial_rms_decays)?;
        check_decays("initial_adafactor_decays", &self.initial_adafactor_decays)?;
        check_decays("rnn_state_decay", &[self.rnn_state_decay])?;
        self.step().check()?;
        let network = NetworkShape {
            inputs: self.inputs()?,
            units: self.ff_hidden_size,
            hidden_layers: self.ff_hidden_layers,
            activation: Activation::Relu,
        };
        Ok(HyperShape {
            features: COURSE_FEATURES + usize::from(self.with_validation_feature_dim),
            hidden: self.lstm_hidden_size,
            mix: self.mix_layers,
            banks: self.param_inits,
            network,
        })
    }

    /// The input groups that the ablation flags leave.
    fn inputs(&self) -> Result<InputGroups> {
        let factored = |flag: bool| self.adafactor_accumulator && flag;
        InputGroups::new([
            self.with_g,
            self.with_grad_clip_feat,
            self.with_p,
            self.with_m && self.with_m_feat,
            self.with_rms && self.with_rms_feat,
            self.with_rms_norm_g,
            self.with_rsqrt_rms,
            self.with_fac_norm_g,
            self.with_rms_only_norm_g,
            factored(self.with_fac_rms),
            factored(self.with_fac_rms),
            factored(self.with_fac_rsqrt),
            factored(self.with_fac_rsqrt),
            factored(self.with_fac_mom_mult),
        ])
    }

    /// Decays of all accumulators; Celo does not learn them.
    fn decays(&self) -> Decays {
        Decays::new(self.initial_momentum_decays, self.initial_rms_decays[0], self.initial_adafactor_decays)
    }

    /// How the outputs of a network become a step.
    fn step(&self) -> StepSettings {
        StepSettings {
            exp_mult: self.exp_mult,
            step_mult: self.step_mult,
            param_scale_mult: self.param_scale_mult,
            clip_param_scale_amount: self.clip_param_scale_amount,
            precondition: self.precondition_output,
        }
    }

    /// The value of the validation feature, if there is one.
    fn validation(&self) -> Option<f32> {
        self.with_validation_feature_dim.then_some(if self.validation_mode { 1.0 } else { 0.0 })
    }
}

/// A per-parameter network under a learned scheduler: Celo (arXiv 2501.12670), `celo/optimizers/celo.py` of
/// `amoudgl/celo` @ 66d9761.
///
/// With the network's first two outputs, `p ← p − rate · rms(p) · o0 · exp(exp_mult · o1) · step_mult`; the rate is the
/// scheduler's, `0.1 e^x`, or 1 in [`TrainPhase::Network`]. It reads the loss and the horizon.
///
/// Theta has the tensors of [`HyperV2`](super::HyperV2), with 18 features in place of 30. Slots: the accumulators of
/// [`AdafacMlp`](super::AdafacMlp), then `loss/decays`, `loss/means` and `loss/running_min` \[10\], `loss/iteration` \[2\], `lstm/hidden` and
/// `lstm/cell` \[1, H\].
#[derive(Clone, Debug)]
pub struct Celo {
    config: CeloConfig,
    shape: HyperShape,
    theta: InitialTheta,
    last: Arc<LastBound>,
}

impl Celo {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: CeloConfig) -> Result<Self> {
        let shape = config.check()?;
        let theta = InitialTheta::new(shape.tensors())?;
        Ok(Self { config, shape, theta, last: Arc::default() })
    }
}

impl LearnedOptimizer for Celo {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::Celo(self.config.clone()))
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(update::Bound::new(self.config.clone(), self.shape.clone(), LaneTheta::new(&theta, LAYERS)?)))
    }

    /// Under low-rank noise the lanes share the unperturbed matrices of the LSTM and its heads.
    fn bind_perturbed(&self, theta: &Theta, epsilon: &Perturbation, sigma: f32) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), theta)?;
        let theta = LaneTheta::perturbed(theta, std::slice::from_ref(epsilon), sigma, LAYERS, &self.last)?;
        Ok(Box::new(update::Bound::new(self.config.clone(), self.shape.clone(), theta)))
    }

    /// Under low-rank noise all pairs share those matrices; else each pair, or each lane of large weights, goes alone.
    fn bind_pairs(&self, theta: &Theta, pairs: &[Perturbation], sigma: f32) -> Result<Vec<Box<dyn Optimizer>>> {
        check_theta(self.layout(), theta)?;
        let bound = |theta| -> Box<dyn Optimizer> {
            Box::new(update::Bound::new(self.config.clone(), self.shape.clone(), theta))
        };
        Ok(self.shape.parts(theta, pairs, sigma, &self.last)?.into_iter().map(bound).collect())
    }

    fn pairs_together(&self, noise: Noise, _params: &Layout) -> usize {
        self.shape.pairs_together(noise, 1)
    }
}
