//! Who has logged in on the pages.
//!
//! ```text
//!  token ─► credentials: good? ─► a random id for the browser ─► at each use: not too old? token still good? ─► who
//! ```
//!
//! Kept in memory alone: a restart logs everybody out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paceline_proto::access::AccessToken;
use paceline_proto::fault::Fault;
use sha2::{Digest, Sha256};

use crate::credentials::Credentials;
use crate::gate::Known;

/// How long a login lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);
/// Logins at a time; one more ends the oldest.
const MOST: usize = 64;
/// Tries in [`PERIOD`], good ones among them, whoever makes them.
const TRIES: usize = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// Logins.
#[derive(Debug)]
pub(crate) struct Sessions {
    credentials: Arc<Credentials>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// By the hash of the id, so that the time of a look-up tells nothing of ids.
    sessions: HashMap<[u8; 32], Session>,
    /// When somebody tried, oldest first.
    tries: Vec<Instant>,
}

#[derive(Debug)]
struct Session {
    token: AccessToken,
    began: Instant,
}

impl Sessions {
    /// Of whom these credentials know.
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, open: Mutex::default() }
    }

    /// Logs in whoever shows a good token; answers the id that the browser keeps.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] after too many tries, what [`Credentials::check`] and `may` say, [`Fault::Internal`].
    pub(super) fn log_in(
        &self,
        token: &str,
        now: Instant,
        may: impl FnOnce(&Known) -> Result<(), Fault>,
    ) -> Result<(String, Known), Fault> {
        let mut open = self.open();
        open.tries.retain(|tried| now.saturating_duration_since(*tried) < PERIOD);
        if open.tries.len() >= TRIES {
            return Err(Fault::Overloaded { retry_after: PERIOD });
        }
        open.tries.push(now);
        let token: AccessToken =
            token.trim().parse().map_err(|error| Fault::CredentialInvalid { reason: format!("{error}") })?;
        let known = self.check(&token)?;
        may(&known)?;
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| Fault::Internal { reason: format!("the system gives no random bytes: {error}") })?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        open.sessions.retain(|_, session| session.lives(now));
        if open.sessions.len() >= MOST
            && let Some(oldest) = open.sessions.iter().min_by_key(|(_, session)| session.began).map(|(key, _)| *key)
        {
            open.sessions.remove(&oldest);
        }
        open.sessions.insert(key(&id), Session { token, began: now });
        Ok((id, known))
    }

    /// Who has this id, if the login is not over and the token still good.
    pub(super) fn who(&self, id: &str, now: Instant) -> Option<Known> {
        let mut open = self.open();
        let session = open.sessions.get(&key(id))?;
        let known = session.lives(now).then(|| self.check(&session.token).ok()).flatten();
        if known.is_none() {
            open.sessions.remove(&key(id));
        }
        known
    }

    /// Ends a login.
    pub(super) fn log_out(&self, id: &str) {
        self.open().sessions.remove(&key(id));
    }

    fn check(&self, token: &AccessToken) -> Result<Known, Fault> {
        let record = self.credentials.check(token)?;
        Ok(Known { role: record.role, holder: record.holder, token: Some(record.id) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // One insert or remove at a time: a panic between leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < LIFETIME
    }
}

fn key(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use paceline_proto::access::Role;
    use paceline_proto::model::{NewToken, Revocation};

    use super::*;

    fn credentials() -> (Arc<Credentials>, AccessToken) {
        let credentials = Credentials::open(None).unwrap();
        let token = AccessToken::draw("ann".parse().unwrap()).unwrap();
        let (id, holder, hash) = (token.id(), token.holder().clone(), token.hash());
        credentials.create(NewToken { id, holder, role: Role::User, hash, lifetime: None }).unwrap();
        (Arc::new(credentials), token)
    }

    #[test]
    fn a_login_lasts_an_hour_and_no_longer_than_its_token() {
        let (credentials, token) = credentials();
        let sessions = Sessions::new(Arc::clone(&credentials));
        let now = Instant::now();
        let log_in = || sessions.log_in(token.text().expose(), now, |_| Ok(())).unwrap().0;
        let (first, second) = (log_in(), log_in());
        assert_ne!(first, second);
        assert_eq!(sessions.who(&first, now).unwrap().to_string(), "user/ann");
        assert_eq!(sessions.who(&first[1..], now), None);
        assert_eq!(sessions.who("", now), None);
        sessions.log_out(&second);
        assert_eq!(sessions.who(&second, now), None);
        let third = log_in();
        assert!(sessions.who(&first, now + LIFETIME - Duration::from_secs(1)).is_some());
        assert_eq!(sessions.who(&first, now + LIFETIME), None);
        credentials.revoke(&Revocation::Token(token.id())).unwrap();
        assert_eq!(sessions.who(&third, now), None, "a revoked token ends its logins");
    }

    #[test]
    fn tries_are_counted_good_and_bad_and_forgotten() {
        let (credentials, token) = credentials();
        let sessions = Sessions::new(credentials);
        let now = Instant::now();
        let tried = |text: &str, now| sessions.log_in(text, now, |_| Ok(())).map_err(|fault| fault.reason()).map(drop);
        for nth in 0..TRIES {
            let text = if nth % 2 == 0 { "plt1.x" } else { token.text().expose() };
            assert_eq!(tried(text, now), if nth % 2 == 0 { Err("CREDENTIAL_INVALID") } else { Ok(()) });
        }
        assert_eq!(tried(token.text().expose(), now), Err("OVERLOADED"));
        assert_eq!(tried(token.text().expose(), now + PERIOD), Ok(()));
    }

    #[test]
    fn whoever_may_do_nothing_is_not_let_in() {
        let (credentials, token) = credentials();
        let sessions = Sessions::new(credentials);
        let refused = sessions.log_in(token.text().expose(), Instant::now(), |_| Err(Fault::CredentialMissing));
        assert_eq!(refused.map(drop), Err(Fault::CredentialMissing));
        assert!(sessions.open().sessions.is_empty());
    }
}
