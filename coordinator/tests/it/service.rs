//! The services do what they promise, through the wire.

use std::slice;
use std::time::Duration;

use paceline_proto::chunk::sha256;
use paceline_proto::fault;
use paceline_proto::model::{Directive, RunStatus, Verdict};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::{Cluster, refused, result, spec};

#[tokio::test]
async fn a_run_goes_from_creation_to_its_checkpoint() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("whole").await;
    let states = cluster.runs.watch(&run).await.unwrap();
    for _ in 0..4 {
        let lease = cluster.lease(&worker).await;
        let theta = cluster.workers.pull_theta(&run, lease.key.outer_step).await.unwrap();
        assert!(lease.theta.as_ref().is_none_or(|inline| *inline == theta), "inline and pulled theta differ");
        let beat = cluster.workers.heartbeat(&worker, slice::from_ref(&lease.key), lease.epoch, 10).await.unwrap();
        assert_eq!((beat.directives.as_slice(), beat.known), ([Directive::Continue].as_slice(), true));
        let submission = result(&worker, &lease);
        assert_eq!(cluster.workers.submit(&submission).await.unwrap().verdict, Verdict::Accepted);
        assert_eq!(cluster.workers.submit(&submission).await.unwrap().verdict, Verdict::AlreadyAccepted);
    }
    // The watch ends by itself, with the end of the run.
    let whole = tokio::time::timeout(Duration::from_secs(20), states.collect::<Result<Vec<_>, _>>());
    let states = whole.await.expect("the watch ends by itself").unwrap();
    let last = states.last().unwrap();
    assert_eq!(last.status, RunStatus::Completed);
    assert_eq!((last.outer_step, last.inner_steps), (2, 320));
    assert!(states.is_sorted_by_key(|state| state.outer_step), "{states:?}");
    assert!(last.ledger.balances() && last.ledger.accepted == 4, "{:?}", last.ledger);
    assert_eq!(cluster.runs.get(&run).await.unwrap().theta_hash, last.theta_hash);

    let checkpoints = cluster.checkpoints.list(&run).await.unwrap();
    assert_eq!(checkpoints[0].outer_step, 2, "newest first");
    assert_eq!(checkpoints[0].theta_hash, last.theta_hash);
    assert_eq!(cluster.checkpoints.get(&run, None).await.unwrap(), checkpoints[0]);
    let file = cluster.checkpoints.pull(&run, None).await.unwrap();
    assert_eq!(sha256(&file), checkpoints[0].sha256);
    assert_eq!(file.len() as u64, checkpoints[0].size_bytes);
}

#[tokio::test]
async fn a_waiting_worker_is_served_when_work_appears() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let none = cluster.workers.lease(&worker, Duration::ZERO, Vec::new()).await.unwrap();
    assert_eq!(none, None, "there is no run yet");
    let (lease, run) = tokio::join!(cluster.lease(&worker), cluster.create("late"));
    assert_eq!(lease.key.run, run);
    assert_eq!(cluster.workers.release(&worker, &[lease.key]).await.unwrap(), 1);
}

#[tokio::test]
async fn creating_twice_makes_one_run() {
    let cluster = Cluster::start().await;
    let first = cluster.create("same").await;
    assert_eq!(cluster.create("same").await, first);
    let resumed = cluster.runs.create(&spec("same"), &[], "another-request", true).await.unwrap();
    assert!(resumed.resumed && resumed.state.run == first);
    let second = cluster.runs.create(&spec("same"), &[], "a-third-request", false).await.unwrap();
    assert!(!second.resumed && second.state.run != first);
    let listed: Vec<_> = cluster.runs.list().await.unwrap().into_iter().map(|state| state.run).collect();
    assert_eq!(listed, [second.state.run, first], "newest first");
}

#[tokio::test]
async fn a_run_pauses_resumes_and_stops() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("halting").await;
    assert_eq!(cluster.runs.pause(&run).await.unwrap().status, RunStatus::Paused);
    assert_eq!(cluster.workers.lease(&worker, Duration::ZERO, Vec::new()).await.unwrap(), None);
    assert_eq!(cluster.runs.resume(&run).await.unwrap().status, RunStatus::Running);
    cluster.lease(&worker).await;
    assert_eq!(cluster.runs.stop(&run).await.unwrap().status, RunStatus::Stopped);
    assert_eq!(cluster.runs.stop(&run).await.unwrap().status, RunStatus::Stopped, "stopping twice");
    refused(cluster.runs.pause(&run).await, Code::FailedPrecondition, "RUN_FINISHED");
}

#[tokio::test]
async fn pages_cover_all_runs() {
    use paceline_proto::pb;
    let cluster = Cluster::start().await;
    let mut created = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        created.insert(0, cluster.create(name).await.to_string());
    }
    let mut client = pb::run_service_client::RunServiceClient::new(cluster.channel.clone());
    let (mut listed, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = client.list_runs(pb::ListRunsRequest { page_size: 2, page_token }).await.unwrap().into_inner();
        sizes.push(page.runs.len());
        listed.extend(page.runs.into_iter().map(|state| state.run));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((listed, sizes), (created, vec![2, 2, 1]));
}

#[tokio::test]
async fn folded_steps_come_in_pages_and_whole() {
    use paceline_proto::pb;
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("paged").await;
    assert_eq!(cluster.runs.steps(&run).await.unwrap(), [], "nothing is folded yet");
    for _ in 0..4 {
        let lease = cluster.lease(&worker).await;
        cluster.workers.submit(&result(&worker, &lease)).await.unwrap();
    }
    let states = cluster.runs.watch(&run).await.unwrap();
    let last = states.collect::<Vec<_>>().await.pop().unwrap().unwrap();
    let steps = cluster.runs.steps(&run).await.unwrap();
    assert_eq!(steps.iter().map(|step| step.outer_step).collect::<Vec<_>>(), [1, 2]);
    let newest = &steps[1];
    assert_eq!((Some(newest.meta_loss), Some(newest.grad_norm)), (last.meta_loss, last.grad_norm));
    assert_eq!((newest.variance, newest.inner_steps), (last.variance, last.inner_steps));
    assert!(newest.update_norm > 0.0 && newest.folded_at_ms >= steps[0].folded_at_ms, "{newest:?}");
    assert_eq!(newest.entry_losses, [Some(newest.meta_loss)], "one entry has all slots");

    let client = pb::run_service_client::RunServiceClient::new(cluster.channel.clone());
    let page = |page_token: String| {
        let request = pb::ListStepsRequest { run: run.to_string(), page_size: 1, page_token };
        let mut client = client.clone();
        async move { client.list_steps(request).await.map(tonic::Response::into_inner) }
    };
    let first = page(String::new()).await.unwrap();
    assert_eq!((first.steps.len(), first.steps[0].outer_step), (1, 1));
    let second = page(first.next_page_token).await.unwrap();
    assert_eq!((second.steps[0].outer_step, second.next_page_token.as_str()), (2, ""));
    refused(page("made-up".into()).await, Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test]
async fn a_stop_ends_waiting_calls_and_watches() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("open").await;
    let mut states = cluster.runs.watch(&run).await.unwrap();
    states.next().await.unwrap().unwrap();
    cluster.runs.pause(&run).await.unwrap();
    let (waiting, workers) = (worker.clone(), cluster.workers.clone());
    let poll = tokio::spawn(async move { workers.lease(&waiting, Duration::from_secs(20), Vec::new()).await });
    // The poll is in flight once the worker is counted as waiting; any later call of the same connection follows it.
    cluster.workers.heartbeat(&worker, &[], 0, 0).await.unwrap();
    cluster.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), cluster.served).await.expect("stops in time").unwrap().unwrap();
    let status = poll.await.unwrap().unwrap_err();
    assert!(fault::is_transient(&status), "{}", fault::describe(&status));
    let mut last = states.next().await;
    while let Some(Ok(_)) = last {
        last = states.next().await;
    }
    refused(last.expect("a watch tells why it ends"), Code::Unavailable, "SHUTTING_DOWN");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let cluster = Cluster::start().await;
    let mut health = HealthClient::new(cluster.channel.clone());
    for service in ["", "paceline.v1.WorkerService", "paceline.v1.RunService", "paceline.v1.CheckpointService"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(cluster.channel.clone());
    let mut answers = reflection.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["WorkerService", "RunService", "CheckpointService"] {
        assert!(names.contains(&format!("paceline.v1.{service}")), "{names:?}");
    }
}
