//! A mixture of families through coordinator and workers: what each brings, curricula, and limits on cost.

use std::path::Path;

use serde_json::Value;

use crate::remote::Cluster;
use crate::{paceline, stderr, stdout, text};

/// Full evolution strategies: each step is eight whole trajectories, which begin in it.
const RECIPE: &str = r#"
name = "mix"
seed = 3
optimizer = { kind = "learnable_adam" }
estimator = { kind = "full_es", loss = "average", sigma = 0.01, horizon = { kind = "constant", steps = 3 } }
outer = { steps = 12, slots = 8, pairs_per_slot = 1, optimizer = { learning_rate = 0.01 } }

[[tasks]]
family = "image_mlp"
weight = MLP_WEIGHT
settings = { data = "procedural", image_size = 4, hidden = [4], batch_size = 4 }

[[tasks]]
family = "image_conv"
weight = CONV_WEIGHT
settings = { data = "procedural", image_size = 8, channels = [2], batch_size = 4 }
"#;

fn write(folder: &Path, mlp: &str, conv: &str, rest: &str) -> std::path::PathBuf {
    let file = folder.join("mix.toml");
    let recipe = RECIPE.replace("MLP_WEIGHT", mlp).replace("CONV_WEIGHT", conv) + rest;
    std::fs::write(&file, recipe).expect("the temporary folder is writable");
    file
}

/// Trains the recipe to its end and returns what `run show` prints, as text and as JSON.
fn trained(mlp: &str, conv: &str) -> (String, Value) {
    let cluster = Cluster::start();
    let recipe = write(cluster.folder.path(), mlp, conv, "");
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("the run's id");
    cluster.says(&["run", "watch", run], 0);
    (cluster.says(&["run", "show", run], 0), cluster.json(&["run", "show", run]))
}

#[test]
fn run_show_prints_what_each_family_brings() {
    let (table, shown) = trained("1.0", "1.0");
    let mixture = shown["mixture"].as_array().expect("one entry a family");
    let contributions: Vec<u64> = mixture.iter().filter_map(|entry| entry["contributions"].as_u64()).collect();
    assert_eq!((contributions.len(), contributions.iter().sum::<u64>()), (2, 12 * 8));
    assert!(contributions.iter().all(|count| *count > 20), "{contributions:?}");
    for (entry, family) in mixture.iter().zip(["image_mlp", "image_conv"]) {
        assert_eq!(entry["family"], family);
        assert_eq!((&entry["first"]["from"], &entry["latest"]["to"]), (&0.into(), &12.into()), "{entry}");
        assert!(entry["change"].as_f64().is_some() && entry["latest"]["meta_loss"].as_f64() > Some(0.0), "{entry}");
        assert!(entry["flop"].as_f64() > Some(0.0) && entry["seconds"].as_f64() > Some(0.0), "{entry}");
        let count = entry["contributions"].to_string();
        let row = table.lines().find(|line| line.trim_start().starts_with(&format!("{family} ")));
        let row: Vec<&str> = row.unwrap_or_else(|| panic!("no row of {family}: {table}")).split_whitespace().collect();
        assert_eq!(row[1..5], ["1.000", "(50", "%)", &count], "{table}");
    }
    let inner: u64 = mixture.iter().filter_map(|entry| entry["inner_steps"].as_u64()).sum();
    assert_eq!(Some(inner), shown["inner_steps"].as_u64(), "entries share out what the run has trained");
}

#[test]
fn a_curriculum_switches_families_at_half_time() {
    let first_half = r#"{ kind = "piecewise_constant", init_value = 2.0, boundaries = [6], scales = [0.0] }"#;
    let second_half = r#"{ kind = "piecewise_linear", times = [5, 6], values = [0.0, 0.5] }"#;
    let (_, shown) = trained(first_half, second_half);
    let spans = shown["mixture"].as_array().expect("one entry a family").iter().map(|entry| {
        (entry["contributions"].as_u64(), entry["first"]["from"].as_u64(), entry["latest"]["to"].as_u64())
    });
    let expected = [(Some(48), Some(0), Some(6)), (Some(48), Some(6), Some(12))];
    assert_eq!(spans.collect::<Vec<_>>(), expected, "{shown}");
    assert_eq!((&shown["mixture"][0]["share"], &shown["mixture"][1]["share"]), (&0.0.into(), &1.0.into()));
}

/// What `paceline train` says of a recipe before it trains, or why it does not.
fn refused(mlp: &str, conv: &str, rest: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write(folder.path(), mlp, conv, rest);
    let store = folder.path().join("store");
    let output = paceline(&["train", text(&recipe), "--store", text(&store), "--no-eval"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(!store.exists(), "nothing was started");
    stderr(&output).replace(text(folder.path()), "DIR")
}

#[test]
fn weights_and_limits_that_make_no_mixture_are_refused_by_line() {
    let falls = r#"{ kind = "linear", init_value = 1.0, end_value = -1.0, steps = 8 }"#;
    let ends = r#"{ kind = "linear", init_value = 1.0, end_value = 0.0, steps = 4 }"#;
    for (mlp, conv, rest, said) in [
        ("-1.0", "1.0", "", "DIR/mix.toml:10: tasks[0].weight must be a finite number, at least 0, got -1"),
        ("0", "0.0", "", "tasks must have at least one weight above 0, all are 0"),
        (
            "1.0",
            falls,
            "",
            "DIR/mix.toml:15: tasks[1].weight must be a finite number, at least 0 at every outer step; at \
             step 5 it is not, got -0.25",
        ),
        (
            "0.0",
            ends,
            "",
            "DIR/mix.toml:15: tasks[1].weight must be above 0, or another weight must at every outer step; \
             at step 4 it is not",
        ),
        ("\"fast\"", "1.0", "", "DIR/mix.toml:10: tasks[0].weight must be a number, or a table"),
        (r#"{ kind = "zigzag" }"#, "1.0", "", "DIR/mix.toml:10: unknown value \"zigzag\""),
        ("1.0", "1.0", "[mixture]\nmax_flop = 0", "DIR/mix.toml:18: mixture.max_flop must be a finite number above 0"),
        ("1.0", "1.0", "[mixture]\nmax_flops = 1", "DIR/mix.toml:18: [mixture] has no key \"max_flops\""),
        ("1.0", "1.0", "[mixture]\nmax_flop = 1", "DIR/mix.toml:17: mixture: no entry is within its limits"),
        (
            "0",
            "1.0",
            "[mixture]\nmax_flop = 5e3",
            "mixture: the entries within its limits make no mixture by themselves",
        ),
    ] {
        let error = refused(mlp, conv, rest);
        assert!(error.contains(said), "{mlp} {conv} {rest}: {error}");
    }
}

#[test]
fn an_entry_above_a_limit_is_left_out_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = write(folder.path(), "1.0", "1.0", "[mixture]\nmax_flop = 5e3");
    let store = folder.path().join("store");
    let output = paceline(&["train", text(&recipe), "--store", text(&store), "--no-eval", "--threads", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("left out: tasks[1] image_conv: ") && said.contains("above mixture.max_flop"), "{said}");
    assert!(said.contains("task family: image_mlp") && !said.contains("task family: image_conv"), "{said}");
}
