//! `paceline tasks`: what is listed, shown and drawn, and what is refused.

use serde_json::{Value, json};

use crate::{command, paceline, stderr, stdout, text};

fn object(arguments: &[&str]) -> Value {
    let output = paceline(&[&["tasks"], arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn the_list_fits_a_narrow_terminal_and_can_be_filtered() {
    let output = paceline(&["tasks", "list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let list = stdout(&output);
    assert!(list.contains("image_mlp") && list.contains("image_conv"), "{list}");
    for line in list.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let all = object(&["list"]);
    let one = object(&["list", "_mlp"]);
    let families = one["families"].as_array().expect("a list");
    assert!(families.len() < all["families"].as_array().expect("a list").len());
    let mlp = families.iter().find(|family| family["family"] == "image_mlp").expect("listed");
    assert_eq!(mlp["topic"], "image");
    for number in ["parameters", "flop", "bytes"] {
        assert!(mlp[number].as_f64().is_some_and(|number| number > 0.0), "{number}: {mlp}");
    }
}

#[test]
fn a_family_is_shown_with_what_was_set() {
    let shown = object(&["show", "image_mlp", "--set", "hidden=[5, 4]", "--set", "data=procedural", "--measure"]);
    assert_eq!(shown["settings"]["hidden"], json!([5, 4]));
    assert_eq!(shown["defaults"]["hidden"], json!([32]));
    assert_eq!(shown["tensors"].as_array().map(Vec::len), Some(6));
    let sizes = shown["tensors"].as_array().expect("a list").iter().map(|tensor| {
        assert_eq!(tensor["part"], "real");
        tensor["shape"].as_array().expect("a list").iter().map(|n| n.as_u64().expect("a size")).product::<u64>()
    });
    assert_eq!(shown["parameters"].as_u64(), Some(sizes.sum()));
    // Ten classes: the ceiling is 1.5 ln 10, which a loss of 10 and one that is no number have.
    let normalised = |nth: usize| shown["normalised"][nth]["normalised"].as_f64().expect("a number");
    let ceiling = 1.5 * 10_f64.ln();
    assert!((normalised(3) - ceiling).abs() < 1e-9 && (normalised(4) - ceiling).abs() < 1e-9, "{shown}");
    assert_eq!(shown["normalised"][4]["loss"], Value::Null);
    let measured = &shown["measured"];
    let (seconds, rate) = (measured["milliseconds"].as_f64().expect("measured") / 1e3, &measured["gflop_per_second"]);
    let flop = shown["flop"].as_f64().expect("a number");
    assert!((rate.as_f64().expect("measured") / (flop / seconds / 1e9) - 1.0).abs() < 1e-9, "{shown}");
    assert_eq!(object(&["show", "image_mlp"])["measured"], Value::Null);
    let text = stdout(&paceline(&["tasks", "show", "image_mlp", "--set", "hidden=[5, 4]"]));
    assert!(text.contains("hidden = [5,4]") && text.contains("# default [32]"), "{text}");
    assert!(text.contains("layer_0/w") && text.contains("NaN") && text.contains("FLOP"), "{text}");
}

#[test]
fn a_sample_is_one_svg_and_the_losses_of_its_task() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let draw = |seed: &str, name: &str| {
        let file = folder.path().join(name);
        let sample = object(&["sample", "image_mlp", "--seed", seed, "-o", text(&file)]);
        (sample, std::fs::read_to_string(file).expect("written"))
    };
    let (sample, svg) = draw("3", "deep/er/three.svg");
    assert!(svg.starts_with("<svg ") && svg.contains("image_mlp, the task of seed 3"), "{}", &svg[..300]);
    assert!(!svg.contains("href") && !svg.contains("<script"), "it needs another file");
    let panels = sample["panels"].as_array().expect("a list");
    assert!(panels.len() >= 4, "{sample}");
    assert_eq!(svg.matches(">class ").count(), panels.len());
    let splits = sample["splits"].as_array().expect("a list");
    assert_eq!(splits.len(), 4);
    for split in splits {
        // Weights that know nothing yet are about as wrong as guessing among ten classes.
        let loss = split["loss"].as_f64().expect("finite");
        assert!((1.0..4.0).contains(&loss) && split["accuracy"].as_f64().is_some(), "{split}");
    }
    assert!(sample["gradient_norm"].as_f64().is_some_and(|norm| norm > 0.0), "{sample}");
    assert_eq!(draw("3", "again.svg").1, svg);
    assert_ne!(draw("4", "four.svg").1, svg);
}

#[test]
fn a_sample_is_named_after_its_task_if_not_otherwise() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = command(&["tasks", "sample", "image_mlp", "--seed", "5"]).current_dir(folder.path()).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("gradient norm") && said.contains("drawn into image_mlp-5.svg"), "{said}");
    assert!(folder.path().join("image_mlp-5.svg").is_file());
}

#[test]
fn what_is_wrong_is_refused_with_family_and_key() {
    for (arguments, code, expected) in [
        (&["list", "no-such"][..], 64, "\"no-such\""),
        (&["list", "--data-dir", "/nowhere"], 64, "/nowhere: no such folder"),
        (&["show"], 2, "FAMILY"),
        (&["show", "image_mpl"], 64, "no task family \"image_mpl\""),
        (&["show", "image_mpl", "--set", "oops"], 64, "no task family \"image_mpl\""),
        (&["show", "image_mlp", "--set", "hidden"], 64, "task family image_mlp: \"hidden\" of --set has no value"),
        (&["show", "image_mlp", "--set", "hidden=[1"], 64, "\"hidden\" of --set has a value that is not TOML"),
        (&["show", "image_mlp", "--set", "hidden=[0]"], 64, "task family image_mlp: each of hidden"),
        (&["show", "image_mlp", "--set", "data=mnist"], 64, "--data-dir"),
        (&["show", "image_mlp", "--data-dir", "/nowhere"], 64, "/nowhere: no such folder"),
        (&["sample", "image_mlp", "--set", "imge_size=3"], 64, "task family image_mlp: unknown field `imge_size`"),
        (&["sample", "image_mlp", "--set", "image_size=true"], 64, "task family image_mlp: image_size: invalid type"),
        (&["sample", "image_mlp", "--set", "batch_size=1", "--set", "batch_size=2"], 64, "is given twice"),
        (&["sample", "image_mlp", "--seed", "-1"], 2, "'-1'"),
        (&["sample", "image_mlp", "-o", "/dev/null/x.svg"], 73, "cannot write /dev/null/x.svg"),
    ] {
        let output = paceline(&[&["tasks"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", stdout(&output));
    }
}
