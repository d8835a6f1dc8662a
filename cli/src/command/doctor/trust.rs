//! What is trusted and shown at a coordinator: certificates, key, token.

use std::path::Path;
use std::time::{Duration, SystemTime};

use paceline_proto::client::TokenSource;
use paceline_proto::tls::{Source, TlsError, Trust, Validity, client_config};

use super::check::Check;

/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The files of `--ca`, `--cert` and `--key`: whole, fitting, and for how long.
pub(super) fn certificates(trust: &Trust, now: SystemTime) -> Check {
    const NAME: &str = "certificates";
    if trust.is_empty() {
        return Check::ok(NAME, "none named: the authorities of the system are trusted, no certificate is shown");
    }
    match lives(trust) {
        Err(error) => Check::fail(NAME, error.to_string(), "docs/security.md tells how they are made"),
        Ok(lives) => {
            let checks = lives.iter().map(|life| judge(life, now));
            checks.max_by_key(|check| check.outcome as u8).expect("a key without a certificate is refused")
        }
    }
}

/// How long the first certificate of a file holds.
struct Life {
    what: String,
    validity: Validity,
}

/// Of each file with certificates, once all files are known to go together.
fn lives(trust: &Trust) -> Result<Vec<Life>, TlsError> {
    client_config(trust)?;
    let files = [("authority", trust.ca.as_deref()), ("certificate", trust.certificate.as_deref())];
    let named = files.into_iter().filter_map(|(what, path)| Some((what, path?)));
    let life = |(what, path): (&'static str, &Path)| {
        Ok(Life { validity: Source::read(what, path)?.validity()?, what: format!("{what} {}", path.display()) })
    };
    named.map(life).collect()
}

fn judge(life: &Life, now: SystemTime) -> Check {
    const NAME: &str = "certificates";
    const CURE: &str = "make a new one (docs/security.md); workers and `paceline` take it up without a restart";
    let now =
        now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let Life { what, validity: Validity { begins, ends } } = life;
    let days = (ends - now) / (24 * 3600);
    if now < *begins {
        Check::fail(NAME, format!("{what} is not valid yet"), "is the clock right? Else wait, or make a new one")
    } else if now >= *ends {
        Check::fail(NAME, format!("{what} has expired"), CURE)
    } else if days < (SOON.as_secs() / (24 * 3600)).cast_signed() {
        Check::warn(NAME, format!("{what} expires in {days} days"), CURE)
    } else {
        Check::ok(NAME, format!("{what} is good for {days} days"))
    }
}

/// The token of `--token-file` or `PACELINE_TOKEN`: there, whole, and for its owner's eyes only.
pub(super) fn token(source: &TokenSource) -> Check {
    const NAME: &str = "token";
    let found = match source.read() {
        Err(error) => return Check::fail(NAME, error.to_string(), "an operator makes one: `paceline token create`"),
        Ok(None) => return Check::ok(NAME, "none; a coordinator that speaks TLS asks for one"),
        Ok(Some(token)) => format!("{} of {}", token.id(), token.holder()),
    };
    match source {
        TokenSource::File(path) if open_to_others(path) => {
            let cure = format!("chmod 600 {}", path.display());
            Check::warn(NAME, format!("{found}, but others can read {}", path.display()), cure)
        }
        _ => Check::ok(NAME, found),
    }
}

fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn certificates_are_judged_by_how_long_they_hold() {
        let life = Life { what: "certificate c.pem".into(), validity: Validity { begins: 100 * DAY, ends: 200 * DAY } };
        let on = |day: i64| {
            let check = judge(&life, SystemTime::UNIX_EPOCH + Duration::from_secs((day * DAY).cast_unsigned()));
            (check.outcome, check.found)
        };
        assert_eq!(on(99), (Outcome::Fail, "certificate c.pem is not valid yet".into()));
        assert_eq!(on(100), (Outcome::Ok, "certificate c.pem is good for 100 days".into()));
        assert_eq!(on(171), (Outcome::Warn, "certificate c.pem expires in 29 days".into()));
        assert_eq!(on(200), (Outcome::Fail, "certificate c.pem has expired".into()));
    }

    #[test]
    fn files_are_read_and_the_worst_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut request = rcgen::CertificateParams::new(vec!["me".to_owned()]).expect("a request");
        let good = request.clone().self_signed(&key).expect("signed").pem();
        request.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let old = request.self_signed(&key).expect("signed").pem();
        let (good, old, key) =
            (write("good.pem", &good), write("old.pem", &old), write("key.pem", &key.serialize_pem()));
        let now = SystemTime::now();
        let check = |ca: &Path, certificate: Option<&Path>| {
            let own = certificate.map(Path::to_owned);
            certificates(&Trust { ca: Some(ca.into()), key: own.as_ref().map(|_| key.clone()), certificate: own }, now)
        };
        assert_eq!(check(&good, None).outcome, Outcome::Ok);
        let worst = check(&good, Some(&old));
        assert!(worst.outcome == Outcome::Fail && worst.found.contains("old.pem has expired"), "{worst:?}");
        let torn = write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert_eq!(check(&torn, None).outcome, Outcome::Fail);
        assert_eq!(certificates(&Trust::default(), now).outcome, Outcome::Ok);
    }

    #[test]
    fn a_token_that_others_can_read_is_worth_a_warning() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let token = paceline_proto::access::AccessToken::draw("ann".parse().expect("a name")).expect("drawn");
        std::fs::write(file.path(), token.text().expose()).expect("written");
        let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("set");
        let source = TokenSource::File(file.path().into());
        mode(0o600);
        let check = super::token(&source);
        assert!(check.outcome == Outcome::Ok && check.found.contains("ann"), "{check:?}");
        mode(0o644);
        let check = super::token(&source);
        assert!(check.outcome == Outcome::Warn && !check.found.contains(token.text().expose()), "{check:?}");
        std::fs::write(file.path(), "nonsense").expect("written");
        assert_eq!(super::token(&source).outcome, Outcome::Fail);
    }
}
