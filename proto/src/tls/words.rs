//! What went wrong in TLS, in words, with the cure.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

/// The TLS error somewhere beneath an error, if there is one.
pub fn in_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error hides the error it was made of from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whose fault it is, in words: the message, and what to do.
pub fn explain(error: &rustls::Error) -> (String, &'static str) {
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            (format!("the peer's certificate {}", of_certificate(fault)), cure(fault))
        }
        rustls::Error::NoCertificatesPresented => {
            ("the peer shows no certificate".to_owned(), "give it a certificate of the authority that is trusted here")
        }
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => {
            ("the peer does not speak TLS".to_owned(), "write https:// where TLS is spoken, http:// where it is not")
        }
        rustls::Error::PeerIncompatible(_) => {
            (error.to_string(), "both sides need TLS 1.2 or 1.3 with a modern cipher suite")
        }
        other => (other.to_string(), "look at the other side's log"),
    }
}

/// What is wrong with a certificate, to be said after its name.
pub fn of_certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet".to_owned(),
        CertificateError::UnknownIssuer => "is not of an authority that is trusted here".to_owned(),
        CertificateError::Revoked => "is revoked".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is not for {} but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for this purpose".to_owned()
        }
        other => format!("is not valid: {other}"),
    }
}

fn cure(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew it, or set the clock",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "set the clock",
        CertificateError::UnknownIssuer => "name the authority that signed it, or have it signed by the right one",
        CertificateError::Revoked => "make a new one",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "call it by a name in its certificate, or make a certificate with this name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "servers need extendedKeyUsage serverAuth, clients clientAuth"
        }
        _ => "make a new one",
    }
}

fn of_alert(alert: AlertDescription) -> (String, &'static str) {
    let (what, cure) = match alert {
        AlertDescription::CertificateRequired => {
            ("it wants a certificate and was shown none", "name one with --cert FILE and --key FILE")
        }
        AlertDescription::CertificateExpired => {
            ("the certificate shown to it has expired", "renew it, or set the clock")
        }
        AlertDescription::CertificateRevoked => ("the certificate shown to it is revoked", "ask for a new one"),
        AlertDescription::UnknownCA => (
            "the certificate shown to it is of an authority that it does not trust",
            "use a certificate of the authority that it trusts",
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => {
            ("the certificate shown to it is not accepted", "look at the other side's log: it says why")
        }
        AlertDescription::NoApplicationProtocol => ("it does not speak HTTP/2 there", "is it a coordinator's address?"),
        AlertDescription::ProtocolVersion => ("it speaks no TLS version that is spoken here", "use TLS 1.2 or 1.3"),
        other => return (format!("the peer refuses: {other:?}"), "look at the other side's log"),
    };
    (format!("the peer refuses: {what}"), cure)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_is_found_beneath_others() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let within = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls.clone()));
        assert_eq!(in_error(&within), Some(&tls));
        assert_eq!(in_error(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn each_common_fault_has_a_cure_of_its_own() {
        let alert = rustls::Error::AlertReceived;
        let certificate = rustls::Error::InvalidCertificate;
        for (error, what, cure) in [
            (alert(AlertDescription::CertificateRequired), "shown none", "--cert"),
            (alert(AlertDescription::CertificateExpired), "expired", "renew"),
            (alert(AlertDescription::UnknownCA), "does not trust", "authority"),
            (certificate(CertificateError::Expired), "has expired", "renew"),
            (certificate(CertificateError::UnknownIssuer), "not of an authority", "name the authority"),
            (certificate(CertificateError::NotValidForName), "another name", "name in its certificate"),
            (certificate(CertificateError::Revoked), "is revoked", "new one"),
            (rustls::Error::NoCertificatesPresented, "no certificate", "give it"),
        ] {
            let (said, remedy) = explain(&error);
            assert!(said.contains(what) && remedy.contains(cure), "{error:?}: {said}; {remedy}");
        }
    }
}
