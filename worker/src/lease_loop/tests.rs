//! The loop and the heartbeat against a scripted coordinator, in paused time: all waiting is virtual.

use std::sync::atomic::Ordering;

use paceline_proto::PROTOCOL;
use paceline_proto::fault::Fault;
use paceline_proto::model::{Directive, HeartbeatAnswer};

use super::*;
use crate::testing::{Behaviour, Event, Fixture, Script, accepted, away, lease, within};

fn leases(slots: impl IntoIterator<Item = u32>) -> Script {
    Script { lease: slots.into_iter().map(|slot| Ok(lease(slot))).collect(), ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_brings_the_next_lease() {
    let mut script = leases([0]);
    script.submit = [Ok(accepted(Some(lease(1)))), Ok(accepted(None))].into();
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    assert_eq!(worker.act().await, Event::Registered);
    for slot in [0, 1] {
        assert_eq!(worker.act().await, Event::Computing(slot));
        let submission = worker.submission().await;
        assert_eq!((submission.lease, submission.theta_hash), (lease(slot).key, lease(slot).theta_hash));
        assert_eq!((submission.inner_steps, submission.want_lease), (7, true));
    }
    worker.coordinator.give(lease(2));
    assert_eq!(worker.act().await, Event::Computing(2));
    drop(worker.submission().await);
    assert_eq!(worker.drain().await, [], "nothing is held, so nothing is released");
}

#[tokio::test(start_paused = true)]
async fn missing_thetas_are_pulled_first_through_an_outage() {
    let mut script = leases([0]);
    script.pull = [Err(away()), Err(away())].into();
    let mut worker = Fixture::start(Behaviour::Instant, vec![4, 5], script);
    let mut acts = Vec::new();
    for _ in 0..6 {
        acts.push(worker.act().await);
    }
    let pulls = [4, 4, 4, 5].map(Event::Pulled);
    assert_eq!(acts[0], Event::Registered);
    assert_eq!(acts[1..5], pulls);
    assert_eq!(acts[5], Event::Computing(0));
}

#[tokio::test(start_paused = true)]
async fn a_theta_that_is_gone_fails_the_lease_with_its_cause() {
    let mut script = leases([0]);
    script.pull = [Err(Fault::ThetaNotFound { run: lease(0).key.run, version: 4 }.into())].into();
    let mut worker = Fixture::start(Behaviour::Instant, vec![4], script);
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Pulled(4)]);
    assert_eq!(worker.act().await, Event::Forgot(0));
    let ResultBody::Failure { reason } = worker.submission().await.body else { panic!("expected a failure") };
    assert!(reason.contains("version 4") && reason.contains("THETA_NOT_FOUND"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_every_thread_computes() {
    let mut worker = Fixture::start(Behaviour::UntilCancelled, vec![], leases([3]));
    assert_eq!([worker.event().await, worker.event().await], [Event::Registered, Event::Computing(3)]);
    worker.progress.store(11, Ordering::Relaxed);
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(worker.event().await, Event::Heartbeat(vec![3]));
    }
    assert_eq!(began.elapsed(), Duration::from_secs(50), "at the interval that the coordinator named");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_directive_stops_the_lease_and_forgets_its_slot() {
    let mut script = leases([3, 4]);
    let cancel = HeartbeatAnswer { epoch: 1, directives: vec![Directive::Cancel], known: true };
    script.heartbeat = [Ok(cancel)].into();
    let mut worker = Fixture::start(Behaviour::UntilCancelled, vec![], script);
    let expected = [
        Event::Registered,
        Event::Computing(3),
        Event::Heartbeat(vec![3]),
        Event::Forgot(3),
        Event::Computing(4),
        Event::Heartbeat(vec![4]),
    ];
    for event in expected {
        assert_eq!(worker.event().await, event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_outlives_the_coordinator_and_its_lease_is_renewed_meanwhile() {
    let mut script = leases([3]);
    script.submit = std::iter::repeat_with(|| Err(away())).take(40).collect();
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(3)]);
    let (mut submissions, mut beats) = (Vec::new(), 0);
    while submissions.len() < 41 {
        match worker.event().await {
            Event::Submitted(submission) => submissions.push(submission),
            Event::Heartbeat(slots) => {
                assert_eq!(slots, [3]);
                beats += 1;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(submissions.iter().all(|submission| *submission == submissions[0]), "the same result, to the byte");
    assert!(beats > 5, "got {beats} heartbeats");
    worker.coordinator.give(lease(4));
    assert_eq!(worker.act().await, Event::Computing(4));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_worker_registers_again_and_submits_the_same_result() {
    let mut script = leases([3]);
    script.submit = [Err(Fault::WorkerNotFound { worker: "w".parse().unwrap() }.into())].into();
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(3)]);
    let first = worker.submission().await;
    assert_eq!(worker.act().await, Event::Registered);
    assert_eq!(worker.submission().await, first);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_not_known_registers_again() {
    let mut script = leases([3]);
    script.heartbeat = [Ok(HeartbeatAnswer { epoch: 2, directives: vec![Directive::Continue], known: false })].into();
    let mut worker = Fixture::start(Behaviour::UntilCancelled, vec![], script);
    let expected = [
        Event::Registered,
        Event::Computing(3),
        Event::Heartbeat(vec![3]),
        Event::Registered,
        Event::Heartbeat(vec![3]),
    ];
    for event in expected {
        assert_eq!(worker.event().await, event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_refused_for_good_is_dropped_once() {
    let run = lease(0).key.run;
    let refusals = [
        Fault::LeaseNotFound { run: run.clone(), outer_step: 0, slot: 0 },
        Fault::RunFinished { run: run.clone(), status: "stopped".into() },
        Fault::ResultNonFinite { field: "seed_coded.fresh".into() },
        Fault::LeaseTokenForeign { run, outer_step: 0, slot: 3 },
    ];
    let mut script = leases(0..4);
    script.submit = refusals.map(|fault| Err(fault.into())).into();
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    assert_eq!(worker.act().await, Event::Registered);
    for slot in 0..4 {
        assert_eq!(worker.act().await, Event::Computing(slot));
        assert_eq!(worker.submission().await.lease.slot, slot);
        assert_eq!(worker.act().await, Event::Forgot(slot));
    }
    assert_eq!(worker.drain().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_and_slows_the_worker_down() {
    let noted = SubmissionOutcome { verdict: Verdict::FailureNoted, next: None };
    let mut script = leases(0..20);
    script.submit = std::iter::repeat_with(|| Ok(noted.clone())).take(20).collect();
    let mut worker = Fixture::start(Behaviour::Failing, vec![], script);
    assert_eq!(worker.act().await, Event::Registered);
    let began = Instant::now();
    for slot in 0..20 {
        assert_eq!([worker.act().await, worker.act().await], [Event::Computing(slot), Event::Forgot(slot)]);
        let submission = worker.submission().await;
        assert_eq!(submission.body, ResultBody::Failure { reason: "no data".into() });
        assert!(!submission.want_lease);
    }
    // Jitter is random: 19 waits of on average up to 5 s sum to less than 2 s once in many lifetimes.
    assert!(began.elapsed() > Duration::from_secs(2), "took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn drain_releases_the_lease_in_work() {
    let mut worker = Fixture::start(Behaviour::UntilCancelled, vec![], leases([3, 4]));
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(3)]);
    assert_eq!(worker.drain().await, [Event::Released(vec![3])], "released, and no lease taken after it");
}

#[tokio::test(start_paused = true)]
async fn a_lease_granted_as_the_drain_begins_goes_back() {
    let mut worker = Fixture::start(Behaviour::Instant, vec![], leases([0]));
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(0)]);
    drop(worker.submission().await);
    tokio::time::advance(Duration::from_secs(1)).await;
    let coordinator = worker.coordinator.clone();
    worker.shutdown.cancel();
    coordinator.give(lease(5));
    assert_eq!(worker.drain().await, [Event::Released(vec![5])]);
}

#[tokio::test(start_paused = true)]
async fn drain_gives_a_finished_result_five_seconds() {
    let mut script = leases([3]);
    script.submit = std::iter::repeat_with(|| Err(away())).take(1000).collect();
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(3)]);
    drop(worker.submission().await);
    let began = Instant::now();
    let rest = worker.drain().await;
    assert_eq!(began.elapsed(), DRAIN);
    assert!(rest.iter().any(|event| matches!(event, Event::Submitted(_))), "it keeps trying: {rest:?}");
}

#[tokio::test(start_paused = true)]
async fn drain_ends_a_worker_that_never_reached_a_coordinator() {
    let script = Script { register: std::iter::repeat_with(|| Err(away())).take(1000).collect(), ..Script::default() };
    let mut worker = Fixture::start(Behaviour::Instant, vec![], script);
    for _ in 0..5 {
        assert_eq!(worker.event().await, Event::Registered, "it tries again");
    }
    drop(worker.drain().await);
}

#[tokio::test(start_paused = true)]
async fn another_protocol_stops_the_worker_at_any_time() {
    let refusal = || Err(Fault::VersionUnsupported { theirs: PROTOCOL, ours: PROTOCOL + 1 }.into());
    let at_start = Script { register: [refusal()].into(), ..Script::default() };
    let worker = Fixture::start(Behaviour::Instant, vec![], at_start);
    assert!(matches!(within(worker.worker).await.unwrap(), Err(Error::VersionUnsupported { ours: PROTOCOL, .. })));

    // Known before, forgotten by an upgraded coordinator: the heartbeat learns it while a lease is in work.
    let mut script = leases([3]);
    script.heartbeat = [Ok(HeartbeatAnswer { epoch: 2, directives: vec![Directive::Continue], known: false })].into();
    let mut worker = Fixture::start(Behaviour::UntilCancelled, vec![], script);
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Computing(3)]);
    worker.coordinator.script.lock().unwrap().register = [refusal()].into();
    assert_eq!([worker.act().await, worker.act().await], [Event::Registered, Event::Released(vec![3])]);
    assert!(matches!(within(worker.worker).await.unwrap(), Err(Error::VersionUnsupported { .. })));
}
