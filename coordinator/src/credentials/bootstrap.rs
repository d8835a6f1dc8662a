//! The first operator's token: someone must be able to make the others.

use std::path::Path;

use paceline_proto::access::{AccessToken, Role};
use paceline_proto::fault::Fault;
use paceline_proto::model::{NewToken, Revocation};

use super::{Credentials, CredentialsError, file, now};

/// Who holds it.
const HOLDER: &str = "bootstrap";

impl Credentials {
    /// Writes an operator's token to this file if no operator has one, or if a new one is wished for; then those written
    /// before are revoked. Answers whether it did. Blocks on the disk.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub(crate) fn bootstrap(&self, path: &Path, renew: bool) -> Result<bool, CredentialsError> {
        let now = now();
        let operators: Vec<_> =
            self.list().into_iter().filter(|info| info.role == Role::Operator && info.is_live(now)).collect();
        if !renew && !operators.is_empty() {
            return Ok(false);
        }
        let failed = |reason: String| CredentialsError::Io { path: path.into(), reason };
        let told = |fault: Fault| failed(fault.to_string());
        let holder = HOLDER.parse().expect("a name of small letters");
        let token =
            AccessToken::draw(holder).map_err(|error| CredentialsError::NoRandomness { reason: error.to_string() })?;
        // First the file: a token that is known but written nowhere would look like an operator at the next start.
        file::replace(path, format!("{}\n", token.text().expose()).as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let (id, holder, hash) = (token.id(), token.holder().clone(), token.hash());
        self.create(NewToken { id, holder, role: Role::Operator, hash, lifetime: None }).map_err(told)?;
        for old in operators.into_iter().filter(|info| info.holder.as_str() == HOLDER) {
            self.revoke(&Revocation::Token(old.id)).map_err(told)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(path: &Path) -> AccessToken {
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn the_first_operator_gets_a_token_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        let kept = folder.path().join("credentials.json");
        let credentials = Credentials::open(Some(kept.clone())).unwrap();
        assert!(credentials.bootstrap(&path, false).unwrap());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = read(&path);
        assert_eq!(credentials.check(&first).unwrap().role, Role::Operator);

        let credentials = Credentials::open(Some(kept)).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!credentials.bootstrap(&path, false).unwrap(), "it was taken away on purpose");
        assert!(!path.exists());

        assert!(credentials.bootstrap(&path, true).unwrap(), "a new one was wished for");
        assert!(matches!(credentials.check(&first), Err(Fault::CredentialRevoked { .. })));
        assert!(credentials.check(&read(&path)).is_ok());
    }

    #[test]
    fn a_cluster_whose_last_operator_is_gone_gets_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        let credentials = Credentials::open(None).unwrap();
        credentials.bootstrap(&path, false).unwrap();
        let first = read(&path);
        credentials.revoke(&Revocation::Token(first.id())).unwrap();
        assert!(credentials.bootstrap(&path, false).unwrap());
        assert!(credentials.check(&read(&path)).is_ok() && credentials.check(&first).is_err());
    }
}
