//! `paceline run export`: files that other programs open.

use std::process::Command;

use serde_json::Value;

use crate::remote::Cluster;
use crate::{announce, stderr, stdout, text, train};

/// Reads a folder with TensorBoard's own reader and prints every scalar.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1])
found.Reload()
print(json.dumps({tag: [[e.step, e.value, e.wall_time] for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}))
"#;

/// A Python that has the package: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import tensorboard.backend.event_processing"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn every_form_has_every_step_and_tensorboard_reads_its_own() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 7);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    cluster.says(&["run", "watch", run], 0);
    let folder = cluster.folder.path();

    let exported = cluster.json(&["run", "export", run]);
    assert_eq!((&exported["steps"], &exported["missing"]), (&7.into(), &0.into()), "{exported}");
    let csv = std::fs::read_to_string(folder.join(format!("{run}.csv"))).expect("written");
    assert_eq!(csv.lines().count(), 8, "{csv}");
    assert!(cluster.says(&["run", "export", run], 73).contains("--force"), "what is there stays");
    cluster.says(&["run", "export", run, "--force"], 0);

    cluster.says(&["run", "export", run, "--to", "jsonl", "-o", "deep/er/steps.jsonl"], 0);
    let lines = std::fs::read_to_string(folder.join("deep/er/steps.jsonl")).expect("written");
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let state = cluster.json(&["run", "show", run]);
    assert_eq!(objects.last().expect("seven")["meta_loss"], state["meta_loss"]);

    cluster.says(&["run", "export", run, "--to", "tensorboard", "-o", "logs"], 0);
    assert!(cluster.says(&["run", "export", "nobody", "--to", "csv"], 64).contains("nobody"));
    let Some(python) = python() else {
        announce("SKIPPED tensorboard: no Python with tensorboard (PACELINE_PYTHON names one)");
        return;
    };
    let read = Command::new(&python).args(["-c", READER, text(&folder.join("logs"))]).output().expect("run Python");
    assert!(read.status.success(), "{}", stderr(&read));
    let scalars: Value = serde_json::from_str(&stdout(&read)).expect("one JSON object");
    let losses = scalars["meta_loss/mean"].as_array().expect("a curve");
    assert_eq!(losses.len(), 7, "{scalars}");
    for (scalar, object) in losses.iter().zip(&objects) {
        assert_eq!(scalar[0], object["outer_step"]);
        let (kept, exact) = (scalar[1].as_f64().expect("a number"), object["meta_loss"].as_f64().expect("a number"));
        assert_eq!(kept, f64::from(exact as f32), "TensorBoard keeps 32 bits");
        assert_eq!(scalar[2].as_f64().map(|s| (s * 1000.0).round()), object["folded_at_ms"].as_f64(), "{scalar}");
    }
}
