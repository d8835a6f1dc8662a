//! `paceline train` from end to end: real coordinator, workers and store in one process, started as a person would.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{command, paceline, stderr, stdout, text};

/// A run of so many outer steps, each a few milliseconds of work.
pub(crate) fn recipe(folder: &Path, steps: u32) -> std::path::PathBuf {
    let file = folder.join("tiny.toml");
    let recipe = format!(
        r#"
name = "tiny"
seed = 3
optimizer = {{ kind = "adafac_mlp" }}

[estimator]
kind = "pes"
window = 4
sigma = 0.01
horizon = {{ kind = "log_uniform", min = 6, max = 12 }}

[outer]
steps = {steps}
slots = 3
pairs_per_slot = 1
optimizer = {{ learning_rate = 0.003 }}

[[tasks]]
family = "image_mlp"
settings = {{ data = "procedural", image_size = 4, hidden = [8], batch_size = 8 }}

[checkpoint]
every = 3

[evaluation]
steps = 30
seeds = 2
"#
    );
    std::fs::write(&file, recipe).expect("written");
    file
}

fn events(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

fn named<'e>(events: &'e [Value], name: &str) -> &'e Value {
    events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no event {name:?} in {events:?}"))
}

/// The theta hash of a checkpoint file.
fn theta_hash(file: &str) -> String {
    let output = paceline(&["checkpoint", "show", file, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    shown["theta_hash"].as_str().expect("a hash").to_owned()
}

#[test]
fn a_recipe_becomes_a_checkpoint_and_a_comparison() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, store) = (recipe(folder.path(), 4), folder.path().join("store"));
    let train = ["train", text(&recipe), "--store", text(&store), "--threads", "1", "--format", "json"];
    let output = paceline(&train);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events = events(&stdout(&output));
    assert_eq!(named(&events, "started")["resumed"], false);
    let checkpoint = named(&events, "checkpoint");
    assert_eq!(checkpoint["outer_step"], 4);
    let file = checkpoint["file"].as_str().expect("a path");
    assert_eq!(paceline(&["checkpoint", "verify", file]).status.code(), Some(0));
    let report = &named(&events, "evaluation")["report"];
    let contenders = report["families"][0]["contenders"].as_array().expect("a list");
    assert_eq!(contenders.len(), 2 + 15);
    assert!(contenders.iter().all(|contender| contender["mean_train_loss"]["mean"].is_f64()), "{contenders:?}");

    let again = paceline(&["eval", file, "--threads", "3", "-o", text(&folder.path().join("again"))]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let read = |path: &Path| std::fs::read_to_string(path).expect("a report");
    let first = read(Path::new(&format!("{file}.eval/report.json")));
    assert_eq!(first, read(&folder.path().join("again/report.json")), "the threads changed the result");
    assert!(stdout(&again).contains("best by"), "{}", stdout(&again));

    assert_eq!(named(&events, "recorded")["outer_step"], 4, "the store keeps it for the run's page");
    let run = named(&events, "recorded")["run"].as_str().expect("an id");
    let kept = {
        let store = paceline_coordinator::store::SledStore::open(&store.join("coordinator")).expect("it is closed");
        paceline_coordinator::store::read_evaluations(&store, 0, [4]).expect("readable")
    };
    assert_eq!((kept.len(), kept[0].families[0].family.as_str()), (1, "image_mlp"), "{run}");

    let output = paceline(&[&train[..train.len() - 2], &["--no-eval"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("is finished already"), "{}", stdout(&output));
}

#[test]
fn an_interrupted_run_continues_and_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = recipe(folder.path(), 400);
    let train = |store: &str| {
        let store = folder.path().join(store);
        let mut command = command(&["train", text(&recipe), "--no-eval", "--threads", "1", "--format", "json"]);
        command.arg("--store").arg(store).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child = train("a").spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let reached = lines.by_ref().map(|line| line.expect("text")).find(|line| {
        let event: Value = serde_json::from_str(line).expect("one JSON object a line");
        event["event"] == "progress" && event["outer_step"].as_u64() >= Some(5)
    });
    assert!(reached.is_some(), "the run ended before outer step 5");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("the process lives");
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{rest:?} {}", stderr(&output));
    let error: Value = serde_json::from_str(stderr(&output).lines().last().expect("an error")).expect("JSON");
    assert_eq!(error["error"]["reason"], "INTERRUPTED");
    assert!(error["error"]["help"].as_str().is_some_and(|help| help.contains("paceline train")), "{error}");

    let output = train("a").output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let continued = events(&stdout(&output));
    let started = named(&continued, "started");
    assert_eq!(started["resumed"], true);
    assert!(started["outer_step"].as_u64() >= Some(5), "{started}");

    let output = train("b").output().expect("runs");
    let straight = events(&stdout(&output));
    let file = |events: &[Value]| named(events, "checkpoint")["file"].as_str().expect("a path").to_owned();
    assert_eq!(theta_hash(&file(&continued)), theta_hash(&file(&straight)));
}

#[test]
fn a_store_in_use_is_worth_another_try() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (recipe, store) = (recipe(folder.path(), 100_000), folder.path().join("store"));
    let arguments =
        ["train", text(&recipe), "--no-eval", "--threads", "1", "--format", "json", "--store", text(&store)];
    let mut child = command(&arguments).stdout(Stdio::piped()).spawn().expect("started");
    // The reader stays until the end: a command whose reader has gone ends.
    let mut events = BufReader::new(child.stdout.take().expect("piped"));
    events.read_line(&mut String::new()).expect("an event");
    let second = paceline(&arguments);
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    drop(events);
    assert_eq!(second.status.code(), Some(75), "{}", stderr(&second));
}
