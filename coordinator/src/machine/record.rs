//! What a coordinator writes down. Applied in order, records rebuild every run: the store always holds a prefix of the
//! machine's history.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::{Contribution, StepSummary};
use paceline_proto::model::{
    CheckpointInfo, Evaluation, FoldedStep, Ledger, RunId, RunSpec, RunStatus, TaskCost, Token, WorkerId,
};

use super::progress::MixtureProgress;

/// Number of a run in order of creation.
pub type RunOrder = u64;

/// One fact to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A run was created.
    Run(Arc<RunRecord>),
    /// Where a run stands now.
    Standing(RunOrder, Standing),
    /// How far the entries of a run's mixture have come.
    Progress(RunOrder, MixtureProgress),
    /// An outer step was folded.
    Step(RunOrder, FoldedStep),
    /// A lease was given or changed.
    Lease(RunOrder, LeaseRecord),
    /// A result was accepted.
    Result {
        /// The run.
        run: RunOrder,
        /// The outer step.
        outer_step: u64,
        /// The result.
        contribution: Arc<Contribution>,
    },
    /// A checkpoint was made.
    Checkpoint {
        /// The run.
        run: RunOrder,
        /// What is known of it.
        info: CheckpointInfo,
        /// The file.
        bytes: Bytes,
    },
    /// A checkpoint was evaluated, in place of an earlier evaluation of it.
    Evaluation(RunOrder, Arc<Evaluation>),
    /// An evaluation is kept no more.
    DropEvaluation {
        /// The run.
        run: RunOrder,
        /// Its checkpoint's outer step.
        outer_step: u64,
    },
    /// A checkpoint is needed no more.
    DropCheckpoint {
        /// The run.
        run: RunOrder,
        /// Its outer step.
        outer_step: u64,
    },
    /// Results of earlier steps are needed no more.
    DropResults {
        /// The run.
        run: RunOrder,
        /// First step to keep.
        before: u64,
    },
    /// Leases of earlier steps are needed no more.
    DropLeases {
        /// The run.
        run: RunOrder,
        /// First step to keep.
        before: u64,
    },
}

/// What never changes in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Place in order of creation.
    pub order: RunOrder,
    /// Its id.
    pub run: RunId,
    /// What it is.
    pub spec: RunSpec,
    /// What each entry of its mixture costs; empty if that is not known.
    pub costs: Vec<TaskCost>,
    /// The request that made it; empty for none.
    pub request_id: String,
    /// Values in theta (D).
    pub theta_size: usize,
}

/// What changes in a run, small enough to be written with every event.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its life.
    pub status: RunStatus,
    /// Folded outer steps.
    pub outer_step: u64,
    /// Names the theta of that version.
    pub theta_hash: ThetaHash,
    /// What the last folded step looked like.
    pub last: Option<StepSummary>,
    /// Inner steps trained so far.
    pub inner_steps: u64,
    /// Lanes that ended non-finite so far.
    pub diverged_lanes: u64,
    /// What became of the leases.
    pub ledger: Ledger,
    /// First outer step whose results are still stored.
    pub journal_from: u64,
}

/// What became of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Its worker is at it.
    Held,
    /// Its result fills the slot; the digest knows an equal repeat.
    Accepted {
        /// SHA-256 of the result.
        digest: [u8; 32],
    },
    /// Another lease filled the slot.
    Superseded,
    /// Its deadline passed.
    Expired,
    /// Its worker handed it back.
    Released,
    /// Its result was refused.
    Rejected,
    /// Its worker could not compute it.
    Failed,
}

/// A lease as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseRecord {
    /// Proves it.
    pub token: Token,
    /// Its outer step.
    pub outer_step: u64,
    /// Its slot.
    pub slot: u32,
    /// 1 for the first lease of the slot.
    pub attempt: u32,
    /// Who got it.
    pub worker: WorkerId,
    /// The theta it names.
    pub theta_hash: ThetaHash,
    /// What became of it.
    pub state: LeaseState,
}

/// A run as read back from the store.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// What never changes.
    pub record: Arc<RunRecord>,
    /// Where it stood.
    pub standing: Standing,
    /// How far the entries of its mixture had come.
    pub progress: MixtureProgress,
    /// Leases, oldest step first.
    pub leases: Vec<LeaseRecord>,
    /// Results by outer step, from `standing.journal_from`; those of the current step last.
    pub results: Vec<(u64, Arc<Contribution>)>,
    /// Checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Outer steps of the checkpoints whose evaluations are kept.
    pub evaluations: BTreeSet<u64>,
}
