//! Exported checkpoints open with somebody else's program: `flax.serialization`, as the JAX reference uses it.

use std::process::Command;

use crate::interchange::{golden, succeed};
use crate::{announce, stderr, stdout, text};

/// Reads `params` (or a bare theta) in both of flax's ways, compares it bit for bit with the plain safetensors of the same
/// theta, and writes it again. The template has the structure of the reference's theta and other values.
const READER: &str = r#"
import json, sys
import numpy as np
from typing import NamedTuple
from flax import serialization, struct
from safetensors import safe_open

class LSTMState(NamedTuple):      # haiku.LSTMState
    hidden: np.ndarray
    cell: np.ndarray

@struct.dataclass
class ParameterCheckpoint:        # learned_optimization.outer_trainers.gradient_learner
    params: dict
    gen_id: str
    step: int

theta_file, plain_file = sys.argv[1:]
data = open(theta_file, "rb").read()
with safe_open(plain_file, framework="np") as file:
    plain = {name: file.get_tensor(name) for name in file.keys()}

restored = serialization.msgpack_restore(data)
wrapped = set(restored) == {"params", "gen_id", "step"}
tree = restored["params"] if wrapped else restored
found = {}
def walk(node, path):
    if isinstance(node, dict):
        for key, below in node.items(): walk(below, path + [key])
    else:
        found["/".join(path)] = (path, node)
walk(tree, [])
assert set(found) == set(plain), sorted(set(found) ^ set(plain))
for name, (path, array) in found.items():
    assert array.dtype == np.float32 and array.shape == plain[name].shape, (name, array.dtype, array.shape)
    assert array.tobytes() == plain[name].tobytes(), name

# JAX maps over dictionaries in sorted order, so that is the order of every trained theta.
def template(node):
    if not isinstance(node, dict): return np.zeros_like(node)
    below = {key: template(node[key]) for key in sorted(node)}
    return LSTMState(**below) if set(below) == {"hidden", "cell"} else below
empty = template(tree)
if wrapped: empty = ParameterCheckpoint(empty, "", 0)
filled = serialization.from_bytes(empty, data)
assert serialization.to_bytes(filled) == data, "flax writes other bytes"
assert serialization.msgpack_serialize(restored, in_place=True) == data, "and so does msgpack_serialize"
name, step = (filled.gen_id, filled.step) if wrapped else ("", 0)
print(json.dumps({"tensors": len(found), "name": name, "step": step}))
"#;

/// A Python that has the packages: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import flax, safetensors, numpy"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// What to import and export: a golden folder, the file that holds theta, and settings that nothing there tells.
const CASES: [(&str, &str, &[&str]); 4] = [
    ("optimizers/flax_hyper_v2", "params", &[]),
    ("optimizers/flax_adafac_mlp_lopt", "params", &[]),
    ("celo/flax_celo", "theta.state", &[]),
    ("celo/flax_celo2", "theta.state", &["--optimizer", r#"{"kind": "celo2", "form": "base"}"#]),
];

#[test]
fn exported_checkpoints_open_with_flax() {
    let Some(python) = python() else {
        announce("SKIPPED flax: no Python with flax, safetensors and numpy (PACELINE_PYTHON names one)");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, file, told) in CASES {
        let checkpoint = folder.path().join("c.safetensors");
        let source = golden(name);
        succeed(&[&["checkpoint", "import", text(&source), "-o", text(&checkpoint), "--force"], told].concat());
        let (flax, plain) = (folder.path().join("flax"), folder.path().join("plain.safetensors"));
        succeed(&["checkpoint", "export", text(&checkpoint), "--to", "flax", "-o", text(&flax), "--force"]);
        succeed(&["checkpoint", "export", text(&checkpoint), "--to", "safetensors", "-o", text(&plain), "--force"]);
        let read = Command::new(&python).args(["-c", READER, text(&flax.join(file)), text(&plain)]).output();
        let read = read.expect("run Python");
        assert!(read.status.success(), "{name}: {}", stderr(&read));
        let said: serde_json::Value = serde_json::from_str(&stdout(&read)).expect("one JSON object");
        if file == "params" {
            assert_eq!((said["name"].as_str(), said["step"].as_u64()), (Some("gen-0"), Some(4321)), "{name}");
        }
    }
}
