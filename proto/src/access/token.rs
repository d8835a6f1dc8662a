//! Bearer tokens: drawn by whoever hands them out, kept as a hash by whoever checks them.
//!
//! ```text
//!  plt1.gpu-7.1f2e3d4c.0123…cdef
//!  │    │     │        └ secret: 256 random bits
//!  │    │     └ id: names the token in lists and logs
//!  │    └ holder: who it was made for
//!  └ says what this is, to people and to scanners of leaked secrets
//! ```
//!
//! The hash is SHA-256 of the whole text. It needs no salt and no slow hash: there are 2²⁵⁶ secrets to guess.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Secret;

/// First part of every token, with the version of its form.
const MARK: &str = "plt1";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Longest name of a holder: with a dot and a host's name it must fit into a worker's id.
const LONGEST_HOLDER: usize = 32;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes leases and reports results.
    Worker,
    /// Submits, watches and steers runs, pulls checkpoints.
    User,
    /// All that a user may, and hands out and revokes tokens.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Worker, Self::User, Self::Operator];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::User => "user",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("role {got:?}: write worker, user or operator")]
pub struct InvalidRole {
    /// The word.
    pub got: String,
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| InvalidRole { got: text.to_owned() })
    }
}

/// Who a token was made for: 1 to 32 characters of a-z, 0-9, '-' and '_'. There is no dot in it, so that the worker ids
/// of two holders never meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(String);

/// A text that can name no holder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name {got:?}: must be 1 to {LONGEST_HOLDER} characters of a-z, 0-9, '-' and '_'")]
pub struct InvalidHolder {
    /// The text, cut to 80 characters.
    pub got: String,
}

impl Holder {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a worker of this id may be this holder's: the id is the name, or begins with the name and a dot.
    pub fn may_be(&self, worker: &str) -> bool {
        worker.strip_prefix(self.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl FromStr for Holder {
    type Err = InvalidHolder;

    fn from_str(text: &str) -> Result<Self, InvalidHolder> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > LONGEST_HOLDER || !text.chars().all(allowed) {
            return Err(InvalidHolder { got: text.chars().take(80).collect() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names a token in lists and logs; no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(u32);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for TokenId {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.len() != 8 || !text.bytes().all(is_lower_hex) {
            return Err(InvalidToken::Id);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| InvalidToken::Id)
    }
}

/// Why a text is no token. Never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin like one.
    #[error("it does not have the form plt1.NAME.ID.SECRET: copy the whole line that was printed when it was made")]
    Form,
    /// Its id is none.
    #[error("its id is not 8 hexadecimal digits: copy the whole line that was printed when it was made")]
    Id,
    /// Its secret is cut or has other characters.
    #[error("its last part is not 64 hexadecimal digits: copy the whole line that was printed when it was made")]
    Secret,
}

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    holder: Holder,
    id: TokenId,
    text: Secret,
}

impl AccessToken {
    /// Draws a fresh one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn draw(holder: Holder) -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let id = TokenId(getrandom::u32()?);
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = Secret::new(format!("{MARK}.{holder}.{id}.{secret}"));
        Ok(Self { holder, id, text })
    }

    /// Who it was made for, as it says itself.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Its name in lists.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The whole text.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// What a coordinator keeps of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.expose()).into())
    }
}

impl FromStr for AccessToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.split('.').collect();
        let [MARK, holder, id, secret] = parts[..] else { return Err(InvalidToken::Form) };
        let holder = holder.parse().map_err(|_| InvalidToken::Form)?;
        let id = id.parse()?;
        if secret.len() != 2 * SECRET_BYTES || !secret.bytes().all(is_lower_hex) {
            return Err(InvalidToken::Secret);
        }
        Ok(Self { holder, id, text: Secret::new(text) })
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// SHA-256 of a token's text. Two are compared in constant time: how long it takes tells nothing.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(holder: &str) -> AccessToken {
        AccessToken::draw(holder.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_who_it_is_for_and_is_read_back() {
        let token = draw("gpu-7");
        let read: AccessToken = token.text().expose().parse().unwrap();
        assert_eq!((read.holder().as_str(), read.id()), ("gpu-7", token.id()));
        assert_eq!(read.hash(), token.hash());
        assert_ne!(draw("gpu-7").hash(), token.hash(), "each is drawn anew");
    }

    #[test]
    fn nothing_that_prints_shows_the_secret() {
        let token = draw("gpu-7");
        let secret = token.text().expose().rsplit('.').next().unwrap().to_owned();
        let shown = format!("{token:?} {:?} {}", token.hash(), token.id());
        assert!(!shown.contains(&secret[..8]), "{shown}");
        assert!(!InvalidToken::Secret.to_string().contains(&secret[..8]));
    }

    #[test]
    fn what_is_no_token_is_refused_by_its_part() {
        let good = draw("w").text().expose().to_owned();
        let (head, secret) = good.rsplit_once('.').unwrap();
        let table = [
            (String::new(), InvalidToken::Form),
            ("secret".into(), InvalidToken::Form),
            (good.replace("plt1", "plt2"), InvalidToken::Form),
            (good.replace(".w.", ".W.."), InvalidToken::Form),
            (good.replace(".w.", ".w/..x."), InvalidToken::Form),
            (format!("plt1.w.123.{secret}"), InvalidToken::Id),
            (format!("plt1.w.+1234567.{secret}"), InvalidToken::Id),
            (format!("{head}.{}", &secret[1..]), InvalidToken::Secret),
            (format!("{head}.{}", secret.to_uppercase().replace(char::is_numeric, "A")), InvalidToken::Secret),
            (format!("{good}\n"), InvalidToken::Secret),
            (format!("{good}.x"), InvalidToken::Form),
            ("\u{1f980}".repeat(10_000), InvalidToken::Form),
        ];
        for (text, fault) in table {
            assert_eq!(text.parse::<AccessToken>().unwrap_err(), fault, "{text:?}");
        }
    }

    #[test]
    fn names_are_short_and_have_no_dot() {
        for name in ["a", "gpu-7", "rack_3-node-12", &"x".repeat(32)] {
            assert_eq!(name.parse::<Holder>().unwrap().as_str(), name);
        }
        for name in ["", "GPU", "a.b", "a/b", "../x", "a b", "ü", "a\0", &"x".repeat(33)] {
            assert!(name.parse::<Holder>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_holder_has_its_own_workers_and_no_others() {
        let holder: Holder = "gpu".parse().unwrap();
        for own in ["gpu", "gpu.host-12-ab", "gpu."] {
            assert!(holder.may_be(own), "{own}");
        }
        for foreign in ["", "gp", "gpu-7", "gpu7.x", "other", "GPU", "x.gpu"] {
            assert!(!holder.may_be(foreign), "{foreign}");
        }
    }

    #[test]
    fn roles_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
