//! The tokens that are good here.
//!
//! ```text
//!  DATA/credentials.json   id, holder, role, SHA-256, times; mode 0600; replaced whole, by rename
//!  DATA/operator.token     the first operator's token, mode 0600: written when there is no other operator
//! ```
//!
//! A file of its own and not the store: it is small, changes seldom, and must be readable and mendable by hand when
//! everything else is not (decision 0014).

mod bootstrap;
mod file;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use paceline_proto::access::{AccessToken, TokenId};
use paceline_proto::fault::Fault;
use paceline_proto::model::{NewToken, Revocation, TokenInfo};

pub(crate) use record::Record;

/// Most tokens kept, dead ones included: bounds memory, and the time to write the file.
const MOST: usize = 20_000;
/// How long expired and revoked tokens are kept, so that their holders are told what happened. Seconds.
const DEAD_KEPT: u64 = 90 * 24 * 3600;

/// Why the tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file cannot be read or written.
    #[error("{}: {reason}; the folder must be readable and writable and have free space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file does not hold tokens.
    #[error(
        "{} is damaged: {reason}; restore it from a backup, or move it away: then all tokens must be made anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// There is no place for the first operator's token.
    #[error("--memory keeps no folder for the first operator's token: name a file with --operator-token FILE")]
    NoPlace,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {reason}")]
    NoRandomness {
        /// What it said.
        reason: String,
    },
}

/// The tokens that are good here, and those that were.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// `None` keeps them in memory.
    file: Option<PathBuf>,
    known: RwLock<BTreeMap<TokenId, Entry>>,
    /// Held through a change and its write, so that the file never goes back in time.
    writing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Record,
    /// Seconds since 1970; 0 before the first use.
    last_used: Arc<AtomicU64>,
}

impl Entry {
    fn new(record: Record) -> Self {
        Self { record, last_used: Arc::default() }
    }

    fn info(&self) -> TokenInfo {
        let last_used = self.last_used.load(Ordering::Relaxed);
        self.record.info((last_used > 0).then_some(last_used))
    }
}

/// Seconds since 1970; 0 if the clock stands before that.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Credentials {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self, CredentialsError> {
        let records = file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let known = records.into_iter().map(|record| (record.id, Entry::new(record))).collect();
        Ok(Self { file, known: RwLock::new(known), writing: Mutex::new(()) })
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// [`Fault::CredentialInvalid`], [`Fault::CredentialExpired`], [`Fault::CredentialRevoked`].
    pub(crate) fn check(&self, shown: &AccessToken) -> Result<Record, Fault> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(&shown.id());
        let now = now();
        record::judge(entry.map(|entry| &entry.record), shown, now)?;
        let entry = entry.ok_or_else(|| Fault::Internal { reason: "an unknown token was found good".to_owned() })?;
        entry.last_used.store(now, Ordering::Relaxed);
        Ok(entry.record.clone())
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<TokenInfo> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<TokenInfo> = known.values().map(Entry::info).collect();
        all.sort_by_key(|info| (info.created, info.id));
        all
    }

    /// Makes a token known. Blocks on the disk.
    ///
    /// # Errors
    /// [`Fault::TokenExists`], [`Fault::StoreReadOnly`], [`Fault::FieldsInvalid`] when there are too many.
    pub(crate) fn create(&self, token: NewToken) -> Result<TokenInfo, Fault> {
        let now = now();
        self.change(|known| {
            if let Some(entry) = known.get(&token.id) {
                return if entry.record.was_made_by(&token) {
                    Ok(entry.info())
                } else {
                    Err(Fault::TokenExists { id: token.id.to_string() })
                };
            }
            known.retain(|_, entry| entry.record.died(now).is_none_or(|died| now.saturating_sub(died) < DEAD_KEPT));
            if known.len() >= MOST {
                return Err(record::too_many(MOST));
            }
            let entry = Entry::new(Record::new(token, now));
            let info = entry.info();
            known.insert(info.id, entry);
            Ok(info)
        })
    }

    /// Takes tokens back. Blocks on the disk.
    ///
    /// # Errors
    /// [`Fault::TokenNotFound`], [`Fault::StoreReadOnly`].
    pub(crate) fn revoke(&self, which: &Revocation) -> Result<Vec<TokenInfo>, Fault> {
        let now = now();
        self.change(|known| {
            let meant: Vec<&mut Entry> = known.values_mut().filter(|entry| entry.record.is_meant(which)).collect();
            if meant.is_empty() {
                let token = match which {
                    Revocation::Token(id) => id.to_string(),
                    Revocation::Worker(worker) => format!("worker {worker}"),
                };
                return Err(Fault::TokenNotFound { token });
            }
            let revoked = meant.into_iter().map(|entry| {
                entry.record.revoked.get_or_insert(now);
                entry.info()
            });
            Ok(revoked.collect())
        })
    }

    /// Changes the tokens, durably before anyone sees it.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<TokenId, Entry>) -> Result<T, Fault>) -> Result<T, Fault> {
        let _turn: MutexGuard<'_, ()> = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = change(&mut next)?;
        if let Some(path) = &self.file {
            let records: Vec<&Record> = next.values().map(|entry| &entry.record).collect();
            file::write(path, &records).map_err(|error| Fault::StoreReadOnly { reason: error.to_string() })?;
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paceline_proto::access::Role;

    use super::*;

    fn drawn(holder: &str, role: Role) -> (AccessToken, NewToken) {
        let token = AccessToken::draw(holder.parse().unwrap()).unwrap();
        let new = NewToken { id: token.id(), holder: token.holder().clone(), role, hash: token.hash(), lifetime: None };
        (token, new)
    }

    #[test]
    fn tokens_are_kept_as_hashes_and_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        let (token, new) = drawn("gpu-7", Role::Worker);
        let credentials = Credentials::open(Some(path.clone())).unwrap();
        assert!(credentials.check(&token).is_err(), "not known yet");
        let made = credentials.create(new.clone()).unwrap();
        assert_eq!(credentials.create(new.clone()).unwrap(), made, "a repeat gets the same answer");
        let other = NewToken { role: Role::Operator, ..new };
        assert!(matches!(credentials.create(other), Err(Fault::TokenExists { .. })));

        let text = std::fs::read_to_string(&path).unwrap();
        let secret = token.text().expose().rsplit('.').next().unwrap().to_owned();
        assert!(!text.contains(&secret), "{text}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let again = Credentials::open(Some(path)).unwrap();
        let record = again.check(&token).unwrap();
        assert_eq!((record.holder.as_str(), record.role), ("gpu-7", Role::Worker));
        assert!(again.list()[0].last_used.is_some());
    }

    #[test]
    fn revocation_is_durable_and_may_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        let credentials = Credentials::open(Some(path.clone())).unwrap();
        let tokens = [("a", Role::Worker), ("a", Role::Worker), ("a", Role::User), ("b", Role::Worker)];
        let drawn = tokens.map(|(holder, role)| drawn(holder, role));
        for (_, new) in &drawn {
            credentials.create(new.clone()).unwrap();
        }
        let a = Revocation::Worker("a".parse().unwrap());
        assert_eq!(credentials.revoke(&a).unwrap().len(), 2);
        assert_eq!(credentials.revoke(&a).unwrap().len(), 2, "twice");
        let nobody = Revocation::Worker("c".parse().unwrap());
        assert!(matches!(credentials.revoke(&nobody), Err(Fault::TokenNotFound { .. })));
        for credentials in [credentials, Credentials::open(Some(path)).unwrap()] {
            let good: Vec<bool> = drawn.iter().map(|(token, _)| credentials.check(token).is_ok()).collect();
            assert_eq!(good, [false, false, true, true]);
            assert!(matches!(credentials.check(&drawn[0].0), Err(Fault::CredentialRevoked { .. })));
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::open(Some(folder.path().join("gone/credentials.json"))).unwrap();
        let (token, new) = drawn("a", Role::User);
        assert!(matches!(credentials.create(new), Err(Fault::StoreReadOnly { .. })));
        assert!(credentials.check(&token).is_err() && credentials.list().is_empty());
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        for damage in ["", "{", "[]", r#"{"format": 1}"#, r#"{"format": 99, "tokens": []}"#] {
            std::fs::write(&path, damage).unwrap();
            let error = Credentials::open(Some(path.clone())).unwrap_err().to_string();
            assert!(error.contains("credentials.json is damaged") && error.contains("backup"), "{damage:?}: {error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damage);
        }
    }

    #[test]
    fn time_ends_a_token() {
        let credentials = Credentials::open(None).unwrap();
        let (token, new) = drawn("a", Role::User);
        credentials.create(NewToken { lifetime: Some(Duration::from_secs(3600)), ..new }).unwrap();
        let record = credentials.check(&token).unwrap();
        let end = record.expires.unwrap();
        assert!(record::judge(Some(&record), &token, end - 1).is_ok());
        assert!(matches!(record::judge(Some(&record), &token, end), Err(Fault::CredentialExpired { .. })));
    }
}
