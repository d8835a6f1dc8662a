//! Integration tests, one module a behaviour.

mod allocator;
mod augment;
mod conformance;
mod graphs;
mod real_cora;
mod real_mnist;
mod resolve;
mod sequences_and_codes;
mod settings;

use std::sync::Arc;

use paceline_tasks::Family;
use serde_json::{Map, Value};

/// A JSON object as the settings of a recipe.
fn settings(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("settings are an object, not {other}"),
    }
}

/// A family that needs no data files.
fn family(name: &str, value: Value) -> Arc<dyn Family> {
    paceline_tasks::build(name, &settings(value), None).expect("settings of a test are right")
}

/// Prints past the test harness, which shows what passing tests print only when asked: what was skipped must be seen.
pub fn announce(line: &str) {
    use std::io::Write;
    // Nothing to be done if stderr is closed; the test itself does not depend on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
