//! RNNMLPLOpt (arXiv:2009.11243): an LSTM a tensor and a network a parameter that talk to each other.
//!
//! ```text
//!                              from_lstm [18]  (mean over tensors, next step)
//!                            ┌────────────────────────────────────────┐
//!  statistics of a tensor, ──┴─► LSTM (a row a tensor) ─┬─► rnn_to_in ┘
//!  losses, from_mlp [16] ─┐                             └─► rnn_to_ff [17] ─┐
//!                         │                                                 ▼
//!  g, p, ln|p|, m, rms, … ┼─► normalise ── time, sizes ──────────────► 54-32-32-18 ─► direction, magnitude ─► p ← p − step
//!                         └───────────────── from_mlp: mean over the tensor of the other 16 ┘ (next step)
//! ```
//!
//! `step = o0 · exp(magnitude_rate · o1) · step_multiplier`. Gradients are clipped at ten times a moving average of
//! their norm. A validation loss, where there is one, is told with [`Optimizer::observe_validation`]: it moves no
//! parameter but is a feature of the steps that follow.
//!
//! Two quantities are averages over tensors: the gradient's norm and `from_lstm`. They are summed in f64 in the order
//! of the tensors' names, so that the result does not depend on the order of a layout. Source: `RNNMLPLOpt` of
//! google/learned_optimization @ 32186aa4.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::initial::{Initial, InitialTheta, ThetaTensors, linear};
use super::mlp_theta::mlp_tensors;
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_decays, check_finite, check_range, check_theta, lstm};
use crate::optimizer::Optimizer;
use crate::params::{Layout, TensorSpec};
use crate::{Result, Seed, Theta};

mod loss_statistics;
mod parameter_inputs;
mod tensor_features;
mod update;

/// Timescales of the momenta and of the second moments.
const TIMESCALES: usize = 5;

/// Settings of [`RnnMlp`]. A key that is absent takes the default of the reference's constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RnnMlpConfig {
    /// Factor of the direction output; 0.001.
    pub step_multiplier: f32,
    /// Factor of the magnitude output inside the exponential; 0.001.
    pub magnitude_rate: f32,
    /// Units of a hidden layer of the per-parameter network, 1 to 256; 32.
    pub hidden_size: usize,
    /// Hidden layers of the per-parameter network, 1 to 8; 2.
    pub hidden_layer: usize,
    /// Values that the per-parameter network tells the LSTM, 1 to 256; 16.
    pub from_mlp_size: usize,
    /// Values that the LSTMs of all tensors tell each other, 1 to 256; 18.
    pub from_lstm_size: usize,
    /// Values that the LSTM tells the per-parameter network, 1 to 256; 17.
    pub lstm_to_ff: usize,
    /// Units of the LSTM, 1 to 4096; 64.
    pub lstm_hidden_size: usize,
    /// Decays of the momenta and of the second moments, each in `[0, 1)`; 0.5, 0.9, 0.99, 0.999, 0.9999. The
    /// reference's network has inputs for exactly five.
    pub decays: [f32; 5],
}

impl Default for RnnMlpConfig {
    fn default() -> Self {
        Self {
            step_multiplier: 0.001,
            magnitude_rate: 0.001,
            hidden_size: 32,
            hidden_layer: 2,
            from_mlp_size: 16,
            from_lstm_size: 18,
            lstm_to_ff: 17,
            lstm_hidden_size: 64,
            decays: [0.5, 0.9, 0.99, 0.999, 0.9999],
        }
    }
}

impl RnnMlpConfig {
    fn check(&self) -> Result<()> {
        check_finite("step_multiplier", self.step_multiplier)?;
        check_finite("magnitude_rate", self.magnitude_rate)?;
        check_range("hidden_size", self.hidden_size, 1..=256)?;
        check_range("hidden_layer", self.hidden_layer, 1..=8)?;
        check_range("from_mlp_size", self.from_mlp_size, 1..=256)?;
        check_range("from_lstm_size", self.from_lstm_size, 1..=256)?;
        check_range("lstm_to_ff", self.lstm_to_ff, 1..=256)?;
        check_range("lstm_hidden_size", self.lstm_hidden_size, 1..=4096)?;
        check_decays("decays", &self.decays)
    }
}

/// An LSTM a tensor and a network a parameter that talk to each other: `RNNMLPLOpt` of the reference's
/// `learned_optimizers/rnn_mlp_lopt.py` (google/learned_optimization @ 32186aa4), of Metz et al., arXiv 2009.11243.
///
/// With the first two outputs of the network, `p ← p − o0 · exp(magnitude_rate · o1) · step_multiplier`. The loss is a
/// feature, the horizon is not used. Slots: `m/NAME` and `rms/NAME` \[5, shape\], `from_mlp/NAME` \[16\]; `lstm/hidden`
/// and `lstm/cell` \[tensors, H\], `from_lstm` \[18\]; `train_loss/…`, `valid_loss/…` and `gradient_clip/…` \[\].
///
/// Theta (35 799 values by default): `initial_from_lstm` \[18\], `initial_from_mlp` \[16\]; `lstm_init_state/hidden`,
/// `/cell` \[1, 64\]; `rnn_params/rnn/linear` \[116, 256\], `rnn_to_in_params/rnn_to_in` \[64, 18\],
/// `rnn_to_ff_params/rnn_to_ff` \[64, 17\], `ffmod_params/mlp/~/linear_0` \[54, 32\], `_1` \[32, 32\], `_2` \[32, 18\],
/// each with `/w` and a bias `/b`.
#[derive(Clone, Debug)]
pub struct RnnMlp {
    config: RnnMlpConfig,
    theta: InitialTheta,
}

impl RnnMlp {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn new(config: RnnMlpConfig) -> Result<Self> {
        config.check()?;
        let theta = InitialTheta::new(tensors(&config))?;
        Ok(Self { config, theta })
    }
}

/// All tensors of theta. The reference draws the two vectors of messages with a standard deviation of `1/√size`.
fn tensors(config: &RnnMlpConfig) -> ThetaTensors {
    let hidden = config.lstm_hidden_size;
    let messages =
        |name: &str, size: usize| (TensorSpec::new(name, [size]), Initial::RescaledTruncatedNormal { fan_in: size });
    let mut tensors =
        lstm::theta_tensors(tensor_features::STATISTICS + config.from_lstm_size + config.from_mlp_size, hidden);
    tensors.push(messages("initial_from_lstm", config.from_lstm_size));
    tensors.push(messages("initial_from_mlp", config.from_mlp_size));
    tensors.extend(linear("rnn_to_in_params/rnn_to_in", hidden, config.from_lstm_size));
    tensors.extend(linear("rnn_to_ff_params/rnn_to_ff", hidden, config.lstm_to_ff));
    let inputs = parameter_inputs::CHANNELS + parameter_inputs::SHARED + config.lstm_to_ff;
    let outputs = update::STEP_OUTPUTS + config.from_mlp_size;
    tensors.extend(mlp_tensors("ffmod_params/mlp", inputs, config.hidden_size, config.hidden_layer, outputs));
    tensors
}

impl LearnedOptimizer for RnnMlp {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::RnnMlp(self.config.clone()))
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(update::Bound::new(self.config.clone(), theta)))
    }
}
