//! What a person sees when a recipe is wrong, and that the shipped ones are right.

use crate::{paceline, stderr, text};

fn refused(change: impl Fn(&str) -> String) -> String {
    let quickstart = include_str!("../../../deploy/recipes/quickstart.toml");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("mine.toml");
    let changed = change(quickstart);
    assert_ne!(changed, quickstart, "the change found nothing to change");
    std::fs::write(&file, changed).expect("written");
    let output = paceline(&["train", text(&file), "--store", text(&folder.path().join("store"))]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(!folder.path().join("store").exists(), "something was started");
    stderr(&output).replace(text(folder.path()), "DIR")
}

#[test]
fn an_unknown_key_names_file_line_and_nearest_key() {
    let error = refused(|text| text.replace("pairs_per_slot", "pairs_per_slt"));
    assert_eq!(
        error,
        "error: DIR/mine.toml:22: [outer] has no key \"pairs_per_slt\"\nhelp: did you mean \"pairs_per_slot\"?\n"
    );
}

#[test]
fn an_unknown_family_names_the_line_and_the_families() {
    let error = refused(|text| text.replace("image_mlp", "image_mpl"));
    assert!(error.contains("mine.toml:27: no task family \"image_mpl\"") && error.contains("image_mlp"), "{error}");
}

#[test]
fn a_wrong_setting_of_a_family_names_its_line() {
    let error = refused(|text| text.replace("settings = { data", "settings = { imge_size = 3, data"));
    assert!(error.contains("mine.toml:29: task family image_mlp: unknown field `imge_size`"), "{error}");
    let error = refused(|text| {
        let (before, _) = text.split_once("settings = ").expect("the quick start has settings");
        format!("{before}\n[tasks.settings]\nhidden = [4]\nbatch_size = 0\n")
    });
    assert!(error.contains("mine.toml:32: task family image_mlp: batch_size must be"), "{error}");
}

#[test]
fn all_wrong_ranges_are_told_at_once() {
    let error = refused(|text| text.replace("slots = 8 ", "slots = 0 ").replace("sigma = 0.01", "sigma = -1"));
    assert!(error.starts_with("error: DIR/mine.toml: 2 settings are wrong\n"), "{error}");
    assert!(error.contains("DIR/mine.toml:16: estimator.sigma must be"), "{error}");
    assert!(error.contains("DIR/mine.toml:21: outer.slots must be"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_names_its_key() {
    for (from, to, expected) in [
        ("seed = 1 ", "seed = -1 ", "mine.toml:7: seed must be a whole number"),
        ("name = \"quickstart\"", "name = 3", "mine.toml:6: name must be a string, found integer `3`"),
        ("hidden_size = 4 ", "hidden_size = 1.5 ", "mine.toml:11: optimizer.hidden_size must be a whole number"),
        (
            "sigma = 0.01 ",
            "sigma = \"small\" ",
            "mine.toml:16: estimator.sigma must be a number, found string \"small\"",
        ),
        ("max = 500 ", "max = -2 ", "mine.toml:17: estimator.horizon.max must be a whole number"),
        ("slots = 8 ", "slots = true ", "mine.toml:21: outer.slots must be a whole number"),
        ("weight = 1.0 ", "weight = \"a\" ", "mine.toml:28: tasks[0].weight must be a number"),
        ("image_size = 8", "image_size = -8", "mine.toml:29: task family image_mlp: image_size: invalid value"),
    ] {
        let error = refused(|text| text.replacen(from, to, 1));
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn missing_data_is_refused_before_anything_starts() {
    let error = refused(|text| text.replace("data = \"auto\"", "data = \"cifar10\""));
    assert!(error.contains("cifar10") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_window_longer_than_the_shortest_horizon_is_refused_before_anything_starts() {
    let error = refused(|text| text.replace("window = 20", "window = 50"));
    assert!(error.contains("window") && error.contains("shorter than the shortest horizon"), "{error}");
}
