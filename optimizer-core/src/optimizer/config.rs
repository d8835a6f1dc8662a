//! Optimizers by name: what a recipe, a baseline sweep or a command line can say.
//!
//! ```toml
//! kind = "gradient_clip"
//! grad_clip = 3.0
//! [inner]
//! kind = "gradient_accumulation"
//! steps = 4
//! [inner.inner]
//! kind = "adam"
//! learning_rate = { kind = "inverse_sqrt", peak_value = 3e-4, warmup_steps = 1000 }
//! ```
//!
//! Absent settings are those of the JAX reference (google/learned_optimization @ 32186aa4 and optax); where a class
//! there has no default learning rate, it is 0.01 here too. Unknown settings are refused.

use serde::{Deserialize, Serialize};

use super::rule::{Rule, Tensorwise};
use super::wrapper::{ExtendTime, GlobalNormClip, GradientAccumulation, GradientClip, Graft, Warp, WeightDecay};
use super::{
    AdaBelief, AdaGrad, Adafactor, Adam, AdamExpDecayLr, AdamSqrtDecayLr, AdamW, Fromage, Lamb, Lars, Muon, NAdamW,
    Optimizer, PiecewiseLinearAdam, RAdam, RmsProp, Sgd, Sgdm, Sm3, Yogi,
};
use crate::Result;

/// A hand-designed optimizer and its settings, as in a recipe or a baseline sweep. Formulas and sources stand at the
/// settings of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Gradient descent.
    Sgd(Sgd),
    /// Gradient descent with heavy-ball momentum.
    Sgdm(Sgdm),
    /// Adam with the reference's defaults (`epsilon_root` 1e-8 inside the root).
    Adam(Adam),
    /// Adam with decoupled weight decay.
    #[serde(rename = "adam_w", alias = "adamw")]
    AdamW(AdamW),
    /// RMSProp with momentum.
    RmsProp(RmsProp),
    /// Nesterov Adam with decoupled weight decay.
    NAdamW(NAdamW),
    /// Adam's direction at each tensor's scale.
    Lamb(Lamb),
    /// Momentum descent at each tensor's scale.
    Lars(Lars),
    /// Rectified Adam.
    RAdam(RAdam),
    /// Adam with a bounded change of the second moment.
    Yogi(Yogi),
    /// Adam on the surprise instead of the gradient.
    AdaBelief(AdaBelief),
    /// Sums of squares.
    AdaGrad(AdaGrad),
    /// Factored second moments.
    Adafactor(Adafactor),
    /// Second moments a side of the tensor.
    Sm3(Sm3),
    /// Relative steps with shrinkage.
    Fromage(Fromage),
    /// Orthogonalised momentum, AdamW for what is no matrix.
    Muon(Muon),
    /// Adam between points of a learning-rate curve.
    #[serde(rename = "piecewise_linear_adam")]
    PiecewiseLinearAdam(PiecewiseLinearAdam),
    /// Adam with the inverse square root as learning rate.
    #[serde(rename = "adam_sqrt_decay_lr")]
    AdamSqrtDecayLr(AdamSqrtDecayLr),
    /// Adam with an exponentially falling learning rate.
    #[serde(rename = "adam_exp_decay_lr")]
    AdamExpDecayLr(AdamExpDecayLr),
    /// Clips every element of the gradient.
    #[serde(rename = "gradient_clip")]
    GradientClip(GradientClipConfig),
    /// Scales the gradient down to a largest norm over all tensors.
    #[serde(rename = "global_norm_clip")]
    GlobalNormClip(GlobalNormClipConfig),
    /// Applies the mean of some gradients.
    #[serde(rename = "gradient_accumulation")]
    GradientAccumulation(GradientAccumulationConfig),
    /// Adds an L2 penalty.
    #[serde(rename = "weight_decay")]
    WeightDecay(WeightDecayConfig),
    /// Length of one optimizer's step, direction of another's.
    #[serde(rename = "graft")]
    Graft(GraftConfig),
    /// Shows an optimizer another time.
    #[serde(rename = "extend_time")]
    ExtendTime(ExtendTimeConfig),
}

/// Settings of [`GradientClip`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientClipConfig {
    /// Largest magnitude of an element, positive; 3.
    #[serde(default = "three")]
    pub grad_clip: f64,
    /// What sees the clipped gradient.
    pub inner: Box<OptimizerConfig>,
}

/// Settings of [`GlobalNormClip`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalNormClipConfig {
    /// Largest Euclidean norm over all tensors of a lane; positive.
    pub max_norm: f64,
    /// What sees the clipped gradient.
    pub inner: Box<OptimizerConfig>,
}

/// Settings of [`GradientAccumulation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientAccumulationConfig {
    /// Gradients to one update, at least 1.
    pub steps: u32,
    /// What sees their mean.
    pub inner: Box<OptimizerConfig>,
}

/// Settings of [`WeightDecay`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightDecayConfig {
    /// Weight w of the penalty `w Σ p²`, not negative.
    pub weight_decay: f64,
    /// Whether the loss that the inner optimizer sees contains it; true.
    #[serde(default = "yes")]
    pub add_to_loss: bool,
    /// What sees the penalised gradient.
    pub inner: Box<OptimizerConfig>,
}

fn three() -> f64 {
    3.0
}

fn yes() -> bool {
    true
}

/// Settings of [`Graft`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraftConfig {
    /// Whose step gives the length.
    pub magnitude: Box<OptimizerConfig>,
    /// Whose step gives the direction.
    pub direction: Box<OptimizerConfig>,
}

/// Settings of [`ExtendTime`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendTimeConfig {
    /// The time shown: a plain number is a factor.
    pub warp: Warp,
    /// To whom.
    pub inner: Box<OptimizerConfig>,
}

impl OptimizerConfig {
    /// The optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range, here or in a wrapped optimizer.
    pub fn build(&self) -> Result<Box<dyn Optimizer>> {
        Ok(match self.clone() {
            Self::Sgd(settings) => tensorwise(settings)?,
            Self::Sgdm(settings) => tensorwise(settings)?,
            Self::Adam(settings) => tensorwise(settings)?,
            Self::AdamW(settings) => tensorwise(settings)?,
            Self::RmsProp(settings) => tensorwise(settings)?,
            Self::NAdamW(settings) => tensorwise(settings)?,
            Self::Lamb(settings) => tensorwise(settings)?,
            Self::Lars(settings) => tensorwise(settings)?,
            Self::RAdam(settings) => tensorwise(settings)?,
            Self::Yogi(settings) => tensorwise(settings)?,
            Self::AdaBelief(settings) => tensorwise(settings)?,
            Self::AdaGrad(settings) => tensorwise(settings)?,
            Self::Adafactor(settings) => tensorwise(settings)?,
            Self::Sm3(settings) => tensorwise(settings)?,
            Self::Fromage(settings) => tensorwise(settings)?,
            Self::Muon(settings) => tensorwise(settings)?,
            Self::PiecewiseLinearAdam(settings) => tensorwise(Adam::from(settings))?,
            Self::AdamSqrtDecayLr(settings) => tensorwise(Adam::from(settings))?,
            Self::AdamExpDecayLr(settings) => tensorwise(Adam::from(settings))?,
            Self::GradientClip(GradientClipConfig { grad_clip, inner }) => {
                Box::new(GradientClip::new(inner.build()?, grad_clip)?)
            }
            Self::GlobalNormClip(GlobalNormClipConfig { max_norm, inner }) => {
                Box::new(GlobalNormClip::new(inner.build()?, max_norm)?)
            }
            Self::GradientAccumulation(GradientAccumulationConfig { steps, inner }) => {
                Box::new(GradientAccumulation::new(inner.build()?, steps)?)
            }
            Self::WeightDecay(WeightDecayConfig { weight_decay, add_to_loss, inner }) => {
                Box::new(WeightDecay::new(inner.build()?, weight_decay, add_to_loss)?)
            }
            Self::Graft(GraftConfig { magnitude, direction }) => {
                Box::new(Graft::new(magnitude.build()?, direction.build()?))
            }
            Self::ExtendTime(ExtendTimeConfig { warp, inner }) => Box::new(ExtendTime::new(inner.build()?, warp)?),
        })
    }
}

fn tensorwise(settings: impl Rule + 'static) -> Result<Box<dyn Optimizer>> {
    Ok(Box::new(Tensorwise::new(settings)?))
}
