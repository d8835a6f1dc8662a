//! How the program ends badly: a stable code and a message with the cure.
//!
//! | code | meaning |
//! |---|---|
//! | 1 | it failed while running |
//! | 2 | the command line is wrong |
//! | 64 | the address does not exist |
//! | 69 | the address is taken |
//! | 73 | the store cannot be created or opened |
//! | 74 | reading or writing failed |
//! | 75 | another coordinator has the store open |
//! | 78 | settings do not fit together, a certificate or key cannot be used, or the store is from a newer version |
//! | 130, 143 | ended at once by a second SIGINT or SIGTERM |

use std::fmt;
use std::io;

use paceline_coordinator::CredentialsError;
use paceline_coordinator::store::StoreError;
use paceline_proto::tls::TlsError;

pub(crate) const RUNTIME: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const BAD_INPUT: u8 = 64;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const CANNOT_CREATE: u8 = 73;
pub(crate) const IO: u8 = 74;
pub(crate) const TRY_LATER: u8 = 75;
pub(crate) const CONFIG: u8 = 78;
pub(crate) const INTERRUPTED: u8 = 130;
pub(crate) const TERMINATED: u8 = 143;

/// Why the program ends badly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The address cannot be had.
pub(crate) fn from_binding(flag: &str, address: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let cure =
                format!("is a coordinator running there already? Stop it, or choose another address with {flag}");
            Failure::new(UNAVAILABLE, format!("{address} is in use: {cure}"))
        }
        io::ErrorKind::PermissionDenied => Failure::new(
            UNAVAILABLE,
            format!("{address} may not be used ({error}): choose a port above 1023 with {flag}"),
        ),
        _ => Failure::new(UNAVAILABLE, format!("cannot listen on {address}: {error}")),
    }
}

/// Serving failed.
pub(crate) fn from_serving(error: anyhow::Error) -> Failure {
    let code = match error.downcast_ref::<StoreError>() {
        Some(StoreError::Locked { .. }) => TRY_LATER,
        Some(StoreError::Unusable { .. }) => CANNOT_CREATE,
        Some(StoreError::FormatTooNew { .. }) => CONFIG,
        Some(_) => IO,
        None if error.is::<TlsError>() => CONFIG,
        None => match error.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::NoPlace) => CONFIG,
            Some(_) => IO,
            None => from_another(&error),
        },
    };
    Failure::new(code, format!("{error:#}"))
}

fn from_another(error: &anyhow::Error) -> u8 {
    match () {
        () if error.chain().any(|cause| cause.is::<io::Error>()) => IO,
        () => RUNTIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_store_have_their_own_codes() {
        let path = || "/data".into();
        for (error, code) in [
            (StoreError::Locked { path: path() }, 75),
            (StoreError::Unusable { path: path(), reason: "read-only file system".into() }, 73),
            (StoreError::FormatTooNew { found: 2, supported: 1 }, 78),
            (StoreError::Damaged { what: "run".into(), reason: "crc32c".into() }, 74),
            (StoreError::Io { reason: "no space".into() }, 74),
        ] {
            let text = error.to_string();
            let failure = from_serving(anyhow::Error::new(error).context("open store"));
            assert_eq!((failure.code, failure.message), (code, format!("open store: {text}")));
        }
        assert_eq!(from_serving(anyhow::anyhow!("odd")).code, RUNTIME);
        assert_eq!(from_serving(io::Error::other("broken pipe").into()).code, IO);
    }

    #[test]
    fn a_taken_address_is_told_with_the_cure() {
        let failure = from_binding("--listen", "127.0.0.1:7700", &io::ErrorKind::AddrInUse.into());
        assert_eq!(failure.code, UNAVAILABLE);
        assert!(failure.message.starts_with("127.0.0.1:7700 is in use") && failure.message.contains("--listen"));
    }
}
