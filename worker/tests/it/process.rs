//! The binary, as an operator meets it: exit codes, messages, signals.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn worker(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paceline-worker"));
    command.args(args).env_remove("PACELINE_LOG").env_remove("PACELINE_COORDINATOR").env_remove("PACELINE_DATA");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = worker(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An address where nobody listens: the port was ours a moment ago.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A worker that waits for a coordinator that is not there.
fn waiting_worker(args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let address = nowhere();
    let mut child = worker(&[&["--coordinator", &address], args].concat()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("no answer, trying again") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the worker ended instead of waiting");
    }
    (child, log)
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let (code, help, _) = output(&["--help"]);
    assert_eq!(code, Some(0));
    for expected in ["--coordinator", "[env: PACELINE_THREADS=", "Examples:", "Exit codes:", "http://127.0.0.1:7700"] {
        assert!(help.contains(expected), "{expected} is missing in\n{help}");
    }
    let (code, version, _) = output(&["--version"]);
    assert_eq!((code, version.trim()), (Some(0), concat!("paceline-worker ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_device_this_build_lacks_ends_with_78_before_connecting() {
    // No build and no machine has this one.
    let (code, _, log) = output(&["--device", "cuda:4294967295", "--coordinator", &nowhere()]);
    assert_eq!(code, Some(78));
    assert!(log.contains("cuda:4294967295") && log.contains("--device cpu") && !log.contains("connecting"), "{log}");
}

#[test]
fn probes_answer_where_asked_and_a_taken_port_is_told() {
    use std::io::{Read, Write};
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, _, log) = output(&["--admin-address", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("--admin-address"), "{log}");
    let (code, _, log) = output(&["--admin-address", "0.0.0.0:0"]);
    assert_eq!(code, Some(78), "{log}");
    let (code, _, log) = output(&["--otlp-endpoint", "nonsense"]);
    assert_eq!(code, Some(64), "{log}");

    let address = taken.local_addr().unwrap();
    drop(taken);
    let (mut child, _log) = waiting_worker(&["--admin-address", &address.to_string()]);
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/healthz").starts_with("HTTP/1.1 200"), "a worker that waits is not dead");
    let unready = ask("/readyz");
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("\"failing\": \"registered\""), "{unready}");
    assert!(ask("/metrics").contains("paceline_worker_ready 0"), "{}", ask("/metrics"));
    let (code, _, log) = output(&["--probe", "--admin-address", &address.to_string()]);
    assert!(code == Some(69) && log.contains("status 503") && log.contains("registered"), "{code:?}: {log}");
    let (code, _, log) = output(&["--probe"]);
    assert!(code == Some(78) && log.contains("--admin-address"), "{code:?}: {log}");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn any_device_will_do_where_auto_was_said() {
    let (mut child, _log) = waiting_worker(&["--device", "auto"]);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_unusable_address_ends_with_64() {
    let (code, _, log) = output(&["--coordinator", "ftp://somewhere"]);
    assert_eq!(code, Some(64));
    assert!(log.contains("ftp://somewhere") && log.contains("127.0.0.1:7700"), "{log}");
}

#[test]
fn a_data_folder_that_is_not_there_ends_with_64_before_connecting() {
    let (code, _, log) = output(&["--data-dir", "/nowhere", "--coordinator", &nowhere()]);
    assert_eq!(code, Some(64));
    assert!(log.contains("/nowhere") && log.contains("--data-dir") && !log.contains("connecting"), "{log}");
}

#[test]
fn a_wrong_flag_ends_with_2() {
    let (code, _, log) = output(&["--threads", "none"]);
    assert_eq!(code, Some(2));
    assert!(log.contains("--threads"), "{log}");
}

#[test]
fn sigterm_ends_a_waiting_worker_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut child, _log) = waiting_worker(&[]);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn json_logs_are_json_lines() {
    let (mut child, log) = waiting_worker(&["--log-format", "json"]);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let lines: Vec<String> = log.lines().map(Result::unwrap).collect();
    assert!(lines.iter().any(|line| line.contains("draining")), "{lines:?}");
    for line in lines {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(value["fields"]["message"].is_string(), "{line}");
    }
}

/// A coordinator that answers every call with this refusal.
#[derive(Clone)]
struct Refusing(tonic::Status);

impl tonic::server::NamedService for Refusing {
    const NAME: &'static str = "paceline.v1.WorkerService";
}

impl tonic::codegen::Service<tonic::codegen::http::Request<tonic::body::Body>> for Refusing {
    type Response = tonic::codegen::http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::codegen::http::Request<tonic::body::Body>) -> Self::Future {
        std::future::ready(Ok(self.0.clone().into_http()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_will_never_take_it_ends_the_worker_with_the_documented_code() {
    use paceline_proto::fault::Fault;
    for (fault, code, said) in [
        (Fault::VersionUnsupported { theirs: 2, ours: 3 }, 78, "the same version of paceline"),
        (Fault::CredentialExpired { id: "1f2e3d4c".into(), holder: "worker/gpu-7".into() }, 77, "CREDENTIAL_EXPIRED"),
        (Fault::Internal { reason: "two leases, one slot".into() }, 69, "two leases, one slot"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = tonic::transport::Server::builder()
            .add_service(Refusing(fault.clone().into()))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        let serving = tokio::spawn(serving);
        let ended = tokio::task::spawn_blocking(move || output(&["--coordinator", &address]));
        let (got, _, log) = ended.await.unwrap();
        assert_eq!(got, Some(code), "{fault}: {log}");
        assert!(log.contains(said) && !log.contains("panicked"), "{fault}: {log}");
        serving.abort();
    }
}
