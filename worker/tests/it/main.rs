//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

#[cfg(feature = "cuda")]
mod cuda_device;
mod cuda_kernels;
mod fleet;
mod process;

/// Says something that a reader of the test run should see although tests pass: a test that was skipped.
fn announce(line: &str) {
    use std::io::Write;
    // Not `eprintln!`, which the test harness captures.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
