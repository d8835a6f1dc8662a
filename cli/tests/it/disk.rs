//! `paceline train` on a volume that fills up.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::volume::Volume;
use crate::{command, paceline, stderr, stdout, text, train};

/// Enough outer steps that the volume fills up before the end.
const STEPS: u32 = 1500;

/// The theta of the checkpoint that training left in a store.
fn theta(store: &Path) -> String {
    let entries = std::fs::read_dir(store.join("checkpoints")).expect("a folder");
    let mut files = entries.map(|entry| entry.expect("an entry").path());
    let file = files.find(|file| file.extension().is_some_and(|kind| kind == "safetensors")).expect("a checkpoint");
    let shown = paceline(&["checkpoint", "show", text(&file), "--format", "json"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["outer_step"], STEPS, "{shown}");
    shown["theta_hash"].as_str().expect("a hash").to_owned()
}

#[test]
fn training_waits_for_room_and_ends_with_the_same_theta() {
    let Some(volume) = Volume::mount("training_waits_for_room_and_ends_with_the_same_theta", "16m") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = train::recipe(folder.path(), STEPS);
    let store = volume.path("store");
    let mut command = command(&["train", text(&recipe), "--store", text(&store), "--threads", "1"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut until = |what: &str| {
        let found = lines.by_ref().any(|line| {
            said.push_str(&format!("{line}\n"));
            line.contains(what)
        });
        assert!(found, "never said {what:?}:\n{said}");
    };
    until("outer step");
    volume.fill(16 << 10);
    until("the store can no longer be written");
    volume.free();
    until("the store can be written again");
    for line in lines {
        said.push_str(&format!("{line}\n"));
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");

    let undisturbed = folder.path().join("store");
    let output = paceline(&["train", text(&recipe), "--store", text(&undisturbed), "--threads", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(theta(&store), theta(&undisturbed));
}
