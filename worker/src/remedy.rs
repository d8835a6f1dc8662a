//! What a worker does about a call that failed: a pure function of the status.
//!
//! ```text
//!  no answer, busy, restarting ─► Retry      (the connection or the coordinator will come back)
//!  WORKER_NOT_FOUND            ─► Register   (the coordinator restarted and forgot us)
//!  VERSION_UNSUPPORTED         ─► Stop       (no retry will help)
//!  CREDENTIAL_…, ROLE_MISSING  ─► Stop       (somebody must give it another token)
//!  CERTIFICATE_…, TLS_FAILED   ─► Distrust   (stop before the first answer; later, certificates are renewed sooner or later)
//!  everything else             ─► Refuse     (about this call only; the caller decides)
//! ```

use std::time::Duration;

use paceline_proto::fault::{is_transient, reason, retry_after};
use tonic::{Code, Status};

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
    /// Ask again if the coordinator was trusted before, else stop.
    Distrust,
    /// This very call will never succeed.
    Refuse,
    /// No call of this worker will ever succeed.
    Stop,
}

/// What to do about `status`.
pub(crate) fn remedy(status: &Status) -> Remedy {
    match reason(status).as_deref() {
        Some("VERSION_UNSUPPORTED") => Remedy::Stop,
        Some("CERTIFICATE_UNTRUSTED" | "CERTIFICATE_REFUSED" | "TLS_FAILED") => Remedy::Distrust,
        _ if status.code() == Code::Unauthenticated => Remedy::Stop,
        Some("ROLE_MISSING" | "WORKER_FOREIGN") => Remedy::Stop,
        Some("WORKER_NOT_FOUND") => Remedy::Register,
        _ if is_transient(status) => Remedy::Retry { after: retry_after(status) },
        _ => Remedy::Refuse,
    }
}

/// What names a status in logs: its reason, or its code if it is not a coordinator's.
pub(crate) fn kind(status: &Status) -> String {
    reason(status).unwrap_or_else(|| format!("{:?}", status.code()))
}

#[cfg(test)]
mod tests {
    use paceline_proto::fault::Fault;

    use super::*;

    #[test]
    fn a_lost_connection_is_waited_out() {
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(remedy(&broken), Remedy::Retry { after: None });
        assert_eq!(remedy(&Status::unavailable("connection refused")), Remedy::Retry { after: None });
        assert_eq!(remedy(&Status::unimplemented("some other server")), Remedy::Refuse);
    }

    #[test]
    fn the_coordinators_wish_is_kept() {
        let wish = Duration::from_secs(3);
        assert_eq!(remedy(&Fault::Overloaded { retry_after: wish }.into()), Remedy::Retry { after: Some(wish) });
    }

    #[test]
    fn whoever_is_not_let_in_stops() {
        let holder = || "gpu-7".to_owned();
        for fault in [
            Fault::CredentialMissing,
            Fault::CredentialRevoked { id: "1".into(), holder: holder() },
            Fault::RoleMissing { method: "m".into(), caller: holder(), needed: "worker".into() },
            Fault::WorkerForeign { worker: "w".parse().unwrap(), holder: holder() },
        ] {
            assert_eq!(remedy(&fault.clone().into()), Remedy::Stop, "{fault}");
        }
        let untrusted = Fault::CertificateUntrusted { reason: "has expired".into(), cure: "renew it".into() };
        assert_eq!(remedy(&untrusted.into()), Remedy::Distrust);
        let (run, outer_step, slot) = ("r-1".parse().unwrap(), 0, 0);
        assert_eq!(remedy(&Fault::LeaseTokenForeign { run, outer_step, slot }.into()), Remedy::Refuse);
    }

    #[test]
    fn each_fault_has_its_remedy() {
        let (run, worker) = ("r-1".parse().unwrap(), "w".parse().unwrap());
        assert_eq!(remedy(&Fault::WorkerNotFound { worker }.into()), Remedy::Register);
        assert_eq!(remedy(&Fault::VersionUnsupported { theirs: 1, ours: 2 }.into()), Remedy::Stop);
        assert!(matches!(remedy(&Fault::Deposed { ours: 1, seen: 2 }.into()), Remedy::Retry { .. }));
        assert!(matches!(remedy(&Fault::ShuttingDown.into()), Remedy::Retry { .. }));
        assert_eq!(remedy(&Fault::LeaseNotFound { run, outer_step: 0, slot: 0 }.into()), Remedy::Refuse);
        assert_eq!(remedy(&Fault::Internal { reason: "bug".into() }.into()), Remedy::Refuse);
    }
}
