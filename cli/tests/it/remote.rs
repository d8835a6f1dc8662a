//! `paceline run` and `paceline checkpoint` against a coordinator with one worker, over real gRPC.

use std::path::PathBuf;

use paceline_coordinator as coordinator;
use paceline_proto::client::Access;
use paceline_worker as worker;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{command, stderr, stdout, text, train};

/// A cluster in this process; its threads end with it.
pub(crate) struct Cluster {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        runtime.spawn(coordinator::serve(coordinator::Config::default(), listener, CancellationToken::new()));
        let config = worker::Config {
            coordinator: address.clone(),
            access: Access::default(),
            worker: "w0".parse().expect("a valid id"),
            threads: 1,
            data_dir: None,
            device: worker::Device::Cpu,
        };
        runtime.spawn(worker::run(config, CancellationToken::new()));
        Self { address, folder: tempfile::tempdir().expect("a temporary folder"), _runtime: runtime }
    }

    /// Runs a command in the cluster's folder and returns what it printed.
    pub(crate) fn says(&self, arguments: &[&str], code: i32) -> String {
        let mut command = command(arguments);
        let output = command.env("PACELINE_COORDINATOR", &self.address).current_dir(self.folder.path()).output();
        let output = output.expect("the binary runs");
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.says(&[arguments, &["--format", "json"]].concat(), 0);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
    }
}

#[test]
fn a_run_is_submitted_watched_and_pulled() {
    let cluster = Cluster::start();
    assert!(cluster.says(&["run", "list"], 0).contains("no runs yet"));
    let recipe: PathBuf = train::recipe(cluster.folder.path(), 7);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    assert!(cluster.says(&["run", "watch", run], 0).contains("completed at outer step 7"));
    assert_eq!(cluster.json(&["run", "list"])["runs"][0]["status"], "completed");
    let shown = cluster.says(&["run", "show", run], 0);
    assert!(shown.contains("outer step         7 of 7") && shown.contains("sigma = 0.01\n"), "{shown}");
    let ledger = cluster.json(&["run", "ledger", run]);
    assert_eq!(ledger["balances"], true, "{ledger}");
    assert!(ledger["ledger"]["accepted"].as_u64() >= Some(7 * 3), "{ledger}");

    let list = cluster.json(&["checkpoint", "list", run]);
    let steps: Vec<_> =
        list["checkpoints"].as_array().expect("a list").iter().map(|c| c["outer_step"].as_u64()).collect();
    assert_eq!(steps.first(), Some(&Some(7)), "{list}");
    assert!(cluster.says(&["checkpoint", "list", run], 0).contains(&format!("{run}@7")));
    let pulled = cluster.json(&["checkpoint", "pull", run]);
    let file = pulled["file"].as_str().expect("a path");
    assert_eq!(file, format!("{run}-7.safetensors"));
    assert!(cluster.says(&["checkpoint", "verify", file], 0).contains(": ok"));
    let (here, there) = (cluster.json(&["checkpoint", "show", file]), cluster.json(&["checkpoint", "show", run]));
    assert_eq!(here["theta_hash"], there["theta_hash"]);
    assert_eq!(here["sha256"], pulled["sha256"]);
    assert_eq!(here["optimizer"]["exp_mult"], 0.001);
}

#[test]
fn the_untrained_optimizer_of_an_evaluation_is_the_one_the_coordinator_began_with() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 1);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    cluster.says(&["run", "watch", run], 0);
    cluster.says(&["checkpoint", "pull", run, "--step", "0", "-o", "begin.safetensors"], 0);
    cluster.says(&["eval", "begin.safetensors", "-o", "eval"], 0);
    let report = std::fs::read(cluster.folder.path().join("eval/report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let contenders = &report["families"][0]["contenders"];
    assert_eq!(contenders[1]["name"], "learned, untrained");
    assert_eq!(contenders[0]["mean_train_loss"], contenders[1]["mean_train_loss"]);
}

#[test]
fn an_evaluation_is_recorded_with_the_run_it_is_of() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 4);
    let submitted = cluster.json(&["run", "submit", text(&recipe)]);
    let run = submitted["run"].as_str().expect("an id");
    cluster.says(&["run", "watch", run], 0);
    assert!(cluster.says(&["run", "evaluations", run], 0).contains("no evaluations yet"));
    for step in ["3", "4"] {
        cluster.says(&["checkpoint", "pull", run, "--step", step, "-o", "it.safetensors"], 0);
        let said = cluster.says(&["eval", "it.safetensors", "--seeds", "3", "--record", "-o", "eval"], 0);
        assert!(said.contains(&format!("recorded with {run}")), "{said}");
    }
    let told = cluster.json(&["run", "evaluations", run]);
    let evaluations = told["evaluations"].as_array().expect("a list");
    let steps: Vec<_> = evaluations.iter().map(|one| one["outer_step"].as_u64()).collect();
    assert_eq!(steps, [Some(4), Some(3)], "{told}");
    let newest = &evaluations[0];
    assert_eq!(
        (newest["seeds"].as_u64(), newest["ends"].as_array().and_then(|ends| ends.last()?.as_u64())),
        (Some(3), Some(30))
    );
    // The same numbers as in the report: the learned optimizer trained what it says, and the best Adam is beside it.
    let report = std::fs::read(cluster.folder.path().join("eval/report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(newest["theta_hash"], report["theta_hash"]);
    let contenders = newest["families"][0]["contenders"].as_array().expect("a list");
    assert_eq!(contenders[0]["name"], "learned");
    let best = report["families"][0]["best_adam_by_final"].as_u64().expect("an index") as usize;
    let best = report["families"][0]["contenders"][best]["name"].as_str().expect("a name");
    assert!(contenders.iter().skip(2).any(|one| one["name"].as_str().is_some_and(|name| name.starts_with(best))));
    let listed = cluster.says(&["run", "evaluations", run], 0);
    assert!(listed.contains("learned, untrained") && listed.contains("third quartile"), "{listed}");

    // What the coordinator does not keep is refused before anything is computed.
    let other = Cluster::start();
    let file = cluster.folder.path().join("it.safetensors");
    let said = other.says(&["eval", text(&file), "--record", "--format", "json"], 64);
    assert!(said.contains("RUN_NOT_FOUND"), "{said}");
    assert!(!file.with_extension("safetensors.eval").exists(), "nothing was evaluated");
}

#[test]
fn refusals_keep_their_reason() {
    let cluster = Cluster::start();
    for arguments in [&["run", "show", "nope"][..], &["run", "watch", "nope"], &["checkpoint", "pull", "nope"]] {
        let said = cluster.says(&[arguments, &["--format", "json"]].concat(), 64);
        let error: Value = serde_json::from_str(&said).expect("one JSON object");
        assert_eq!(error["error"]["reason"], "RUN_NOT_FOUND", "{arguments:?}");
    }
}
