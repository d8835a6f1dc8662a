//! Every bad input gets its code and its reason, and changes nothing.

use std::time::Duration;

use paceline_optimizer_core::ThetaHash;
use paceline_proto::model::{ResultBody, RunId, Submission, Token, Verdict};
use paceline_proto::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::cluster::{Cluster, altered, refused, registration, result, spec};

/// Makes a sound submission unsound.
type Spoil = fn(&mut Submission);

fn nowhere() -> RunId {
    "nowhere-00000000".parse().expect("an id")
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let cluster = Cluster::start().await;
    let run = cluster.create("known").await;
    let stranger = "stranger".parse().unwrap();
    let lease = cluster.workers.lease(&stranger, Duration::ZERO, Vec::new()).await;
    refused(lease, Code::NotFound, "WORKER_NOT_FOUND");
    refused(cluster.runs.get(&nowhere()).await, Code::NotFound, "RUN_NOT_FOUND");
    refused(cluster.runs.pause(&nowhere()).await, Code::NotFound, "RUN_NOT_FOUND");
    refused(cluster.runs.stop(&nowhere()).await, Code::NotFound, "RUN_NOT_FOUND");
    refused(cluster.runs.watch(&nowhere()).await.map(|_| ()), Code::NotFound, "RUN_NOT_FOUND");
    refused(cluster.checkpoints.list(&nowhere()).await, Code::NotFound, "RUN_NOT_FOUND");
    refused(cluster.checkpoints.get(&run, Some(99)).await, Code::NotFound, "CHECKPOINT_NOT_FOUND");
    refused(cluster.workers.pull_theta(&run, 99).await, Code::NotFound, "THETA_NOT_FOUND");
    let beat = cluster.workers.heartbeat(&stranger, &[], 0, 0).await.unwrap();
    assert!(!beat.known, "a stranger is told to register");
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let cluster = Cluster::start().await;
    let old = paceline_proto::model::Registration { protocol: 0, ..registration("old") };
    let status = refused(cluster.workers.register(old).await, Code::FailedPrecondition, "VERSION_UNSUPPORTED");
    assert!(status.get_details_precondition_failure().is_some());
}

#[tokio::test]
async fn a_wrong_spec_is_refused_with_every_field() {
    let cluster = Cluster::start().await;
    let mut wrong = spec("fine");
    wrong.name = "Not Fine".into();
    wrong.outer.slots = 0;
    wrong.tasks[0].weight = (-1.0).into();
    let status = refused(cluster.runs.create(&wrong, &[], "r1", false).await, Code::InvalidArgument, "FIELD_INVALID");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["spec.name", "spec.outer.slots", "spec.tasks[0].weight"]);
    assert_eq!(cluster.runs.list().await.unwrap(), [], "nothing was created");
}

#[tokio::test]
async fn a_request_id_belongs_to_one_request() {
    let cluster = Cluster::start().await;
    cluster.runs.create(&spec("one"), &[], "r1", false).await.unwrap();
    let other = cluster.runs.create(&spec("two"), &[], "r1", false).await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
    refused(cluster.runs.create(&spec("two"), &[], "", false).await, Code::InvalidArgument, "FIELD_INVALID");
}

#[tokio::test]
async fn wrong_results_are_refused_and_the_slot_stays_open() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    cluster.create("strict").await;
    let lease = cluster.lease(&worker).await;
    let sound = result(&worker, &lease);

    let mut stray = sound.clone();
    stray.lease = altered(&sound.lease, |key| (key.outer_step, key.token) = (77, Token([9; 16])));
    refused(cluster.workers.submit(&stray).await, Code::NotFound, "LEASE_NOT_FOUND");
    stray.lease = altered(&sound.lease, |key| key.outer_step = 77);
    refused(cluster.workers.submit(&stray).await, Code::PermissionDenied, "LEASE_TOKEN_FOREIGN");
    stray.lease = altered(&sound.lease, |key| key.run = nowhere());
    refused(cluster.workers.submit(&stray).await, Code::NotFound, "RUN_NOT_FOUND");
    stray.lease = altered(&sound.lease, |key| key.token = Token([9; 16]));
    refused(cluster.workers.submit(&stray).await, Code::PermissionDenied, "LEASE_TOKEN_FOREIGN");

    // Each refused result ends its lease, so each needs one of its own.
    let refusals: [(&str, Spoil); 3] = [
        ("RESULT_REJECTED_NONFINITE", |submission| {
            let ResultBody::SeedCoded(coded) = &mut submission.body else { panic!("seed-coded") };
            coded.pairs[1].fresh = f64::NAN;
        }),
        ("RESULT_REJECTED_SHAPE", |submission| {
            let ResultBody::SeedCoded(coded) = &mut submission.body else { panic!("seed-coded") };
            coded.pairs.pop();
        }),
        ("RESULT_REJECTED_HASH", |submission| submission.theta_hash = ThetaHash([3; 32])),
    ];
    let mut held = lease;
    for (count, (reason, spoil)) in refusals.into_iter().enumerate() {
        let mut submission = result(&worker, &held);
        spoil(&mut submission);
        refused(cluster.workers.submit(&submission).await, Code::InvalidArgument, reason);
        let ledger = cluster.runs.get(&held.key.run).await.unwrap().ledger;
        assert_eq!(ledger.rejected, count as u64 + 1, "{reason}");
        assert!(ledger.balances(), "{ledger:?}");
        held = cluster.lease(&worker).await;
    }
    let verdict = cluster.workers.submit(&result(&worker, &held)).await.unwrap().verdict;
    assert_eq!(verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_result_for_a_finished_run_is_refused_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let worker = cluster.register("w1").await;
    let run = cluster.create("over").await;
    let lease = cluster.lease(&worker).await;
    let before = cluster.runs.stop(&run).await.unwrap();
    let late = cluster.workers.submit(&result(&worker, &lease)).await;
    refused(late, Code::FailedPrecondition, "RUN_FINISHED");
    let after = cluster.runs.get(&run).await.unwrap();
    assert_eq!(
        (after.theta_hash, after.outer_step, after.ledger),
        (before.theta_hash, before.outer_step, before.ledger)
    );
    assert!(after.ledger.balances(), "{:?}", after.ledger);
}

#[tokio::test]
async fn messages_that_no_client_of_ours_sends_are_refused_by_field() {
    let cluster = Cluster::start().await;
    let run = cluster.create("raw").await.to_string();
    let mut runs = pb::run_service_client::RunServiceClient::new(cluster.channel.clone());
    let mut workers = pb::worker_service_client::WorkerServiceClient::new(cluster.channel.clone());
    let mut checkpoints = pb::checkpoint_service_client::CheckpointServiceClient::new(cluster.channel.clone());
    let forged = pb::ListRunsRequest { page_size: 2, page_token: "deadbeef00".into() };
    let forged_too = pb::ListCheckpointsRequest { run: run.clone(), page_size: 2, page_token: "x".into() };
    let far = pb::PullThetaRequest { run: run.clone(), version: 0, offset: 1 << 40 };
    let table = [
        (runs.get_run(pb::GetRunRequest::default()).await.err(), "run"),
        (runs.get_run(pb::GetRunRequest { run: "../../etc".into() }).await.err(), "run"),
        (runs.create_run(pb::CreateRunRequest::default()).await.err(), "request_id"),
        (runs.list_runs(forged).await.err(), "page_token"),
        (checkpoints.list_checkpoints(forged_too).await.err(), "page_token"),
        (workers.register_worker(pb::RegisterWorkerRequest::default()).await.err(), "worker"),
        (workers.submit_result(pb::SubmitResultRequest::default()).await.err(), "body"),
        (workers.pull_theta(far).await.err(), "offset"),
    ];
    for (status, field) in table {
        let status = refused(
            Err::<(), _>(status.unwrap_or_else(|| panic!("{field} was taken"))),
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{violations:?}");
    }
}

#[tokio::test]
async fn messages_beyond_the_limit_are_refused() {
    let cluster = Cluster::start().await;
    let mut runs = pb::run_service_client::RunServiceClient::new(cluster.channel.clone());
    let request = pb::GetRunRequest { run: "a".repeat(2 << 20) };
    refused(runs.get_run(request).await, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}
