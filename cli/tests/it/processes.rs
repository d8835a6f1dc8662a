//! The real programs as children that die with the test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A child that dies with the test.
pub(crate) struct Process(Child);

impl Process {
    /// This child.
    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }

    /// SIGTERM, and wait until it has ended by itself.
    pub(crate) fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the process was running");
        assert!(self.0.wait().expect("the process can be waited for").success(), "it ended badly");
    }

    /// SIGKILL, and wait until it is gone.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("the process was running");
        self.0.wait().expect("the process can be waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already reaped after `kill`: then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The binary of another package of this workspace, built beside ours by `cargo test --workspace`.
pub(crate) fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_paceline")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

pub(crate) fn start_coordinator(data: &Path, listen: SocketAddr) -> (Process, SocketAddr) {
    start_coordinator_with(data, listen, &[])
}

/// With more arguments.
pub(crate) fn start_coordinator_with(data: &Path, listen: SocketAddr, more: &[&str]) -> (Process, SocketAddr) {
    started(data, listen, more, Stdio::inherit())
}

/// With more arguments, and its log in a file.
pub(crate) fn start_coordinator_logging(
    data: &Path,
    listen: SocketAddr,
    more: &[&str],
    log: &Path,
) -> (Process, SocketAddr) {
    started(data, listen, more, std::fs::File::create(log).expect("a file for the log").into())
}

fn started(data: &Path, listen: SocketAddr, more: &[&str], log: Stdio) -> (Process, SocketAddr) {
    let mut child = Command::new(binary("paceline-coordinator"))
        .args(["--listen", &listen.to_string(), "--lease-ttl", "2s", "--heartbeat", "500ms"])
        .arg("--data")
        .arg(data)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("start the coordinator");
    let stdout = child.stdout.take().expect("stdout is piped");
    let process = Process(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("read the coordinator's first line");
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("first line was {line:?}"));
    (process, address.parse().expect("an address"))
}

pub(crate) fn start_worker(coordinator: SocketAddr, name: &str) -> Process {
    start_worker_with(coordinator, name, &[])
}

/// With more arguments.
pub(crate) fn start_worker_with(coordinator: SocketAddr, name: &str, more: &[&str]) -> Process {
    Process(
        Command::new(binary("paceline-worker"))
            .args(["--coordinator", &format!("http://{coordinator}"), "--name", name, "--threads", "1"])
            .args(more)
            .stderr(Stdio::null())
            .spawn()
            .expect("start a worker"),
    )
}
