//! A pulled checkpoint opens with somebody else's program: the public `safetensors` package for Python.

use std::path::Path;
use std::process::Command;

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use serde_json::Value;

use crate::processes::{start_coordinator, start_worker};
use crate::{announce, paceline, stderr, stdout, text};

/// Opens the file as any user of the package would and prints what it holds.
const READER: &str = r#"
import json, sys
from safetensors import safe_open
with safe_open(sys.argv[1], framework="np") as file:
    tensors = {name: list(file.get_tensor(name).shape) for name in file.keys()}
    print(json.dumps({"tensors": tensors, "meta": json.loads(file.metadata()["paceline"])}))
"#;

const RECIPE: &str = r#"
name = "pulled"
seed = 2
optimizer = { kind = "adafac_mlp" }

[estimator]
kind = "full_es"
sigma = 0.01
horizon = { kind = "constant", steps = 3 }

[outer]
steps = 2
slots = 2
pairs_per_slot = 1
optimizer = { learning_rate = 0.003 }

[[tasks]]
family = "image_mlp"
settings = { data = "procedural", image_size = 4, hidden = [4], batch_size = 8 }
"#;

/// A Python that has the package: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import safetensors, numpy"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

fn pull(folder: &Path) -> std::path::PathBuf {
    let recipe = folder.join("recipe.toml");
    std::fs::write(&recipe, RECIPE).expect("write the recipe");
    let (_coordinator, address) = start_coordinator(&folder.join("store"), "127.0.0.1:0".parse().expect("an address"));
    let _worker = start_worker(address, "w0");
    let coordinator = format!("http://{address}");
    let submitted = paceline(&["run", "submit", text(&recipe), "--coordinator", &coordinator, "--format", "json"]);
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let submitted: Value = serde_json::from_str(&stdout(&submitted)).expect("one JSON object");
    let run = submitted["run"].as_str().expect("the run's id").to_owned();
    let watched = paceline(&["run", "watch", &run, "--coordinator", &coordinator]);
    assert!(watched.status.success(), "{}", stderr(&watched));
    let file = folder.join("pulled.safetensors");
    let pulled = paceline(&["checkpoint", "pull", &run, "--coordinator", &coordinator, "-o", text(&file)]);
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    file
}

#[test]
fn a_pulled_checkpoint_opens_with_the_public_package() {
    let Some(python) = python() else {
        announce("SKIPPED pulled_checkpoint: no Python with safetensors and numpy (PACELINE_PYTHON names one)");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = pull(folder.path());
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
