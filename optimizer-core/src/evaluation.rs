//! Training curves of an optimizer on held-out tasks.
//!
//! ```text
//!  inner step   0 ─────── every ─────── 2·every ─────── … ─────── steps
//!  test split   ●            ●             ●                         ●     mean over the first batches, before the update
//!  train loss   · · · · · · · · · · · · · · · · · · · · · · · · · · ·      every step, on the batch it trains on
//! ```
//!
//! Learned and hand-designed optimizers are measured by this one function. Losses are in the task's own units; a lane
//! that diverges scores [`TaskFamily::normalise`] of NaN, the family's ceiling, from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::inner_loop::InnerLoop;
use crate::optimizer::Optimizer;
use crate::task::{Split, TaskFamily};
use crate::{Error, Purpose, Result, Seed};

/// One training curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Inner steps before whose update the test split was evaluated; the last one is the end of training.
    pub steps: Vec<u32>,
    /// Test loss at those steps, in the task's own units; once diverged, the family's ceiling.
    pub test_loss: Vec<f64>,
    /// Test accuracy at those steps, in `[0, 1]`, for classifiers; 0 once diverged.
    pub test_accuracy: Vec<Option<f64>>,
    /// Training-batch loss at every inner step, before its update: [`CurveSettings::steps`] values in the task's own
    /// units; once diverged, the family's ceiling.
    pub train_loss: Vec<f64>,
}

/// How curves are taken.
#[derive(Clone, Copy, Debug)]
pub struct CurveSettings {
    /// Inner steps of a training; at least 1.
    pub steps: u32,
    /// Inner steps between evaluations; at least 1.
    pub every: u32,
    /// Test batches averaged at each evaluation; at least 1.
    pub batches: u32,
}

/// Trains one task instance a seed from scratch and records its curve: `seeds.len()` of them, in order. One lane is
/// trained after another: on a CPU a lane alone stays in cache, and its numbers do not depend on the others.
/// `optimizer` is bound to one theta lane.
///
/// # Errors
/// [`Error::Setting`] if a setting is 0; [`Error::Task`] if the task fails, [`Error::Lanes`] if it returns other lanes
/// than it was given; [`Error::Cancelled`] once `cancelled` is set; and what [`Optimizer::init`] and
/// [`Optimizer::update`] refuse.
pub fn curves(
    family: &dyn TaskFamily,
    optimizer: &dyn Optimizer,
    seeds: &[Seed],
    settings: &CurveSettings,
    cancelled: &AtomicBool,
) -> Result<Vec<Curve>> {
    let CurveSettings { steps, every, batches } = *settings;
    for (field, value) in [("evaluation.steps", steps), ("evaluation.every", every), ("evaluation.batches", batches)] {
        if value == 0 {
            return Err(Error::setting(field, "must be at least 1", value));
        }
    }
    seeds.iter().map(|seed| curve(family, optimizer, *seed, settings, cancelled)).collect()
}

fn curve(
    family: &dyn TaskFamily,
    optimizer: &dyn Optimizer,
    seed: Seed,
    settings: &CurveSettings,
    cancelled: &AtomicBool,
) -> Result<Curve> {
    let member = family.draw(seed.purpose(Purpose::Member))?;
    let family = member.as_deref().unwrap_or(family);
    let ceiling = family.normalise(f64::NAN);
    let or_ceiling = |loss: f64| if loss.is_finite() { loss } else { ceiling };
    let mut curve = Curve { steps: vec![], test_loss: vec![], test_accuracy: vec![], train_loss: vec![] };
    let mut lane = InnerLoop::begin(family, &[seed], |params| optimizer.init(params, &[settings.steps]))?;
    for step in 0..=settings.steps {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if step % settings.every == 0 || step == settings.steps {
            let (loss, accuracy) = if lane.diverged[0] {
                (ceiling, curve.test_accuracy.last().copied().flatten().map(|_| 0.0))
            } else {
                test(&mut lane, settings.batches)?
            };
            curve.steps.push(step);
            curve.test_loss.push(or_ceiling(loss));
            curve.test_accuracy.push(accuracy);
        }
        if step < settings.steps {
            let (next, losses) = lane.step(optimizer, u64::from(step))?;
            lane = next;
            curve.train_loss.push(or_ceiling(f64::from(losses[0])));
        }
    }
    Ok(curve)
}

/// Mean loss and accuracy of the only lane over the first test batches.
fn test(lane: &mut InnerLoop<'_>, batches: u32) -> Result<(f64, Option<f64>)> {
    let (mut loss, mut accuracy) = (0.0, Some(0.0));
    for batch in 0..batches {
        let scores = lane.tasks.evaluate(&lane.state.params, Split::Test, u64::from(batch))?;
        let score = *scores.first().ok_or(Error::Lanes { what: "evaluation".into(), expected: 1, got: 0 })?;
        loss += f64::from(score.loss);
        accuracy = accuracy.zip(score.accuracy).map(|(sum, one)| sum + f64::from(one));
    }
    let count = f64::from(batches);
    Ok((loss / count, accuracy.map(|sum| sum / count)))
}
