//! Which losses of a pair count, in the range in which tasks are mixed.
//!
//! ```text
//!  weights t ─ training batch t ─► loss before ─► update ─► weights t+1 ─┬─ training batch t ─► same data
//!                                  (free)                                └─ batch t of a split ─► held out
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use crate::estimator::LossFrom;
use crate::inner_loop::InnerLoop;
use crate::task::{Split, TaskFamily};
use crate::{Error, Result};

/// First of the batches that no inner step trains on: beyond every horizon, and not so far that [`crate::Seed::fold_in`]
/// would see its top bits only, where it tells words apart no longer.
const FRESH: u64 = 1 << 40;

/// Normalised losses of both lanes that count for the step just trained on `batch`, whose losses before the update are
/// `before`.
pub(super) fn counted(
    family: &dyn TaskFamily,
    inner: &mut InnerLoop<'_>,
    from: LossFrom,
    batch: u64,
    before: &[f32],
) -> Result<[f64; 2]> {
    match from {
        LossFrom::TrainingBatch => both(family, before),
        LossFrom::SameData => both(family, &inner.evaluate(Split::Train, batch)?),
        LossFrom::Train => both(family, &inner.evaluate(Split::Train, FRESH + batch)?),
        LossFrom::InnerValid => both(family, &inner.evaluate(Split::InnerValid, batch)?),
        LossFrom::OuterValid => both(family, &inner.evaluate(Split::OuterValid, batch)?),
    }
}

/// Mean normalised losses of both lanes, as they are now, over fresh batches: of the split named, or of the training
/// split.
pub(super) fn recomputed(
    family: &dyn TaskFamily,
    inner: &mut InnerLoop<'_>,
    from: LossFrom,
    batches: u32,
    cancelled: &AtomicBool,
) -> Result<[f64; 2]> {
    let split = from.split().unwrap_or(Split::Train);
    let mut sums = [0.0; 2];
    for batch in 0..u64::from(batches) {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let losses = both(family, &inner.evaluate(split, FRESH + batch)?)?;
        sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
    }
    Ok(sums.map(|sum| sum / f64::from(batches)))
}

pub(super) fn both(family: &dyn TaskFamily, losses: &[f32]) -> Result<[f64; 2]> {
    Ok([normalised(family, losses[0])?, normalised(family, losses[1])?])
}

/// The loss in the range in which tasks are mixed; NaN gives the family's ceiling.
fn normalised(family: &dyn TaskFamily, loss: f32) -> Result<f64> {
    let value = family.normalise(f64::from(loss));
    if value.is_finite() {
        return Ok(value);
    }
    let reason = format!("normalise gave {value} for a loss of {loss}; it must be finite for every input");
    Err(Error::Task { family: family.name().into(), reason })
}
