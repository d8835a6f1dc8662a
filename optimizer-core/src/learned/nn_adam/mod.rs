//! NNAdam: Adam whose four settings an LSTM moves, tensor by tensor.
//!
//! ```text
//!  g clipped at ±1000 ─► m ← β1 m + (1−β1) g,  rms ← β2 rms + (1−β2) g²      p ← p − lr (1+ε)/(ε + √(rms + 1e-10)) · m
//!
//!  statistics of p, g, m, rms and the settings ─► LSTM (a row a tensor) ─► Δ of the encoded lr, β1, β2, ε ─► next step
//! ```
//!
//! There is no bias correction. The factor `1 + ε` lets ε grow, which turns the second moment off, without lr having to
//! grow with it. Settings live encoded in the state (`0.1 · ln lr`, `0.1 · ln(1 − β)`, `0.1 · ln ε`); what the LSTM
//! says takes effect one step later. The loss and the horizon are not used. Source: `NNAdam` of
//! google/learned_optimization @ 32186aa4.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::initial::{InitialTheta, ThetaTensors, scalar, zeros};
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_decays, check_finite, check_range, check_theta, lstm};
use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::{Error, Result, Seed, Theta};

mod settings;
mod update;

use settings::SETTINGS;

/// Settings of [`NnAdam`]. A key that is absent takes the default of the reference's constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NnAdamConfig {
    /// Factor of what the LSTM adds to the encoded settings; 0.01.
    pub output_scale: f32,
    /// Learning rate of the initial theta, positive; 1e-4.
    pub initial_learning_rate: f32,
    /// Decay of the momentum of the initial theta, in `[0, 1)`; 0.9.
    pub initial_beta1: f32,
    /// Decay of the second moment of the initial theta, in `[0, 1)`; 0.999.
    pub initial_beta2: f32,
    /// Epsilon of the initial theta, positive; 1e-8.
    pub initial_epsilon: f32,
    /// Part of the way that encoded settings go back to theta's in each step, 0 to 1; 0.
    pub decay_strength: f32,
    /// Units of the LSTM, 1 to 4096; 32.
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

/// Adam with settings a tensor, moved by an LSTM: `NNAdam` of the reference's `learned_optimizers/nn_adam.py`
/// (google/learned_optimization @ 32186aa4).
///
/// ```text
///  m ← β1 m + (1−β1) g      rms ← β2 rms + (1−β2) g²      p ← p − lr (1+ε)/(ε + √(rms + 1e-10)) · m      |g| ≤ 1000
/// ```
///
/// Settings are encoded as a tenth of a natural logarithm: `0.1 ln lr`, `0.1 ln(1 − β)`, `0.1 ln ε`. The loss and the
/// horizon are not used. Slots: `m/NAME` and `rms/NAME` \[shape\], `per_layer_{lr, beta1, beta2, epsilon}/NAME` \[\],
/// `lstm/hidden` and `lstm/cell` \[tensors, H\].
///
/// Theta (6856 values by default): `lstm_init_state/hidden`, `lstm_init_state/cell` \[1, 32\];
/// `rnn_params/rnn/linear/w` \[51, 128\], `/b` \[128\]; `rnn_to_controls_params/rnn_to_controls/w` \[32, 4\], `/b`
/// \[4\] (all 0 at first, so an untrained NNAdam is Adam without bias correction); scalars `per_layer_lr`,
/// `per_layer_beta1`, `per_layer_beta2`, `per_layer_epsilon`, encoded.
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
    let mut tensors = lstm::theta_tensors(update::FEATURES, hidden);
    tensors.push(zeros("rnn_to_controls_params/rnn_to_controls/w", [hidden, SETTINGS.len()]));
    tensors.push(zeros("rnn_to_controls_params/rnn_to_controls/b", [SETTINGS.len()]));
    let initial = [config.initial_learning_rate, config.initial_beta1, config.initial_beta2, config.initial_epsilon];
    tensors.extend(SETTINGS.into_iter().zip(initial).map(|((name, code), value)| scalar(name, code.encode(value))));
    tensors
}

impl LearnedOptimizer for NnAdam {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::NnAdam(self.config.clone()))
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
