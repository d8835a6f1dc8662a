//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

mod backprop;
mod candle;
mod celo;
mod checkpoint;
mod evaluation;
mod golden;
mod golden_celo;
mod golden_estimators;
mod golden_optimizers;
mod golden_options;
mod interchange;
mod laws;
mod learned_laws;
mod learned_settings;
mod noise;
mod optimizer_laws;
mod optimizer_settings;
mod optimizers;
mod pairs_together;
mod perturbation;
mod saved_state;
mod self_check;
mod structured_noise;
mod toy;
mod trainer;
mod unroll;
mod validation;

/// Prints past the test harness, which shows what passing tests print only when asked: what was skipped must be seen.
pub fn announce(line: &str) {
    use std::io::Write;
    // Nothing to be done if stderr is closed; the test itself does not depend on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The folder of one kind of golden vectors: in `PACELINE_GOLDEN`, else those of the repository.
pub fn golden_folder(kind: &str) -> std::path::PathBuf {
    let golden = std::env::var_os("PACELINE_GOLDEN").map(std::path::PathBuf::from);
    golden.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden").into()).join(kind)
}
