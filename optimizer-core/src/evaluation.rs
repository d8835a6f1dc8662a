//! Training curves of an optimizer on held-out tasks.
use crate::optimizer::Optimizer;
use crate::task::TaskFamily;
use crate::{Result, Seed};
use std::sync::atomic::AtomicBool;
/// One training curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Inner steps at which the test split was evaluated (before that step's update).
    pub steps: Vec<u32>,
    /// Test loss at those steps.
    pub test_loss: Vec<f64>,
    /// Test accuracy at those steps, for classifiers.
    pub test_accuracy: Vec<Option<f64>>,
    /// Training-batch loss at every inner step.
    pub train_loss: Vec<f64>,
}
/// How curves are taken.
#[derive(Clone, Copy, Debug)]
pub struct CurveSettings {
    /// Inner steps.
    pub steps: u32,
    /// Inner steps between evaluations.
    pub every: u32,
    /// Test batches averaged at each evaluation.
    pub batches: u32,
}
/// Trains one task instance a seed from scratch and records its curve. A lane that diverges records the family's ceiling.
///
/// # Errors
/// [`crate::Error::Task`], [`crate::Error::Cancelled`].
pub fn curves(
    _family: &dyn TaskFamily,
    _optimizer: &dyn Optimizer,
    _seeds: &[Seed],
    _settings: &CurveSettings,
    _cancelled: &AtomicBool,
) -> Result<Vec<Curve>> {
    unimplemented!()
}
