//! One token, as it is kept, and the decision whether it is good.

use paceline_proto::access::{AccessToken, Holder, Role, TokenHash, TokenId};
use paceline_proto::fault::{Fault, FieldFault};
use paceline_proto::model::{NewToken, Revocation, TokenInfo};

/// What is kept of a token. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: TokenId,
    pub(crate) holder: Holder,
    pub(crate) role: Role,
    pub(crate) hash: TokenHash,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) revoked: Option<u64>,
}

impl Record {
    /// Of a token made now.
    pub(super) fn new(token: NewToken, now: u64) -> Self {
        let NewToken { id, holder, role, hash, lifetime } = token;
        let expires = lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs()));
        Self { id, holder, role, hash, created: now, expires, revoked: None }
    }

    /// Whether this request made it.
    pub(super) fn was_made_by(&self, token: &NewToken) -> bool {
        // Not below 0: people write into the file, and clocks jump.
        let lifetime = self.expires.map(|expires| expires.saturating_sub(self.created));
        (&self.holder, self.role, self.hash) == (&token.holder, token.role, token.hash)
            && lifetime == token.lifetime.map(|lifetime| lifetime.as_secs())
    }

    /// Whether a revocation is about it.
    pub(super) fn is_meant(&self, which: &Revocation) -> bool {
        match which {
            Revocation::Token(id) => self.id == *id,
            Revocation::Worker(holder) => self.role == Role::Worker && self.holder == *holder,
        }
    }

    /// When it ended, if it has.
    pub(super) fn died(&self, now: u64) -> Option<u64> {
        self.revoked.or(self.expires.filter(|end| *end <= now))
    }

    /// As an operator sees it.
    pub(super) fn info(&self, last_used: Option<u64>) -> TokenInfo {
        let Self { id, holder, role, created, expires, revoked, .. } = self.clone();
        TokenInfo { id, holder, role, created, expires, revoked, last_used }
    }

    /// Role and name: what logs say of the holder.
    fn who(&self) -> String {
        format!("{}/{}", self.role, self.holder)
    }
}

/// Whether what is shown is the token that is kept under its id, and good at this time.
///
/// # Errors
/// [`Fault::CredentialInvalid`], [`Fault::CredentialRevoked`], [`Fault::CredentialExpired`]; the last two are told only
/// to whoever has the secret.
pub(super) fn judge(kept: Option<&Record>, shown: &AccessToken, now: u64) -> Result<(), Fault> {
    // Compared even if there is nothing to compare with, so that time does not tell which ids exist.
    let nothing = TokenHash([0; 32]);
    let same = kept.map_or(nothing, |record| record.hash) == shown.hash();
    let Some(record) = kept.filter(|_| same) else {
        return Err(Fault::CredentialInvalid { reason: "it is not known here".to_owned() });
    };
    let (id, holder) = (record.id.to_string(), record.who());
    if record.revoked.is_some() {
        return Err(Fault::CredentialRevoked { id, holder });
    }
    if record.expires.is_some_and(|end| end <= now) {
        return Err(Fault::CredentialExpired { id, holder });
    }
    Ok(())
}

/// There is no room for another.
pub(super) fn too_many(most: usize) -> Fault {
    let reason = format!("there are {most} tokens already: revoke some; they are forgotten 90 days later");
    Fault::FieldsInvalid(vec![FieldFault { field: "id".to_owned(), reason }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> AccessToken {
        AccessToken::draw("gpu-7".parse().unwrap()).unwrap()
    }

    fn record(token: &AccessToken) -> Record {
        Record {
            id: token.id(),
            holder: token.holder().clone(),
            role: Role::Worker,
            hash: token.hash(),
            created: 1000,
            expires: Some(2000),
            revoked: None,
        }
    }

    #[test]
    fn only_the_very_token_is_good_and_only_in_its_time() {
        let shown = token();
        let kept = record(&shown);
        let revoked = Record { revoked: Some(1500), ..kept.clone() };
        let endless = Record { expires: None, ..kept.clone() };
        let reason = |kept, now| judge(kept, &shown, now).map_err(|fault| fault.reason());
        assert_eq!(reason(Some(&kept), 1999), Ok(()));
        assert_eq!(reason(Some(&kept), 2000), Err("CREDENTIAL_EXPIRED"));
        assert_eq!(reason(Some(&endless), u64::MAX), Ok(()));
        // A clock before the token was made is no reason to lock everyone out.
        assert_eq!(reason(Some(&kept), 0), Ok(()));
        assert_eq!(reason(Some(&revoked), 1999), Err("CREDENTIAL_REVOKED"));
        assert_eq!(reason(Some(&revoked), 2000), Err("CREDENTIAL_REVOKED"));
        assert_eq!(reason(None, 1999), Err("CREDENTIAL_INVALID"));
    }

    #[test]
    fn no_clock_and_no_lifetime_is_beyond_reckoning() {
        // 1970, 2106 when 32 bits are full, and the end of what can be written.
        for now in [0, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            for lifetime in [None, Some(1), Some(u64::MAX)] {
                let shown = token();
                let lifetime = lifetime.map(std::time::Duration::from_secs);
                let new = NewToken {
                    id: shown.id(),
                    holder: shown.holder().clone(),
                    role: Role::User,
                    hash: shown.hash(),
                    lifetime,
                };
                let kept = Record::new(new.clone(), now);
                let lives = lifetime.is_none() || now < u64::MAX;
                assert_eq!(judge(Some(&kept), &shown, now).is_ok(), lives, "{now} {lifetime:?}");
                assert_eq!(kept.died(now).is_none(), lives);
                // A clock that was set back takes nobody's token away, and one far ahead takes all that end.
                assert!(judge(Some(&kept), &shown, 0).is_ok() || lifetime.is_some_and(|_| kept.expires == Some(0)));
                assert_eq!(judge(Some(&kept), &shown, u64::MAX).is_ok(), lifetime.is_none());
                assert!(kept.was_made_by(&new) || now.checked_add(lifetime.unwrap_or_default().as_secs()).is_none());
            }
        }
        let shown = token();
        let backwards = Record { created: 2000, expires: Some(1000), ..record(&shown) };
        let new = NewToken {
            id: shown.id(),
            holder: shown.holder().clone(),
            role: Role::Worker,
            hash: shown.hash(),
            lifetime: Some(std::time::Duration::from_secs(1)),
        };
        assert!(!backwards.was_made_by(&new));
    }

    #[test]
    fn a_stranger_with_the_right_id_learns_nothing_of_the_token() {
        let (shown, other) = (token(), token());
        let revoked = Record { hash: other.hash(), revoked: Some(1), ..record(&shown) };
        let fault = judge(Some(&revoked), &shown, 1).unwrap_err();
        assert_eq!(fault, judge(None, &shown, 1).unwrap_err());
    }
}
