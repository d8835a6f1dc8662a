//! What a client trusts, and what it shows.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::{ALPN, Source, TlsError, pair, provider};

/// Files a client's TLS rests on. They are read at every connection, so that new ones need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Authorities that may vouch for the coordinator; those of the system if left out.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl Trust {
    /// Whether any file is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// TLS of a client, from the files as they are now.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let own = pair(("--cert", trust.certificate.as_deref()), ("--key", trust.key.as_deref()))?;
    let roots = Arc::new(match &trust.ca {
        Some(path) => named_roots(&Source::read("authority", path)?)?,
        None => system_roots()?,
    });
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| TlsError::NoAuthority { reason: error.to_string() })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_webpki_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let source = Source::read("certificate", certificate)?;
            let key = Source::read("key", key)?.key()?;
            builder.with_client_auth_cert(source.certificates()?, key).map_err(|error| source.unfit(&error))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn named_roots(source: &Source) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in source.certificates()? {
        roots.add(certificate).map_err(|error| source.malformed(error.to_string()))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry odd certificates; those that cannot be read vouch for nobody.
    let (taken, _) = roots.add_parsable_certificates(found.certs.into_iter().map(CertificateDer::into_owned));
    if taken == 0 {
        let reason = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
        return Err(TlsError::NoAuthority { reason });
    }
    Ok(roots)
}
