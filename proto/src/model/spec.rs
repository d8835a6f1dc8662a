//! What a run is. The same type is read from a recipe (TOML), stored, and sent.

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::EstimatorConfig;
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::optimizer::Schedule;
use paceline_optimizer_core::outer::{OuterConfig, ResultForm};
use serde::{Deserialize, Serialize};

/// Everything that decides a run's result: equal specs end with equal bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// What people call it: 1 to 40 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Root of every random decision.
    pub seed: Seed,
    /// The learned optimizer being trained.
    pub optimizer: LearnedOptimizerConfig,
    /// How meta-gradients are estimated.
    pub estimator: EstimatorConfig,
    /// The outer loop.
    pub outer: OuterConfig,
    /// The mixture of inner problems, in order.
    pub tasks: Vec<TaskSpec>,
    /// What the entries of the mixture may cost. Applied once, where the run is submitted: `tasks` holds what is left.
    #[serde(default, skip_serializing_if = "MixtureLimits::is_none")]
    pub mixture: MixtureLimits,
    /// When checkpoints are written and how many are kept.
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
    /// How the result is compared with tuned baselines.
    #[serde(default)]
    pub evaluation: EvaluationSpec,
}

impl RunSpec {
    /// How results of this run travel, and why.
    ///
    /// # Errors
    /// [`paceline_optimizer_core::Error::Setting`] if the learned optimizer cannot be built.
    pub fn result_form(&self) -> paceline_optimizer_core::Result<ResultForm> {
        Ok(ResultForm::of(&self.outer, &self.estimator, self.optimizer.build()?.layout()))
    }
}

/// One family in the mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Registered name, for example `image_mlp`.
    pub family: String,
    /// Share in the mixture, relative to the other weights: a number, or a schedule of the outer step in which a
    /// trajectory begins.
    #[serde(default = "one")]
    pub weight: Schedule,
    /// The family's own settings, checked by whoever runs it.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// What the entries of a mixture may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixtureLimits {
    /// Most floating-point operations of an inner step of one lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flop: Option<f64>,
    /// Most memory of one lane, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<f64>,
}

impl MixtureLimits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> Schedule {
    1.0.into()
}

/// When checkpoints are written and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointPolicy {
    /// Outer steps between checkpoints.
    pub every: u32,
    /// Newest checkpoints kept.
    pub keep: u32,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { every: 50, keep: 20 }
    }
}

/// How the result is compared with tuned baselines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSpec {
    /// Inner steps of each training curve.
    pub steps: u32,
    /// Held-out task instances a family.
    pub seeds: u32,
}

impl Default for EvaluationSpec {
    fn default() -> Self {
        Self { steps: 500, seeds: 5 }
    }
}
