//! The shipped mixture of ten families, shortened, through the real programs: coordinator and workers as processes.

use paceline_proto::model::RunSpec;
use serde_json::Value;

use crate::processes::{start_coordinator, start_worker};
use crate::{command, stderr, stdout, text};

/// The recipe as it is shipped: families, settings, estimator.
const RECIPE: &str = include_str!("../../../deploy/recipes/ten-families.toml");
/// Outer steps here.
const STEPS: u64 = 6;

/// The recipe with fewer outer steps of shorter unrolls of one pair.
fn shortened() -> String {
    let mut recipe: toml::Table = RECIPE.parse().expect("the shipped recipe parses");
    recipe["estimator"]["horizon"]["steps"] = 3.into();
    recipe["outer"]["steps"] = (STEPS as i64).into();
    recipe["outer"]["pairs_per_slot"] = 1.into();
    recipe.to_string()
}

/// Trains it with so many workers and returns what `run show` prints, as a table and as JSON.
fn trained(workers: usize) -> (String, Value) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_coordinator, address) = start_coordinator(folder.path(), "127.0.0.1:0".parse().expect("an address"));
    let _fleet: Vec<_> = (0..workers).map(|index| start_worker(address, &format!("w{index}"))).collect();
    let says = |arguments: &[&str]| {
        let mut command = command(arguments);
        let output = command.env("PACELINE_COORDINATOR", format!("http://{address}")).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let json = |arguments: &[&str]| -> Value {
        let said = says(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
    };
    let file = folder.path().join("short.toml");
    std::fs::write(&file, shortened()).expect("the temporary folder is writable");
    let submitted = json(&["run", "submit", text(&file)]);
    let run = submitted["run"].as_str().expect("the run's id");
    says(&["run", "watch", run]);
    (says(&["run", "show", run]), json(&["run", "show", run]))
}

#[test]
fn ten_families_go_through_a_coordinator_and_two_workers() {
    let (table, shown) = trained(2);
    assert_eq!((&shown["status"], &shown["outer_step"]), (&"completed".into(), &STEPS.into()), "{shown}");
    let spec: RunSpec = toml::from_str(RECIPE).expect("the shipped recipe is valid");
    let mixture = shown["mixture"].as_array().expect("one entry a family");
    assert_eq!((spec.tasks.len(), mixture.len()), (10, 10));
    for (entry, task) in mixture.iter().zip(&spec.tasks) {
        assert_eq!(entry["family"], task.family.as_str());
        assert!(entry["contributions"].as_u64() > Some(0) && entry["inner_steps"].as_u64() > Some(0), "{entry}");
        for span in ["first", "latest"] {
            assert!(entry[span]["meta_loss"].as_f64().is_some_and(f64::is_finite), "{span}: {entry}");
        }
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(&task.family));
        assert!(row.is_some_and(|row| row.contains(&entry["contributions"].to_string())), "{table}");
    }
    let (_, alone) = trained(1);
    assert_eq!(alone["theta_hash"], shown["theta_hash"], "the fleet changes no bit");
    let losses = |shown: &Value| {
        let entries = shown["mixture"].as_array().into_iter().flatten();
        entries.map(|entry| (entry["first"].clone(), entry["latest"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(losses(&alone), losses(&shown), "nor what is said of the families");
}
