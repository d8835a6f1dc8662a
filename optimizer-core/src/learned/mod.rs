//! Learned optimizers: a layout of theta, an initial theta, and the optimizer a theta makes.
//!
//! ```text
//!  LearnedOptimizerConfig ─build─► LearnedOptimizer ─bind(theta)─► Optimizer
//!                                   layout, init_theta              one theta lane a parameter lane,
//!                                                                   or one for all
//! ```
//!
//! Theta is an explicit value: evolution strategies build many optimizers from many thetas, so it is never hidden state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::{Result, Seed, Theta};

mod adafac_mlp;
mod hyper_v2;
mod learnable_adam;

pub use adafac_mlp::{AdafacMlp, AdafacMlpConfig};
pub use hyper_v2::{HyperV2, HyperV2Config};
pub use learnable_adam::LearnableAdam;

/// A family of optimizers parametrised by [`Theta`].
pub trait LearnedOptimizer: Send + Sync + std::fmt::Debug {
    /// The configuration this was built from.
    fn config(&self) -> LearnedOptimizerConfig;

    /// Names and shapes of theta, slash-joined as in the JAX reference.
    fn layout(&self) -> &Arc<Layout>;

    /// Initial theta (one lane), drawn from `seed`.
    fn init_theta(&self, seed: Seed) -> Theta;

    /// The optimizer that `theta` makes. `theta` has one lane for each lane it will update, or one lane shared by all.
    ///
    /// # Errors
    /// [`crate::Error::LayoutMismatch`] if theta belongs to another optimizer or configuration.
    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>>;
}

/// A learned optimizer and its settings, as in a recipe, on the wire and in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LearnedOptimizerConfig {
    /// Adam whose four settings are theta.
    LearnableAdam,
    /// A per-parameter MLP on momentum, second moments and factored second moments (arXiv 2203.11860).
    AdafacMlp(AdafacMlpConfig),
    /// VeLO's hypernetwork: an LSTM a tensor writes the weights of an MLP a parameter (arXiv 2211.09760).
    HyperV2(HyperV2Config),
}

impl LearnedOptimizerConfig {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn build(&self) -> Result<Arc<dyn LearnedOptimizer>> {
        Ok(match self {
            Self::LearnableAdam => Arc::new(LearnableAdam::new()?),
            Self::AdafacMlp(config) => Arc::new(AdafacMlp::new(config.clone())?),
            Self::HyperV2(config) => Arc::new(HyperV2::new(config.clone())?),
        })
    }
}
