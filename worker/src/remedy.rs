//! What a worker does about a call that failed: a pure function of the status.
//!
//! ```text
//!  no answer, busy, restarting ─► Retry      (the connection or the coordinator will come back)
//!  WORKER_NOT_FOUND            ─► Register   (the coordinator restarted and forgot us)
//!  VERSION_UNSUPPORTED         ─► Stop       (no retry will help)
//!  everything else             ─► Refuse     (about this call only; the caller decides)
//! ```

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What to do about a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Ask again, not before `after` if the coordinator named a time.
    Retry {
        /// The coordinator's own wish.
        after: Option<Duration>,
    },
    /// Register, then ask again.
    Register,
    /// This very call will never succeed.
    Refuse,
    /// No call of this worker will ever succeed.
    Stop,
}

/// The stable reason in upper case, if the answer came from a Paceline coordinator.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// What to do about `status`.
pub(crate) fn remedy(status: &Status) -> Remedy {
    let reason = reason(status);
    match reason.as_deref() {
        Some("VERSION_UNSUPPORTED") => return Remedy::Stop,
        Some("WORKER_NOT_FOUND") => return Remedy::Register,
        _ => {}
    }
    let retry = Remedy::Retry { after: status.get_details_retry_info().and_then(|info| info.retry_delay) };
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => retry,
        // A connection that breaks in the middle of a call surfaces as one of these, without a reason of ours.
        Code::Unknown | Code::Cancelled | Code::Internal if reason.is_none() => retry,
        Code::Ok
        | Code::Unknown
        | Code::Cancelled
        | Code::Internal
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => Remedy::Refuse,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    /// A status as a coordinator makes it.
    pub(crate) fn refused(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "paceline", std::collections::HashMap::new());
        Status::with_error_details(code, "refused", details)
    }

    #[test]
    fn a_lost_connection_is_waited_out() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Cancelled, Code::Internal] {
            assert_eq!(remedy(&Status::new(code, "transport error")), Remedy::Retry { after: None }, "{code:?}");
        }
    }

    #[test]
    fn the_coordinators_wish_is_kept() {
        let mut details = ErrorDetails::new();
        details.set_error_info("OVERLOADED", "paceline", std::collections::HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(remedy(&status), Remedy::Retry { after: Some(Duration::from_secs(3)) });
    }

    #[test]
    fn reasons_decide_before_codes() {
        assert_eq!(remedy(&refused(Code::NotFound, "WORKER_NOT_FOUND")), Remedy::Register);
        assert_eq!(remedy(&refused(Code::NotFound, "LEASE_NOT_FOUND")), Remedy::Refuse);
        assert_eq!(remedy(&refused(Code::FailedPrecondition, "VERSION_UNSUPPORTED")), Remedy::Stop);
        assert_eq!(remedy(&refused(Code::FailedPrecondition, "RUN_FINISHED")), Remedy::Refuse);
        assert_eq!(remedy(&refused(Code::Internal, "INTERNAL")), Remedy::Refuse);
        assert_eq!(remedy(&refused(Code::Unavailable, "COORDINATOR_DEPOSED")), Remedy::Retry { after: None });
    }
}
