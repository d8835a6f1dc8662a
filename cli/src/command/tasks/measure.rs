//! How long an inner step of a family takes on this machine.

use std::time::Instant;

use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Result, Seed};

/// Steps that are timed; the median is told, which a pause of the machine does not move.
pub(super) const REPEATS: usize = 7;

/// Seconds of the loss and gradient of one lane on one batch, without the optimizer: the median of some, after one that
/// is not timed.
pub(super) fn step_seconds(family: &dyn TaskFamily) -> Result<f64> {
    let mut lanes = family.bind(&[Seed::new(0)])?;
    let params = lanes.init_params()?;
    lanes.loss_and_grads(&params, 0)?;
    let mut seconds = Vec::with_capacity(REPEATS);
    for batch in 1..=REPEATS as u64 {
        let begun = Instant::now();
        lanes.loss_and_grads(&params, batch)?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEATS / 2])
}
