//! Checkpoint files as a person meets them: whole, damaged, and from the future.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::checkpoint::{Checkpoint, CheckpointMeta, FORMAT};
use paceline_optimizer_core::outer::OuterState;
use paceline_optimizer_core::{Purpose, Seed};
use serde_json::Value;

use crate::{paceline, stderr, stdout, text};

/// The untrained checkpoint of a tiny run.
fn bytes() -> Vec<u8> {
    let recipe = serde_json::json!({
        "name": "tiny", "seed": 3,
        "optimizer": {"kind": "adafac_mlp", "hidden_size": 4},
        "estimator": {"kind": "full_es", "sigma": 0.01, "horizon": {"kind": "constant", "steps": 8}},
        "outer": {"steps": 4, "slots": 1, "pairs_per_slot": 1, "optimizer": {}},
        "tasks": [{"family": "image_mlp", "weight": 1.0,
                   "settings": {"image_size": 4, "hidden": [4], "batch_size": 8}}],
        "evaluation": {"steps": 25, "seeds": 2},
    });
    let optimizer = serde_json::from_value(recipe["optimizer"].clone()).expect("a known optimizer");
    let meta = CheckpointMeta {
        format: FORMAT,
        run: "tiny-0badcafe".into(),
        optimizer,
        recipe: Some(recipe),
        parent: None,
        code_version: "0.1.0-test".into(),
    };
    let theta = meta.optimizer.build().expect("valid settings").init_theta(Seed::new(3).purpose(Purpose::Theta));
    Checkpoint { meta, state: OuterState::new(theta) }.to_bytes().expect("a whole state")
}

fn written(folder: &Path, bytes: &[u8]) -> PathBuf {
    let file = folder.join("tiny.safetensors");
    std::fs::write(&file, bytes).expect("written");
    file
}

fn verify(bytes: &[u8]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = paceline(&["checkpoint", "verify", text(&written(folder.path(), bytes))]);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_whole_file_verifies_and_shows_what_it_is() {
    let (code, said) = verify(&bytes());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!(": ok (format {FORMAT}")), "{said}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = paceline(&["checkpoint", "show", text(&written(folder.path(), &bytes()))]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in ["tiny-0badcafe", "adafac_mlp", "hidden_size 4", "image_mlp (weight 1.0)", "noise/v1", "0.1.0-test"] {
        assert!(stdout(&output).contains(line), "{line:?} is missing in\n{}", stdout(&output));
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_with_exit_64() {
    let whole = bytes();
    for place in (0..8).map(|part| part * (whole.len() - 1) / 7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        let (code, said) = verify(&damaged);
        assert_eq!(code, Some(64), "byte {place} of {}: {said}", whole.len());
        assert!(said.starts_with("error: ") && said.contains("tiny.safetensors: checkpoint: "), "{said}");
    }
    let (code, said) = verify(&whole[..whole.len() / 2]);
    assert_eq!(code, Some(64), "half a file: {said}");
}

#[test]
fn a_newer_format_asks_for_an_upgrade_with_exit_78() {
    let mut newer = bytes();
    let format = format!(r#"\"format\":{FORMAT}"#);
    let at = newer.windows(format.len()).position(|piece| piece == format.as_bytes()).expect("escaped JSON");
    newer[at + format.len() - 1] = b'9';
    let (code, said) = verify(&newer);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("format 9") && said.contains("upgrade"), "{said}");
}

#[test]
fn an_evaluation_is_the_same_whatever_the_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = written(folder.path(), &bytes());
    let report = |threads: &str| {
        let out = folder.path().join(threads);
        let output = paceline(&["eval", text(&file), "--threads", threads, "-o", text(&out), "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let event: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(event["files"].as_array().expect("a list").len(), 4);
        std::fs::read_to_string(out.join("report.json")).expect("a report")
    };
    let one = report("1");
    assert_eq!(one, report("4"));
    let report: Value = serde_json::from_str(&one).expect("JSON");
    let contenders = report["families"][0]["contenders"].as_array().expect("a list");
    assert_eq!(contenders.len(), 17);
    // The checkpoint holds the untrained theta, so trained and untrained are the same optimizer.
    assert_eq!(contenders[0]["final_test_loss"], contenders[1]["final_test_loss"]);
    assert_ne!(contenders[0]["final_test_loss"], contenders[10]["final_test_loss"]);
}

#[test]
fn an_output_folder_that_cannot_be_made_is_73() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = written(folder.path(), &bytes());
    let output = paceline(&["eval", text(&file), "-o", text(&file)]);
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
}
