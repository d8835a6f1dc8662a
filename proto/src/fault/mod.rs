//! Everything a coordinator refuses, in one place.
//!
//! A [`Fault`] becomes a `tonic::Status` with google.rpc details (`ErrorInfo` with a stable reason in upper case, domain
//! `paceline`, and what else fits), and tells cause and cure in its message.

mod read;
mod status;

use std::time::Duration;

use crate::model::{RunId, WorkerId};

pub use read::{code_name, describe, is_transient, reason, retry_after};

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
    /// UNAUTHENTICATED `CREDENTIAL_MISSING`: the call shows no token, and no certificate that names its holder.
    CredentialMissing,
    /// UNAUTHENTICATED `CREDENTIAL_INVALID`: what the call shows is no token known here.
    CredentialInvalid {
        /// What is wrong with it, never the token itself.
        reason: String,
    },
    /// UNAUTHENTICATED `CREDENTIAL_EXPIRED`.
    CredentialExpired {
        /// The token's id.
        id: String,
        /// Its holder.
        holder: String,
    },
    /// UNAUTHENTICATED `CREDENTIAL_REVOKED`.
    CredentialRevoked {
        /// The token's id.
        id: String,
        /// Its holder.
        holder: String,
    },
    /// UNAUTHENTICATED `CREDENTIAL_MISMATCH`: the token is another holder's than the certificate.
    CredentialMismatch {
        /// Role and name in the certificate.
        certificate: String,
        /// Role and name of the token.
        token: String,
    },
    /// UNAUTHENTICATED `CERTIFICATE_UNTRUSTED`: the client does not believe the coordinator's certificate.
    CertificateUntrusted {
        /// Why not.
        reason: String,
        /// What to do.
        cure: String,
    },
    /// UNAUTHENTICATED `CERTIFICATE_REFUSED`: the coordinator does not take the client's certificate.
    CertificateRefused {
        /// Why not.
        reason: String,
        /// What to do.
        cure: String,
    },
    /// UNAUTHENTICATED `TLS_FAILED`: TLS came to nothing for another reason.
    TlsFailed {
        /// Why.
        reason: String,
        /// What to do.
        cure: String,
    },
    /// PERMISSION_DENIED `ROLE_MISSING`: known, but not allowed to do this.
    RoleMissing {
        /// The method called.
        method: String,
        /// Role and name of the caller.
        caller: String,
        /// Roles that may.
        needed: String,
    },
    /// PERMISSION_DENIED `WORKER_FOREIGN`: a worker's id that is not the caller's.
    WorkerForeign {
        /// The id.
        worker: WorkerId,
        /// The caller's name.
        holder: String,
    },
    /// NOT_FOUND `TOKEN_NOT_FOUND`.
    TokenNotFound {
        /// What was asked for: an id, or a worker's name.
        token: String,
    },
    /// ALREADY_EXISTS `TOKEN_EXISTS`: another token has that id.
    TokenExists {
        /// The id.
        id: String,
    },
    /// RESOURCE_EXHAUSTED `MESSAGE_TOO_LARGE`: as it travels or decoded. The same message never fits, so no RetryInfo.
    MessageTooLarge {
        /// The method called.
        method: String,
        /// Largest message it takes, in bytes.
        largest: usize,
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
