//! A pulled checkpoint opens with somebody else's program: the public `safetensors` package for Python.

use std::process::Command;

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use serde_json::Value;

use crate::remote::Cluster;
use crate::{announce, stderr, stdout, text, train};

/// Opens the file as any user of the package would and prints what it holds.
const READER: &str = r#"
import json, sys
from safetensors import safe_open
with safe_open(sys.argv[1], framework="np") as file:
    tensors = {name: list(file.get_tensor(name).shape) for name in file.keys()}
    print(json.dumps({"tensors": tensors, "meta": json.loads(file.metadata()["paceline"])}))
"#;

/// A Python that has the package: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import safetensors, numpy"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn a_pulled_checkpoint_opens_with_the_public_package() {
    let Some(python) = python() else {
        announce("SKIPPED pulled_checkpoint: no Python with safetensors and numpy (PACELINE_PYTHON names one)");
        return;
    };
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 2);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("the run's id");
    cluster.says(&["run", "watch", run], 0);
    cluster.says(&["checkpoint", "pull", run, "-o", "pulled.safetensors"], 0);
    let file = cluster.folder.path().join("pulled.safetensors");
    let read = Command::new(python).args(["-c", READER, text(&file)]).output().expect("run Python");
    assert!(read.status.success(), "{}", stderr(&read));
    let read: Value = serde_json::from_str(&stdout(&read)).expect("one JSON object");

    let config: LearnedOptimizerConfig =
        serde_json::from_value(read["meta"]["meta"]["optimizer"].clone()).expect("the file names its optimizer");
    let optimizer = config.build().expect("the optimizer of the recipe");
    for tensor in optimizer.layout().tensors() {
        let shape: Vec<usize> = serde_json::from_value(read["tensors"][format!("theta/{}", tensor.name())].clone())
            .expect("the tensor is there");
        assert_eq!(shape, tensor.shape(), "{}", tensor.name());
    }
}
