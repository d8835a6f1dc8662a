//! Who may do what: secrets, tokens and roles, as both ends of a connection know them.
//!
//! ```text
//!  AccessToken::draw ─► text, shown once ─► whoever it is for ─► "authorization: Bearer plt1.…" in every call
//!               └─────► SHA-256 ─► coordinator, which keeps nothing else
//! ```

mod secret;
mod token;

pub use secret::Secret;
pub use token::{AccessToken, Holder, InvalidHolder, InvalidRole, InvalidToken, Role, TokenHash, TokenId};
