//! A coordinator that speaks TLS and asks for tokens, a worker and `paceline`: the real programs, and what they say when
//! something is wrong.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::authority::{Authority, Kind, Pair};
use crate::processes::{Process, binary};
use crate::{command, stderr, stdout, text, train};

/// A folder with an authority, and a coordinator of its own.
struct Secured {
    folder: tempfile::TempDir,
    ours: Authority,
    port: u16,
    _coordinator: Process,
}

impl Secured {
    fn start() -> Self {
        Self::showing(Kind::Server)
    }

    /// With a coordinator that shows a certificate of this kind.
    fn showing(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ours = Authority::new(folder.path(), "ours");
        let server = ours.sign(1, kind, &["localhost"]);
        let (coordinator, port) = coordinator(folder.path(), &server);
        Self { folder, ours, port, _coordinator: coordinator }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `paceline` or a worker in the folder, with these variables.
    fn run(&self, mut command: Command, variables: &[(&str, &str)]) -> Output {
        for name in ["PACELINE_CA", "PACELINE_CERT", "PACELINE_KEY", "PACELINE_TOKEN", "PACELINE_TOKEN_FILE"] {
            command.env_remove(name);
        }
        command.env("PACELINE_COORDINATOR", format!("https://localhost:{}", self.port));
        command.env("PACELINE_CA", self.ours.file()).current_dir(self.folder.path());
        command.envs(variables.iter().copied()).output().expect("the binary runs")
    }

    /// What `paceline` prints when it succeeds.
    fn says(&self, arguments: &[&str], token: &str) -> String {
        let output = self.run(command(arguments), &[("PACELINE_TOKEN_FILE", token)]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The reason of a failure with exit code 77.
    fn not_allowed(&self, variables: &[(&str, &str)]) -> (String, String) {
        let output = self.run(command(&["run", "list", "--format", "json"]), variables);
        assert_eq!(output.status.code(), Some(77), "{variables:?}: {}", stderr(&output));
        let error: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
        let field = |name: &str| error["error"][name].as_str().expect("text").to_owned();
        (field("reason"), field("message"))
    }
}

fn coordinator(folder: &Path, server: &Pair) -> (Process, u16) {
    let mut child = Command::new(binary("paceline-coordinator"))
        .args(["--listen", "127.0.0.1:0", "--cert", text(&server.certificate), "--key", text(&server.key)])
        .args(["--data", text(&folder.join("data"))])
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join("coordinator.log")).expect("a log"))
        .spawn()
        .expect("start the coordinator");
    let out = child.stdout.take().expect("piped");
    let process = Process::of(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a first line");
    let port = line.trim().rsplit_once(':').unwrap_or_else(|| panic!("first line was {line:?}")).1;
    (process, port.parse().expect("a port"))
}

#[test]
fn a_fleet_that_knows_its_own_trains() {
    let secured = Secured::start();
    let operator = "data/operator.token";
    secured.says(&["workers", "enroll", "gpu-7", "-o", "gpu-7.token"], operator);
    secured.says(&["token", "create", "ann", "-o", "ann.token", "--expires", "12h"], operator);
    let mut worker = Command::new(binary("paceline-worker"));
    worker.args(["--threads", "1", "--token-file", text(&secured.path("gpu-7.token"))]);
    worker.args(["--coordinator", &format!("https://localhost:{}", secured.port), "--ca", text(&secured.ours.file())]);
    let _worker = Process::of(worker.stderr(Stdio::null()).spawn().expect("start a worker"));

    let recipe = train::recipe(secured.folder.path(), 2);
    let submitted: Value =
        serde_json::from_str(&secured.says(&["run", "submit", text(&recipe), "--format", "json"], "ann.token"))
            .expect("JSON");
    let run = submitted["run"].as_str().expect("an id");
    assert!(secured.says(&["run", "watch", run], "ann.token").contains("completed at outer step 2"));
    secured.says(&["checkpoint", "pull", run, "-o", "c.safetensors"], "ann.token");
    let (theirs, address) = (secured.path("theirs.safetensors"), format!("localhost:{}", secured.port));
    let credentials = [secured.ours.file(), secured.path("ann.token")];
    if crate::reflected::pull(&address, run, &theirs, Some(credentials.each_ref().map(PathBuf::as_path))).is_some() {
        assert!(
            std::fs::read(theirs)
                .is_ok_and(|theirs| std::fs::read(secured.path("c.safetensors")).is_ok_and(|ours| ours == theirs))
        );
    }

    let listed: Value =
        serde_json::from_str(&secured.says(&["token", "list", "--format", "json"], operator)).expect("JSON");
    let tokens = listed["tokens"].as_array().expect("a list");
    // Made within one second, they come in the order of their ids, which are random.
    let mut holders: Vec<_> = tokens.iter().filter_map(|token| token["holder"].as_str()).collect();
    holders.sort_unstable();
    assert_eq!(holders, ["ann", "bootstrap", "gpu-7"]);
    assert!(tokens.iter().all(|token| token["last_used"].is_u64()), "{listed}");
    assert!(secured.says(&["workers", "list"], operator).contains("worker/gpu-7"));
    assert!(secured.says(&["workers", "revoke", "gpu-7"], operator).contains("revoked: token"));
    let output = secured.run(Command::new(binary("paceline-worker")), &[("PACELINE_TOKEN_FILE", "gpu-7.token")]);
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert!(stderr(&output).contains("CREDENTIAL_REVOKED"), "{}", stderr(&output));
}

#[test]
fn whoever_is_not_let_in_ends_with_77_and_is_told_why() {
    let secured = Secured::start();
    let (operator, worker) = ("data/operator.token", "w.token");
    secured.says(&["workers", "enroll", "w", "-o", worker], operator);
    let secret = std::fs::read_to_string(secured.path(worker)).expect("a token");
    let other = Authority::new(secured.folder.path(), "other");
    let foreign = other.file();
    for (variables, reason, cure) in [
        (vec![], "CREDENTIAL_MISSING", "--token-file"),
        (vec![("PACELINE_TOKEN_FILE", worker)], "ROLE_MISSING", "user or operator"),
        (
            vec![("PACELINE_TOKEN_FILE", operator), ("PACELINE_CA", text(&foreign))],
            "CERTIFICATE_UNTRUSTED",
            "authority",
        ),
    ] {
        let (got, message) = secured.not_allowed(&variables);
        assert!(got == reason && message.contains(cure), "{variables:?}: {got}: {message}");
    }
    let forged = format!("{}{}", &secret.trim()[..secret.trim().len() - 8], "00000000");
    let (reason, message) = secured.not_allowed(&[("PACELINE_TOKEN", &forged)]);
    assert_eq!(reason, "CREDENTIAL_INVALID");
    assert!(!message.contains(&forged[20..40]), "{message}");

    for (variables, said) in [
        (vec![("PACELINE_TOKEN", "nonsense")], "the token from PACELINE_TOKEN is none"),
        (vec![("PACELINE_TOKEN_FILE", "gone")], "token file gone"),
        (vec![("PACELINE_CA", "gone.pem")], "authority gone.pem"),
        (vec![("PACELINE_CERT", "w.token")], "without --key"),
    ] {
        let output = secured.run(command(&["run", "list"]), &variables);
        let told = stderr(&output);
        assert!(output.status.code() == Some(78) && told.contains(said), "{variables:?}: {told}");
    }
    let mut plain = command(&["run", "list", "--coordinator", "http://10.0.0.1:1", "--token-file", operator]);
    plain.current_dir(secured.folder.path()).env_remove("PACELINE_CA");
    let output = plain.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("in plain text"), "{}", stderr(&output));
}

#[test]
fn a_worker_that_is_not_let_in_ends_with_77() {
    let secured = Secured::start();
    secured.says(&["workers", "enroll", "w", "-o", "w.token"], "data/operator.token");
    let worker = |arguments: &[&str]| {
        let mut command = Command::new(binary("paceline-worker"));
        command.args(arguments);
        command
    };
    let other = Authority::new(secured.folder.path(), "other");
    for (arguments, variables, reason) in [
        (&[][..], vec![], "CREDENTIAL_MISSING"),
        (&["--name", "x"], vec![("PACELINE_TOKEN_FILE", "w.token")], "WORKER_FOREIGN"),
        (&[], vec![("PACELINE_TOKEN_FILE", "data/operator.token")], "ROLE_MISSING"),
        (&[], vec![("PACELINE_CA", text(&other.file()))], "CERTIFICATE_UNTRUSTED"),
    ] {
        let output = secured.run(worker(arguments), &variables);
        assert_eq!(output.status.code(), Some(77), "{reason}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn a_coordinator_whose_certificate_has_expired_is_named_by_all_three_with_the_cure() {
    let secured = Secured::showing(Kind::ExpiredServer);
    let (reason, message) = secured.not_allowed(&[("PACELINE_TOKEN_FILE", "data/operator.token")]);
    assert_eq!(reason, "CERTIFICATE_UNTRUSTED");
    assert!(message.contains("has expired") && message.contains("renew it"), "{message}");
    let output = secured.run(Command::new(binary("paceline-worker")), &[]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(77), "{told}");
    assert!(told.contains("has expired") && told.contains("renew it"), "{told}");
    let log = || std::fs::read_to_string(secured.path("coordinator.log")).expect("a log");
    let begun = std::time::Instant::now();
    while !log().contains("the certificate shown to it has expired") {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(log().contains("renew it"), "{}", log());
}
