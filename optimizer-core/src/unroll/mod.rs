//! Inner loops under antithetic pairs.
use crate::estimator::{EstimatorConfig, PairReport};
use crate::learned::LearnedOptimizer;
use crate::optimizer::OptState;
use crate::schedule::{Trajectory, Window};
use crate::task::TaskFamily;
use crate::{Result, Seed, Theta};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
/// What every pair of a run shares.
#[derive(Clone, Copy, Debug)]
pub struct UnrollContext<'a> {
    /// Root seed of the run.
    pub run: Seed,
    /// The learned optimizer.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// The estimator.
    pub estimator: &'a EstimatorConfig,
    /// The mixture's families, in order.
    pub families: &'a [Arc<dyn TaskFamily>],
    /// Checked between inner steps.
    pub cancelled: &'a AtomicBool,
    /// Counts inner steps of all lanes, for progress displays only.
    pub progress: &'a AtomicU64,
}
/// One pair of one slot of one outer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairId {
    /// Outer step.
    pub outer_step: u64,
    /// Slot.
    pub slot: u32,
    /// Pair within the slot.
    pub pair: u32,
}
/// What running a pair gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairOutcome {
    /// The report.
    pub report: PairReport,
    /// Inner steps trained, both lanes.
    pub inner_steps: u64,
    /// Lanes that are non-finite at the end.
    pub diverged_lanes: u32,
}
/// The two lanes of a pair between two windows of PES.
#[derive(Clone, Debug, PartialEq)]
pub struct Particle {
    /// Where it stands.
    pub trajectory: Trajectory,
    /// State of both lanes: + then −.
    pub state: OptState,
}
/// Runs a whole antithetic unroll (Full ES).
///
/// # Errors
/// [`crate::Error::Task`], [`crate::Error::Cancelled`].
pub fn full_es_pair(
    _context: &UnrollContext<'_>,
    _theta: &Theta,
    _pair: PairId,
    _window: &Window,
) -> Result<PairOutcome> {
    unimplemented!()
}
/// Runs one window of PES. `particle` is what the previous window of this trajectory returned; `None` begins it, or, if
/// `window.current.inner_step > 0`, is rebuilt by running the trajectory's earlier windows again under `theta_of(outer step)`.
///
/// # Errors
/// [`crate::Error::Task`], [`crate::Error::Cancelled`], or what `theta_of` returns.
pub fn pes_pair(
    _context: &UnrollContext<'_>,
    _theta: &Theta,
    _pair: PairId,
    _window: &Window,
    _particle: Option<Particle>,
    _theta_of: &mut dyn FnMut(u64) -> Result<Theta>,
) -> Result<(PairOutcome, Particle)> {
    unimplemented!()
}
