//! Workers that cannot do what a run asks.

use std::sync::Arc;
use std::time::Duration;

use paceline_coordinator::store::MemoryStore;
use paceline_proto::PROTOCOL;
use paceline_proto::model::{Registration, ResultBody, RunStatus, Submission, Verdict};

use crate::recovery::{LONG, Life, report};

#[tokio::test]
async fn a_slot_that_always_fails_ends_the_run_with_the_reason() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let mut failures = 0;
    while let Some(lease) = life.handle.lease(worker.clone(), Duration::from_millis(100), Vec::new()).await.unwrap() {
        let failure = ResultBody::Failure { reason: "no kernel for float7".into() };
        let submission = Submission { body: failure, ..report(&worker, &lease) };
        for _ in 0..2 {
            // A repeat is noted, not counted.
            let outcome = life.handle.submit(submission.clone()).await;
            if let Ok(outcome) = outcome {
                assert_eq!(outcome.verdict, Verdict::FailureNoted);
            }
        }
        failures += 1;
    }
    let state = life.until_final(&run).await;
    let RunStatus::Failed { reason } = &state.status else { panic!("{:?}", state.status) };
    assert!(reason.contains("no kernel for float7") && reason.contains("5 times"), "{reason}");
    assert_eq!((state.ledger.rejected, state.ledger.outstanding), (failures, 0));
    // What failed before comes last: each of the four slots once, then the first again until its fifth failure.
    assert_eq!(failures, 4 + 4);
    assert_eq!(state.durable_checkpoint, 0);
}

#[tokio::test]
async fn a_run_says_what_it_waits_for() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let run = life.create().await;
    let reason = async || life.handle.get(run.clone()).await.unwrap().reason;
    assert_eq!(reason().await, "waiting for workers");
    let stranger = Registration {
        protocol: PROTOCOL,
        worker: "stranger".parse().unwrap(),
        code_version: "0".into(),
        device: "cpu".into(),
        threads: 1,
        families: vec!["chess".into()],
    };
    life.handle.register(stranger.clone()).await.unwrap();
    assert!(reason().await.contains("no live worker can run the task family"), "{}", reason().await);
    let nothing = life.handle.lease(stranger.worker, Duration::from_millis(20), Vec::new()).await.unwrap();
    assert_eq!(nothing, None);
    life.register("able").await;
    assert_eq!(reason().await, "");
    life.handle.pause(run.clone()).await.unwrap();
    assert_eq!(reason().await, "paused");
}

#[tokio::test]
async fn a_paused_run_gives_no_lease_and_keeps_results() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let lease = life.lease(&worker).await;
    life.handle.pause(run.clone()).await.unwrap();
    let submission = Submission { want_lease: true, ..report(&worker, &lease) };
    let outcome = life.handle.submit(submission).await.unwrap();
    assert_eq!((outcome.verdict, outcome.next), (Verdict::Accepted, None));
    let waiting = tokio::spawn({
        let (handle, worker) = (life.handle.clone(), worker.clone());
        async move { handle.lease(worker, LONG, Vec::new()).await }
    });
    life.handle.resume(run).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_some(), "resuming wakes those who wait");
}
