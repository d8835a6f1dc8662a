//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

mod admin;
mod authority;
mod browser;
mod certificates;
mod cluster;
mod disk;
mod evaluations;
mod flood;
mod logins;
mod openssl;
mod order;
mod program;
mod raw;
mod recipes;
mod recovery;
mod refusals;
mod service;
mod simulation;
mod store;
mod strangers;
mod tokens;
mod trouble;
mod volume;

/// Prints past the test harness, which shows what passing tests print only when asked: what was skipped must be seen.
fn announce(line: &str) {
    use std::io::Write;
    // Nothing to be done if stderr is closed; the test itself does not depend on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
