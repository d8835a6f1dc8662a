//! Who calls.
//!
//! ```text
//!  certificate with URI:paceline:ROLE/NAME ─┐
//!                                           ├─ one, or both of the same role and name ─► Known
//!  token ───────────────────────────────────┘
//! ```

use std::fmt;

use paceline_proto::access::{Holder, Role, TokenId};
use paceline_proto::fault::Fault;
use paceline_proto::model::WorkerId;
use rustls::pki_types::CertificateDer;
use tonic::Request;

/// How a certificate names its holder: a URI among its subject's alternative names.
const SCHEME: &str = "paceline:";

/// Someone whose name is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) role: Role,
    pub(crate) holder: Holder,
    /// The token shown; `None` if a certificate was enough.
    pub(crate) token: Option<TokenId>,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.holder)
    }
}

/// Who calls, as services see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody is asked here, and everybody may do everything.
    Anyone,
    /// Asked, and a method for strangers.
    Stranger,
    /// Asked and known.
    Known(Known),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Stranger => f.write_str("stranger"),
            Self::Known(known) => known.fmt(f),
        }
    }
}

impl Caller {
    /// Of a call that passed the gate.
    ///
    /// # Errors
    /// [`Fault::Internal`] if it passed none.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Fault> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Fault::Internal { reason: "a call passed no gate".to_owned() })
    }

    /// Whether a worker of this id may be the caller's. Leases are bound to worker ids, so this binds them to whoever
    /// holds the worker's token.
    ///
    /// # Errors
    /// [`Fault::WorkerForeign`].
    pub(crate) fn owns(&self, worker: &WorkerId) -> Result<(), Fault> {
        let holder = match self {
            Self::Anyone => return Ok(()),
            Self::Known(known) if known.holder.may_be(worker.as_str()) => return Ok(()),
            Self::Known(known) => known.holder.to_string(),
            Self::Stranger => "a stranger".to_owned(),
        };
        Err(Fault::WorkerForeign { worker: worker.clone(), holder })
    }
}

/// Whom a certificate names, if it names anyone.
///
/// # Errors
/// [`Fault::CredentialInvalid`] if what it names cannot be a holder.
pub(crate) fn named(certificate: &CertificateDer<'_>) -> Result<Option<(Role, Holder)>, Fault> {
    let invalid = |reason: String| Fault::CredentialInvalid { reason };
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|error| invalid(error.to_string()))?;
    certificate.valid_uri_names().find_map(|uri| uri.strip_prefix(SCHEME)).map(holder_in).transpose()
}

fn holder_in(name: &str) -> Result<(Role, Holder), Fault> {
    let parse = || {
        let (role, holder) = name.split_once('/')?;
        Some((role.parse().ok()?, holder.parse().ok()?))
    };
    parse().ok_or_else(|| Fault::CredentialInvalid {
        reason: format!("its certificate names {SCHEME}{}, which is not {SCHEME}ROLE/NAME", name.escape_default()),
    })
}

/// Who calls, from what the certificate names and who the token is; `None` is a stranger.
///
/// # Errors
/// [`Fault::CredentialMismatch`] if they are two.
pub(crate) fn unite(certificate: Option<(Role, Holder)>, token: Option<Known>) -> Result<Option<Known>, Fault> {
    let named = certificate.map(|(role, holder)| Known { role, holder, token: None });
    match (named, token) {
        (Some(named), Some(token)) if (named.role, &named.holder) != (token.role, &token.holder) => {
            Err(Fault::CredentialMismatch { certificate: named.to_string(), token: token.to_string() })
        }
        (_, Some(token)) => Ok(Some(token)),
        (named, None) => Ok(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(role: Role, holder: &str) -> Known {
        Known { role, holder: holder.parse().unwrap(), token: Some("1f2e3d4c".parse().unwrap()) }
    }

    #[test]
    fn certificate_and_token_must_be_of_one_holder() {
        let token = known(Role::Worker, "gpu-7");
        let named = |role, holder: &str| Some((role, holder.parse().unwrap()));
        assert_eq!(unite(None, None), Ok(None));
        assert_eq!(unite(None, Some(token.clone())), Ok(Some(token.clone())));
        assert_eq!(unite(named(Role::Worker, "gpu-7"), Some(token.clone())), Ok(Some(token.clone())));
        let alone = unite(named(Role::User, "ann"), None).unwrap().unwrap();
        assert_eq!((alone.role, alone.holder.as_str(), alone.token), (Role::User, "ann", None));
        for other in [named(Role::Worker, "gpu-8"), named(Role::Operator, "gpu-7")] {
            assert!(matches!(unite(other, Some(token.clone())), Err(Fault::CredentialMismatch { .. })));
        }
    }

    #[test]
    fn names_in_certificates_are_read_strictly() {
        let (role, holder) = holder_in("worker/gpu-7").unwrap();
        assert_eq!((role, holder.as_str()), (Role::Worker, "gpu-7"));
        for name in ["", "worker", "worker/", "root/x", "worker/a/b", "Worker/a", "worker/A", "worker/../x", "/x"] {
            assert!(matches!(holder_in(name), Err(Fault::CredentialInvalid { .. })), "{name}");
        }
    }

    #[test]
    fn a_worker_is_its_holders_own() {
        let caller = Caller::Known(known(Role::Worker, "gpu-7"));
        let owns = |caller: &Caller, worker: &str| caller.owns(&worker.parse().unwrap()).is_ok();
        assert!(owns(&caller, "gpu-7") && owns(&caller, "gpu-7.host-1"));
        assert!(!owns(&caller, "gpu-70") && !owns(&caller, "gpu-8"));
        assert!(owns(&Caller::Anyone, "gpu-8") && !owns(&Caller::Stranger, "gpu-8"));
    }
}
