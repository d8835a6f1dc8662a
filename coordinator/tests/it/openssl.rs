//! TLS as an outside client sees it: `openssl s_client`, where there is one.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use paceline_proto::client::Access;

use crate::authority::{Authority, Kind};
use crate::certificates::security;
use crate::cluster::Cluster;

/// What `openssl s_client` prints when it connects and hangs up; `None` if there is no openssl.
fn s_client(address: SocketAddr, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-servername", "localhost"]).args(arguments);
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("openssl cannot be run: {error}"),
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outside_client_finds_modern_tls_and_a_sound_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let mut security = security(&ours.sign(1, Kind::Server, &["localhost"]));
    let open = Cluster::guarded(security.clone(), |_| Access::default().link("localhost:1").unwrap()).await;
    security.tls.as_mut().unwrap().client_ca = Some(ours.file());
    let strict = Cluster::guarded(security, |_| Access::default().link("localhost:1").unwrap()).await;

    let ca = ours.file().to_str().unwrap().to_owned();
    let foreign = other.file().to_str().unwrap().to_owned();
    let client = ours.sign(2, Kind::Client, &["a"]);
    let (cert, key) = (client.certificate.to_str().unwrap(), client.key.to_str().unwrap());
    let sound = ["-CAfile", &ca, "-verify_hostname", "localhost"];
    let table: [(SocketAddr, &[&str], &[&str]); 10] = [
        (open.address, &["-tls1_3"], &["New, TLSv1.3", "Verify return code: 0 (ok)"]),
        (open.address, &["-tls1_2"], &["New, TLSv1.2", "Verify return code: 0 (ok)"]),
        (open.address, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], &["alert handshake failure", "Cipher is (NONE)"]),
        (open.address, &["-tls1", "-cipher", "ALL:@SECLEVEL=0"], &["alert handshake failure", "Cipher is (NONE)"]),
        (open.address, &["-tls1_2", "-cipher", "AES128-SHA"], &["alert handshake failure"]),
        (open.address, &["-alpn", "h2"], &["ALPN protocol: h2"]),
        (open.address, &["-alpn", "http/1.1"], &["alert no application protocol"]),
        (open.address, &["-CAfile", &foreign], &["Verify return code: 19"]),
        (strict.address, &["-tls1_2"], &["alert certificate required"]),
        (strict.address, &["-tls1_2", "-cert", cert, "-key", key], &["Verify return code: 0 (ok)"]),
    ];
    for (address, arguments, wanted) in table {
        let arguments = [&sound[..], arguments].concat();
        let asked: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let asking = move || s_client(address, &asked.iter().map(String::as_str).collect::<Vec<_>>());
        let Some(said) = tokio::task::spawn_blocking(asking).await.unwrap() else {
            let _ = writeln!(std::io::stderr(), "SKIPPED openssl: no openssl here");
            return;
        };
        for words in wanted {
            assert!(said.contains(words), "{arguments:?}: no {words:?} in\n{said}");
        }
    }
}
