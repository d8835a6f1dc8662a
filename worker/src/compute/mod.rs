//! From a lease to a result.
//!
//! ```text
//!              ┌──────── supply ◄── (the loop pulls it) ◄──┐
//!              ▼                                           │
//!  admit ───► run ─► executor threads ──┬─► Missing: this version of theta
//!                    some pairs each    └─► Computed
//! ```
//!
//! A lost trajectory is run again window by window, and each window asks for its own version of theta: so a worker never
//! holds all of them at a time, however long ago the trajectory began.
//!
//! The split keeps the network out of here and the mathematics out of the lease loop.

mod engine;
mod particle_cache;
mod pool;
mod run_state;
mod theta_cache;

use std::future::Future;

use paceline_optimizer_core::ThetaHash;
use paceline_proto::model::{Holdings, Lease, ResultBody, RunId};

use crate::held::LeaseCancel;

pub(crate) use engine::Engine;
pub use pool::{Panicked, Pool};

/// What turns leases into results.
pub(crate) trait Compute: Send {
    /// Takes in what the lease brought: spec and theta.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if the lease cannot be computed here.
    fn admit(&mut self, lease: &Lease) -> Result<(), ComputeError>;

    /// Takes in one version of theta, little-endian f32.
    ///
    /// # Errors
    /// [`ComputeError::Failed`] if it is not one of this run.
    fn supply(&mut self, run: &RunId, version: u64, theta: &[u8]) -> Result<(), ComputeError>;

    /// Computes an admitted lease as far as the thetas at hand reach. Where one is missing, supply it and call again: what
    /// was computed is not lost. Ends soon after `cancel`.
    ///
    /// # Errors
    /// [`ComputeError`].
    fn run(
        &mut self,
        lease: &Lease,
        cancel: &LeaseCancel,
    ) -> impl Future<Output = Result<Progress, ComputeError>> + Send;

    /// What is held of each run, oldest use first.
    fn holdings(&self) -> Vec<Holdings>;

    /// Forgets the trajectories of a slot: this worker no longer knows where they stand.
    fn forget(&mut self, run: &RunId, slot: u32);
}

/// How far a computation came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress {
    /// To the end.
    Computed(Computed),
    /// To where this version of theta is needed.
    Missing(u64),
}

/// A computed lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Computed {
    /// The theta that was used.
    pub(crate) theta_hash: ThetaHash,
    /// The result.
    pub(crate) body: ResultBody,
    /// Inner steps trained, all lanes.
    pub(crate) inner_steps: u64,
    /// Lanes that ended non-finite.
    pub(crate) diverged_lanes: u32,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ComputeError {
    /// The lease was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// It cannot be computed here.
    #[error("{0}")]
    Failed(String),
}

impl ComputeError {
    /// It cannot be computed here, for this reason.
    pub(crate) fn failed(reason: impl std::fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}
