//! Certificates, keys and what rustls makes of them: the part that both ends of a connection share.
//!
//! ```text
//!  PEM file ─ Source::read ─► bytes ─ certificates, key, lists ─► rustls::{ClientConfig, ServerConfig}
//!                               └─ compared with the bytes before: changed on disk?
//! ```
//!
//! Cryptography is ring's; TLS 1.2 and 1.3 are spoken, as rustls has no weak suites in either.

mod client;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use client::{Trust, client_config};
pub use words::{explain, in_error, of_certificate};

/// The only protocol spoken inside TLS.
pub const ALPN: &[u8] = b"h2";

/// Files that TLS cannot be set up with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: {reason}; name another file, or make this one readable", path.display())]
    Unreadable {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{what} {}: {reason}; it must be PEM (a text that begins with -----BEGIN)", path.display())]
    Malformed {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("{given} is given without {missing}: a certificate and its key go together, name both")]
    Half {
        /// The flag that was said.
        given: &'static str,
        /// The flag that was not.
        missing: &'static str,
    },
    /// Certificate, key and authorities do not go together.
    #[error("certificate {} with its key: {reason}; make them anew together", path.display())]
    Unfit {
        /// The certificate.
        path: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// No authority is trusted.
    #[error("this system has no authorities to trust ({reason}): name yours with --ca FILE")]
    NoAuthority {
        /// What was found instead.
        reason: String,
    },
}

/// When a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub begins: i64,
    /// Not beyond this.
    pub ends: i64,
}

/// A PEM file that was read, and what it should hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    what: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Without the bytes: they may be a private key.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("what", &self.what).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a file; `what` names for people what it should hold.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`].
    pub fn read(what: &'static str, path: &Path) -> Result<Self, TlsError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self { what, path: path.into(), bytes }),
            Err(error) => Err(TlsError::Unreadable { what, path: path.into(), reason: error.to_string() }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All certificates of the file, at least one.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.all(CertificateDer::pem_slice_iter(&self.bytes), "holds no certificate")
    }

    /// When the first certificate of the file holds.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn validity(&self) -> Result<Validity, TlsError> {
        let certificates = self.certificates()?;
        let first = certificates.first().ok_or_else(|| self.malformed("holds no certificate"))?;
        let (_, read) = X509Certificate::from_der(first).map_err(|error| self.malformed(error.to_string()))?;
        let validity = read.validity();
        Ok(Validity { begins: validity.not_before.timestamp(), ends: validity.not_after.timestamp() })
    }

    /// All revocation lists of the file, at least one.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        self.all(CertificateRevocationListDer::pem_slice_iter(&self.bytes), "holds no revocation list (X509 CRL)")
    }

    /// The private key of the file: PKCS#8, SEC1 or PKCS#1.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => self.malformed("holds no private key without a password"),
            other => self.malformed(other.to_string()),
        })
    }

    fn all<T, E: std::fmt::Display>(
        &self,
        items: impl Iterator<Item = Result<T, E>>,
        none: &str,
    ) -> Result<Vec<T>, TlsError> {
        let items: Vec<T> = items.collect::<Result<_, _>>().map_err(|error| self.malformed(error.to_string()))?;
        if items.is_empty() { Err(self.malformed(none)) } else { Ok(items) }
    }

    /// The file does not hold what it should.
    pub fn malformed(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Malformed { what: self.what, path: self.path.clone(), reason: reason.into() }
    }

    /// The certificate of this file cannot be used.
    pub fn unfit(&self, error: &rustls::Error) -> TlsError {
        TlsError::Unfit { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Certificate and key, or neither.
///
/// # Errors
/// [`TlsError::Half`], naming the flags.
pub fn pair<T>(
    certificate: (&'static str, Option<T>),
    key: (&'static str, Option<T>),
) -> Result<Option<(T, T)>, TlsError> {
    match (certificate, key) {
        ((_, Some(certificate)), (_, Some(key))) => Ok(Some((certificate, key))),
        ((_, None), (_, None)) => Ok(None),
        ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => {
            Err(TlsError::Half { given, missing })
        }
    }
}

/// The cryptography all of Paceline uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_named() {
        assert_eq!(pair::<u8>(("--cert", None), ("--key", None)), Ok(None));
        assert_eq!(pair(("--cert", Some(1)), ("--key", Some(2))), Ok(Some((1, 2))));
        let half = |given, missing| Err(TlsError::Half { given, missing });
        assert_eq!(pair(("--cert", Some(1)), ("--key", None)), half("--cert", "--key"));
        assert_eq!(pair(("--cert", None), ("--key", Some(2))), half("--key", "--cert"));
    }

    #[test]
    fn files_that_hold_something_else_are_named_with_the_cure() {
        let missing = Source::read("certificate", Path::new("/nowhere/c.pem")).unwrap_err().to_string();
        assert!(missing.contains("certificate /nowhere/c.pem") && missing.contains("name another"), "{missing}");
        let source = |text: &str| Source { what: "key", path: "k.pem".into(), bytes: text.as_bytes().to_vec() };
        for text in ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n", "\0\u{1f980}"] {
            let error = source(text).key().unwrap_err().to_string();
            assert!(error.starts_with("key k.pem: ") && error.contains("BEGIN"), "{text:?}: {error}");
            assert!(source(text).certificates().is_err(), "{text:?}");
            assert!(source(text).revocation_lists().is_err(), "{text:?}");
        }
    }

    #[test]
    fn debug_shows_no_bytes() {
        let source = Source { what: "key", path: "k.pem".into(), bytes: b"PRIVATE".to_vec() };
        let shown = format!("{source:?}");
        assert!(!shown.contains("PRIVATE") && !shown.contains("80, 82"), "{shown}");
    }
}
