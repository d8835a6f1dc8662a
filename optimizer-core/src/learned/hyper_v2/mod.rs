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
//! Source: `spec/optimizers.md` §1, whose quirks (dead first mixing layer, statistics centred on the wrong mean, …) are
//! part of the pretrained weights and therefore kept. Order of operations: loss buffer, features from the *old*
//! accumulators, LSTM, accumulators, per-parameter networks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::initial::{Initial, ThetaTensors, draw, sorted};
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_finite, check_range, check_theta};
use crate::optimizer::Optimizer;
use crate::params::{Layout, TensorSpec};
use crate::{Error, Result, Seed, Theta};

mod bank;
mod hypernetwork;
mod loss_buffer;
mod tensor_features;
mod update;

use bank::{INPUT_GROUPS, INPUTS, OUTPUTS};
use tensor_features::FEATURES;

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
        }
    }
}

impl HyperV2Config {
    fn check(&self) -> Result<()> {
        check_range("lstm_hidden_size", self.lstm_hidden_size, 1..=4096)?;
        check_range("param_inits", self.param_inits, 1..=4096)?;
        check_range("ff_hidden_size", self.ff_hidden_size, 1..=256)?;
        check_range("ff_hidden_layers", self.ff_hidden_layers, 1..=8)?;
        check_finite("exp_mult", self.exp_mult)?;
        check_finite("step_mult", self.step_mult)?;
        if !(0.0..1.0).contains(&self.rnn_state_decay) {
            return Err(Error::setting("rnn_state_decay", "must be at least 0 and below 1", self.rnn_state_decay));
        }
        match self.clip_param_scale_amount {
            Some(amount) if !(amount > 0.0 && amount.is_finite()) => {
                Err(Error::setting("clip_param_scale_amount", "must be a positive number", amount))
            }
            _ => Ok(()),
        }
    }

    /// Number of LSTM features of a tensor.
    fn features(&self) -> usize {
        FEATURES + usize::from(self.with_validation_feature_dim)
    }

    /// Number of inputs of the LSTM.
    fn lstm_inputs(&self) -> usize {
        if self.mix_layers { self.lstm_hidden_size } else { self.features() }
    }
}

/// VeLO's hypernetwork.
#[derive(Clone, Debug)]
pub struct HyperV2 {
    config: HyperV2Config,
    layout: Arc<Layout>,
    initial: Vec<Initial>,
}

impl HyperV2 {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting is out of its range.
    pub fn new(config: HyperV2Config) -> Result<Self> {
        config.check()?;
        let (specs, initial): (Vec<_>, Vec<_>) = sorted(tensors(&config)).into_iter().unzip();
        Ok(Self { config, layout: Layout::new(specs)?, initial })
    }
}

/// All tensors of theta. `rnn_params/linear` is dead: the reference computes it and then overwrites the result. It is
/// kept so that checkpoints go in and out unchanged.
fn tensors(config: &HyperV2Config) -> ThetaTensors {
    let (hidden, banks, units) = (config.lstm_hidden_size, config.param_inits, config.ff_hidden_size);
    let zeros = |name: &str, shape: &[usize]| (TensorSpec::new(name, shape), Initial::Constant(0.0));
    let mut tensors = vec![zeros("lstm_init_state/hidden", &[1, hidden]), zeros("lstm_init_state/cell", &[1, hidden])];
    let mut weights = |name: String, shape: &[usize], fan_in| {
        tensors.push((TensorSpec::new(name, shape), Initial::TruncatedNormal { fan_in }));
    };
    let mut biases = Vec::new();
    let mut dense = |name: &str, inputs: usize, outputs: usize| {
        weights(format!("rnn_params/{name}/w"), &[inputs, outputs], inputs);
        biases.push(zeros(&format!("rnn_params/{name}/b"), &[outputs]));
    };
    if config.mix_layers {
        for name in ["linear", "linear_1", "linear_2"] {
            dense(name, config.features(), hidden);
        }
    }
    dense("rnn/linear", config.lstm_inputs() + hidden, 4 * hidden);
    dense("rnn_to_controls", hidden, banks);
    dense("step_size", hidden, 1);
    for (group, channels) in INPUT_GROUPS.into_iter().enumerate() {
        weights(format!("ff_mod_stack/~/w0__{group}"), &[banks, channels, units], INPUTS);
    }
    biases.push(zeros("ff_mod_stack/~/b0", &[banks, units]));
    for layer in 1..=config.ff_hidden_layers {
        let outputs = if layer == config.ff_hidden_layers { OUTPUTS } else { units };
        weights(format!("ff_mod_stack/~/w{layer}"), &[banks, units, outputs], units);
        biases.push(zeros(&format!("ff_mod_stack/~/b{layer}"), &[banks, outputs]));
    }
    tensors.extend(biases);
    tensors
}

impl LearnedOptimizer for HyperV2 {
    fn config(&self) -> LearnedOptimizerConfig {
        LearnedOptimizerConfig::HyperV2(self.config.clone())
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        draw(&self.layout, &self.initial, seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(&self.layout, &theta)?;
        Ok(Box::new(update::Bound::new(self.config.clone(), theta)))
    }
}
