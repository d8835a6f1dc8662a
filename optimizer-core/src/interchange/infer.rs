//! Which optimizer a flax file belongs to, where its form tells.

use super::flax::{Envelope, Form};
use super::import::untold;
use crate::Result;
use crate::learned::{HyperV2Config, LearnedOptimizerConfig};

/// The optimizer of a file that came without a description.
///
/// # Errors
/// [`crate::Error::OptimizerUntold`] if the form tells none.
pub(super) fn optimizer(envelope: &Envelope<'_>) -> Result<LearnedOptimizerConfig> {
    match envelope.form {
        Form::Checkpoint => Err(untold("a flax checkpoint without config.gin")),
        Form::Triple => Ok(LearnedOptimizerConfig::HyperV2(oldest_release())),
        Form::Theta => Err(untold("a bare theta")),
    }
}

/// What the reference's oldest releases are (`pretrained_optimizers.py`, `_pretrained_lopt_load_baseline`): settings that
/// are not given there have the constructor's default.
fn oldest_release() -> HyperV2Config {
    HyperV2Config {
        lstm_hidden_size: 512,
        param_inits: 256,
        use_bugged_next_lstm_state: true,
        use_bugged_loss_features: true,
        ..HyperV2Config::default()
    }
}
