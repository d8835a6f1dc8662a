//! What the entries of a mixture cost: from shapes, and by a short timing on this machine.
//!
//! The coordinator offers the most expensive slots first and people see the numbers. They are no part of the run, for a
//! time is never the same twice.

use std::time::{Duration, Instant};

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::TaskFamily;
use paceline_proto::model::TaskCost;

/// How long one entry is timed, beyond the step that warms up and the one that is under way.
const PATIENCE: Duration = Duration::from_millis(20);
/// Most inner steps that are timed.
const STEPS: u32 = 10;

/// What one lane of a family costs.
pub(super) fn of(family: &dyn TaskFamily) -> TaskCost {
    let cost = family.cost();
    let seconds = match seconds_of_step(family) {
        Ok(seconds) => Some(seconds),
        Err(error) => {
            tracing::warn!(family = family.name(), %error, "its time cannot be measured");
            None
        }
    };
    TaskCost { flop: cost.flop, bytes: cost.bytes, seconds }
}

/// Mean time of a loss and its gradient on one lane. Of a family that draws, that of one member, scaled to the typical one
/// by floating-point operations.
fn seconds_of_step(family: &dyn TaskFamily) -> paceline_optimizer_core::Result<f64> {
    let seed = Seed::new(0);
    let Some(member) = family.draw(seed)? else { return timed(family, seed) };
    let (typical, drawn) = (family.cost().flop, member.cost().flop);
    let scale = if drawn > 0.0 { typical / drawn } else { 1.0 };
    Ok(timed(&*member, seed)? * scale)
}

fn timed(family: &dyn TaskFamily, seed: Seed) -> paceline_optimizer_core::Result<f64> {
    let mut lanes = family.bind(&[seed])?;
    let params = lanes.init_params()?;
    lanes.loss_and_grads(&params, 0)?;
    let begun = Instant::now();
    let mut steps = 0;
    while steps < STEPS && (steps == 0 || begun.elapsed() < PATIENCE) {
        steps += 1;
        lanes.loss_and_grads(&params, steps.into())?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_timed_and_counted() {
        let settings = serde_json::json!({"image_size": 4, "hidden": [3], "data": "procedural"});
        let settings = settings.as_object().cloned().unwrap_or_default();
        let family = paceline_tasks::build("image_mlp", &settings, None).expect("a small family");
        let TaskCost { flop, bytes, seconds } = of(&*family);
        assert_eq!((flop, bytes), (family.cost().flop, family.cost().bytes));
        assert!(flop > 0.0 && bytes > 0.0 && seconds.is_some_and(|seconds| seconds > 0.0));
    }
}
