//! Where a run stands.

use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::Variance;

use super::{EntryProgress, RunId, RunSpec, TaskCost};

/// Life of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Leases are given when workers ask.
    Running,
    /// No new leases; results of outstanding ones are kept.
    Paused,
    /// All outer steps are folded.
    Completed,
    /// Ended early by a person.
    Stopped,
    /// Cannot go on.
    Failed {
        /// Why, in words for a person.
        reason: String,
    },
}

impl RunStatus {
    /// Whether the run will never lease again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Completed | Self::Stopped | Self::Failed { .. } => true,
        }
    }
}

/// What became of the leases of a run; see [`Ledger::balances`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Leases given.
    pub issued: u64,
    /// Results folded or waiting to be.
    pub accepted: u64,
    /// Slots that another lease filled first.
    pub superseded: u64,
    /// Deadlines that passed without a result.
    pub expired: u64,
    /// Handed back by draining workers.
    pub released: u64,
    /// Results refused, failures included.
    pub rejected: u64,
    /// Neither of the above yet.
    pub outstanding: u64,
}

impl Ledger {
    /// LG-1: issued = accepted + superseded + expired + released + rejected + outstanding.
    pub fn balances(&self) -> bool {
        self.issued == self.accepted + self.superseded + self.expired + self.released + self.rejected + self.outstanding
    }
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// The run.
    pub run: RunId,
    /// What it is.
    pub spec: RunSpec,
    /// Its life.
    pub status: RunStatus,
    /// Why it waits, in words; empty when it just runs.
    pub reason: String,
    /// Folded outer steps; also the version of theta.
    pub outer_step: u64,
    /// Mean normalised meta-loss of the last folded step; `None` before the first.
    pub meta_loss: Option<f64>,
    /// Euclidean norm of the last meta-gradient before clipping; `None` before the first.
    pub grad_norm: Option<f64>,
    /// How noisy the last meta-gradient was.
    pub variance: Variance,
    /// Inner steps trained so far, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite so far.
    pub diverged_lanes: u64,
    /// Names the current theta.
    pub theta_hash: ThetaHash,
    /// Outer step of the newest checkpoint.
    pub durable_checkpoint: u64,
    /// Live workers known to the coordinator.
    pub workers: u32,
    /// What became of the leases.
    pub ledger: Ledger,
    /// What each entry of the mixture costs, in order; empty if whoever submitted the run did not say.
    pub costs: Vec<TaskCost>,
    /// What each entry of the mixture has brought, in order; empty before the first folded step.
    pub entries: Vec<EntryProgress>,
}

/// One folded outer step of a run, as it is kept for people.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedStep {
    /// Folded outer steps, this one among them; also the version of theta it made.
    pub outer_step: u64,
    /// When it was folded, in milliseconds since 1970.
    pub folded_at_ms: u64,
    /// Mean normalised meta-loss.
    pub meta_loss: f64,
    /// Euclidean norm of the meta-gradient before clipping.
    pub grad_norm: f64,
    /// How noisy the meta-gradient was.
    pub variance: Variance,
    /// Euclidean distance that theta moved.
    pub update_norm: f64,
    /// Inner steps trained in the run up to here, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite up to here.
    pub diverged_lanes: u64,
    /// Mean meta-loss of each entry of the mixture, in order; `None` where it had no slot in the step.
    pub entry_losses: Vec<Option<f64>>,
}

/// A person's wish for a run.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateRequest {
    /// What the run is.
    pub spec: RunSpec,
    /// What each entry of the mixture costs, in order; empty if it is not known.
    pub costs: Vec<TaskCost>,
    /// Makes the request safe to repeat: the same id and spec answer the run created first.
    pub request_id: String,
    /// Whether only the spec is checked and nothing is created.
    pub validate_only: bool,
    /// Whether the newest unfinished run with an equal spec is continued instead.
    pub resume_unfinished: bool,
}
