//! Tokens between wire and model.

use std::time::Duration;

use super::{Converted, ProtocolError};
use crate::access::{Role, TokenHash};
use crate::model::{NewToken, Revocation, TokenInfo};
use crate::pb;

/// Longest a token may be good: a hundred years, so that no sum of times overflows.
const LONGEST_LIFETIME_S: u64 = 100 * 366 * 24 * 3600;

fn parsed<T: std::str::FromStr>(text: &str, field: &'static str) -> Converted<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ProtocolError::invalid(field, error.to_string()))
}

fn role(number: i32) -> Converted<Role> {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Worker) => Ok(Role::Worker),
        Ok(pb::Role::User) => Ok(Role::User),
        Ok(pb::Role::Operator) => Ok(Role::Operator),
        Ok(pb::Role::Unspecified) => Err(ProtocolError::Missing { field: "role".into() }),
        Err(_) => Err(ProtocolError::invalid("role", format!("{number} is not known"))),
    }
}

impl From<Role> for pb::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Worker => Self::Worker,
            Role::User => Self::User,
            Role::Operator => Self::Operator,
        }
    }
}

impl TryFrom<pb::TokenInfo> for TokenInfo {
    type Error = ProtocolError;

    fn try_from(info: pb::TokenInfo) -> Converted<Self> {
        Ok(Self {
            id: parsed(&info.id, "id")?,
            holder: parsed(&info.holder, "holder")?,
            role: role(info.role)?,
            created: info.created,
            expires: info.expires,
            revoked: info.revoked,
            last_used: info.last_used,
        })
    }
}

impl From<TokenInfo> for pb::TokenInfo {
    fn from(info: TokenInfo) -> Self {
        Self {
            id: info.id.to_string(),
            holder: info.holder.to_string(),
            role: pb::Role::from(info.role).into(),
            created: info.created,
            expires: info.expires,
            revoked: info.revoked,
            last_used: info.last_used,
        }
    }
}

impl TryFrom<pb::CreateTokenRequest> for NewToken {
    type Error = ProtocolError;

    fn try_from(request: pb::CreateTokenRequest) -> Converted<Self> {
        let hash = request.sha256.as_ref().try_into().map(TokenHash);
        let hash = hash
            .map_err(|_| ProtocolError::invalid("sha256", format!("must be 32 bytes, got {}", request.sha256.len())))?;
        let lifetime = match request.lifetime_s {
            Some(seconds) if !(1..=LONGEST_LIFETIME_S).contains(&seconds) => {
                let reason = format!("must be 1 to {LONGEST_LIFETIME_S}, got {seconds}");
                return Err(ProtocolError::invalid("lifetime_s", reason));
            }
            lifetime => lifetime.map(Duration::from_secs),
        };
        let id = parsed(&request.id, "id")?;
        Ok(Self { id, holder: parsed(&request.holder, "holder")?, role: role(request.role)?, hash, lifetime })
    }
}

impl From<NewToken> for pb::CreateTokenRequest {
    fn from(token: NewToken) -> Self {
        Self {
            id: token.id.to_string(),
            holder: token.holder.to_string(),
            role: pb::Role::from(token.role).into(),
            sha256: token.hash.0.to_vec().into(),
            lifetime_s: token.lifetime.map(|lifetime| lifetime.as_secs()),
        }
    }
}

impl TryFrom<pb::RevokeTokensRequest> for Revocation {
    type Error = ProtocolError;

    fn try_from(request: pb::RevokeTokensRequest) -> Converted<Self> {
        use pb::revoke_tokens_request::Which;
        match request.which.ok_or_else(|| ProtocolError::Missing { field: "which".into() })? {
            Which::Id(id) => parsed(&id, "id").map(Self::Token),
            Which::Worker(worker) => parsed(&worker, "worker").map(Self::Worker),
        }
    }
}

impl From<Revocation> for pb::RevokeTokensRequest {
    fn from(revocation: Revocation) -> Self {
        use pb::revoke_tokens_request::Which;
        Self {
            which: Some(match revocation {
                Revocation::Token(id) => Which::Id(id.to_string()),
                Revocation::Worker(worker) => Which::Worker(worker.to_string()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> pb::CreateTokenRequest {
        pb::CreateTokenRequest {
            id: "1f2e3d4c".into(),
            holder: "gpu-7".into(),
            role: pb::Role::Worker.into(),
            sha256: vec![7; 32].into(),
            lifetime_s: Some(60),
        }
    }

    #[test]
    fn a_sound_request_keeps_its_meaning() {
        let token = NewToken::try_from(request()).unwrap();
        assert_eq!((token.role, token.lifetime), (Role::Worker, Some(Duration::from_secs(60))));
        assert_eq!(pb::CreateTokenRequest::from(token), request());
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut pb::CreateTokenRequest);
        let table: [(&str, Spoil); 12] = [
            ("id", |r| r.id.clear()),
            ("id", |r| r.id = "1F2E3D4C".into()),
            ("id", |r| r.id = "1f2e3d4".into()),
            ("holder", |r| r.holder.clear()),
            ("holder", |r| r.holder = "../../etc/passwd".into()),
            ("holder", |r| r.holder = "a".repeat(10_000)),
            ("holder", |r| r.holder = "\u{1f980}\0".into()),
            ("role", |r| r.role = 0),
            ("role", |r| r.role = -1),
            ("role", |r| r.role = 99),
            ("sha256", |r| r.sha256 = vec![7; 31].into()),
            ("lifetime_s", |r| r.lifetime_s = Some(0)),
        ];
        for (field, spoil) in table {
            let mut wrong = request();
            spoil(&mut wrong);
            let error = NewToken::try_from(wrong).unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
        }
        assert!(NewToken::try_from(pb::CreateTokenRequest { lifetime_s: Some(u64::MAX), ..request() }).is_err());
        assert!(Revocation::try_from(pb::RevokeTokensRequest { which: None }).is_err());
    }
}
