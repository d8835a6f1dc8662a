//! What a run may be: every rule, asked in one place, by the command line before it sends a recipe and by the
//! coordinator before it makes a run.
//!
//! All faults are found in one go, each with the field's path as written in a recipe, so that nobody mends a recipe one
//! refusal at a time.

use std::sync::Arc;

use paceline_optimizer_core::Error;
use paceline_optimizer_core::estimator::EstimatorConfig;
use paceline_optimizer_core::optimizer::Schedule;
use paceline_optimizer_core::outer::{MOST_DENSE_VALUES, OuterConfig, ResultForm};
use paceline_optimizer_core::schedule::Mixture;

use super::{RunSpec, TaskSpec};
use crate::convert::{MAX_PAIRS, MAX_SLOTS, MAX_TASKS, MAX_VECTOR_BYTES};
use crate::fault::FieldFault;

const MAX_NAME: usize = 40;
const MAX_FAMILY: usize = 64;
/// Longest training curve of an evaluation, in inner steps.
const MAX_EVALUATION_STEPS: usize = 10_000_000;
/// Most task instances a family in an evaluation.
const MAX_EVALUATION_SEEDS: usize = 10_000;

/// What `optimizer-core` takes for the longest dense result is what travels.
const _: () = assert!(MOST_DENSE_VALUES * size_of::<f32>() == MAX_VECTOR_BYTES);

/// Faults found so far.
#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(FieldFault { field: field.into(), reason: reason.into() });
    }

    /// Notes a fault unless `holds`: the field must be `must`, and is `got`.
    fn check(&mut self, holds: bool, field: &str, must: &str, got: impl std::fmt::Display) {
        if !holds {
            self.add(field, format!("must be {must}, got {got}"));
        }
    }

    fn positive(&mut self, value: f64, field: &str) {
        self.check(value.is_finite() && value > 0.0, field, "a finite number above 0", value);
    }

    fn not_negative(&mut self, value: f64, field: &str) {
        self.check(value.is_finite() && value >= 0.0, field, "a finite number, at least 0", value);
    }

    /// `optimizer-core` has the last word on its settings; it stops at the first fault, so it is heard only where none was
    /// found before.
    fn last_word(&mut self, section: &str, verdict: paceline_optimizer_core::Result<()>) {
        let Err(error) = verdict else { return };
        if self.0.iter().any(|fault| fault.field.starts_with(section)) {
            return;
        }
        match error {
            Error::Setting { field, reason, got } if field.starts_with(section) => {
                self.add(field, format!("{reason}, got {got}"));
            }
            other => self.add(section, other.to_string()),
        }
    }

    fn at_least_one(&mut self, value: impl Into<u64>, field: &str) {
        let value = value.into();
        self.check(value >= 1, field, "at least 1", value);
    }
}

impl RunSpec {
    /// Checks everything that can be known without running a task.
    ///
    /// # Errors
    /// All faults found, in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<FieldFault>> {
        let mut faults = Faults::default();
        name(&mut faults, &self.name);
        let optimizer = self.optimizer.build();
        let layout = optimizer.as_ref().ok().map(|optimizer| Arc::clone(optimizer.layout()));
        faults.last_word("optimizer", optimizer.map(|_| ()));
        estimator(&mut faults, &self.estimator);
        faults.last_word("estimator", self.estimator.validate());
        outer(&mut faults, &self.outer);
        faults.last_word("outer", self.outer.validate());
        if let Some(layout) = layout {
            let pairs = self.estimator.noise.check_pairs(self.outer.pairs_per_slot, layout.size());
            faults.last_word("outer.pairs_per_slot", pairs);
            report(&mut faults, &ResultForm::of(&self.outer, &self.estimator, &layout), layout.size());
        }
        tasks(&mut faults, &self.tasks, self.outer.steps);
        for (limit, field) in
            [(self.mixture.max_flop, "mixture.max_flop"), (self.mixture.max_bytes, "mixture.max_bytes")]
        {
            if let Some(limit) = limit {
                faults.positive(limit, field);
            }
        }
        faults.at_least_one(self.checkpoint.every, "checkpoint.every");
        faults.at_least_one(self.checkpoint.keep, "checkpoint.keep");
        within(&mut faults, self.evaluation.steps, MAX_EVALUATION_STEPS, "evaluation.steps");
        within(&mut faults, self.evaluation.seeds, MAX_EVALUATION_SEEDS, "evaluation.seeds");
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
    }
}

fn name(faults: &mut Faults, name: &str) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let shown: String = name.chars().take(80).collect();
    faults.check(
        // A run's id begins with its name, and one that begins with '-' reads as a flag.
        !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(allowed) && !name.starts_with('-'),
        "name",
        "1 to 40 characters of a-z, 0-9 and '-', the first not '-'",
        format!("{shown:?}"),
    );
}

fn estimator(faults: &mut Faults, estimator: &EstimatorConfig) {
    faults.positive(estimator.sigma.into(), "estimator.sigma");
    if let Some(delta) = estimator.clip_delta {
        faults.positive(delta, "estimator.clip_delta");
    }
    if let Some(delta) = estimator.sign_delta {
        faults.positive(delta, "estimator.sign_delta");
    }
    let (shortest, longest) = (estimator.horizon.min(), estimator.horizon.max());
    faults.at_least_one(shortest, "estimator.horizon");
    let must = format!("at least the shortest, {shortest}");
    faults.check(longest >= shortest, "estimator.horizon.max", &must, longest);
    if let Some(window) = estimator.window() {
        faults.check(window >= 2, "estimator.window", "at least 2", window);
        // At most one reset fits a window, so a window must not outlast a whole trajectory.
        let must = format!("shorter than the shortest horizon, {shortest}");
        faults.check(window < shortest, "estimator.window", &must, window);
    }
}

fn outer(faults: &mut Faults, outer: &OuterConfig) {
    faults.at_least_one(outer.steps, "outer.steps");
    within(faults, outer.slots, MAX_SLOTS, "outer.slots");
    within(faults, outer.pairs_per_slot, MAX_PAIRS, "outer.pairs_per_slot");
    faults.at_least_one(outer.accumulation, "outer.accumulation");
    let must = format!("at most outer.steps, {}, or theta would never move", outer.steps.max(1));
    faults.check(u64::from(outer.accumulation) <= outer.steps.max(1), "outer.accumulation", &must, outer.accumulation);
    let optimizer = &outer.optimizer;
    faults.positive(optimizer.learning_rate, "outer.optimizer.learning_rate");
    for (beta, field) in [(optimizer.beta1, "outer.optimizer.beta1"), (optimizer.beta2, "outer.optimizer.beta2")] {
        faults.check((0.0..1.0).contains(&beta), field, "at least 0 and below 1", beta);
    }
    faults.not_negative(optimizer.eps, "outer.optimizer.eps");
    faults.not_negative(optimizer.eps_root, "outer.optimizer.eps_root");
    faults.not_negative(optimizer.weight_decay, "outer.optimizer.weight_decay");
    if let Some(clip) = outer.clip {
        faults.positive(clip, "outer.clip");
    }
    if let Some(clip) = outer.clip_norm {
        faults.positive(clip, "outer.clip_norm");
    }
}

/// A dense result is one message, and theta may be larger than a message.
fn report(faults: &mut Faults, form: &ResultForm, theta_size: usize) {
    if form.dense && form.too_long {
        let reason = format!(
            "must be auto or seed_coded: a dense result has at most {MOST_DENSE_VALUES} values, theta of this optimizer \
             has {theta_size}"
        );
        faults.add("outer.report", reason);
    }
}

fn within(faults: &mut Faults, value: u32, max: usize, field: &str) {
    faults.check((1..=max).contains(&(value as usize)), field, &format!("1 to {max}"), value);
}

fn tasks(faults: &mut Faults, tasks: &[TaskSpec], outer_steps: u64) {
    let must = format!("1 to {MAX_TASKS} task families");
    faults.check((1..=MAX_TASKS).contains(&tasks.len()), "tasks", &must, tasks.len());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    for (index, task) in tasks.iter().enumerate() {
        let family = &task.family;
        let shown: String = family.chars().take(80).collect();
        faults.check(
            !family.is_empty() && family.len() <= MAX_FAMILY && family.chars().all(allowed),
            &format!("tasks[{index}].family"),
            "the name of a task family: 1 to 64 characters of a-z, 0-9 and '_'",
            format!("{shown:?}"),
        );
        if let Schedule::Constant { value } = task.weight {
            faults.not_negative(value, &format!("tasks[{index}].weight"));
        }
    }
    if !tasks.is_empty() && tasks.iter().all(|task| task.weight == Schedule::Constant { value: 0.0 }) {
        faults.add("tasks", "must have at least one weight above 0, all are 0");
    }
    let weights = tasks.iter().map(|task| task.weight.clone()).collect();
    faults.last_word("tasks", Mixture::new(weights, outer_steps).map(|_| ()));
}
