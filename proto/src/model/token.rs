//! Tokens as an operator sees them.

use std::time::Duration;

use crate::access::{Holder, Role, TokenHash, TokenId};

/// What is known of a token. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its name in lists.
    pub id: TokenId,
    /// Who it was made for.
    pub holder: Holder,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created: u64,
    /// When it ends; never, if `None`.
    pub expires: Option<u64>,
    /// When it was taken back, if it was.
    pub revoked: Option<u64>,
    /// When it was shown last, since this start of the coordinator.
    pub last_used: Option<u64>,
}

impl TokenInfo {
    /// Whether it is good at a time.
    pub fn is_live(&self, now: u64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }
}

/// A token to be made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its name in lists.
    pub id: TokenId,
    /// Who it is for.
    pub holder: Holder,
    /// What it allows.
    pub role: Role,
    /// Of its whole text.
    pub hash: TokenHash,
    /// How long it is good, in whole seconds; for ever, if `None`.
    pub lifetime: Option<Duration>,
}

/// Which tokens are to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// This one.
    Token(TokenId),
    /// All of role worker of this holder.
    Worker(Holder),
}
