//! Which optimizer a flax file belongs to, where its form tells.

use super::flax::{Envelope, Form, shape_at};
use super::import::untold;
use super::msgpack::Reader;
use crate::Result;
use crate::learned::{CeloConfig, HyperV2Config, LearnedOptimizerConfig, TrainPhase};

/// The optimizer of a file that came without a description.
///
/// # Errors
/// [`crate::Error::OptimizerUntold`] if the form tells none.
pub(super) fn optimizer(envelope: &Envelope<'_>) -> Result<LearnedOptimizerConfig> {
    match envelope.form {
        Form::Checkpoint => Err(untold("a flax checkpoint without config.gin")),
        Form::Triple => Ok(LearnedOptimizerConfig::HyperV2(oldest_release())),
        Form::Theta => bare(envelope.theta),
    }
}

/// The optimizer of a bare theta. Celo's is known by its scheduler, whose features are fewer than HyperV2's; its sizes are
/// those of its tensors, and phase 2 is how it is used. Celo2's does not say in which form it was trained.
fn bare(theta: Reader<'_>) -> Result<LearnedOptimizerConfig> {
    let shape = |path: &[&str]| shape_at(theta, path);
    let features = shape(&["rnn_params", "rnn_to_controls", "w"])?.and(shape(&["rnn_params", "linear_2", "w"])?);
    let hidden = shape(&["lstm_init_state", "hidden"])?;
    let bank = shape(&["ff_mod_stack", "~", "w0__0"])?;
    match (features.as_deref(), hidden.as_deref(), bank.as_deref()) {
        (Some([CELO_FEATURES, _]), Some([1, hidden]), Some([banks, 1, units])) => {
            let mut ff_hidden_layers = 0;
            while ff_hidden_layers < MOST_LAYERS
                && shape(&["ff_mod_stack", "~", &format!("b{}", ff_hidden_layers + 1)])?.is_some()
            {
                ff_hidden_layers += 1;
            }
            Ok(LearnedOptimizerConfig::Celo(CeloConfig {
                lstm_hidden_size: *hidden,
                param_inits: *banks,
                ff_hidden_size: *units,
                ff_hidden_layers,
                train_phase: TrainPhase::Scheduler,
                ..CeloConfig::default()
            }))
        }
        (None, None, Some([_, _])) => Err(untold("a bare theta of Celo2, which is the same in all its forms,")),
        _ => Err(untold("a bare theta")),
    }
}

/// Nine features of time, nine of the loss.
const CELO_FEATURES: usize = 18;

/// No network has more hidden layers.
const MOST_LAYERS: usize = 8;

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
