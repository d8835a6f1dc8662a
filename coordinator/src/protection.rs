//! Flags about TLS and about who is let in, and the rule that nobody serves other machines by accident.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use paceline_coordinator::{Security, TlsFiles};
use paceline_proto::tls::pair;

use crate::exit::{CONFIG, Failure};

/// How often an operator is told that the coordinator serves other machines without protection.
const REMINDER: Duration = Duration::from_secs(60);

/// Flags about TLS and about who is let in.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Security (docs/security.md)")]
pub(crate) struct ProtectionArguments {
    /// Certificate of this coordinator, with its chain, in PEM: turns TLS on; read again when it changes
    #[arg(long, value_name = "FILE", env = "PACELINE_SERVER_CERT")]
    cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "PACELINE_SERVER_KEY")]
    key: Option<PathBuf>,

    /// Authorities of clients: every client must show a certificate of one of them
    #[arg(long, value_name = "FILE", env = "PACELINE_CLIENT_CA")]
    client_ca: Option<PathBuf>,

    /// Revocation lists of those authorities, in PEM
    #[arg(long, value_name = "FILE", env = "PACELINE_CLIENT_CRL")]
    client_crl: Option<PathBuf>,

    /// Who is asked for a token: everyone (tokens), nobody (none), or everyone if --cert is given (auto)
    #[arg(long, value_name = "WHO", env = "PACELINE_AUTH", value_enum, default_value_t)]
    auth: Auth,

    /// Where the first operator's token is written [default: operator.token in the folder of the store]
    #[arg(long, value_name = "FILE", env = "PACELINE_OPERATOR_TOKEN")]
    operator_token: Option<PathBuf>,

    /// Write a new operator's token, for when the last one was lost; the one written before is revoked
    #[arg(long)]
    new_operator_token: bool,

    /// Allow listening beyond this machine in plain text and without credentials
    #[arg(long, env = "PACELINE_INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,
}

/// Who is asked for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Auth {
    /// Everyone if TLS is spoken, else nobody.
    #[default]
    Auto,
    /// Everyone.
    Tokens,
    /// Nobody.
    None,
}

/// Checked flags.
#[derive(Clone, Debug)]
pub(crate) struct Protection {
    pub(crate) security: Security,
    pub(crate) insecure: bool,
}

impl TryFrom<ProtectionArguments> for Protection {
    type Error = Failure;

    fn try_from(arguments: ProtectionArguments) -> Result<Self, Failure> {
        let ProtectionArguments {
            cert,
            key,
            client_ca,
            client_crl,
            auth,
            operator_token,
            new_operator_token,
            insecure,
        } = arguments;
        let own = pair(("--cert", cert), ("--key", key)).map_err(|error| Failure::new(CONFIG, error.to_string()))?;
        let lone = |given, missing, why| Failure::new(CONFIG, format!("{given} needs {missing}: {why}"));
        if client_ca.is_some() && own.is_none() {
            return Err(lone("--client-ca", "--cert and --key", "clients show certificates in TLS only"));
        }
        if client_crl.is_some() && client_ca.is_none() {
            return Err(lone("--client-crl", "--client-ca", "only certificates that are asked for can be revoked"));
        }
        let tls = own.map(|(certificate, key)| TlsFiles { certificate, key, client_ca, client_crl });
        let asks = match auth {
            Auth::Auto => tls.is_some(),
            Auth::Tokens => true,
            Auth::None => false,
        };
        let flag = [
            operator_token.is_some().then_some("--operator-token"),
            new_operator_token.then_some("--new-operator-token"),
        ];
        if let (false, Some(given)) = (asks, flag.into_iter().flatten().next()) {
            return Err(lone(given, "--auth tokens", "nobody is asked for a token otherwise"));
        }
        let renew_operator_token = new_operator_token;
        let security = Security { tls, asks, operator_token, renew_operator_token, ..Security::default() };
        Ok(Self { security, insecure })
    }
}

impl Protection {
    /// Refuses to serve other machines by accident; answers what to warn of, if it is on purpose.
    pub(crate) fn allow(&self, addresses: &[SocketAddr]) -> Result<Option<String>, Failure> {
        let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) else { return Ok(None) };
        let gap = match (&self.security.tls, self.security.asks) {
            (None, false) => "in plain text and without credentials",
            (None, true) => "in plain text, tokens included",
            (Some(TlsFiles { client_ca: None, .. }), false) => "without credentials",
            (Some(_), _) => return Ok(None),
        };
        if self.insecure {
            return Ok(Some(format!("serving other machines at {open} {gap}, because --insecure was said")));
        }
        let cure = "name --cert and --key (docs/security.md tells how to make them), listen on 127.0.0.1, or say \
                    --insecure if everyone in the network is trusted";
        Err(Failure::new(CONFIG, format!("{open} can be reached from other machines, {gap}: {cure}")))
    }
}

/// Says a warning now and every minute, for as long as it is true.
pub(crate) async fn remind(warning: String) {
    let mut minutes = tokio::time::interval(REMINDER);
    loop {
        minutes.tick().await;
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        protection: ProtectionArguments,
    }

    fn protection(arguments: &[&str]) -> Result<Protection, Failure> {
        let all = std::iter::once("x").chain(arguments.iter().copied());
        Only::try_parse_from(all).unwrap().protection.try_into()
    }

    const TLS: [&str; 4] = ["--cert", "c.pem", "--key", "k.pem"];

    #[test]
    fn other_machines_are_served_only_on_purpose() {
        let loopback: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        let open: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "0.0.0.0:1".parse().unwrap()];
        let insecure = ["--insecure"];
        for (arguments, here, beyond) in [
            (&[][..], Ok(false), Err(())),
            (&insecure[..], Ok(false), Ok(true)),
            (&TLS[..], Ok(false), Ok(false)),
            (&[&TLS[..], &insecure[..]].concat(), Ok(false), Ok(false)),
            (&["--auth", "tokens"], Ok(false), Err(())),
            (&[&TLS[..], &["--auth", "none"]].concat(), Ok(false), Err(())),
            (&[&TLS[..], &["--auth", "none", "--insecure"]].concat(), Ok(false), Ok(true)),
            (&[&TLS[..], &["--auth", "none", "--client-ca", "ca.pem"]].concat(), Ok(false), Ok(false)),
        ] {
            let protection = protection(arguments).unwrap();
            let warned = |addresses| protection.allow(addresses).map(|warning| warning.is_some()).map_err(|_| ());
            assert_eq!((warned(&loopback), warned(&open)), (here, beyond), "{arguments:?}");
        }
        let failure = protection(&[]).unwrap().allow(&open).unwrap_err();
        assert!(failure.code == CONFIG && failure.message.contains("--insecure"), "{failure}");
    }

    #[test]
    fn callers_are_asked_where_tls_is_spoken() {
        let asks = |arguments: &[&str]| protection(arguments).unwrap().security.asks;
        assert!(!asks(&[]) && asks(&TLS) && asks(&["--auth", "tokens"]));
        assert!(!asks(&[&TLS[..], &["--auth", "none"]].concat()));
    }

    #[test]
    fn halves_are_refused_by_name() {
        for (arguments, given, missing) in [
            (&["--cert", "c.pem"][..], "--cert", "--key"),
            (&["--key", "k.pem"], "--key", "--cert"),
            (&["--client-ca", "ca.pem"], "--client-ca", "--cert"),
            (&["--new-operator-token"], "--new-operator-token", "--auth"),
            (&["--operator-token", "t"], "--operator-token", "--auth"),
            (&[&TLS[..], &["--client-crl", "crl.pem"]].concat(), "--client-crl", "--client-ca"),
        ] {
            let failure = protection(arguments).unwrap_err();
            assert_eq!(failure.code, CONFIG);
            assert!(failure.message.contains(given) && failure.message.contains(missing), "{failure}");
        }
        assert!(protection(&[&TLS[..], &["--client-ca", "ca.pem", "--client-crl", "crl.pem"]].concat()).is_ok());
    }
}
