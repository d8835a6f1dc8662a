//! How a fault looks on the wire: a code, a stable reason, a message that tells cause and cure, and details for programs.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{DOMAIN, Fault};

/// When to try again after a store or a coordinator went away.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// When to try again while a store cannot be written: somebody has to free space first.
const RETRY_STORE: Duration = Duration::from_secs(5);

/// Most field faults spelled out in a message.
const SPELLED_OUT: usize = 8;
/// Most field faults in the details: they travel in a header, and headers have a bound.
const MOST_VIOLATIONS: usize = 48;

impl Fault {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code_and_reason().0
    }

    /// The stable reason, in upper case.
    pub fn reason(&self) -> &'static str {
        self.code_and_reason().1
    }

    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Self::FieldsInvalid(_) => (Code::InvalidArgument, "FIELD_INVALID"),
            Self::RequestIdReused { .. } => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
            Self::ResultNonFinite { .. } => (Code::InvalidArgument, "RESULT_REJECTED_NONFINITE"),
            Self::ResultShape { .. } => (Code::InvalidArgument, "RESULT_REJECTED_SHAPE"),
            Self::ResultThetaHash { .. } => (Code::InvalidArgument, "RESULT_REJECTED_HASH"),
            Self::RunNotFound { .. } => (Code::NotFound, "RUN_NOT_FOUND"),
            Self::LeaseNotFound { .. } => (Code::NotFound, "LEASE_NOT_FOUND"),
            Self::LeaseTokenForeign { .. } => (Code::PermissionDenied, "LEASE_TOKEN_FOREIGN"),
            Self::CredentialMissing => (Code::Unauthenticated, "CREDENTIAL_MISSING"),
            Self::CredentialInvalid { .. } => (Code::Unauthenticated, "CREDENTIAL_INVALID"),
            Self::CredentialExpired { .. } => (Code::Unauthenticated, "CREDENTIAL_EXPIRED"),
            Self::CredentialRevoked { .. } => (Code::Unauthenticated, "CREDENTIAL_REVOKED"),
            Self::CredentialMismatch { .. } => (Code::Unauthenticated, "CREDENTIAL_MISMATCH"),
            Self::CertificateUntrusted { .. } => (Code::Unauthenticated, "CERTIFICATE_UNTRUSTED"),
            Self::CertificateRefused { .. } => (Code::Unauthenticated, "CERTIFICATE_REFUSED"),
            Self::TlsFailed { .. } => (Code::Unauthenticated, "TLS_FAILED"),
            Self::RoleMissing { .. } => (Code::PermissionDenied, "ROLE_MISSING"),
            Self::WorkerForeign { .. } => (Code::PermissionDenied, "WORKER_FOREIGN"),
            Self::TokenNotFound { .. } => (Code::NotFound, "TOKEN_NOT_FOUND"),
            Self::TokenExists { .. } => (Code::AlreadyExists, "TOKEN_EXISTS"),
            Self::MessageTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::WorkerNotFound { .. } => (Code::NotFound, "WORKER_NOT_FOUND"),
            Self::CheckpointNotFound { .. } => (Code::NotFound, "CHECKPOINT_NOT_FOUND"),
            Self::ThetaNotFound { .. } => (Code::NotFound, "THETA_NOT_FOUND"),
            Self::VersionUnsupported { .. } => (Code::FailedPrecondition, "VERSION_UNSUPPORTED"),
            Self::RunFinished { .. } => (Code::FailedPrecondition, "RUN_FINISHED"),
            Self::StoreReadOnly { .. } => (Code::Unavailable, "STORE_READ_ONLY"),
            Self::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
            Self::Deposed { .. } => (Code::Unavailable, "COORDINATOR_DEPOSED"),
            Self::Overloaded { .. } => (Code::ResourceExhausted, "OVERLOADED"),
            Self::CheckpointCorrupt { .. } => (Code::DataLoss, "CHECKPOINT_CORRUPT"),
            Self::Internal { .. } => (Code::Internal, "INTERNAL"),
        }
    }

    /// Everything variable in the message, for programs.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::FieldsInvalid(_) | Self::ShuttingDown | Self::CredentialMissing => Vec::new(),
            Self::CredentialInvalid { reason } => vec![("cause", reason.clone())],
            Self::CredentialExpired { id, holder } | Self::CredentialRevoked { id, holder } => {
                vec![("token", id.clone()), ("holder", holder.clone())]
            }
            Self::CredentialMismatch { certificate, token } => {
                vec![("certificate", certificate.clone()), ("token", token.clone())]
            }
            Self::CertificateUntrusted { reason, cure }
            | Self::CertificateRefused { reason, cure }
            | Self::TlsFailed { reason, cure } => vec![("cause", reason.clone()), ("cure", cure.clone())],
            Self::RoleMissing { method, caller, needed } => {
                vec![("method", method.clone()), ("caller", caller.clone()), ("needed", needed.clone())]
            }
            Self::WorkerForeign { worker, holder } => {
                vec![("worker", worker.to_string()), ("holder", holder.clone())]
            }
            Self::TokenNotFound { token } => vec![("token", token.clone())],
            Self::TokenExists { id } => vec![("token", id.clone())],
            Self::MessageTooLarge { method, largest } => {
                vec![("method", method.clone()), ("largest_bytes", largest.to_string())]
            }
            Self::RequestIdReused { request_id } => vec![("request_id", request_id.clone())],
            Self::ResultNonFinite { field } => vec![("field", field.clone())],
            Self::ResultShape { field, expected, got } => {
                vec![("field", field.clone()), ("expected", expected.to_string()), ("got", got.to_string())]
            }
            Self::ResultThetaHash { expected, got } => vec![("expected", expected.clone()), ("got", got.clone())],
            Self::RunNotFound { run } => vec![("run", run.clone())],
            Self::LeaseNotFound { run, outer_step, slot } | Self::LeaseTokenForeign { run, outer_step, slot } => {
                vec![("run", run.to_string()), ("outer_step", outer_step.to_string()), ("slot", slot.to_string())]
            }
            Self::WorkerNotFound { worker } => vec![("worker", worker.to_string())],
            Self::CheckpointNotFound { run, outer_step } => {
                let step = outer_step.map(|step| ("outer_step", step.to_string()));
                std::iter::once(("run", run.to_string())).chain(step).collect()
            }
            Self::ThetaNotFound { run, version } => vec![("run", run.to_string()), ("version", version.to_string())],
            Self::VersionUnsupported { theirs, ours } => {
                vec![("worker_protocol", theirs.to_string()), ("coordinator_protocol", ours.to_string())]
            }
            Self::RunFinished { run, status } => vec![("run", run.to_string()), ("status", status.clone())],
            Self::StoreReadOnly { reason } | Self::Internal { reason } => vec![("cause", reason.clone())],
            Self::Deposed { ours, seen } => vec![("epoch", ours.to_string()), ("seen_epoch", seen.to_string())],
            Self::Overloaded { retry_after } => vec![("retry_after_ms", retry_after.as_millis().to_string())],
            Self::CheckpointCorrupt { run, outer_step, reason } => {
                vec![("run", run.to_string()), ("outer_step", outer_step.to_string()), ("cause", reason.clone())]
            }
        }
    }

    /// When to try again, for the faults that pass by themselves.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::StoreReadOnly { .. } => Some(RETRY_STORE),
            Self::ShuttingDown | Self::Deposed { .. } => Some(RETRY_SOON),
            Self::Overloaded { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Kind and name of the thing that was not found or is damaged.
    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::RunNotFound { run } => Some(("run", run.clone())),
            Self::LeaseNotFound { run, outer_step, slot } => {
                Some(("lease", format!("runs/{run}/steps/{outer_step}/slots/{slot}")))
            }
            Self::WorkerNotFound { worker } => Some(("worker", worker.to_string())),
            Self::TokenNotFound { token } => Some(("token", token.clone())),
            Self::TokenExists { id } => Some(("token", id.clone())),
            Self::CheckpointNotFound { run, outer_step } => {
                let step = outer_step.map_or_else(|| "newest".into(), |step| step.to_string());
                Some(("checkpoint", format!("runs/{run}/checkpoints/{step}")))
            }
            Self::CheckpointCorrupt { run, outer_step, .. } => {
                Some(("checkpoint", format!("runs/{run}/checkpoints/{outer_step}")))
            }
            Self::ThetaNotFound { run, version } => Some(("theta", format!("runs/{run}/thetas/{version}"))),
            _ => None,
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::FieldsInvalid(faults) => {
                let listed = faults.iter().take(MOST_VIOLATIONS);
                listed.map(|fault| FieldViolation::new(&fault.field, &fault.reason)).collect()
            }
            Self::RequestIdReused { .. } => vec![FieldViolation::new("request_id", "was used with another request")],
            Self::ResultNonFinite { field } => vec![FieldViolation::new(field, "must be finite")],
            Self::ResultShape { field, expected, got } => {
                vec![FieldViolation::new(field, format!("must hold {expected} values, got {got}"))]
            }
            Self::ResultThetaHash { expected, got } => {
                vec![FieldViolation::new("theta_hash", format!("must be {expected}, got {got}"))]
            }
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FieldsInvalid(faults) => {
                f.write_str("the request is not valid: ")?;
                for (index, fault) in faults.iter().take(SPELLED_OUT).enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", fault.field, fault.reason)?;
                }
                match faults.len().saturating_sub(SPELLED_OUT) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Self::RequestIdReused { request_id } => {
                write!(
                    f,
                    "request id {request_id} was used before with another request: draw a new id for a new request"
                )
            }
            Self::ResultNonFinite { field } => {
                write!(f, "result refused: {field} holds NaN or an infinity; workers report diverged lanes as 0")
            }
            Self::ResultShape { field, expected, got } => {
                write!(
                    f,
                    "result refused: {field} must hold {expected} values, got {got}; the worker runs another spec"
                )
            }
            Self::ResultThetaHash { expected, got } => {
                write!(
                    f,
                    "result refused: computed under theta {got}, but the lease named {expected}; pull theta again"
                )
            }
            Self::RunNotFound { run } => write!(f, "no run {run}: see `paceline run list`"),
            Self::LeaseNotFound { run, outer_step, slot } => {
                write!(f, "run {run} never leased slot {slot} of outer step {outer_step}: drop the work and lease anew")
            }
            Self::LeaseTokenForeign { run, outer_step, slot } => {
                write!(f, "the token does not belong to slot {slot} of outer step {outer_step} of run {run}")
            }
            Self::CredentialMissing => f.write_str(
                "this coordinator wants a token and the call shows none: name one with --token-file FILE or PACELINE_TOKEN",
            ),
            Self::CredentialInvalid { reason } => {
                write!(f, "the token is not valid here ({reason}): ask whoever runs the coordinator for one")
            }
            Self::CredentialExpired { id, holder } => {
                write!(f, "token {id} of {holder} has expired: ask whoever runs the coordinator for a new one")
            }
            Self::CredentialRevoked { id, holder } => {
                write!(f, "token {id} of {holder} is revoked: ask whoever runs the coordinator for a new one")
            }
            Self::CredentialMismatch { certificate, token } => write!(
                f,
                "the certificate is {certificate}'s, the token {token}'s: use certificate and token of one holder"
            ),
            Self::CertificateUntrusted { reason, cure } => write!(f, "the coordinator is not trusted: {reason}: {cure}"),
            Self::CertificateRefused { reason, cure } => write!(f, "TLS: {reason}: {cure}"),
            Self::TlsFailed { reason, cure } => write!(f, "TLS failed: {reason}: {cure}"),
            Self::RoleMissing { method, caller, needed } => {
                write!(f, "{caller} may not call {method}, which is for {needed}: use a token with that role")
            }
            Self::WorkerForeign { worker, holder } => write!(
                f,
                "worker id {worker} is not {holder}'s: name the worker {holder} or {holder}.SOMETHING with --name, or leave \
                 --name out"
            ),
            Self::TokenNotFound { token } => write!(f, "no live token of {token}: see `paceline token list`"),
            Self::TokenExists { id } => write!(f, "another token has the id {id}: draw a new one"),
            Self::MessageTooLarge { method, largest } => write!(
                f,
                "{method} takes messages of {largest} bytes at most, as they travel and in memory: send less, and run the \
                 same version everywhere"
            ),
            Self::WorkerNotFound { worker } => write!(f, "worker {worker} is not known here: register first"),
            Self::CheckpointNotFound { run, outer_step: Some(step) } => {
                write!(f, "run {run} keeps no checkpoint of outer step {step}: see `paceline checkpoint list {run}`")
            }
            Self::CheckpointNotFound { run, outer_step: None } => write!(f, "run {run} has no checkpoint yet"),
            Self::ThetaNotFound { run, version } => {
                write!(f, "run {run} no longer keeps theta version {version}: lease anew")
            }
            Self::VersionUnsupported { theirs, ours } => write!(
                f,
                "the worker speaks protocol {theirs}, this coordinator {ours}: run both from the same version of paceline"
            ),
            Self::RunFinished { run, status } => write!(f, "run {run} has ended ({status}): submit a new one"),
            Self::StoreReadOnly { reason } => {
                write!(
                    f,
                    "the coordinator's store cannot be written ({reason}): free space or mend the disk, and it goes on by \
                     itself"
                )
            }
            Self::ShuttingDown => f.write_str("the coordinator is shutting down: try again when it is back"),
            Self::Deposed { ours, seen } => write!(
                f,
                "a newer coordinator (epoch {seen}) has been seen, this one (epoch {ours}) steps down: reconnect"
            ),
            Self::Overloaded { retry_after } => {
                write!(f, "the coordinator is overloaded: try again in {} ms", retry_after.as_millis())
            }
            Self::CheckpointCorrupt { run, outer_step, reason } => write!(
                f,
                "checkpoint {outer_step} of run {run} is damaged in the store ({reason}): pull an earlier one and check the disk"
            ),
            Self::Internal { reason } => write!(f, "bug in the coordinator: {reason}; please report it with its log"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::with_error_info(
            fault.reason(),
            DOMAIN,
            fault.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<HashMap<_, _>>(),
        );
        let violations = fault.violations();
        if !violations.is_empty() {
            details.set_bad_request(violations);
        }
        if let Some((kind, name)) = fault.resource() {
            details.set_resource_info(kind, name, "", fault.to_string());
        }
        if fault.code() == Code::FailedPrecondition {
            let subject = fault.metadata().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
            details.add_precondition_failure_violation(fault.reason(), subject.join(" "), fault.to_string());
        }
        if let Some(delay) = fault.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(fault.code(), fault.to_string(), details)
    }
}
