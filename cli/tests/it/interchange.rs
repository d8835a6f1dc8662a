//! Import and export as a person meets them.

use std::path::{Path, PathBuf};
use std::process::Output;

use paceline_optimizer_core::checkpoint::FORMAT;
use serde_json::Value;

use crate::{paceline, stderr, stdout, text};

/// Golden flax checkpoints of the JAX reference.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../optimizer-core/tests/golden").join(name)
}

/// Runs a command that must succeed.
pub(crate) fn succeed(arguments: &[&str]) -> Output {
    let output = paceline(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    output
}

/// The refusal of a command, as JSON.
fn refusal(arguments: &[&str], code: i32) -> Value {
    let output = paceline(&[arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    let error: Value = serde_json::from_str(&stderr(&output)).expect("one JSON object");
    error["error"].clone()
}

#[test]
fn an_imported_checkpoint_is_a_checkpoint_like_any_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("adafac.safetensors");
    let (source, file) = (golden("optimizers/flax_adafac_mlp_lopt"), text(&file));
    let said = stdout(&succeed(&["checkpoint", "import", text(&source), "-o", file]));
    for line in ["a flax checkpoint", "adafac_mlp", "197 values", "run           gen-0, outer step 4321"] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    assert!(stdout(&succeed(&["checkpoint", "verify", file])).contains(&format!(": ok (format {FORMAT}")));
    let shown = stdout(&succeed(&["checkpoint", "show", file]));
    for line in ["run           gen-0", "outer steps   4321", "unknown: an imported theta has no recipe"] {
        assert!(shown.contains(line), "{line:?} is missing in\n{shown}");
    }
    let shown: Value =
        serde_json::from_slice(&succeed(&["checkpoint", "show", file, "--format", "json"]).stdout).expect("JSON");
    assert_eq!(shown["recipe"], Value::Null);
    assert_eq!(shown["optimizer"]["kind"], "adafac_mlp");

    let out = folder.path().join("eval");
    let arguments = ["eval", file, "--steps", "5", "--seeds", "1", "-o", text(&out), "--format", "json"];
    let output = succeed(&arguments);
    assert!(stderr(&output).contains("has no recipe"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(report["report"]["outer_step"], 4321);
}

#[test]
fn what_was_imported_is_exported_to_the_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["optimizers/flax_adafac_mlp_lopt", "optimizers/flax_hyper_v2"] {
        let (source, checkpoint) = (golden(name), folder.path().join("c.safetensors"));
        let imported = ["checkpoint", "import", text(&source), "-o", text(&checkpoint), "--force", "--format", "json"];
        let imported: Value = serde_json::from_slice(&succeed(&imported).stdout).expect("JSON");
        assert_eq!(imported["source"]["form"], "flax_checkpoint");
        assert_eq!(imported["ignored"], serde_json::json!([]));
        let flax = folder.path().join("flax");
        succeed(&["checkpoint", "export", text(&checkpoint), "--to", "flax", "-o", text(&flax), "--force"]);
        let bytes = |file: PathBuf| std::fs::read(file).expect("readable");
        assert!(bytes(flax.join("params")) == bytes(golden(name).join("params")), "{name}");

        let plain = folder.path().join("plain.safetensors");
        succeed(&["checkpoint", "export", text(&checkpoint), "--to", "safetensors", "-o", text(&plain), "--force"]);
        for source in [&flax, &plain] {
            let again = folder.path().join("again.safetensors");
            let arguments = ["checkpoint", "import", text(source), "-o", text(&again), "--force", "--format", "json"];
            let again: Value = serde_json::from_slice(&succeed(&arguments).stdout).expect("JSON");
            for same in ["optimizer", "theta_hash", "run", "outer_step"] {
                assert_eq!(again[same], imported[same], "{name} {same}");
            }
        }
    }
}

#[test]
fn refusals_have_stable_codes_and_reasons() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("o.safetensors");
    let import = |source: &Path, more: &[&str], code: i32| {
        refusal(&[&["checkpoint", "import", text(source), "-o", text(&out)], more].concat(), code)
    };
    let adafac = golden("optimizers/flax_adafac_mlp_lopt");
    let alone = folder.path().join("params");
    std::fs::copy(adafac.join("params"), &alone).expect("copied");
    let untold = import(&alone, &[], 64);
    assert_eq!(untold["reason"], "OPTIMIZER_UNKNOWN", "{untold}");
    let other = import(&alone, &["--optimizer", "learnable_adam"], 64);
    assert_eq!(other["reason"], "IMPORT_INVALID");
    let message = other["message"].as_str().expect("text");
    assert!(message.contains("log_lr") && message.contains("params"), "{message}");
    assert_eq!(import(&alone, &["--optimizer", "velo"], 64)["reason"], "OPTIMIZER_INVALID");
    assert_eq!(import(&alone, &["--gin", "gone.gin"], 64)["reason"], "CANNOT_READ");
    assert_eq!(import(folder.path().join("gone").as_path(), &[], 64)["reason"], "CANNOT_READ");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    assert_eq!(import(&empty, &[], 64)["reason"], "SOURCE_INVALID");
    assert!(!out.exists(), "a refused import writes nothing");

    succeed(&["checkpoint", "import", text(&alone), "--optimizer", "adafac_mlp", "-o", text(&out)]);
    let exists = import(&alone, &["--optimizer", "adafac_mlp"], 73);
    assert_eq!(exists["reason"], "EXISTS");
    let export = ["checkpoint", "export", text(&out), "--to", "flax", "-o"];
    assert_eq!(refusal(&[&export[..], &[text(&adafac)]].concat(), 73)["reason"], "EXISTS");
    let wrong = folder.path().join("wrong.safetensors");
    std::fs::write(&wrong, b"hello").expect("written");
    let corrupt = refusal(&["checkpoint", "export", text(&wrong), "--to", "flax", "-o", text(&empty)], 64);
    assert_eq!(corrupt["reason"], "CHECKPOINT_CORRUPT");
    let usage = paceline(&["checkpoint", "export", text(&out), "--to", "pickle", "-o", "x"]);
    assert_eq!(usage.status.code(), Some(2));
    let both = ["checkpoint", "import", text(&alone), "--gin", "x", "--optimizer", "y"];
    assert_eq!(paceline(&both).status.code(), Some(2));
}

#[test]
fn what_gin_says_of_others_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let params = folder.path().join("params");
    std::fs::copy(golden("optimizers/flax_adafac_mlp_lopt/params"), &params).expect("copied");
    let gin = "run_train.num_steps = 5\nrun_train.lopt = @AdafacMLPLOpt()\n";
    std::fs::write(folder.path().join("config.gin"), gin).expect("written");
    let out = folder.path().join("o.safetensors");
    let said = stdout(&succeed(&["checkpoint", "import", text(folder.path()), "-o", text(&out)]));
    assert!(said.contains("ignored       run_train.num_steps"), "{said}");
}
