//! TLS: who is believed, who is not, and what both are told.

use std::fs;
use std::time::Duration;

use paceline_coordinator::{Security, TlsFiles};
use paceline_proto::client::{Access, Link, RunClient};
use paceline_proto::fault;
use paceline_proto::tls::Trust;
use tonic::Code;

use crate::authority::{Authority, Kind, Pair};
use crate::cluster::{Cluster, refused};

/// How often certificates are looked at here.
const LOOK: Duration = Duration::from_millis(50);
/// Longest that a change may take to show; generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn security(server: &Pair) -> Security {
    let files = TlsFiles {
        certificate: server.certificate.clone(),
        key: server.key.clone(),
        client_ca: None,
        client_crl: None,
    };
    Security { tls: Some(files), look_interval: LOOK, ..Security::default() }
}

pub(crate) fn access(authority: &Authority, own: Option<&Pair>) -> Access {
    let trust = Trust {
        ca: Some(authority.file()),
        certificate: own.map(|pair| pair.certificate.clone()),
        key: own.map(|pair| pair.key.clone()),
    };
    Access { trust, ..Access::default() }
}

/// A fresh connection to a cluster by a name.
pub(crate) fn fresh<L>(cluster: &Cluster<L>, name: &str, access: &Access) -> Link {
    access.link(&format!("https://{name}:{}", cluster.address.port())).unwrap()
}

async fn behind(security: Security, access: &Access) -> Cluster<Link> {
    Cluster::guarded(security, |address| access.link(&format!("https://localhost:{}", address.port())).unwrap()).await
}

#[tokio::test]
async fn a_coordinator_that_cannot_prove_its_name_is_not_called() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let sound = ours.sign(1, Kind::Server, &["localhost"]);
    let cluster = behind(security(&sound), &access(&ours, None)).await;
    assert_eq!(cluster.runs.list().await.unwrap(), []);
    let worker = cluster.register("w1").await;
    assert_eq!(cluster.workers.lease(&worker, Duration::ZERO, Vec::new()).await.unwrap(), None);

    let calls = |name: &'static str, authority: &Authority| {
        let runs = RunClient::new(fresh(&cluster, name, &access(authority, None)));
        async move { runs.list().await }
    };
    let status = refused(calls("localhost", &other).await, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    assert!(status.message().contains("not of an authority"), "{status:?}");
    let status = refused(calls("127.0.0.1", &ours).await, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    assert!(status.message().contains("is not for 127.0.0.1 but for"), "{status:?}");

    for (serial, kind, said) in [(2, Kind::ExpiredServer, "has expired"), (3, Kind::Client, "not for this purpose")] {
        let unsound = ours.sign(serial, kind, &["localhost"]);
        let cluster = behind(security(&unsound), &access(&ours, None)).await;
        let status = refused(cluster.runs.list().await, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
        assert!(status.message().contains(said), "{status:?}");
    }
}

#[tokio::test]
async fn a_client_that_cannot_prove_its_name_is_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let mut security = security(&ours.sign(1, Kind::Server, &["localhost"]));
    security.tls.as_mut().unwrap().client_ca = Some(ours.file());
    let client = ours.sign(2, Kind::Client, &["paceline:worker/w1"]);
    let cluster = behind(security, &access(&ours, Some(&client))).await;
    assert_eq!(cluster.runs.list().await.unwrap(), []);
    for (what, shown, said) in [
        ("none", None, "shown none"),
        ("of another authority", Some(other.sign(2, Kind::Client, &["a"])), "not trust"),
        ("expired", Some(ours.sign(3, Kind::ExpiredClient, &["a"])), "has expired"),
        ("of a server", Some(ours.sign(4, Kind::Server, &["a"])), "not accepted"),
    ] {
        let runs = RunClient::new(fresh(&cluster, "localhost", &access(&ours, shown.as_ref())));
        let status = refused(runs.list().await, Code::Unauthenticated, "CERTIFICATE_REFUSED");
        assert!(status.message().contains(said), "{what}: {status:?}");
    }
    assert_eq!(cluster.runs.list().await.unwrap(), [], "others go on meanwhile");
}

#[tokio::test]
async fn plain_text_and_tls_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let cluster = behind(security(&ours.sign(1, Kind::Server, &["localhost"])), &access(&ours, None)).await;
    let plain = Access::default().link(&cluster.address.to_string()).unwrap();
    let status = RunClient::new(plain).list().await.unwrap_err();
    assert!(fault::is_transient(&status), "{status:?}");
    assert_eq!(cluster.runs.list().await.unwrap(), []);

    let cluster = Cluster::start().await;
    let runs = RunClient::new(fresh(&cluster, "localhost", &access(&ours, None)));
    let status = refused(runs.list().await, Code::Unauthenticated, "TLS_FAILED");
    assert!(status.message().contains("does not speak TLS"), "{status:?}");
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(folder.path(), "first"), Authority::new(folder.path(), "second"));
    let shown = first.sign(1, Kind::Server, &["localhost"]);
    let cluster = behind(security(&shown), &access(&first, None)).await;
    assert_eq!(cluster.runs.list().await.unwrap(), []);

    // Half a renewal cannot be used: the old certificate stays.
    let renewed = second.sign(2, Kind::Server, &["localhost"]);
    fs::copy(&renewed.certificate, &shown.certificate).unwrap();
    let lists = |authority: &Authority| {
        let runs = RunClient::new(fresh(&cluster, "localhost", &access(authority, None)));
        async move { runs.list().await }
    };
    tokio::time::sleep(LOOK * 4).await;
    assert_eq!(lists(&first).await.unwrap(), []);

    fs::copy(&renewed.key, &shown.key).unwrap();
    let shows = async {
        while lists(&second).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, shows).await.expect("the new certificate is shown");
    refused(lists(&first).await, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    assert_eq!(cluster.runs.list().await.unwrap(), [], "a connection made before lives on");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_the_connection_it_opened() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let mut security = security(&ours.sign(1, Kind::Server, &["localhost"]));
    let files = security.tls.as_mut().unwrap();
    files.client_ca = Some(ours.file());
    files.client_crl = Some(ours.revoke(&[77]));
    let (kept, revoked) = (ours.sign(2, Kind::Client, &["a"]), ours.sign(3, Kind::Client, &["b"]));
    let cluster = behind(security, &access(&ours, Some(&kept))).await;
    let other = RunClient::new(fresh(&cluster, "localhost", &access(&ours, Some(&revoked))));
    assert_eq!((cluster.runs.list().await.unwrap(), other.list().await.unwrap()), (vec![], vec![]));

    ours.revoke(&[77, 3]);
    let refusal = async {
        loop {
            match other.list().await {
                Ok(_) => tokio::time::sleep(LOOK).await,
                refusal => return refusal,
            }
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, refusal).await.expect("it is refused in the end");
    let status = refused(refusal, Code::Unauthenticated, "CERTIFICATE_REFUSED");
    assert!(status.message().contains("is revoked"), "{status:?}");
    let again = RunClient::new(fresh(&cluster, "localhost", &access(&ours, Some(&revoked))));
    let status = refused(again.list().await, Code::Unauthenticated, "CERTIFICATE_REFUSED");
    assert!(status.message().contains("is revoked"), "{status:?}");
    assert_eq!(cluster.runs.list().await.unwrap(), [], "the other is still good");
}
