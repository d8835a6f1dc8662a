//! `paceline bench real`: what it refuses, and a short run on real data where there are any.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{announce, paceline, stderr, text};

#[test]
fn unknown_experiments_and_missing_data_are_64_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = text(folder.path());
    let refused = |arguments: &[&str], expected: &[&str]| {
        let output = paceline(&[&["bench", "real"], arguments].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        expected.iter().for_each(|words| assert!(told.contains(words), "{arguments:?} does not say {words:?}: {told}"));
    };
    refused(&["coral", "--data-dir", empty], &["no experiment coral", "mnist/fft"]);
    refused(&["cora/gcn", "--data-dir", empty], &["cora: no folder", empty, "--data-dir"]);
    refused(&["fsdd", "mnist"], &["fsdd: no data folder was named", "mnist: no data folder was named"]);
    refused(&["fsdd/real", "--data-dir", empty, "--out", "x.md"], &["fsdd/real is a part", "whole groups"]);
}

#[test]
fn cora_is_trained_and_recorded() {
    let data = std::env::var_os("PACELINE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    if !data.join("cora").is_dir() {
        announce("SKIPPED bench_real: no ../shared/data/cora beside the project, and PACELINE_DATA names none");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = folder.path().join("results.md");
    std::fs::write(&page, "# By hand\n").expect("written");
    let arguments = ["bench", "real", "cora", "--data-dir", text(&data), "--quick", "--out", text(&page)];
    let output = paceline(&[&arguments[..], &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let gcn = &object["groups"][0]["entries"][0];
    assert_eq!((&gcn["test_examples"], &object["quick"]), (&1000.into(), &true.into()));
    assert_eq!(gcn["trainings"].as_array().map(Vec::len), Some(2));
    // A tenth of the steps is enough to be far from a guess among seven classes.
    assert!(gcn["accuracy"]["min"].as_f64().is_some_and(|accuracy| accuracy > 50.0), "{gcn}");
    let page = std::fs::read_to_string(&page).expect("readable");
    assert!(page.starts_with("# By hand\n\n<!-- paceline bench real: cora -->"), "{page}");
    assert!(
        page.contains("`paceline bench real cora --data-dir DIR --quick`") && page.contains("20 steps each"),
        "{page}"
    );
}
