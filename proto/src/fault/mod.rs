//! Everything a coordinator refuses, in one place.
//!
//! A [`Fault`] becomes a `tonic::Status` with google.rpc details (`ErrorInfo` with a stable reason in upper case, domain
//! `paceline`, and what else fits), and tells cause and cure in its message.

mod read;
mod status;

use std::time::Duration;

use crate::model::{RunId, WorkerId};

pub use read::{describe, is_transient, reason, retry_after};

/// Domain of every reason in an `ErrorInfo`.
pub const DOMAIN: &str = "paceline";

/// One field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Dotted path of the field, as in the proto or recipe.
    pub field: String,
    /// What it must satisfy and what was given.
    pub reason: String,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// INVALID_ARGUMENT `FIELD_INVALID`, with a BadRequest naming every field.
    FieldsInvalid(Vec<FieldFault>),
    /// INVALID_ARGUMENT `REQUEST_ID_REUSED`: the same id came with another body.
    RequestIdReused {
        /// The id.
        request_id: String,
    },
    /// INVALID_ARGUMENT `RESULT_REJECTED_NONFINITE`: a number in a result is NaN or infinite.
    ResultNonFinite {
        /// Where in the result.
        field: String,
    },
    /// INVALID_ARGUMENT `RESULT_REJECTED_SHAPE`: a result has the wrong length.
    ResultShape {
        /// Which vector.
        field: String,
        /// Length wanted.
        expected: usize,
        /// Length given.
        got: usize,
    },
    /// INVALID_ARGUMENT `RESULT_REJECTED_HASH`: computed under another theta.
    ResultThetaHash {
        /// Hash of the theta that the lease named.
        expected: String,
        /// Hash given.
        got: String,
    },
    /// NOT_FOUND `RUN_NOT_FOUND`.
    RunNotFound {
        /// The id asked for.
        run: String,
    },
    /// NOT_FOUND `LEASE_NOT_FOUND`: no lease was ever given for that slot of that step.
    LeaseNotFound {
        /// The run.
        run: RunId,
        /// The outer step.
        outer_step: u64,
        /// The slot.
        slot: u32,
    },
    /// PERMISSION_DENIED `LEASE_TOKEN_FOREIGN`: the token is not this lease's.
    LeaseTokenForeign {
        /// The run.
        run: RunId,
        /// The outer step.
        outer_step: u64,
        /// The slot.
        slot: u32,
    },
    /// NOT_FOUND `WORKER_NOT_FOUND`: register first.
    WorkerNotFound {
        /// The worker.
        worker: WorkerId,
    },
    /// NOT_FOUND `CHECKPOINT_NOT_FOUND`.
    CheckpointNotFound {
        /// The run.
        run: RunId,
        /// The step asked for; `None` for the newest.
        outer_step: Option<u64>,
    },
    /// NOT_FOUND `THETA_NOT_FOUND`: that version is not kept.
    ThetaNotFound {
        /// The run.
        run: RunId,
        /// The version asked for.
        version: u64,
    },
    /// FAILED_PRECONDITION `VERSION_UNSUPPORTED`: protocols differ.
    VersionUnsupported {
        /// The worker's protocol.
        theirs: u32,
        /// The coordinator's protocol.
        ours: u32,
    },
    /// FAILED_PRECONDITION `RUN_FINISHED`: the run has ended.
    RunFinished {
        /// The run.
        run: RunId,
        /// How it ended: completed, stopped or failed.
        status: String,
    },
    /// UNAVAILABLE `STORE_READ_ONLY`: the store cannot be written, with RetryInfo.
    StoreReadOnly {
        /// Why.
        reason: String,
    },
    /// UNAVAILABLE `SHUTTING_DOWN`, with RetryInfo.
    ShuttingDown,
    /// UNAVAILABLE `COORDINATOR_DEPOSED`: a newer coordinator has been seen.
    Deposed {
        /// Epoch of this one.
        ours: u64,
        /// Higher epoch seen.
        seen: u64,
    },
    /// RESOURCE_EXHAUSTED `OVERLOADED`, with RetryInfo.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// DATA_LOSS `CHECKPOINT_CORRUPT`: stored bytes fail their checksum.
    CheckpointCorrupt {
        /// The run.
        run: RunId,
        /// The checkpoint.
        outer_step: u64,
        /// What failed.
        reason: String,
    },
    /// INTERNAL `INTERNAL`: a bug.
    Internal {
        /// What was seen.
        reason: String,
    },
}
