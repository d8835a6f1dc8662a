//! The coordinator's TLS, from files that may change while it runs.
//!
//! ```text
//!  now and then: files read ─ same bytes ─► nothing
//!                           ├ other bytes, sound ─► new handshakes use them; callers shown before are judged by them
//!                           └ other bytes, unsound ─► one error in the log, the old ones stay
//! ```

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paceline_proto::tls::{ALPN, Source, TlsError, explain, of_certificate, provider};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A judgement of a client's certificate holds for this many looks at the files: each costs the check of a signature, on
/// every connection.
const JUDGEMENT_HOLDS: u32 = 3;

/// The files that the coordinator's TLS rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, with its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Authorities of clients: if there are any, every client must show a certificate of one of them.
    pub client_ca: Option<PathBuf>,
    /// Client certificates that are taken no more: revocation lists of those authorities.
    pub client_crl: Option<PathBuf>,
}

/// The bytes of all files, in the order of [`TlsFiles`].
type Bytes = Vec<Source>;

impl TlsFiles {
    fn read(&self) -> Result<Bytes, TlsError> {
        let named = [
            ("certificate", Some(&self.certificate)),
            ("key", Some(&self.key)),
            ("client authority", self.client_ca.as_ref()),
            ("revocation list", self.client_crl.as_ref()),
        ];
        named.into_iter().filter_map(|(what, path)| path.map(|path| Source::read(what, path))).collect()
    }

    fn settle(&self, sources: &[Source]) -> Result<Settled, TlsError> {
        let at = |path: &PathBuf| sources.iter().find(|source| source.path() == path);
        let missing = |path: &PathBuf| TlsError::Unreadable {
            what: "file",
            path: path.clone(),
            reason: "was not read".to_owned(),
        };
        let certificate = at(&self.certificate).ok_or_else(|| missing(&self.certificate))?;
        let key = at(&self.key).ok_or_else(|| missing(&self.key))?.key()?;
        let verifier = match self.client_ca.as_ref().and_then(at) {
            None => None,
            Some(authority) => Some(verifier(authority, self.client_crl.as_ref().and_then(at))?),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3");
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config =
            builder.with_single_cert(certificate.certificates()?, key).map_err(|error| certificate.unfit(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that is taken up again shows its certificate no second time, so none is.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Settled { config: Arc::new(config), verifier })
    }
}

fn verifier(authority: &Source, revoked: Option<&Source>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in authority.certificates()? {
        roots.add(certificate).map_err(|error| authority.malformed(error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if let Some(revoked) = revoked {
        builder = builder
            .with_crls(revoked.revocation_lists()?)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status();
    }
    builder.build().map_err(|error| revoked.unwrap_or(authority).malformed(error.to_string()))
}

/// What the files come to.
#[derive(Debug)]
struct Settled {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// TLS as the files say now.
#[derive(Debug)]
pub(crate) struct Reloaded {
    files: TlsFiles,
    /// How often the files are looked at.
    every: Duration,
    settled: RwLock<Settled>,
}

impl Reloaded {
    /// From the files as they are; they are looked at again `every` so often.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub(crate) fn open(files: TlsFiles, every: Duration) -> Result<(Arc<Self>, Watch), TlsError> {
        let read = files.read()?;
        let settled = RwLock::new(files.settle(&read)?);
        let reloaded = Arc::new(Self { files, every, settled });
        let watch = Watch { reloaded: Arc::clone(&reloaded), read: Ok(read) };
        Ok((reloaded, watch))
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.settled.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// How long a judgement of a client's certificate holds.
    pub(super) fn judgement_holds(&self) -> Duration {
        self.every * JUDGEMENT_HOLDS
    }

    /// Judges a client's chain by what holds now: it may have expired or been revoked since its handshake.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let verifier = self.settled.read().unwrap_or_else(PoisonError::into_inner).verifier.clone();
        let (Some(verifier), Some((leaf, rest))) = (verifier, chain.split_first()) else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match verifier.verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(now)) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(fault)) => {
                Err(format!("the client's certificate {}", of_certificate(&fault)))
            }
            Err(error) => Err(explain(&error).0),
        }
    }
}

/// Looks whether the files changed.
#[derive(Debug)]
pub(crate) struct Watch {
    reloaded: Arc<Reloaded>,
    /// What was found last: what is in use, or what is wrong with what was found instead.
    read: Result<Bytes, TlsError>,
}

impl Watch {
    /// Looks for ever.
    pub(crate) async fn run(mut self) {
        let mut looks = tokio::time::interval(self.reloaded.every);
        loop {
            looks.tick().await;
            // Files: not on a thread of the runtime.
            match tokio::task::spawn_blocking(move || {
                self.look();
                self
            })
            .await
            {
                Ok(watch) => self = watch,
                Err(error) => return tracing::error!(%error, "certificates are no longer looked at"),
            }
        }
    }

    /// Looks once.
    fn look(&mut self) {
        let found = self.reloaded.files.read();
        if found == self.read {
            return;
        }
        let settled = found.as_ref().map_err(Clone::clone).and_then(|read| self.reloaded.files.settle(read));
        match settled {
            Ok(settled) => {
                *self.reloaded.settled.write().unwrap_or_else(PoisonError::into_inner) = settled;
                tracing::info!(certificate = %self.reloaded.files.certificate.display(), "new certificates are in use");
            }
            Err(error) => tracing::error!(%error, "new certificates cannot be used, the old ones stay in use"),
        }
        self.read = found;
    }
}
