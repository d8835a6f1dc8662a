//! Learned optimizers: a layout of theta, an initial theta, and the optimizer a theta makes.
//!
//! ```text
//!  LearnedOptimizerConfig ─build─► LearnedOptimizer ─bind(theta)─► Optimizer
//!                                   layout, init_theta              one theta lane a parameter lane,
//!                                          │                        or one for all
//!                                          └─bind_perturbed(theta, ε, sigma)─► Optimizer of two lanes
//! ```
//!
//! Theta is an explicit value: evolution strategies build many optimizers from many thetas, so it is never hidden state.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::perturbation::Perturbation;
use crate::{Error, Result, Seed, Theta};

mod accumulators;
mod adafac_mlp;
pub(crate) mod axes;
mod bank;
mod channels;
mod course;
mod decays;
mod dense;
mod float;
mod hyper_theta;
mod hyper_v2;
mod hypernetwork;
mod initial;
mod inputs;
mod learnable_adam;
mod loss_buffer;
mod lstm;
mod network;

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

    /// The optimizer of two lanes, `theta + sigma ε` and `theta − sigma ε`. `theta` has one lane.
    ///
    /// As it stands both thetas are made and bound. An optimizer that can use the structure of ε need not make them; it
    /// computes the same up to rounding.
    ///
    /// # Errors
    /// As [`LearnedOptimizer::bind`]; [`crate::Error::Lanes`] if theta has more than one lane, or
    /// [`crate::Error::Length`] if ε is not as long.
    fn bind_perturbed(&self, theta: &Theta, epsilon: &Perturbation, sigma: f32) -> Result<Box<dyn Optimizer>> {
        self.bind(theta.antithetic(sigma, &epsilon.whole())?)
    }
}

/// A learned optimizer and its settings, as in a recipe, on the wire and in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LearnedOptimizerConfig {
    /// Adam whose four settings are theta.
    #[serde(deserialize_with = "no_settings")]
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

/// Reads the settings of an optimizer that has none: serde by itself ignores whatever stands beside the tag of a unit
/// variant.
fn no_settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoSettings {}
    NoSettings::deserialize(deserializer).map(|NoSettings {}| ())
}

/// Checks that theta belongs to the optimizer of this layout and has a lane.
fn check_theta(layout: &Arc<Layout>, theta: &Theta) -> Result<()> {
    if layout != theta.layout() {
        return Err(Error::LayoutMismatch {
            what: "theta".into(),
            expected: Arc::clone(layout),
            got: Arc::clone(theta.layout()),
        });
    }
    if theta.lanes() == 0 {
        return Err(Error::Lanes { what: "theta".into(), expected: 1, got: 0 });
    }
    Ok(())
}

/// Checks that there is one theta lane, or one for each lane of parameters.
fn check_lanes(theta_lanes: usize, lanes: usize) -> Result<()> {
    if theta_lanes != 1 && theta_lanes != lanes {
        return Err(Error::Lanes { what: "parameters of a bound theta".into(), expected: theta_lanes, got: lanes });
    }
    Ok(())
}

/// The theta lane that updates a lane of parameters.
fn lane_of(theta_lanes: usize, lane: usize) -> usize {
    if theta_lanes == 1 { 0 } else { lane }
}

/// Checks that there is one horizon a lane, of at least one step: it sets the timescales of the loss.
fn check_horizons(lanes: usize, horizon: &[u32]) -> Result<()> {
    if horizon.len() != lanes {
        return Err(Error::Lanes { what: "horizon".into(), expected: lanes, got: horizon.len() });
    }
    if horizon.contains(&0) {
        return Err(Error::setting("horizon", "must be at least 1: it sets the timescales of the loss", 0));
    }
    Ok(())
}

/// Checks that a whole-number setting lies in its range.
fn check_range(field: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::setting(field, format!("must lie between {} and {}", range.start(), range.end()), value))
}

/// Checks that decays lie in `[0, 1)`: a decay of 1 remembers nothing.
fn check_decays(field: &str, decays: &[f32]) -> Result<()> {
    match decays.iter().find(|decay| !(0.0..1.0).contains(*decay)) {
        Some(decay) => Err(Error::setting(field, "must be at least 0 and below 1", decay)),
        None => Ok(()),
    }
}

/// Checks that a setting is a finite number.
fn check_finite(field: &str, value: f32) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::setting(field, "must be a finite number", value)) }
}
