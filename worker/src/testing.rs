//! A scripted coordinator and a scripted computation: the lease loop and heartbeats are tested without network, candle
//! or real time.
//!
//! Both tell what happens to them as [`Event`]s, in order; a test awaits events and never sleeps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::schedule::{Trajectory, Window};
use paceline_proto::client::CallResult;
use paceline_proto::model::{
    Directive, HeartbeatAnswer, Holdings, Lease, LeaseKey, Registered, Registration, ResultBody, RunId, SeedCoded,
    Submission, SubmissionOutcome, Token, TraceParent, Verdict, WorkerId,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::Result;
use crate::compute::{Compute, ComputeError, Computed, Progress};
use crate::coordinator_client::CoordinatorClient;
use crate::held::LeaseCancel;

/// Something a fake saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// A registration.
    Registered,
    /// A heartbeat for these slots.
    Heartbeat(Vec<u32>),
    /// A pull of that version.
    Pulled(u64),
    /// The computation of that slot began.
    Computing(u32),
    /// A submission, answered or not.
    Submitted(Submission),
    /// A release of these slots.
    Released(Vec<u32>),
    /// The computation was told to forget that slot.
    Forgot(u32),
}

/// What the coordinator will say. Empty queues answer as a healthy coordinator without work.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) register: VecDeque<CallResult<Registered>>,
    pub(crate) lease: VecDeque<CallResult<Lease>>,
    pub(crate) submit: VecDeque<CallResult<SubmissionOutcome>>,
    pub(crate) heartbeat: VecDeque<CallResult<HeartbeatAnswer>>,
    pub(crate) pull: VecDeque<CallResult<Bytes>>,
}

/// The coordinator's side of every channel.
#[derive(Clone, Debug)]
pub(crate) struct FakeCoordinator {
    pub(crate) script: Arc<Mutex<Script>>,
    events: mpsc::UnboundedSender<Event>,
    more: Arc<Notify>,
}

/// How the computation behaves.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers at once.
    Instant,
    /// Answers only when cancelled.
    UntilCancelled,
    /// Fails at once.
    Failing,
}

/// A computation without mathematics.
#[derive(Debug)]
pub(crate) struct FakeCompute {
    behaviour: Behaviour,
    missing: Vec<u64>,
    events: mpsc::UnboundedSender<Event>,
}

/// A worker among fakes.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) coordinator: FakeCoordinator,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) progress: Arc<AtomicU64>,
    pub(crate) worker: JoinHandle<Result<()>>,
}

impl Fixture {
    /// Starts a worker that computes like `behaviour` and lacks the thetas in `missing`.
    pub(crate) fn start(behaviour: Behaviour, missing: Vec<u64>, script: Script) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(script));
        let coordinator = FakeCoordinator { script, events: sender.clone(), more: Arc::default() };
        let compute = FakeCompute { behaviour, missing, events: sender };
        let shutdown = CancellationToken::new();
        let progress = Arc::new(AtomicU64::new(0));
        let registration = Registration {
            protocol: paceline_proto::PROTOCOL,
            worker: "w".parse().unwrap(),
            code_version: "0".into(),
            device: "cpu".into(),
            threads: 1,
            families: vec![],
        };
        let channels = [coordinator.clone(), coordinator.clone()];
        let working = crate::work(
            "http://fake",
            channels,
            compute,
            registration,
            (Arc::clone(&progress), crate::Vitals::default()),
            shutdown.clone(),
        );
        Self { coordinator, events, shutdown, progress, worker: tokio::spawn(working) }
    }

    /// The next event, whatever it is.
    pub(crate) async fn event(&mut self) -> Event {
        within(self.events.recv()).await.expect("the worker ended early")
    }

    /// The next event that is not a heartbeat.
    pub(crate) async fn act(&mut self) -> Event {
        within(async {
            loop {
                match self.events.recv().await.expect("the worker ended early") {
                    Event::Heartbeat(_) => {}
                    event => return event,
                }
            }
        })
        .await
    }

    /// The next submission; anything but heartbeats before it fails the test.
    pub(crate) async fn submission(&mut self) -> Submission {
        match self.act().await {
            Event::Submitted(submission) => submission,
            other => panic!("expected a submission, got {other:?}"),
        }
    }

    /// Drains the worker and answers what was left unsaid.
    pub(crate) async fn drain(mut self) -> Vec<Event> {
        self.shutdown.cancel();
        within(self.worker).await.unwrap().unwrap();
        let mut rest = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            rest.push(event);
        }
        rest
    }
}

/// Waits for something that must come; virtual time makes an hour short.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), what).await.expect("did not come within an hour of virtual time")
}

impl FakeCoordinator {
    /// Gives one more lease.
    pub(crate) fn give(&self, lease: Lease) {
        self.script.lock().unwrap().lease.push_back(Ok(lease));
        self.more.notify_waiters();
    }

    fn tell(&self, event: Event) {
        // The test may have ended before the worker.
        drop(self.events.send(event));
    }
}

impl CoordinatorClient for FakeCoordinator {
    async fn register(&self, _registration: Registration) -> CallResult<Registered> {
        self.tell(Event::Registered);
        let terms = Registered { epoch: 1, heartbeat: Duration::from_secs(5), lease_ttl: Duration::from_secs(30) };
        self.script.lock().unwrap().register.pop_front().unwrap_or(Ok(terms))
    }

    async fn lease(&self, _worker: &WorkerId, wait: Duration, _holdings: Vec<Holdings>) -> CallResult<Option<Lease>> {
        let given = self.more.notified();
        if let Some(lease) = self.script.lock().unwrap().lease.pop_front() {
            return lease.map(Some);
        }
        // A long poll: a lease that is given meanwhile answers it, else it ends empty.
        drop(tokio::time::timeout(wait, given).await);
        self.script.lock().unwrap().lease.pop_front().transpose()
    }

    async fn heartbeat(
        &self,
        _worker: &WorkerId,
        leases: &[LeaseKey],
        _epoch: u64,
        _inner_steps: u64,
    ) -> CallResult<HeartbeatAnswer> {
        self.tell(Event::Heartbeat(leases.iter().map(|key| key.slot).collect()));
        let directives = vec![Directive::Continue; leases.len()];
        let healthy = HeartbeatAnswer { epoch: 1, directives, known: true };
        self.script.lock().unwrap().heartbeat.pop_front().unwrap_or(Ok(healthy))
    }

    async fn submit(&self, submission: &Submission, _: Option<TraceParent>) -> CallResult<SubmissionOutcome> {
        self.tell(Event::Submitted(submission.clone()));
        self.script.lock().unwrap().submit.pop_front().unwrap_or(Ok(accepted(None)))
    }

    async fn release(&self, _worker: &WorkerId, leases: &[LeaseKey]) -> CallResult<u32> {
        self.tell(Event::Released(leases.iter().map(|key| key.slot).collect()));
        Ok(1)
    }

    async fn pull_theta(&self, _run: &RunId, version: u64) -> CallResult<Bytes> {
        self.tell(Event::Pulled(version));
        self.script.lock().unwrap().pull.pop_front().unwrap_or(Ok(Bytes::new()))
    }
}

impl Compute for FakeCompute {
    fn admit(&mut self, _lease: &Lease) -> Result<(), ComputeError> {
        Ok(())
    }

    fn supply(&mut self, _run: &RunId, version: u64, _theta: &[u8]) -> Result<(), ComputeError> {
        self.missing.retain(|missing| *missing != version);
        Ok(())
    }

    async fn run(&mut self, lease: &Lease, cancel: &LeaseCancel) -> Result<Progress, ComputeError> {
        if let Some(version) = self.missing.first() {
            return Ok(Progress::Missing(*version));
        }
        drop(self.events.send(Event::Computing(lease.key.slot)));
        match self.behaviour {
            Behaviour::Instant => {}
            Behaviour::UntilCancelled => {
                cancel.cancelled().await;
                assert!(cancel.flag().load(Ordering::Relaxed), "the inner loop asks the flag, not the token");
                return Err(ComputeError::Cancelled);
            }
            Behaviour::Failing => return Err(ComputeError::Failed("no data".into())),
        }
        let body = ResultBody::SeedCoded(SeedCoded { pairs: vec![] });
        Ok(Progress::Computed(Computed { theta_hash: lease.theta_hash, body, inner_steps: 7, diverged_lanes: 0 }))
    }

    fn holdings(&self) -> Vec<Holdings> {
        vec![]
    }

    fn forget(&mut self, _run: &RunId, slot: u32) {
        drop(self.events.send(Event::Forgot(slot)));
    }
}

/// A lease of one slot.
pub(crate) fn lease(slot: u32) -> Lease {
    let trajectory = Trajectory { horizon: 10, ..Trajectory::default() };
    Lease {
        key: LeaseKey { run: "run-1".parse().unwrap(), outer_step: 0, slot, token: Token([slot as u8; 16]) },
        attempt: 1,
        epoch: 1,
        ttl: Duration::from_secs(30),
        window: Window { current: trajectory, next: None },
        theta_hash: ThetaHash([9; 32]),
        theta: None,
        spec: None,
        traceparent: None,
    }
}

/// A verdict with the next lease.
pub(crate) fn accepted(next: Option<Lease>) -> SubmissionOutcome {
    SubmissionOutcome { verdict: Verdict::Accepted, next }
}

/// A coordinator that is away.
pub(crate) fn away() -> Status {
    Status::unavailable("connection refused")
}
