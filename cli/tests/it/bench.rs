//! `paceline bench inner`, `update`, `scaling` and `fold`: what they print of tiny works, and what they refuse. How long
//! anything takes is not asserted.

use serde_json::Value;

use crate::{paceline, stderr, stdout};

/// The one line of JSON that `bench` prints for these arguments.
fn measured(arguments: &[&str]) -> Value {
    let output = paceline(&[&["--format", "json", "bench"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    let told = stdout(&output);
    assert_eq!(told.lines().count(), 1, "{told}");
    serde_json::from_str(&told).expect("JSON")
}

fn positive(object: &Value, key: &str) -> f64 {
    let value = object[key].as_f64().unwrap_or_else(|| panic!("{key} is a number of {object}"));
    assert!(value > 0.0 && value.is_finite(), "{key} is {value}");
    value
}

const TINY: [&str; 6] = ["--pairs", "2", "--steps", "3", "--reps", "2"];

#[test]
fn inner_tells_of_all_optimizers_and_tasks_in_the_keys_that_peers_use() {
    let works: [(&str, &str, &[&str], &str, u64); 4] = [
        ("adafac_mlp", "mlp", &[], "image_mlp", 197),
        ("celo2_base", "conv", &["--batch", "4"], "image_conv", 347),
        ("hyper_v2", "mlp", &["--lstm", "8", "--bank", "4"], "image_mlp", 1985),
        ("adafac_mlp", "gnn", &["--hidden", "2"], "graph_gcn", 99),
    ];
    for (optimizer, task, more, family, theta) in works {
        let work = ["inner", "--optimizer", optimizer, "--task", task, "--threads", "2"];
        let object = measured(&[&work, &TINY[..], more].concat());
        assert_eq!((&object["program"], &object["device"]), (&"paceline".into(), &"cpu".into()));
        assert_eq!((&object["optimizer"], &object["task"]), (&optimizer.into(), &task.into()));
        assert_eq!((&object["pairs"], &object["steps"], &object["threads"]), (&2.into(), &3.into(), &2.into()));
        assert_eq!((&object["inner_steps"], &object["diverged_lanes"]), (&(2 * 2 * 3).into(), &0.into()));
        assert_eq!((&object["family"], &object["noise"]), (&family.into(), &"dense".into()));
        assert!(object["instruction_set"].is_string() && object["rank"].is_null());
        assert_eq!(object["theta"], theta, "{object}");
        let (seconds, least) = (positive(&object, "seconds"), positive(&object, "seconds_min"));
        assert!(least <= seconds);
        assert!(positive(&object, "loss") < 10.0, "an untrained optimizer's loss is near that of guessing: {object}");
        assert!((positive(&object, "inner_steps_per_second") - 12.0 / seconds).abs() <= 0.5, "{object}");
    }
}

#[test]
fn inner_takes_low_rank_noise_and_prints_a_table() {
    let low_rank = ["--noise", "low_rank", "--rank", "2", "--optimizer", "hyper_v2", "--lstm", "8", "--bank", "4"];
    let object = measured(&[&["inner"], &TINY[..], &low_rank].concat());
    assert_eq!((&object["noise"], &object["rank"]), (&"low_rank".into(), &2.into()));
    let output = paceline(&[&["--format", "table", "bench", "inner"], &TINY[..]].concat());
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(told.contains("2 pairs x 3 steps") && told.contains("inner steps/s"), "{told}");
    assert!(stderr(&output).contains("meta-gradients: 3"), "{}", stderr(&output));
}

#[test]
fn scaling_has_a_row_for_each_number_of_threads() {
    let object = measured(&[&["scaling", "--threads", "2,1"], &TINY[..]].concat());
    let rows = object["scaling"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| &row["threads"]).collect::<Vec<_>>(), [&Value::from(1), &Value::from(2)]);
    assert_eq!(rows[0]["efficiency"], 1.0);
    for row in rows {
        assert_eq!(row["inner_steps"], 12);
        positive(row, "efficiency");
        positive(row, "inner_steps_per_second");
    }
}

#[test]
fn update_has_adam_and_adam_w_beside_the_learned_optimizer() {
    let arguments = ["update", "--optimizer", "adafac_mlp", "--shapes", "many_small", "--reps", "2", "--threads", "1"];
    let object = measured(&arguments);
    assert_eq!(
        (&object["shapes"], &object["tensors"], &object["threads"]),
        (&"many_small".into(), &200.into(), &1.into())
    );
    let rows = object["optimizers"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().filter_map(|row| row["optimizer"].as_str()).collect();
    assert_eq!(names, ["adafac_mlp", "adam", "adam_w"]);
    for row in rows {
        assert!(positive(row, "ns_per_parameter_min") <= positive(row, "ns_per_parameter"));
        let own = 1e9 * positive(row, "seconds") / positive(&object, "parameters");
        assert!((own / positive(row, "ns_per_parameter") - 1.0).abs() < 1e-9);
    }
    assert_eq!(rows[1]["state_bytes_per_parameter"], 12.0, "Adam keeps a parameter and two moments");
}

#[test]
fn fold_tells_its_machine_and_threads() {
    let object = measured(&["fold", "--pairs", "2", "--dense-pairs", "1", "--repeats", "1", "--threads", "1"]);
    assert_eq!((&object["program"], &object["benchmark"]), (&"paceline".into(), &"fold".into()));
    assert_eq!((&object["threads"], &object["values"]), (&1.into(), &2_320_385.into()));
    assert_eq!(object["folds"].as_array().map(Vec::len), Some(2));
}

#[test]
fn wrong_names_are_64_and_told_those_there_are() {
    let refused = |arguments: &[&str], expected: &[&str]| {
        let output = paceline(&[&["bench"], arguments].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        expected.iter().for_each(|words| assert!(told.contains(words), "{arguments:?} does not say {words:?}: {told}"));
    };
    refused(&["inner", "--optimizer", "adamw"], &["--optimizer adamw", "adafac_mlp", "celo2_base"]);
    refused(&["scaling", "--task", "cnn"], &["--task cnn", "conv", "transformer"]);
    refused(&["update", "--shapes", "resnet"], &["--shapes resnet", "vit_b16", "many_small"]);
    refused(&["update", "--optimizer", "celo2_base", "--lstm", "8"], &["--lstm 8", "celo2_base has no such size"]);
    refused(&["scaling", "--threads", "2,2"], &["names 2 twice"]);
}

#[test]
fn nothing_to_measure_is_a_wrong_use() {
    for arguments in [
        ["inner", "--pairs", "0"],
        ["inner", "--steps", "0"],
        ["inner", "--reps", "0"],
        ["inner", "--rank", "0"],
        ["scaling", "--threads", "0"],
        ["update", "--reps", "0"],
        ["update", "--threads", "0"],
    ] {
        let output = paceline(&[&["bench"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(arguments[1]), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn more_threads_than_the_machine_has_are_warned_of() {
    let output = paceline(&["bench", "inner", "--pairs", "1", "--steps", "1", "--reps", "1", "--threads", "1000"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: 1000 threads on a machine that runs"), "{}", stderr(&output));
}
