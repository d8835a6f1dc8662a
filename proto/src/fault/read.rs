//! What a client makes of a refusal.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::DOMAIN;

/// The stable reason a coordinator gave, for example `RUN_NOT_FOUND`; `None` if the status is not a coordinator's.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == DOMAIN).map(|info| info.reason)
}

/// When the coordinator said to try again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Whether the same call may succeed later: the coordinator is away, busy or slow, or the connection broke.
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => true,
        // A message that is too large is so at the next try.
        Code::ResourceExhausted => reason(status).as_deref() != Some("MESSAGE_TOO_LARGE"),
        // A broken connection surfaces under these codes; only then is there a local cause and no reason.
        Code::Unknown | Code::Internal | Code::Cancelled => reason(status).is_none() && status.source().is_some(),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// A code as gRPC writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// For a person: the message on one line with its cause, then a line for each wrong field.
pub fn describe(status: &Status) -> String {
    let mut text = match reason(status) {
        Some(reason) => format!("{} ({reason})", status.message()),
        None => format!("{} ({})", causes(status), status.code()),
    };
    if let Some(request) = status.get_details_bad_request() {
        for violation in request.field_violations {
            text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
        }
    }
    text
}

/// The message and what lies beneath it, without saying anything twice.
fn causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = if text.is_empty() { message } else { format!("{text}: {message}") };
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FieldFault};
    use crate::model::{RunId, WorkerId};

    fn run() -> RunId {
        "velo-0a1b2c3d".parse().unwrap()
    }

    fn every_fault() -> Vec<Fault> {
        let worker: WorkerId = "w1".parse().unwrap();
        let field = String::from("seed_coded.fresh");
        vec![
            Fault::FieldsInvalid(vec![FieldFault { field: "spec.name".into(), reason: "must not be empty".into() }]),
            Fault::RequestIdReused { request_id: "4f".into() },
            Fault::ResultNonFinite { field: field.clone() },
            Fault::ResultShape { field, expected: 4, got: 3 },
            Fault::ResultThetaHash { expected: "aa".into(), got: "bb".into() },
            Fault::RunNotFound { run: "gone".into() },
            Fault::LeaseNotFound { run: run(), outer_step: 3, slot: 1 },
            Fault::LeaseTokenForeign { run: run(), outer_step: 3, slot: 1 },
            Fault::CredentialMissing,
            Fault::CredentialInvalid { reason: "unknown id".into() },
            Fault::CredentialExpired { id: "1f2e3d4c".into(), holder: "worker/gpu-7".into() },
            Fault::CredentialRevoked { id: "1f2e3d4c".into(), holder: "worker/gpu-7".into() },
            Fault::CredentialMismatch { certificate: "worker/gpu-7".into(), token: "worker/gpu-8".into() },
            Fault::CertificateUntrusted { reason: "expired".into(), cure: "renew it".into() },
            Fault::CertificateRefused { reason: "expired".into(), cure: "renew it".into() },
            Fault::TlsFailed { reason: "no TLS".into(), cure: "write http://".into() },
            Fault::RoleMissing {
                method: "RunService/StopRun".into(),
                caller: "worker/gpu-7".into(),
                needed: "user or operator".into(),
            },
            Fault::WorkerForeign { worker: worker.clone(), holder: "gpu-7".into() },
            Fault::TokenNotFound { token: "1f2e3d4c".into() },
            Fault::TokenExists { id: "1f2e3d4c".into() },
            Fault::MessageTooLarge { method: "RunService/GetRun".into(), largest: 65_536 },
            Fault::WorkerNotFound { worker },
            Fault::CheckpointNotFound { run: run(), outer_step: None },
            Fault::CheckpointNotFound { run: run(), outer_step: Some(7) },
            Fault::ThetaNotFound { run: run(), version: 9 },
            Fault::VersionUnsupported { theirs: 1, ours: 2 },
            Fault::RunFinished { run: run(), status: "completed".into() },
            Fault::StoreReadOnly { reason: "no space left".into() },
            Fault::ShuttingDown,
            Fault::Deposed { ours: 3, seen: 4 },
            Fault::Overloaded { retry_after: Duration::from_millis(750) },
            Fault::CheckpointCorrupt { run: run(), outer_step: 7, reason: "crc32c".into() },
            Fault::Internal { reason: "two leases, one slot".into() },
        ]
    }

    #[test]
    fn every_fault_keeps_its_meaning_through_the_wire() {
        for fault in every_fault() {
            // As a client sees it: headers and back.
            let sent = Status::from(fault.clone());
            let headers = sent.clone().into_http::<()>().into_parts().0.headers;
            let status = Status::from_header_map(&headers).expect("a status has headers");
            assert_eq!(status.code(), fault.code(), "{fault}");
            assert_eq!(reason(&status).as_deref(), Some(fault.reason()), "{fault}");
            assert_eq!(status.message(), fault.to_string());
            let info = status.get_details_error_info().unwrap();
            assert!(info.reason.len() <= 63 && info.domain == DOMAIN);
            let text = describe(&status);
            for (key, value) in info.metadata {
                assert!(text.contains(&value), "{key}={value} is missing in {text:?}");
            }
            let details = [
                status.get_details_bad_request().is_some(),
                status.get_details_resource_info().is_some(),
                status.get_details_precondition_failure().is_some(),
                status.get_details_retry_info().is_some(),
            ];
            let wanted = match fault.code() {
                Code::InvalidArgument => [true, false, false, false],
                Code::NotFound | Code::AlreadyExists | Code::DataLoss => [false, true, false, false],
                Code::FailedPrecondition => [false, false, true, false],
                Code::ResourceExhausted if fault.reason() == "MESSAGE_TOO_LARGE" => [false; 4],
                Code::Unavailable | Code::ResourceExhausted => [false, false, false, true],
                _ => [false; 4],
            };
            assert_eq!(details, wanted, "{fault}");
            assert_eq!(is_transient(&status), wanted[3], "{fault}");
        }
    }

    #[test]
    fn reasons_are_unique() {
        let mut seen = std::collections::HashMap::new();
        for fault in every_fault() {
            let kind = std::mem::discriminant(&fault);
            assert_eq!(*seen.entry(fault.reason()).or_insert(kind), kind, "{}", fault.reason());
        }
    }

    #[test]
    fn the_page_of_refusals_is_complete() {
        let page = include_str!("../../../docs/errors.md");
        let mut told: Vec<(String, String)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" | `"))
            .filter_map(|(code, rest)| Some((code.replace('_', "").to_lowercase(), rest.split_once('`')?.0.to_owned())))
            .collect();
        let mut known: Vec<(String, String)> = every_fault()
            .iter()
            .map(|fault| (format!("{:?}", fault.code()).to_lowercase(), fault.reason().to_owned()))
            .collect();
        for list in [&mut told, &mut known] {
            list.sort();
            list.dedup();
        }
        assert_eq!(told, known, "docs/errors.md and the code differ");
    }

    #[test]
    fn retry_after_is_what_the_coordinator_said() {
        let status = Status::from(Fault::Overloaded { retry_after: Duration::from_millis(750) });
        assert_eq!(retry_after(&status), Some(Duration::from_millis(750)));
        assert_eq!(retry_after(&Status::from(Fault::RunNotFound { run: "x".into() })), None);
    }

    #[test]
    fn describe_names_every_field() {
        let fault = |field: &str| FieldFault { field: field.into(), reason: "must be at least 1, got 0".into() };
        let faults: Vec<_> = (0..20).map(|index| fault(&format!("tasks[{index}].weight"))).collect();
        let text = describe(&Fault::FieldsInvalid(faults).into());
        assert!(text.lines().next().unwrap().ends_with("and 12 more (FIELD_INVALID)"), "{text}");
        assert_eq!(text.lines().count(), 21, "{text}");
        assert_eq!(text.lines().nth(20).unwrap(), "  tasks[19].weight: must be at least 1, got 0");
    }

    #[test]
    fn foreign_statuses_have_no_reason_and_are_not_retried_blindly() {
        let status = Status::internal("proxy says no");
        assert_eq!((reason(&status), is_transient(&status)), (None, false));
        assert_eq!(describe(&status), "proxy says no (Internal error)");
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert!(is_transient(&broken), "{broken:?}");
    }
}
