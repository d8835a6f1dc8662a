//! Something else than the inner loop of this crate that trains lanes: a device.
//!
//! ```text
//!  pair 0: lanes + −  ┐                                     ┌ lane 0: losses ┐
//!  pair 1: lanes + −  ├─► one state ─► LaneTrainer::train ─► ┤ …             ├─► traces, reports, particles as ever
//!  pair 2: lanes + −  ┘    [2 · pairs]                      └ lane 5: losses ┘
//!  theta, ε of each pair ──────────┘ (told, not made)
//! ```
//!
//! Only the steps are the trainer's, and the thetas of the lanes, if it can make them: what is trained, when a trajectory is replaced and what enters a report is decided
//! as for the CPU. Losses that need a batch of their own are the CPU's affair, so [`LossFrom::TrainingBatch`] is the only
//! source of losses known here.

use crate::estimator::LossFrom;
use crate::learned::LearnedOptimizer;
use crate::optimizer::OptState;
use crate::perturbation::Antithetic;
use crate::task::TaskFamily;
use crate::{Error, Result, Seed};

/// Lanes to be trained together.
#[derive(Debug)]
pub struct Training<'a> {
    /// The family of all lanes.
    pub family: &'a dyn TaskFamily,
    /// The learned optimizer.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// What it is under, one lane a lane of parameters.
    pub thetas: &'a Antithetic,
    /// The task of each lane; lanes 2i and 2i + 1 have the same.
    pub seeds: &'a [Seed],
    /// Training batch of the first step; each step takes the next.
    pub first_batch: u64,
    /// Inner steps.
    pub steps: u32,
}

/// Trains lanes as the inner loop of this crate does, up to rounding.
pub trait LaneTrainer: Send + Sync + std::fmt::Debug {
    /// Whether it knows this task and this optimizer.
    ///
    /// # Errors
    /// What it does not know, for people.
    fn knows(&self, family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer) -> Result<(), String>;

    /// Trains all lanes and returns their losses before each update, `[lanes, steps]`; NaN from the first step on that was
    /// not finite. Such a lane is marked in `diverged`, and its parameters and slots are set to 0; a lane that is marked
    /// already stays as it is. `state` counts the steps.
    ///
    /// # Errors
    /// [`Error::Task`] if they cannot be computed, [`Error::Cancelled`].
    fn train(&self, training: &Training<'_>, state: &mut OptState, diverged: &mut [bool]) -> Result<Vec<f32>>;
}

/// Whether losses of this kind come with the training itself.
///
/// # Errors
/// [`Error::Setting`] if they need batches of their own.
pub fn check_losses(loss_from: LossFrom) -> Result<()> {
    match loss_from {
        LossFrom::TrainingBatch => Ok(()),
        other => {
            let reason = "must be training_batch for lanes that a device trains";
            Err(Error::setting("estimator.loss_from", reason, format!("{other:?}")))
        }
    }
}
