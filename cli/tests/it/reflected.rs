//! Somebody else's client: Python, which learns services and messages from the server alone.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::remote::Cluster;
use crate::{announce, stderr, stdout, text, train};

/// The client.
const CLIENT: &str = include_str!("reflected.py");

/// A Python that has the packages: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import grpc_reflection, grpc_health"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// What the client found at `host:port`, and the checkpoint it wrote; `None` where there is no such Python. With an
/// authority and a file with a token, by TLS.
pub(crate) fn pull(address: &str, run: &str, file: &Path, credentials: Option<[&Path; 2]>) -> Option<Value> {
    let Some(python) = python() else {
        announce(
            "SKIPPED reflected: no Python with grpcio-reflection and grpcio-health-checking (PACELINE_PYTHON names one)",
        );
        return None;
    };
    let credentials = credentials.iter().flatten().map(|path| text(path));
    let output = Command::new(python)
        .args(["-c", CLIENT, address, run, text(file)])
        .args(credentials)
        .output()
        .expect("run Python");
    assert!(output.status.success(), "{}", stderr(&output));
    Some(serde_json::from_str(&stdout(&output)).expect("one JSON object"))
}

#[test]
fn a_client_made_from_reflection_lists_runs_and_pulls_a_checkpoint() {
    let cluster = Cluster::start();
    let recipe = train::recipe(cluster.folder.path(), 2);
    let mut runs: Vec<String> = (0..3)
        .map(|_| {
            let submitted = cluster.json(&["run", "submit", text(&recipe)]);
            let run = submitted["run"].as_str().expect("an id").to_owned();
            cluster.says(&["run", "watch", &run], 0);
            run
        })
        .collect();
    let file = cluster.folder.path().join("theirs.safetensors");
    let address = cluster.address.strip_prefix("http://").expect("plain");
    let Some(found) = pull(address, &runs[1], &file, None) else { return };

    assert_eq!(found["health"], "SERVING");
    let services: Vec<_> = found["services"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for service in ["CheckpointService", "FleetService", "RunService", "WorkerService"] {
        assert!(services.contains(&format!("paceline.v1.{service}").as_str()), "{services:?}");
    }
    let mut listed: Vec<_> =
        found["runs"].as_array().expect("a list").iter().filter_map(|run| run["run"].as_str()).collect();
    listed.sort_unstable();
    runs.sort_unstable();
    assert_eq!(listed, runs);
    assert_eq!(found["runs"][0]["status"], "RUN_STATUS_COMPLETED");
    assert_eq!(found["outer_step"], 2);
    let theirs = text(&file).to_owned();
    assert!(cluster.says(&["checkpoint", "verify", &theirs], 0).contains(": ok"));
}
