//! Learned optimizers: a layout of theta, an initial theta, and the optimizer a theta makes.
//!
//! ```text
//!  LearnedOptimizerConfig ─build─► LearnedOptimizer ─bind(theta)─► Optimizer
//!                                   layout, init_theta              one theta lane a parameter lane,
//!                                          │                        or one for all
//!                                          ├─bind_perturbed(theta, ε, sigma)─► Optimizer of two lanes
//!                                          ├─bind_pairs(theta, [ε …], sigma)─► Optimizers of two lanes a pair
//!                                          └─init_pairs(those lanes, params)─► the state in which they begin
//! ```
//!
//! Theta is an explicit value: evolution strategies build many optimizers from many thetas, so it is never hidden state.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use self::network::Layer;
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params};
use crate::perturbation::{Antithetic, Noise, Perturbation};
use crate::{Error, Result, Seed, Theta};

mod accumulators;
mod adafac_mlp;
mod adafac_network;
pub(crate) mod axes;
mod bank;
mod bound_rules;
mod celo;
mod celo2;
mod channels;
mod course;
mod decays;
mod dense;
mod first_layer;
pub(crate) mod float;
mod fused;
mod hyper_theta;
mod hyper_v2;
mod hypernetwork;
mod initial;
mod inputs;
mod jobs;
mod lane_theta;
mod learnable_adam;
mod learnable_sgd;
mod loss_buffer;
mod lstm;
mod mlp;
mod mlp_nominal;
mod mlp_theta;
pub(crate) mod name_order;
mod network;
mod nn_adam;
mod rnn_mlp;
mod rolling;
mod step;
mod tiles;

pub use adafac_mlp::{AdafacMlp, AdafacMlpConfig};
pub use adafac_network::WeightLayout;
pub use axes::factored_axes;
pub use celo::{Celo, CeloConfig, TrainPhase};
pub use celo2::{Celo2, Celo2AdamW, Celo2Base, Celo2Config, Celo2Meta, Celo2Rule, Celo2Vectors};
pub use hyper_v2::{HyperV2, HyperV2Config, Velo};
pub use learnable_adam::LearnableAdam;
pub use learnable_sgd::{LearnableSgd, LearnableSgdm};
pub use mlp::{Mlp, MlpConfig};
pub use mlp_nominal::{MlpNominal, MlpNominalConfig, NominalGradient};
pub use network::Activation;
pub use nn_adam::{NnAdam, NnAdamConfig};
pub use rnn_mlp::{RnnMlp, RnnMlpConfig};

/// A family of optimizers parametrised by [`Theta`].
pub trait LearnedOptimizer: Send + Sync + std::fmt::Debug {
    /// The configuration this was built from; `None` for an optimizer from elsewhere, which no checkpoint can name.
    fn config(&self) -> Option<LearnedOptimizerConfig>;

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

    /// Optimizers of the lanes `theta + sigma ε` and `theta − sigma ε` of each pair, in order: one of all lanes, or several
    /// of equally many successive lanes, which are best run one after another. The bits of a lane do not depend on it.
    /// `theta` has one lane.
    ///
    /// As it stands each pair has its own. An optimizer whose pairs share large matrices can read those once for all.
    ///
    /// # Errors
    /// As [`LearnedOptimizer::bind_perturbed`].
    fn bind_pairs(&self, theta: &Theta, pairs: &[Perturbation], sigma: f32) -> Result<Vec<Box<dyn Optimizer>>> {
        pairs.iter().map(|epsilon| self.bind_perturbed(theta, epsilon, sigma)).collect()
    }

    /// The state in which lanes begin that are trained elsewhere, by whoever makes their thetas: that of the optimizer
    /// which those thetas make, to the bit.
    ///
    /// As it stands all thetas are made for it. An optimizer whose state holds little of theta, or nothing, need not.
    ///
    /// # Errors
    /// As [`LearnedOptimizer::bind`] and [`Optimizer::init`].
    fn init_pairs(&self, lanes: &Antithetic, params: Params, horizon: &[u32]) -> Result<OptState> {
        self.bind(lanes.made()?)?.init(params, horizon)
    }

    /// How many pairs [`LearnedOptimizer::bind_pairs`] is best asked for at a time, under this noise and for parameters of
    /// this layout; more cost memory and gain nothing.
    fn pairs_together(&self, _noise: Noise, _params: &Layout) -> usize {
        1
    }
}

/// A learned optimizer and its settings, as in a recipe, on the wire and in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LearnedOptimizerConfig {
    /// Gradient descent whose learning rate is theta.
    #[serde(deserialize_with = "no_settings")]
    LearnableSgd,
    /// Gradient descent whose learning rate and momentum are theta.
    #[serde(deserialize_with = "no_settings")]
    LearnableSgdm,
    /// Adam whose four settings are theta.
    #[serde(deserialize_with = "no_settings")]
    LearnableAdam,
    /// Adam whose four settings an LSTM moves, tensor by tensor.
    NnAdam(NnAdamConfig),
    /// A per-parameter MLP on momenta at six timescales (arXiv 1810.10180).
    Mlp(MlpConfig),
    /// An LSTM a tensor and an MLP a parameter that talk to each other (arXiv 2009.11243).
    RnnMlp(RnnMlpConfig),
    /// A per-parameter MLP on momentum, second moments and factored second moments (arXiv 2203.11860).
    AdafacMlp(AdafacMlpConfig),
    /// The same network beside a nominal optimizer and weight decay (arXiv 2209.11208).
    MlpNominal(MlpNominalConfig),
    /// VeLO's hypernetwork: an LSTM a tensor writes the weights of an MLP a parameter (arXiv 2211.09760).
    HyperV2(HyperV2Config),
    /// Celo: one such MLP for all parameters under a learned scheduler (arXiv 2501.12670).
    Celo(CeloConfig),
    /// Celo2: an MLP that gives a direction of RMS 1, in one of three forms (arXiv 2602.19142).
    Celo2(Celo2Config),
}

impl LearnedOptimizerConfig {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub fn build(&self) -> Result<Arc<dyn LearnedOptimizer>> {
        Ok(match self {
            Self::LearnableSgd => Arc::new(LearnableSgd::new()?),
            Self::LearnableSgdm => Arc::new(LearnableSgdm::new()?),
            Self::LearnableAdam => Arc::new(LearnableAdam::new()?),
            Self::NnAdam(config) => Arc::new(NnAdam::new(config.clone())?),
            Self::Mlp(config) => Arc::new(Mlp::new(config.clone())?),
            Self::RnnMlp(config) => Arc::new(RnnMlp::new(config.clone())?),
            Self::AdafacMlp(config) => Arc::new(AdafacMlp::new(config.clone())?),
            Self::MlpNominal(config) => Arc::new(MlpNominal::new(config.clone())?),
            Self::HyperV2(config) => Arc::new(HyperV2::new(config.clone())?),
            Self::Celo(config) => Arc::new(Celo::new(config.clone())?),
            Self::Celo2(config) => Arc::new(celo2::Family::new(config.clone())?),
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

/// The state in which lanes begin, as if theta were that of all of them.
fn init_unperturbed(
    optimizer: &dyn LearnedOptimizer,
    lanes: &Antithetic,
    params: Params,
    horizon: &[u32],
) -> Result<OptState> {
    check_lanes(lanes.lanes(), params.lanes())?;
    optimizer.bind(lanes.theta().clone())?.init(params, horizon)
}

/// Checks that theta belongs to the optimizer of this layout and has a lane.
pub(crate) fn check_theta(layout: &Arc<Layout>, theta: &Theta) -> Result<()> {
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

/// A tensor of theta in one lane, by name.
fn theta_tensor<'a>(theta: &'a Theta, lane: usize, name: &str) -> &'a [f32] {
    let index = theta.layout().index_of(name).expect("the layout was made from these names");
    theta.tensor(lane, index)
}

/// The affine layer `MODULE/w`, `MODULE/b` of theta in one lane.
fn theta_layer<'a>(theta: &'a Theta, lane: usize, module: &str) -> Layer<'a> {
    Layer { w: theta_tensor(theta, lane, &format!("{module}/w")), b: theta_tensor(theta, lane, &format!("{module}/b")) }
}

/// Checks that a whole-number setting lies in its range.
fn check_range(field: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::setting(field, format!("must lie between {} and {}", range.start(), range.end()), value))
}

/// Checks that a setting is a finite number, at least 0.
fn check_not_negative(field: &str, value: f32) -> Result<()> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(Error::setting(field, "must be a finite number, at least 0", value)),
    }
}

/// Checks that a setting is a finite number.
fn check_finite(field: &str, value: f32) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::setting(field, "must be a finite number", value)) }
}

/// Checks that decays of moving averages lie in `[0, 1)`.
fn check_decays(field: &str, decays: &[f32]) -> Result<()> {
    match decays.iter().find(|decay| !(0.0..1.0).contains(*decay)) {
        Some(decay) => Err(Error::setting(field, "must be at least 0 and below 1", decay)),
        None => Ok(()),
    }
}
