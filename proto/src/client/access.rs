//! How a client comes to a coordinator: what it trusts, what it shows, what it says.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use super::address::{InvalidAddress, endpoint};
use super::connector::{Connector, Trouble};
use super::link::Link;
use crate::access::{AccessToken, Secret};
use crate::tls::{TlsError, Trust, client_config};

/// How long a token read from a file is used before the file is read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// What a client brings to a coordinator. The default brings nothing, which is enough on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// For TLS: whom to trust, and the client's own certificate.
    pub trust: Trust,
    /// What it may do there.
    pub token: TokenSource,
}

/// Where a client's token is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// It has none.
    #[default]
    None,
    /// Here.
    Text(Secret),
    /// In a file, which is read again now and then, so that a new token needs no restart.
    File(PathBuf),
}

/// Why a client cannot even try to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Files for TLS were named, but the address says that TLS is not spoken.
    #[error("{address} is not spoken to by TLS, but --ca, --cert or --key is given: write it as https://host:port")]
    TlsUnused {
        /// The address given.
        address: String,
    },
    /// The token's file cannot be read.
    #[error("token file {}: {reason}; name another file, or make this one readable", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The token is none.
    #[error("the token from {from} is none: {reason}")]
    Token {
        /// Where it was found.
        from: String,
        /// What is wrong with it.
        reason: crate::access::InvalidToken,
    },
    /// The token would travel in plain text.
    #[error(
        "the token would be sent to {address} in plain text, where others can read it: write https://host:port, or call \
         a coordinator on this machine"
    )]
    PlainToken {
        /// The address given.
        address: String,
    },
}

impl TokenSource {
    /// The token as it is now.
    ///
    /// # Errors
    /// [`AccessError::TokenFile`], [`AccessError::Token`].
    pub fn read(&self) -> Result<Option<AccessToken>, AccessError> {
        let (text, from) = match self {
            Self::None => return Ok(None),
            Self::Text(text) => (text.clone(), "PACELINE_TOKEN".to_owned()),
            Self::File(path) => {
                let unreadable =
                    |error: std::io::Error| AccessError::TokenFile { path: path.clone(), reason: error.to_string() };
                (Secret::new(fs::read_to_string(path).map_err(unreadable)?), path.display().to_string())
            }
        };
        text.expose().trim().parse().map(Some).map_err(|reason| AccessError::Token { from, reason })
    }
}

/// A token that is read again from its file now and then.
#[derive(Debug)]
pub(super) struct Bearer {
    source: TokenSource,
    read: Mutex<(Instant, AccessToken)>,
}

impl Bearer {
    /// The token, not older than ten seconds if its file can be read; else the last one that could.
    pub(super) fn token(&self) -> AccessToken {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.source, TokenSource::File(_)) && read.0.elapsed() >= READ_AGAIN {
            read.0 = Instant::now();
            if let Ok(Some(token)) = self.source.read() {
                read.1 = token;
            }
        }
        read.1.clone()
    }
}

impl Access {
    /// A link to the coordinator at this address: `http://host:port`, or `https://host:port` for TLS. Connects with the
    /// first call, and again when the connection broke.
    ///
    /// # Errors
    /// [`AccessError`]: the address, a file or the token cannot be used.
    pub fn link(&self, address: &str) -> Result<Link, AccessError> {
        let endpoint = endpoint(address)?;
        let secure = endpoint.uri().scheme_str() == Some("https");
        let local = endpoint.uri().host().is_some_and(is_this_machine);
        let token = self.token.read()?;
        if token.is_some() && !secure && !local {
            return Err(AccessError::PlainToken { address: address.to_owned() });
        }
        let bearer =
            token.map(|token| Bearer { source: self.token.clone(), read: Mutex::new((Instant::now(), token)) });
        if !secure {
            if !self.trust.is_empty() {
                return Err(AccessError::TlsUnused { address: address.to_owned() });
            }
            return Ok(Link::new(endpoint.connect_lazy(), bearer, Trouble::default()));
        }
        // Read now, so that a wrong file is named before anything is tried.
        client_config(&self.trust)?;
        let trouble = Trouble::default();
        let channel: Channel =
            endpoint.connect_with_connector_lazy(Connector::new(self.trust.clone(), trouble.clone()));
        Ok(Link::new(channel, bearer, trouble))
    }

    /// The name that a worker's id must begin with, if the token says one.
    pub fn holder(&self) -> Option<crate::access::Holder> {
        self.token.read().ok().flatten().map(|token| token.holder().clone())
    }
}

/// Whether a host can only be this machine.
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> AccessToken {
        AccessToken::draw("w".parse().unwrap()).unwrap()
    }

    fn with(token: &AccessToken) -> Access {
        Access { token: TokenSource::Text(token.text().clone()), ..Access::default() }
    }

    #[tokio::test]
    async fn a_token_is_never_sent_in_plain_text_to_another_machine() {
        let access = with(&token());
        for here in ["127.0.0.1:7700", "http://localhost:7700", "http://[::1]:7700"] {
            assert!(access.link(here).is_ok(), "{here}");
        }
        for away in ["10.0.0.5:7700", "http://coordinator:7700", "http://127.example:7700", "http://localhost.evil:1"] {
            let error = access.link(away).unwrap_err();
            assert!(matches!(error, AccessError::PlainToken { .. }), "{away}: {error}");
            assert!(Access::default().link(away).is_ok(), "{away}: there is no secret to lose");
        }
    }

    #[tokio::test]
    async fn files_for_tls_want_an_address_with_tls() {
        let trust = Trust { ca: Some("ca.pem".into()), ..Trust::default() };
        let access = Access { trust, ..Access::default() };
        assert!(matches!(access.link("http://localhost:1"), Err(AccessError::TlsUnused { .. })));
        let error = access.link("https://localhost:1").unwrap_err().to_string();
        assert!(error.contains("authority ca.pem"), "{error}");
    }

    #[test]
    fn tokens_from_files_lose_their_line_break_and_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (first, second) = (token(), token());
        let source = TokenSource::File(path.clone());
        assert!(matches!(source.read(), Err(AccessError::TokenFile { .. })));
        fs::write(&path, format!("{}\n", first.text().expose())).unwrap();
        assert_eq!(source.read().unwrap(), Some(first.clone()));
        let long_ago = Instant::now().checked_sub(READ_AGAIN).unwrap();
        let bearer = Bearer { source, read: Mutex::new((long_ago, first.clone())) };
        fs::write(&path, second.text().expose()).unwrap();
        assert_eq!(bearer.token(), second);
        // A file that is being replaced is no reason to go without a token.
        fs::remove_file(&path).unwrap();
        bearer.read.lock().unwrap().0 = long_ago;
        assert_eq!(bearer.token(), second);
    }

    #[test]
    fn a_damaged_token_is_told_without_showing_it() {
        let whole = token();
        let cut = &whole.text().expose()[..40];
        let error = TokenSource::Text(Secret::new(cut)).read().unwrap_err().to_string();
        assert!(error.contains("PACELINE_TOKEN") && !error.contains(&cut[16..]), "{error}");
    }
}
