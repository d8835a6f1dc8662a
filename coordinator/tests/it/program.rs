//! The program: its command line, its first line, its exit codes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use paceline_proto::client::{RunClient, WorkerClient, endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::{registration, spec};

pub(crate) fn coordinator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paceline-coordinator"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PACELINE_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = coordinator(arguments).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it exits by itself"), text(stdout), text(stderr))
}

/// A coordinator that runs, and the address from its first line.
fn started(arguments: &[&str]) -> (Child, String) {
    let mut child = coordinator(arguments).spawn().expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a first line");
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("first line: {line:?}"));
    (child, address.to_owned())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("the program still runs");
}

/// How the program ends. The clients' connections live on meanwhile, on other threads, as in life.
async fn exit_code(mut child: Child) -> Option<i32> {
    let pid = Pid::from_raw(child.id() as i32);
    let ended = tokio::task::spawn_blocking(move || child.wait().expect("a child").code());
    match tokio::time::timeout(Duration::from_secs(20), ended).await {
        Ok(code) => code.expect("waiting does not panic"),
        Err(_) => {
            kill(pid, Signal::SIGKILL).expect("the program still runs");
            panic!("the program did not end in time");
        }
    }
}

#[test]
fn help_and_version_are_no_faults() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("Examples:") && help.contains("PACELINE_LISTEN") && help.contains("Exit codes:"), "{help}");
    let (code, version, _) = run(&["--version"]);
    assert_eq!((code, version.trim()), (0, concat!("paceline-coordinator ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_command_lines_have_their_codes() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (arguments, code, message) in [
        (["--no-such", "--memory"].as_slice(), 2, "--no-such"),
        (&["--lease-ttl", "soon"], 2, "--lease-ttl"),
        (&["--memory", "--listen", "nonsense"], 64, "nonsense"),
        (&["--memory", "--heartbeat", "20s"], 78, "less than a third of --lease-ttl"),
        (&["--memory", "--listen", "0.0.0.0:0"], 78, "--insecure"),
        (&["--memory", "--cert", "c.pem"], 78, "without --key"),
        (&["--memory", "--listen", "127.0.0.1:0", "--cert", "/nowhere/c.pem", "--key", "k.pem"], 78, "/nowhere/c.pem"),
        (&["--memory", "--listen", &address], 69, &address),
        (&["--memory", "--listen", "127.0.0.1:0", "--admin-address", &address], 69, "--admin-address"),
        (&["--memory", "--listen", "127.0.0.1:0", "--admin-address", "0.0.0.0:0"], 78, "--insecure"),
        (&["--memory", "--admin-address", "7701"], 2, "host:port"),
        (&["--memory", "--listen", "127.0.0.1:0", "--otlp-endpoint", "collector:4317"], 64, "--otlp-endpoint"),
    ] {
        let (got, stdout, stderr) = run(arguments);
        assert_eq!(got, code, "{arguments:?}: {stderr}");
        assert!(stderr.contains(message) && stdout.is_empty(), "{arguments:?}: {stderr}");
    }
}

#[test]
fn settings_are_printed_with_their_origin_and_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let arguments = ["--print-config", "--heartbeat", "1s", "--data", data.to_str().expect("UTF-8")];
    let output = coordinator(&arguments).env("PACELINE_LEASE_TTL", "20s").output().expect("the program starts");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in
        ["--heartbeat 1s command line", "--lease-ttl 20s PACELINE_LEASE_TTL", "--drain 10s default", "--cert - not set"]
    {
        assert!(lines.contains(&line.split(' ').collect()), "{line} is not in {printed}");
    }
    assert_eq!(output.status.code(), Some(0));
    assert!(!data.exists(), "it began to serve");

    let (code, printed, said) = run(&["--print-config", "--heartbeat", "1m"]);
    assert!(code == 78 && printed.contains("--heartbeat") && said.contains("must be less than"), "{code}: {said}");
}

#[tokio::test]
async fn it_serves_where_it_says_and_stops_on_sigterm() {
    let (child, address) = started(&["--memory", "--listen", "127.0.0.1:0"]);
    let runs = RunClient::new(endpoint(&address).unwrap().connect_lazy());
    assert_eq!(runs.list().await.unwrap(), []);
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
}

#[tokio::test]
async fn pages_move_aside_where_nobody_chose_their_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let beside = taken.local_addr().expect("bound").port() - 1;
    let mut child = coordinator(&["--memory", "--listen", &format!("127.0.0.1:{beside}")]).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let lines: Vec<String> = lines.take(2).map_while(Result::ok).collect();
    let [listening, pages] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(listening, &format!("listening on 127.0.0.1:{beside}"));
    let pages = pages.strip_prefix("pages on http://").and_then(|rest| rest.strip_suffix('/')).expect("an address");
    assert_ne!(pages, taken.local_addr().expect("bound").to_string());
    assert!(crate::admin::get(pages, "/version").await.contains("paceline-coordinator"));
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
}

#[tokio::test]
async fn a_probe_tells_by_its_exit_code_whether_one_runs() {
    let mut child = coordinator(&["--memory", "--listen", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"])
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let pages = lines.map_while(Result::ok).nth(1).expect("a second line");
    let pages = pages.strip_prefix("pages on http://").and_then(|rest| rest.strip_suffix('/')).expect("an address");
    let probe = ["--probe", "--admin-address", pages];
    assert_eq!(run(&probe).0, 0);
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    let (code, stdout, stderr) = run(&probe);
    assert!(code == 69 && stdout.is_empty() && stderr.contains(pages), "{code}: {stderr}");
    let (code, _, stderr) = run(&["--probe", "--admin-address", "off"]);
    assert!(code == 78 && stderr.contains("--admin-address"), "{code}: {stderr}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (child, address) = started(&["--memory", "--listen", "127.0.0.1:0", "--drain", "1h"]);
    // A watch of health never ends by itself, so the first stop waits for it.
    let mut health = HealthClient::new(endpoint(&address).unwrap().connect().await.unwrap());
    let stream = health.watch(HealthCheckRequest::default()).await.unwrap();
    signal(&child, Signal::SIGTERM);
    let mut changes = stream.into_inner();
    while changes.message().await.unwrap().unwrap().status() == ServingStatus::Serving {}
    signal(&child, Signal::SIGINT);
    assert_eq!(exit_code(child).await, Some(130));
}

#[tokio::test]
async fn a_restart_keeps_the_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = ["--listen", "127.0.0.1:0", "--data", folder.path().to_str().expect("UTF-8")];
    let mut epochs = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (child, address) = started(&arguments);
        let channel = endpoint(&address).unwrap().connect_lazy();
        let runs = RunClient::new(channel.clone());
        // The same request both times: the second coordinator must remember what the first one answered.
        kept.push(runs.create(&spec("kept"), &[], "request-1", false).await.unwrap().state);
        assert_eq!(runs.list().await.unwrap().len(), 1);
        epochs.push(WorkerClient::new(channel).register(registration("w1")).await.unwrap().epoch);
        signal(&child, Signal::SIGTERM);
        assert_eq!(exit_code(child).await, Some(0));
    }
    assert_eq!((&kept[0].run, kept[0].theta_hash), (&kept[1].run, kept[1].theta_hash));
    assert!(epochs[0] < epochs[1], "{epochs:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let under_a_file = file.path().join("store");
    let folder = under_a_file.to_str().expect("UTF-8");
    let (code, stdout, stderr) = run(&["--listen", "127.0.0.1:0", "--data", folder]);
    assert_eq!(code, 73, "{stderr}");
    assert!(stderr.contains(folder) && stdout.is_empty(), "{stderr}{stdout}");
}

#[tokio::test]
async fn two_coordinators_do_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().to_str().expect("UTF-8");
    let (child, _) = started(&["--listen", "127.0.0.1:0", "--data", data]);
    let (code, _, stderr) = run(&["--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(code, 75, "{stderr}");
    assert!(stderr.contains(data) && !stderr.contains('\u{1b}'), "{stderr}");
    signal(&child, Signal::SIGINT);
    assert_eq!(exit_code(child).await, Some(0));
}
