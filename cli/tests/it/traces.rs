//! Coordinator and worker send their spans to one collector, and a lease's spans from both are one trace; calls are traced
//! too, and lines of the log name the trace they are of.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use paceline_proto::client::{RunClient, endpoint};
use paceline_proto::model::RunSpec;
use paceline_proto::pb;
use serde_json::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::processes::{start_coordinator_logging, start_worker_with};

const RECIPE: &str = r#"
name = "traced"
seed = 3
optimizer = { kind = "learnable_adam" }
estimator = { kind = "full_es", sigma = 0.01, horizon = { kind = "constant", steps = 5 } }
outer = { steps = 3, slots = 2, pairs_per_slot = 1, optimizer = { learning_rate = 0.001 } }
checkpoint = { every = 3 }
tasks = [{ family = "quadratic" }]
"#;

/// A span and the service that sent it.
type Sent = (String, Span);

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("nobody panics with it");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = text(&attributes, "service.name");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone()?.value);
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

/// A span of another program, as it travels.
const CALLER: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

/// Everything that a traced run of three steps leaves at a collector, and the lines of the coordinator's log.
async fn traced(more: &[&str]) -> (Vec<Sent>, Vec<Value>) {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint_url = format!("http://{}", listener.local_addr().expect("bound"));
    let service = TraceServiceServer::new(collector.clone());
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );

    let data = tempfile::tempdir().expect("a temporary folder");
    let otlp = ["--otlp-endpoint", &endpoint_url];
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let log = data.path().join("log");
    let arguments = [&otlp[..], &["--log-format", "json"], more].concat();
    let (coordinator, address) = start_coordinator_logging(data.path(), any, &arguments, &log);
    let channel = endpoint(&format!("http://{address}")).expect("an endpoint").connect_lazy();
    let runs = RunClient::new(channel.clone());
    let spec: RunSpec = toml::from_str(RECIPE).expect("the recipe parses");
    let run = runs.create(&spec, &[], "traced-1", false).await.expect("created").state.run;
    let worker = start_worker_with(address, "w1", &otlp);
    let ended = async {
        while !runs.get(&run).await.expect("it answers").status.is_final() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends");
    // A call of a program that traces itself.
    let mut request = Request::new(pb::ListRunsRequest::default());
    let place = format!("00-{}-{}-01", CALLER.0, CALLER.1);
    request.metadata_mut().insert("traceparent", place.parse().expect("text"));
    let mut client = pb::run_service_client::RunServiceClient::new(channel.clone());
    client.list_runs(request).await.expect("it answers");
    let mut unknown = pb::run_service_client::RunServiceClient::new(channel);
    unknown.get_run(pb::GetRunRequest { run: "nobody-1".into() }).await.expect_err("no such run");
    // Stopping sends what is left.
    tokio::task::spawn_blocking(move || {
        worker.stop();
        coordinator.stop();
    })
    .await
    .expect("both stop");
    let lines = std::fs::read_to_string(&log).expect("a log");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect();
    (std::mem::take(&mut *collector.0.lock().expect("nobody panics with it")), lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outer_step_is_one_trace_over_both_programs() {
    let (spans, log) = traced(&[]).await;
    let by_id: HashMap<&[u8], &Sent> = spans.iter().map(|sent| (&sent.1.span_id[..], sent)).collect();
    let named = |name: &str| spans.iter().filter(|(_, span)| span.name == name).collect::<Vec<_>>();
    let steps = named("outer step");
    assert_eq!(steps.len(), 3, "{spans:#?}");
    assert!(steps.iter().all(|(service, span)| service == "paceline-coordinator" && span.parent_span_id.is_empty()));
    let traces: HashSet<&[u8]> = steps.iter().map(|(_, span)| &span.trace_id[..]).collect();
    assert_eq!(traces.len(), 3, "a trace of its own for each step");
    for (name, service, parent, count) in [
        ("lease", "paceline-coordinator", "outer step", 6),
        ("compute", "paceline-worker", "lease", 6),
        ("report", "paceline-worker", "lease", 6),
        ("paceline.v1.WorkerService/SubmitResult", "paceline-coordinator", "report", 6),
        ("fold", "paceline-coordinator", "outer step", 3),
    ] {
        let found = named(name);
        assert_eq!(found.len(), count, "{name}: {spans:#?}");
        for (sender, span) in found {
            let (_, above) = by_id.get(&span.parent_span_id[..]).unwrap_or_else(|| panic!("{name} has no parent"));
            assert_eq!((sender.as_str(), above.name.as_str()), (service, parent));
            assert_eq!(span.trace_id, above.trace_id, "{name} is of the trace of its parent");
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        }
    }
    assert!(named("lease").iter().all(|(_, span)| text(&span.attributes, "paceline.outcome") == "accepted"));

    // Calls: under their caller's span, or the first of a trace of their own, with the usual names.
    let listed = named("paceline.v1.RunService/ListRuns");
    let [(_, listed)] = listed[..] else { panic!("{spans:#?}") };
    assert_eq!((hex(&listed.trace_id), hex(&listed.parent_span_id)), (CALLER.0.to_owned(), CALLER.1.to_owned()));
    let gets = named("paceline.v1.RunService/GetRun");
    assert!(gets.iter().all(|(_, span)| span.parent_span_id.is_empty()), "{gets:#?}");
    let attributes = |span: &Span| {
        let names = ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"];
        names.map(|name| text(&span.attributes, name))
    };
    let expected = |method: &str, code: i64| {
        let code = format!("{:?}", Some(any_value::Value::IntValue(code)));
        ["grpc".to_owned(), "paceline.v1.RunService".to_owned(), method.to_owned(), code]
    };
    assert_eq!(attributes(listed), expected("ListRuns", 0));
    let missed = gets.iter().find(|(_, span)| attributes(span) == expected("GetRun", 5));
    let (_, missed) = missed.expect("NOT_FOUND is code 5");
    assert!(missed.status.as_ref().is_none_or(|status| status.code == 0), "the caller's mistake is no error of ours");

    // The line of the log about the new run names the trace of the call that asked for it.
    let created = named("paceline.v1.RunService/CreateRun");
    let [(_, created)] = created[..] else { panic!("{spans:#?}") };
    let audit = log.iter().find(|line| line["target"] == "audit" && line["method"] == created.name.as_str());
    assert_eq!(audit.expect("an audit line")["span"]["trace_id"], hex(&created.trace_id), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_share_of_nothing_only_what_a_caller_traces_is_sent() {
    let (spans, _) = traced(&["--otlp-sample", "0"]).await;
    let names: Vec<&str> = spans.iter().map(|(_, span)| span.name.as_str()).collect();
    assert_eq!(names, ["paceline.v1.RunService/ListRuns"]);
}
