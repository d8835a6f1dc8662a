//! HyperV2, the architecture of VeLO (arXiv:2211.09760): an LSTM a tensor writes the network that moves its parameters.
//!
//! ```text
//!  loss ─► loss buffer ─┐
//!  time ────────────────┼─► features a tensor ─► mixing ─► LSTM ─┬─► control [K] ─► 100/K Σ_k control_k · bank_k
//!  statistics of p, m ──┘    (one row a tensor)   over tensors   └─► rate                      │ network of the tensor
//!                                                                     │                        ▼
//!  g, p, m, rms, factored moments ─► normalise over the tensor ───────┼─────────────────► 30-4-4-3
//!                                                                     └────────► p ← p − rate · rms(p) · step
//! ```
//!
//! Source: `HyperV2` of `hyper_v2.py`, google/learned_optimization @ 32186aa4, whose quirks (dead first mixing layer,
//! statistics centred on the wrong mean, …) are part of the pretrained weights and therefore kept. Order of operations:
//! loss buffer, features from the *old* accumulators, LSTM, accumulators, per-parameter networks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::Decays;
use super::bank::NetworkShape;
use super::hyper_theta::{HyperShape, LAYERS};
use super::initial::InitialTheta;
use super::inputs::InputGroups;
use super::lane_theta::{LaneTheta, LastBound};
use super::network::Activation;
use super::step::StepSettings;
use super::{
    LearnedOptimizer, LearnedOptimizerConfig, check_decays, check_finite, check_range, check_theta, init_unperturbed,
};
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params};
use crate::perturbation::{Antithetic, Noise, Perturbation};
use crate::{Result, Seed, Theta};

mod statistics;
mod tensor_features;
mod update;
mod velo;

use tensor_features::FEATURES;
pub use velo::Velo;

/// Settings of [`HyperV2`]. A key that is absent takes the default of the reference's constructor, which for
/// `use_bugged_loss_features` is **true**; VeLO's released weights were trained with false, LSTM size 512 and 256 banks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HyperV2Config {
    /// Units of the LSTM, 1 to 4096.
    pub lstm_hidden_size: usize,
    /// Networks in the bank (K), 1 to 4096.
    pub param_inits: usize,
    /// Units of a hidden layer of the per-parameter network, 1 to 256.
    pub ff_hidden_size: usize,
    /// Hidden layers of the per-parameter network, 1 to 8.
    pub ff_hidden_layers: usize,
    /// Take 10 instead of the horizon as the longest timescale of the loss buffer.
    pub use_bugged_loss_features: bool,
    /// Never advance the LSTM: every step begins from theta's initial state.
    pub use_bugged_next_lstm_state: bool,
    /// Append one constant LSTM feature that tells whether the loss is a validation loss.
    pub with_validation_feature_dim: bool,
    /// The value of that feature; without it, ignored.
    pub validation_mode: bool,
    /// Let tensors see each other before the LSTM (a maximum over tensors).
    pub mix_layers: bool,
    /// Factor of the magnitude output inside the exponential.
    pub exp_mult: f32,
    /// Factor of the direction output.
    pub step_mult: f32,
    /// Multiply steps by the root mean square of the tensor.
    pub param_scale_mult: bool,
    /// Bound that root mean square by this times the root of the tensor's size.
    pub clip_param_scale_amount: Option<f32>,
    /// Multiply the stored LSTM state by one minus this, from 0 up to but not including 1.
    pub rnn_state_decay: f32,
    /// Divide steps by the root of the second moment.
    pub precondition_output: bool,
    /// Pretend that every loss is 1.
    pub constant_loss: bool,
    /// Factor of the mean over the bank. It is 100 in the reference, and 1 in the smaller VeLO of `amoudgl/celo` @ 66d9761
    /// (`velo.py`).
    pub ff_mult: f32,
    /// Decays of the momenta, each at least 0 and below 1. Here and below the values may vary but not their number, which
    /// fixes the channels of the network: every published theta has three, one and three.
    pub initial_momentum_decays: [f32; 3],
    /// Decay of the second moment.
    pub initial_rms_decays: [f32; 1],
    /// Decays of the factored second moments.
    pub initial_adafactor_decays: [f32; 3],
    /// Input `g`: the gradient. This and all flags below are ablations: without a group of inputs theta lacks its
    /// weights, and `w0__i` of the others are numbered consecutively.
    pub with_g: bool,
    /// Input `clip(g, ±0.1)`.
    pub with_grad_clip_feat: bool,
    /// Input `p`: the parameter.
    pub with_p: bool,
    /// Input `m`: the momenta; needs `with_m_feat` too. (The inputs derived from momenta have flags of their own.)
    pub with_m: bool,
    /// As `with_m`.
    pub with_m_feat: bool,
    /// Input `rms`: the second moment; needs `with_rms_feat` too.
    pub with_rms: bool,
    /// As `with_rms`.
    pub with_rms_feat: bool,
    /// Inputs `m·q` with `q = 1/√(rms + 1e-6)`. (Without them the reference forgets to compute `q` for the next two
    /// unless both are on, and fails; here each flag stands for itself.)
    pub with_rms_norm_g: bool,
    /// Input `q`.
    pub with_rsqrt_rms: bool,
    /// Input `g·q`.
    pub with_rms_only_norm_g: bool,
    /// Inputs `fac_g`: the gradient divided by the root of the factored second moments.
    pub with_fac_norm_g: bool,
    /// Inputs `row` and `col`: the factored second moments.
    pub with_fac_rms: bool,
    /// Inputs `1/√(row + 1e-8)` and `1/√(col + 1e-8)`.
    pub with_fac_rsqrt: bool,
    /// Inputs `fac_m`: the momenta divided by the root of the factored second moments.
    pub with_fac_mom_mult: bool,
    /// All inputs of the three flags above.
    pub adafactor_accumulator: bool,
}

impl Default for HyperV2Config {
    fn default() -> Self {
        Self {
            lstm_hidden_size: 128,
            param_inits: 64,
            ff_hidden_size: 4,
            ff_hidden_layers: 2,
            use_bugged_loss_features: true,
            use_bugged_next_lstm_state: false,
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
            ff_mult: 100.0,
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

impl HyperV2Config {
    /// The shape of theta.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub(super) fn check(&self) -> Result<HyperShape> {
        check_range("lstm_hidden_size", self.lstm_hidden_size, 1..=4096)?;
        check_range("param_inits", self.param_inits, 1..=4096)?;
        check_range("ff_hidden_size", self.ff_hidden_size, 1..=256)?;
        check_range("ff_hidden_layers", self.ff_hidden_layers, 1..=8)?;
        self.step().check()?;
        check_finite("ff_mult", self.ff_mult)?;
        check_decays("initial_momentum_decays", &self.initial_momentum_decays)?;
        check_decays("initial_rms_decays", &self.initial_rms_decays)?;
        check_decays("initial_adafactor_decays", &self.initial_adafactor_decays)?;
        check_decays("rnn_state_decay", &[self.rnn_state_decay])?;
        let network = NetworkShape {
            inputs: self.inputs()?,
            units: self.ff_hidden_size,
            hidden_layers: self.ff_hidden_layers,
            activation: Activation::Relu,
        };
        Ok(HyperShape {
            features: FEATURES + usize::from(self.with_validation_feature_dim),
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

    /// Decays of all accumulators; HyperV2 does not learn them.
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

/// VeLO's hypernetwork.
#[derive(Clone, Debug)]
pub struct HyperV2 {
    config: HyperV2Config,
    shape: HyperShape,
    theta: InitialTheta,
    last: Arc<LastBound>,
}

impl HyperV2 {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: HyperV2Config) -> Result<Self> {
        let shape = config.check()?;
        let theta = InitialTheta::new(shape.tensors())?;
        Ok(Self { config, shape, theta, last: Arc::default() })
    }
}

impl LearnedOptimizer for HyperV2 {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::HyperV2(self.config.clone()))
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

    /// Under low-rank noise the lanes share the unperturbed matrices of the hypernetwork.
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

    /// Of theta, the initial state of the LSTM enters the state, and nothing else.
    fn init_pairs(&self, lanes: &Antithetic, params: Params, horizon: &[u32]) -> Result<OptState> {
        let mut state = init_unperturbed(self, lanes, params, horizon)?;
        self.shape.perturb_slots(lanes, &mut state.slots);
        Ok(state)
    }

    fn pairs_together(&self, noise: Noise, params: &Layout) -> usize {
        self.shape.pairs_together(noise, params.len())
    }
}
