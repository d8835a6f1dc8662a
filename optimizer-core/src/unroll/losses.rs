//! Which losses of lanes count, in the range in which tasks are mixed.
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

/// Normalised losses of all lanes that count for the step just trained on `batch`, whose losses before the update are
/// `before`.
pub(super) fn counted(
    family: &dyn TaskFamily,
    inner: &mut InnerLoop<'_>,
    from: LossFrom,
    batch: u64,
    before: &[f32],
) -> Result<Vec<f64>> {
    match from {
        LossFrom::TrainingBatch => all(family, before),
        LossFrom::SameData => all(family, &inner.evaluate(Split::Train, batch)?),
        LossFrom::Train => all(family, &inner.evaluate(Split::Train, FRESH + batch)?),
        LossFrom::InnerValid => all(family, &inner.evaluate(Split::InnerValid, batch)?),
        LossFrom::OuterValid => all(family, &inner.evaluate(Split::OuterValid, batch)?),
    }
}

/// Mean normalised losses of all lanes, as they are now, over fresh batches: of the split named, or of the training
/// split.
pub(super) fn recomputed(
    family: &dyn TaskFamily,
    inner: &mut InnerLoop<'_>,
    from: LossFrom,
    batches: u32,
    cancelled: &AtomicBool,
) -> Result<Vec<f64>> {
    let split = from.split().unwrap_or(Split::Train);
    let mut sums = vec![0.0; inner.diverged.len()];
    for batch in 0..u64::from(batches) {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let losses = all(family, &inner.evaluate(split, FRESH + batch)?)?;
        sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
    }
    sums.iter_mut().for_each(|sum| *sum /= f64::from(batches));
    Ok(sums)
}

pub(super) fn all(family: &dyn TaskFamily, losses: &[f32]) -> Result<Vec<f64>> {
    losses.iter().map(|&loss| normalised(family, loss)).collect()
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
