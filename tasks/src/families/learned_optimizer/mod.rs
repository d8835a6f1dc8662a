//! `learned_optimizer`: a small learned optimizer is trained, on short trainings of a small problem.
//!
//! ```text
//!  parameters of this family: theta of the small optimizer
//!  batch b ─► tasks of the problem inside ─┬─► steps of training under theta ─► mean of their normalised losses = loss
//!             (seeds of lane, split, b)    ├─►          under theta + h ε    ─► l+ ┐
//!                                          └─►          under theta − h ε    ─► l− ┴► gradient
//! ```
//!
//! `sample_lopt` of the reference's parametric tasks and its fixed `LOpt` tasks. The loss counts the training losses after
//! each of the updates, each on the batch of the next step: that before the first does not depend on theta.
//!
//! The reference differentiates through the unroll, or (`LOpt_ES4`) takes evolution strategies with four pairs. Here the
//! optimizers have no backward pass, so a theta of a few values (learnable SGD, momentum, Adam) is differentiated by
//! central differences along each value, which is the gradient up to rounding, and a larger one by antithetic evolution
//! strategies.

mod lanes;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::learned::{LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::task::{Cost, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Layout, Params, Purpose, Result as CoreResult, Seed};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Family;
use super::settings::{FamilySettings, MAX_PARAMETERS, refuse};
use crate::Error;
use crate::sample::Panel;
use lanes::Lanes;

/// Most values of a theta that is differentiated one by one.
const MAX_DIFFERENCES: usize = 8;

/// Settings of `learned_optimizer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LearnedOptimizerSettings {
    /// The small optimizer, as a recipe's `[optimizer]`.
    pub(super) optimizer: LearnedOptimizerConfig,
    /// The family it trains on.
    pub(super) task: String,
    /// That family's settings.
    pub(super) task_settings: Map<String, Value>,
    /// Inner steps of an unroll.
    pub(super) steps: u32,
    /// Inner tasks of a batch.
    pub(super) tasks: u32,
    /// Deviation of the perturbations of evolution strategies.
    pub(super) sigma: f64,
    /// Their antithetic pairs.
    pub(super) pairs: u32,
    /// Deviation from the optimizer's initial theta, which for some is the same for every seed.
    pub(super) spread: f64,
}

impl Default for LearnedOptimizerSettings {
    fn default() -> Self {
        let Value::Object(task_settings) = json!({"hidden": [16], "batch_size": 16}) else { unreachable!("a table") };
        Self {
            optimizer: LearnedOptimizerConfig::LearnableSgdm,
            task: "image_mlp".into(),
            task_settings,
            steps: 10,
            tasks: 2,
            sigma: 0.01,
            pairs: 4,
            spread: 0.1,
        }
    }
}

impl FamilySettings for LearnedOptimizerSettings {
    const NAME: &'static str = "learned_optimizer";
    const SUMMARY: &'static str = "train a small learned optimizer on short trainings of a small problem";

    /// What the problem inside refuses is said when the family is built.
    fn resolve(self, data_dir: Option<&Path>) -> Self {
        if self.task == Self::NAME {
            return self;
        }
        match super::resolve(&self.task, &self.task_settings, data_dir) {
            Ok(task_settings) => Self { task_settings, ..self },
            Err(_) => self,
        }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        if self.task == Self::NAME {
            return Err(refuse::<Self>("task must be another family than learned_optimizer: one level is enough"));
        }
        for (setting, value, most) in
            [("steps", self.steps, 1000), ("tasks", self.tasks, 64), ("pairs", self.pairs, 1024)]
        {
            if !(1..=most).contains(&value) {
                return Err(refuse::<Self>(format!("{setting} must be 1 to {most} (got {value})")));
            }
        }
        if !(1e-6..=10.0).contains(&self.sigma) {
            return Err(refuse::<Self>(format!("sigma must be 1e-6 to 10 (got {})", self.sigma)));
        }
        if !(0.0..=10.0).contains(&self.spread) {
            return Err(refuse::<Self>(format!("spread must be 0 to 10 (got {})", self.spread)));
        }
        let optimizer = self.optimizer.build().map_err(|error| refuse::<Self>(format!("optimizer: {error}")))?;
        let parameters = optimizer.layout().size();
        if parameters > MAX_PARAMETERS {
            let reason = format!("optimizer has {parameters} parameters, up to {MAX_PARAMETERS} are allowed");
            return Err(refuse::<Self>(reason));
        }
        let inner = super::build(&self.task, &self.task_settings, data_dir).map_err(|error| match error {
            Error::Setting { reason, .. } => refuse::<Self>(format!("task_settings of {}: {reason}", self.task)),
            Error::UnknownFamily { .. } => refuse::<Self>(format!("task: {error}")),
            Error::Data { .. } => error,
        })?;
        let Self { steps, tasks, sigma, pairs, spread, .. } = self;
        let unroll = Unroll { optimizer, inner, steps, tasks, sigma, pairs, spread };
        let remembered = unroll.remembered().map_err(|error| refuse::<Self>(format!("optimizer: {error}")))?;
        Ok(Arc::new(LearnedOptimizerFamily { unroll, remembered }))
    }
}

/// How a theta is scored.
struct Unroll {
    optimizer: Arc<dyn LearnedOptimizer>,
    inner: Arc<dyn Family>,
    pub(super) steps: u32,
    pub(super) tasks: u32,
    pub(super) sigma: f64,
    pub(super) pairs: u32,
    pub(super) spread: f64,
}

impl Unroll {
    /// Unrolled trainings beside the unperturbed one, for a gradient.
    fn probes(&self) -> usize {
        let values = self.optimizer.layout().size();
        2 * if values <= MAX_DIFFERENCES { values } else { self.pairs as usize }
    }

    /// Values that the small optimizer remembers of one inner task.
    fn remembered(&self) -> CoreResult<usize> {
        let bound = self.optimizer.bind(self.optimizer.init_theta(Seed::new(0)))?;
        let state = bound.init(Params::zeros(self.inner.layout(), 1), &[self.steps])?;
        Ok(state.slots.iter().map(|slot| slot.values.len()).sum())
    }
}

struct LearnedOptimizerFamily {
    unroll: Unroll,
    /// Values that the small optimizer remembers of one inner task.
    remembered: usize,
}

impl fmt::Debug for LearnedOptimizerFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unroll { optimizer, inner, steps, tasks, sigma, pairs, .. } = &self.unroll;
        let size = optimizer.layout().size();
        write!(f, "{}: {:?}, {size} parameters, ", self.name(), optimizer.config())?;
        write!(f, "{tasks} trainings of {steps} steps on [{inner:?}], gradient by ")?;
        match size <= MAX_DIFFERENCES {
            true => write!(f, "central differences"),
            false => write!(f, "evolution strategies (sigma {sigma}, {pairs} pairs)"),
        }
    }
}

impl Family for LearnedOptimizerFamily {
    /// An inner training under the first theta, and the data inside.
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let mut panels = vec![];
        // A picture that cannot be computed is left out: training will say why.
        if let Ok(losses) = self.unroll.curve(seed) {
            panels.push(Panel::Curves {
                title: "normalised loss of an inner training under the first theta".into(),
                axis: "inner step".into(),
                lines: vec![("loss".into(), losses.into_iter().map(|loss| loss as f32).collect())],
            });
        }
        panels.extend(self.unroll.inner.panels(seed.purpose(Purpose::Data)));
        panels
    }
}

impl TaskFamily for LearnedOptimizerFamily {
    fn name(&self) -> &'static str {
        LearnedOptimizerSettings::NAME
    }

    fn layout(&self) -> &Arc<Layout> {
        self.unroll.optimizer.layout()
    }

    /// Unrolls one after the other; the small optimizer is counted as one multiplication and addition of each value of
    /// theta for each inner parameter, at least ten.
    fn cost(&self) -> Cost {
        let (inner, theta) = (self.unroll.inner.cost(), self.layout().size() as f64);
        let parameters = self.unroll.inner.layout().size() as f64;
        let unrolls = (1 + self.unroll.probes()) as f64 * f64::from(self.unroll.tasks);
        let step = inner.flop + 2.0 * theta.max(10.0) * parameters;
        Cost {
            flop: unrolls * f64::from(self.unroll.steps) * step,
            bytes: inner.bytes + 4.0 * (self.remembered as f64 + 2.0 * parameters) + 24.0 * theta,
        }
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> CoreResult<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(Lanes::new(&self.unroll, seeds)?))
    }

    /// A mean of normalised losses is normalised already; it is cut to their range.
    fn normalise(&self, loss: f64) -> f64 {
        let of = |loss| self.unroll.inner.normalise(loss);
        if loss.is_finite() { loss.clamp(of(f64::MIN), of(f64::MAX)) } else { of(f64::NAN) }
    }
}
