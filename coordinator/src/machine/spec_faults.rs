//! Checks of a run's spec that no type can make: every wrong field is named.

use paceline_optimizer_core::Error;
use paceline_optimizer_core::estimator::EstimatorKind;
use paceline_optimizer_core::schedule::SlotSequence;
use paceline_proto::fault::FieldFault;
use paceline_proto::model::RunSpec;

/// Most slots in an outer step: what one coordinator plans in memory.
const MAX_SLOTS: u32 = 65_536;
/// Most pairs in a slot: a seed-coded result of this many is 512 KiB.
const MAX_PAIRS: u32 = 16_384;

/// Everything that is wrong with a spec; empty when it can run. Families and their settings are checked by workers,
/// who know them.
pub fn spec_faults(spec: &RunSpec) -> Vec<FieldFault> {
    let mut faults = Faults(Vec::new());
    let name_fits = (1..=40).contains(&spec.name.len())
        && spec.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    faults.unless(name_fits, "name", "must be 1 to 40 characters of a-z, 0-9 and '-'", &spec.name);
    if let Err(error) = spec.optimizer.build() {
        faults.refused("optimizer", &error);
    }
    faults.unless(
        spec.estimator.sigma.is_finite() && spec.estimator.sigma > 0.0,
        "estimator.sigma",
        "must be positive and finite",
        spec.estimator.sigma,
    );
    for (field, value) in
        [("estimator.clip_delta", spec.estimator.clip_delta), ("estimator.sign_delta", spec.estimator.sign_delta)]
    {
        faults.positive(field, value);
    }
    outer_faults(spec, &mut faults);
    faults.unless((1..=64).contains(&spec.tasks.len()), "tasks", "a run trains on 1 to 64 families", spec.tasks.len());
    for (index, task) in spec.tasks.iter().enumerate() {
        faults.unless(!task.family.is_empty(), &format!("tasks[{index}].family"), "must name a family", "\"\"");
    }
    // The planner is the judge of horizons, windows and weights: no second copy of its rules here.
    if !spec.tasks.is_empty()
        && let Err(error) = slot_sequence(spec, 0)
    {
        faults.refused("estimator.horizon", &error);
    }
    faults.unless(spec.checkpoint.every > 0, "checkpoint.every", "must be at least 1", spec.checkpoint.every);
    faults.unless(spec.checkpoint.keep > 0, "checkpoint.keep", "must be at least 1", spec.checkpoint.keep);
    faults.0
}

fn outer_faults(spec: &RunSpec, faults: &mut Faults) {
    let outer = &spec.outer;
    faults.unless(outer.steps > 0, "outer.steps", "must be at least 1", outer.steps);
    faults.unless((1..=MAX_SLOTS).contains(&outer.slots), "outer.slots", "must be 1 to 65536", outer.slots);
    faults.unless(
        (1..=MAX_PAIRS).contains(&outer.pairs_per_slot),
        "outer.pairs_per_slot",
        "must be 1 to 16384",
        outer.pairs_per_slot,
    );
    faults.unless(outer.accumulation > 0, "outer.accumulation", "must be at least 1", outer.accumulation);
    faults.positive("outer.clip", outer.clip);
    faults.positive("outer.clip_norm", outer.clip_norm);
    let adam = &outer.optimizer;
    for (field, value) in [
        ("outer.optimizer.learning_rate", adam.learning_rate),
        ("outer.optimizer.eps", adam.eps),
        ("outer.optimizer.eps_root", adam.eps_root),
        ("outer.optimizer.weight_decay", adam.weight_decay),
    ] {
        faults.unless(value.is_finite() && value >= 0.0, field, "must be finite and not negative", value);
    }
    for (field, value) in [("outer.optimizer.beta1", adam.beta1), ("outer.optimizer.beta2", adam.beta2)] {
        faults.unless((0.0..1.0).contains(&value), field, "must be at least 0 and less than 1", value);
    }
}

/// The windows of one slot of a run.
///
/// # Errors
/// If horizons, window or weights do not fit; see [`SlotSequence::new`].
pub(super) fn slot_sequence(spec: &RunSpec, slot: u32) -> Result<SlotSequence, Error> {
    let window = match spec.estimator.kind {
        EstimatorKind::FullEs { .. } => None,
        EstimatorKind::Pes { window } => Some(window),
    };
    let weights: Vec<f64> = spec.tasks.iter().map(|task| task.weight).collect();
    SlotSequence::new(spec.seed, slot, spec.estimator.horizon, window, &weights)
}

struct Faults(Vec<FieldFault>);

impl Faults {
    fn unless(&mut self, fits: bool, field: &str, must: &str, got: impl std::fmt::Display) {
        if !fits {
            self.0.push(FieldFault { field: field.to_owned(), reason: format!("{must} (got {got})") });
        }
    }

    fn positive(&mut self, field: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.unless(value.is_finite() && value > 0.0, field, "must be positive and finite", value);
        }
    }

    fn refused(&mut self, field: &str, error: &Error) {
        self.0.push(match error {
            Error::Setting { field, reason, got } => {
                FieldFault { field: field.clone(), reason: format!("{reason} (got {got})") }
            }
            other => FieldFault { field: field.to_owned(), reason: other.to_string() },
        });
    }
}
