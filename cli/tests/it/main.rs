//! Integration tests, one module a behaviour. They run the real binary.

#[allow(clippy::unwrap_used, dead_code, reason = "the coordinator's tests use all of it, and may unwrap")]
#[path = "../../../coordinator/tests/it/authority.rs"]
mod authority;
mod bench;
mod bench_real;
mod checkpoints;
mod disk;
mod exit_codes;
mod export;
mod flax;
mod fleet;
mod interchange;
#[cfg(unix)]
mod live;
mod mixture;
mod processes;
mod pulled_checkpoint;
mod recipes;
mod reflected;
mod remote;
mod security;
mod shell;
mod tasks;
mod ten_families;
mod traces;
mod train;
#[allow(clippy::unwrap_used, dead_code, reason = "the coordinator's tests use all of it, and may unwrap")]
#[path = "../../../coordinator/tests/it/volume.rs"]
mod volume;

use std::path::Path;
use std::process::{Command, Output};

/// `paceline` with these arguments, in an environment without settings of whoever runs the tests.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paceline"));
    command.args(arguments);
    for name in ["PACELINE_COORDINATOR", "PACELINE_DATA", "PACELINE_STORE", "PACELINE_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs `paceline` to its end.
pub fn paceline(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// Prints past the test harness, which shows what passing tests print only when asked: what was skipped must be seen.
pub fn announce(line: &str) {
    use std::io::Write;
    // Nothing to be done if stderr is closed; the test itself does not depend on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
