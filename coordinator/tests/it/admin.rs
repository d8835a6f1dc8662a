//! The admin listener: probes, metrics as Prometheus' own client reads them, and what it refuses.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use paceline_coordinator::{Admin, Config, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, result};

/// Status, headers and body of one request over a connection of its own.
pub(crate) async fn ask(address: &str, method: &str, path: &str, accept: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("the admin listener is there");
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
    let headers = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, headers, answer[end + 4..].to_vec())
}

/// A page or a document that must be there.
pub(crate) async fn get(address: &str, path: &str) -> String {
    let (status, _, body) = ask(address, "GET", path, "*/*").await;
    assert_eq!(status, 200, "{path}");
    String::from_utf8(body).unwrap()
}

/// Asks again until the answer is right: a survey may be a second old.
pub(crate) async fn until(address: &str, path: &str, right: impl Fn(&str) -> bool) -> String {
    let asking = async {
        loop {
            let body = get(address, path).await;
            if right(&body) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap_or_else(|_| panic!("{path} never was right"))
}

/// Reads both formats with Prometheus' own client, strictly, and prints every sample.
const READER: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

texts = json.load(sys.stdin)
def samples(parse, text):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in parse(text) for s in family.samples}
open_metrics, older = samples(strict, texts["open"]), samples(plain, texts["plain"])
missing = {name for name, _ in older} ^ {name for name, _ in open_metrics}
assert not {name for name in missing if not name.endswith("_created")}, missing
print(json.dumps([[name, dict(labels), value] for (name, labels), value in open_metrics.items()]))
"#;

/// A Python that has the package: `PACELINE_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("PACELINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import prometheus_client"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

fn read_by_prometheus(python: &str, open: &str, plain: &str) -> Vec<(String, Value, f64)> {
    let mut child = Command::new(python)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run Python");
    let both = serde_json::json!({"open": open, "plain": plain}).to_string();
    child.stdin.take().expect("piped").write_all(both.as_bytes()).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "{}\n{open}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("samples as JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_what_a_run_leaves_behind() {
    let Some(python) = python() else {
        crate::announce("SKIPPED prometheus_client: no Python with prometheus_client (PACELINE_PYTHON names one)");
        return;
    };
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("measured").await;
    for nth in 0..4 {
        let lease = cluster.lease(&worker).await;
        if nth == 0 {
            cluster.workers.heartbeat(&worker, std::slice::from_ref(&lease.key), lease.epoch, 10).await.unwrap();
            let mut damaged = result(&worker, &lease);
            damaged.inner_steps = u64::MAX;
            cluster.workers.submit(&damaged).await.expect_err("a count that cannot be true");
        }
        cluster.workers.submit(&result(&worker, &lease)).await.unwrap();
    }
    let step = format!("paceline_step{{run=\"{run}\"}} 2");
    until(&cluster.admin, "/metrics", |text| text.contains(&step)).await;
    let (_, headers, open) = ask(&cluster.admin, "GET", "/metrics", "application/openmetrics-text").await;
    assert!(headers.contains("application/openmetrics-text; version=1.0.0"), "{headers}");
    let (_, headers, plain) = ask(&cluster.admin, "GET", "/metrics", "text/plain").await;
    assert!(headers.contains("text/plain; version=0.0.4"), "{headers}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let samples = read_by_prometheus(&python, &text(open), &text(plain));

    let run = run.as_str();
    let value = |name: &str, labels: Value| {
        let found = samples.iter().find(|(found, of, _)| found == name && *of == labels);
        found.unwrap_or_else(|| panic!("no {name}{labels} in {samples:#?}")).2
    };
    use serde_json::json;
    assert_eq!(value("paceline_build_info", json!({"version": env!("CARGO_PKG_VERSION")})), 1.0);
    assert_eq!(value("paceline_coordinator_epoch", json!({})), 1.0);
    assert_eq!(value("paceline_workers", json!({"device_class": "cpu", "state": "active"})), 1.0);
    assert_eq!(value("paceline_worker_joins_total", json!({"device_class": "cpu"})), 1.0);
    assert_eq!(value("paceline_leases_issued_total", json!({"run": run, "attempt_kind": "first"})), 4.0);
    assert_eq!(value("paceline_lease_outcomes_total", json!({"run": run, "outcome": "accepted"})), 4.0);
    assert_eq!(value("paceline_results_rejected_total", json!({"run": run, "reason": "FIELD_INVALID"})), 1.0);
    assert_eq!(value("paceline_ledger_imbalance", json!({"run": run})), 0.0);
    assert_eq!(value("paceline_inner_steps_total", json!({"run": run, "family": "image_mlp"})), 320.0);
    assert!(value("paceline_meta_loss", json!({"run": run, "family": "image_mlp"})) > 0.0);
    assert!(value("paceline_meta_grad_norm", json!({"run": run})) > 0.0);
    assert!(value("paceline_update_norm", json!({"run": run})) > 0.0);
    // Weights of the invented pairs: 0.1 and 0.15, in both slots.
    let samples_expected = 4.0 * (0.25_f64 / 2.0).powi(2) / ((0.01 + 0.0225) / 2.0);
    assert!((value("paceline_effective_samples", json!({"run": run})) - samples_expected).abs() < 1e-9);
    assert!(value("paceline_journal_bytes", json!({})) > 0.0);
    let served = json!({"family": "image_mlp", "device_class": "cpu"});
    assert_eq!(value("paceline_lease_duration_seconds_count", served), 4.0);
    for phase in ["dispatch", "wait", "aggregate", "commit"] {
        assert!(value("paceline_step_duration_seconds_count", json!({"phase": phase})) >= 1.0, "{phase}");
    }
    assert!(value("paceline_journal_fsync_seconds_count", json!({})) > 0.0);
    let call = json!({"method": "paceline.v1.WorkerService/SubmitResult", "code": "OK"});
    assert_eq!(value("rpc_server_call_duration_seconds_count", call), 4.0);
    // Nothing names a worker, a lease or a step, however large the fleet.
    let allowed = ["run", "family", "device_class", "method", "code", "reason", "state", "outcome", "phase", "le"];
    for (name, labels, _) in &samples {
        let known = |label: &String| allowed.contains(&label.as_str()) || label == "attempt_kind" || label == "version";
        assert!(labels.as_object().unwrap().keys().all(known), "{name}{labels}");
    }
}

#[tokio::test]
async fn probes_and_scrapes_are_answered_before_the_store_is_open() {
    let admin = Admin::default();
    let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = pages.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(admin.clone().serve(pages, stop.clone()));
    let (status, _, body) = ask(&address, "GET", "/startupz", "").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body["failing"].as_str()), (503, Some("recovered")), "{body}");
    assert!(body["checks"][0]["age_seconds"].is_number(), "{body}");
    assert_eq!(ask(&address, "GET", "/readyz", "").await.0, 503);
    get(&address, "/healthz").await;
    assert!(get(&address, "/metrics").await.contains("paceline_coordinator_epoch 0"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = tokio::spawn(serve(Config { admin, ..Config::default() }, listener, stop.clone()));
    let ready = async {
        while ask(&address, "GET", "/readyz", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("it becomes ready");
    get(&address, "/startupz").await;
    let version: Value = serde_json::from_str(&get(&address, "/version").await).unwrap();
    assert_eq!(version["program"], "paceline-coordinator");
    stop.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn wrong_requests_are_refused_in_words() {
    let cluster = Cluster::start().await;
    let run = cluster.create("here").await;
    let missing = format!("/runs/{run}/checkpoints/77");
    for (method, path, expected, said) in [
        ("POST", "/metrics", 405, "use GET"),
        ("DELETE", "/healthz", 405, "use GET"),
        ("GET", "/nowhere", 404, "no such page"),
        ("GET", "/../../etc/passwd", 404, "no such page"),
        ("GET", "/runs/nobody-1234", 404, "There is no run"),
        ("GET", "/runs/%3Cscript%3E", 404, "&lt;script&gt;"),
        ("GET", "/runs/%ff", 400, ""),
        ("GET", "/runs/nobody-1234/checkpoints/1", 404, "There is no run"),
        ("GET", "/runs/nobody-1234/checkpoints/latest", 404, "There is no run"),
        ("GET", &missing, 404, "No such checkpoint"),
        ("POST", "/", 405, "use GET"),
    ] {
        let (status, _, body) = ask(&cluster.admin, method, path, "").await;
        let body = String::from_utf8(body).unwrap();
        assert!(status == expected && body.contains(said), "{method} {path}: {status} {body}");
    }
}
