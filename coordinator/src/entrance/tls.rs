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

use crate::observe::Observer;

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
        let ends = certificate.validity().ok().map(|validity| validity.ends);
        Ok(Settled { config: Arc::new(config), verifier, ends })
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
    /// When the coordinator's certificate ends, in seconds since 1970, if it can be read.
    ends: Option<i64>,
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

    /// When the coordinator's certificate ends, in seconds since 1970, if it can be read.
    pub(crate) fn ends(&self) -> Option<i64> {
        self.settled.read().unwrap_or_else(PoisonError::into_inner).ends
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
        // A clock before 1970 is taken for 1970: then nothing is valid yet.
        self.judge_at(chain, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// [`Reloaded::judge`] so long after 1970.
    fn judge_at(&self, chain: &[CertificateDer<'_>], now: Duration) -> Result<(), String> {
        let verifier = self.settled.read().unwrap_or_else(PoisonError::into_inner).verifier.clone();
        let (Some(verifier), Some((leaf, rest))) = (verifier, chain.split_first()) else { return Ok(()) };
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
    /// Looks for ever, and tells when the certificate ends.
    pub(crate) async fn run(mut self, observer: Observer) {
        let mut looks = tokio::time::interval(self.reloaded.every);
        loop {
            looks.tick().await;
            observer.certificate_ends(self.reloaded.ends());
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        date_time_ymd,
    };
    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// The files of an authority that is valid for ever, and a client's certificate of 2000 to 2100.
    fn files(folder: &std::path::Path) -> (TlsFiles, CertificateDer<'static>) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (authority.not_before, authority.not_after) = (date_time_ymd(1970, 1, 1), date_time_ymd(4000, 1, 1));
        let key = KeyPair::generate().unwrap();
        let own = authority.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(authority, key);
        let signed = |purpose, to| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(to, 1, 1));
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let (server, key) = signed(ExtendedKeyUsagePurpose::ServerAuth, 3000);
        let (client, _) = signed(ExtendedKeyUsagePurpose::ClientAuth, 2100);
        let written = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            certificate: written("server.pem", &server),
            key: written("server.key", &key),
            client_ca: Some(written("ca.pem", &own)),
            client_crl: None,
        };
        (files, CertificateDer::from_pem_slice(client.as_bytes()).unwrap())
    }

    #[test]
    fn the_end_of_the_certificate_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = files(folder.path());
        let (reloaded, _) = Reloaded::open(files, Duration::from_secs(1)).unwrap();
        assert_eq!(reloaded.ends(), Some(32_503_680_000), "the year 3000");
    }

    #[test]
    fn a_client_is_judged_by_the_clock_whatever_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let (files, client) = files(folder.path());
        let (reloaded, _) = Reloaded::open(files, Duration::from_secs(1)).unwrap();
        let at = |year: u64| {
            reloaded.judge_at(std::slice::from_ref(&client), Duration::from_secs((year - 1970) * 31_556_952))
        };
        assert_eq!(at(2050), Ok(()));
        for (year, said) in
            [(1970, "is not valid yet"), (1999, "is not valid yet"), (2101, "has expired"), (2106, "has expired")]
        {
            let refusal = at(year).unwrap_err();
            assert!(refusal.contains(said), "{year}: {refusal}");
        }
        // The last second that a clock can tell.
        let last = reloaded.judge_at(std::slice::from_ref(&client), Duration::MAX).unwrap_err();
        assert!(last.contains("has expired"), "{last}");
    }
}
