//! A coordinator that dies and comes back, with real weights and the real store.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use paceline_coordinator::machine::Settings;
use paceline_coordinator::store::{Change, MemoryStore, Pair, SledStore, Store, StoreError};
use paceline_coordinator::{CoordinatorHandle, start};
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::estimator::PairReport;
use paceline_proto::PROTOCOL;
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CreateRequest, Directive, Holdings, Lease, Registration, ResultBody, RunId, RunState, RunStatus, SeedCoded,
    Submission, Verdict, WorkerId,
};
use tokio::task::JoinHandle;

use crate::recipes;

const SETTINGS: Settings = Settings { lease_ttl: Duration::from_secs(30), heartbeat: Duration::from_secs(5) };
const STEPS: u64 = 9;
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn request(request_id: &str, steps: u64) -> CreateRequest {
    CreateRequest {
        spec: recipes::pes(steps),
        costs: Vec::new(),
        request_id: request_id.to_owned(),
        validate_only: false,
        resume_unfinished: false,
    }
}

pub(crate) struct Life {
    pub(crate) handle: CoordinatorHandle,
    actor: JoinHandle<()>,
}

impl Life {
    pub(crate) async fn begin(store: Arc<dyn Store>) -> Self {
        let (handle, actor) = start(store, SETTINGS).await.unwrap();
        Self { handle, actor }
    }

    /// Dies at once: what was not durable is gone.
    async fn kill(self) {
        self.actor.abort();
        assert!(self.actor.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn register(&self, name: &str) -> WorkerId {
        let worker: WorkerId = name.parse().unwrap();
        let registration = Registration {
            protocol: PROTOCOL,
            worker: worker.clone(),
            code_version: "0".into(),
            device: "cpu".into(),
            threads: 1,
            families: vec!["quadratic".into(), "rosenbrock".into()],
        };
        self.handle.register(registration).await.unwrap();
        worker
    }

    pub(crate) async fn create(&self) -> RunId {
        self.handle.create(request("request", STEPS)).await.unwrap().state.run
    }

    pub(crate) async fn lease(&self, worker: &WorkerId) -> Lease {
        self.handle.lease(worker.clone(), LONG, Vec::new()).await.unwrap().unwrap()
    }

    /// Works off leases until the run has folded `steps` steps.
    async fn work(&self, worker: &WorkerId, run: &RunId, steps: u64) -> RunState {
        loop {
            let state = self.handle.get(run.clone()).await.unwrap();
            if state.outer_step >= steps || state.status.is_final() {
                return state;
            }
            if let Some(lease) = self.handle.lease(worker.clone(), Duration::from_millis(50), Vec::new()).await.unwrap()
            {
                let outcome = self.handle.submit(report(worker, &lease)).await.unwrap();
                assert_eq!(outcome.verdict, Verdict::Accepted);
            }
        }
    }

    pub(crate) async fn until_final(&self, run: &RunId) -> RunState {
        let mut states = self.handle.watch(run.clone()).await.unwrap();
        let last = tokio::time::timeout(LONG, states.wait_for(|state| state.status.is_final()));
        last.await.unwrap().unwrap().clone()
    }
}

/// What a worker reports: numbers that follow from theta and slot.
pub(crate) fn report(worker: &WorkerId, lease: &Lease) -> Submission {
    let number = |place: u8| f64::from(lease.theta_hash.0[usize::from(place)] ^ lease.key.slot as u8) / 64.0 - 1.0;
    let pair =
        |p: u8| PairReport { fresh: number(p), carried: number(p + 1), loss_plus: number(p + 2), loss_minus: -0.0 };
    Submission {
        worker: worker.clone(),
        lease: lease.key.clone(),
        theta_hash: lease.theta_hash,
        body: ResultBody::SeedCoded(SeedCoded { pairs: vec![pair(0), pair(9)] }),
        inner_steps: 20,
        diverged_lanes: 0,
        want_lease: false,
        holdings: Vec::new(),
    }
}

/// A dying process takes its threads along; here the writer of the life before may still be in its last commit.
async fn open_when_free(folder: &Path) -> Arc<dyn Store> {
    let open = async {
        loop {
            match SledStore::open(folder) {
                Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    };
    Arc::new(tokio::time::timeout(LONG, open).await.unwrap())
}

async fn undisturbed() -> ThetaHash {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    life.work(&worker, &run, STEPS).await;
    let state = life.until_final(&run).await;
    assert_eq!((state.status, state.ledger.accepted), (RunStatus::Completed, STEPS * 4));
    state.theta_hash
}

#[tokio::test]
async fn a_run_that_dies_after_every_step_ends_with_the_same_theta() {
    let expected = undisturbed().await;
    let folder = tempfile::tempdir().unwrap();
    let life = Life::begin(open_when_free(folder.path()).await).await;
    let run = life.create().await;
    life.kill().await;
    for step in 1..=STEPS {
        let life = Life::begin(open_when_free(folder.path()).await).await;
        assert_eq!(life.handle.epoch(), step + 1);
        let worker = life.register("w").await;
        let state = life.work(&worker, &run, step).await;
        assert_eq!(state.outer_step, step, "{:?} {}", state.status, state.reason);
        if step == STEPS {
            assert_eq!(life.until_final(&run).await.theta_hash, expected);
        }
        life.kill().await;
    }
}

#[tokio::test]
async fn a_kept_result_is_accepted_after_a_restart_and_its_repeat_known() {
    let store = MemoryStore::new();
    let life = Life::begin(Arc::new(store.clone())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let (kept, acknowledged) = (life.lease(&worker).await, life.lease(&worker).await);
    assert!(kept.spec.is_some() && kept.theta.as_ref().unwrap().len() == 16);
    assert_eq!(life.handle.submit(report(&worker, &acknowledged)).await.unwrap().verdict, Verdict::Accepted);
    life.kill().await;

    let life = Life::begin(Arc::new(store)).await;
    let unknown = life.handle.submit(report(&worker, &kept)).await;
    assert_eq!(unknown, Err(Fault::WorkerNotFound { worker: worker.clone() }));
    let answer = life.handle.heartbeat(worker.clone(), vec![kept.key.clone()], 1, 0).await.unwrap();
    assert_eq!((answer.known, answer.directives), (false, vec![Directive::Continue]));
    life.register("w").await;
    for (lease, verdict) in
        [(&acknowledged, Verdict::AlreadyAccepted), (&kept, Verdict::Accepted), (&kept, Verdict::AlreadyAccepted)]
    {
        assert_eq!(life.handle.submit(report(&worker, lease)).await.unwrap().verdict, verdict);
    }
    let ledger = life.handle.get(run).await.unwrap().ledger;
    assert_eq!((ledger.issued, ledger.accepted, ledger.outstanding), (2, 2, 0));
}

#[tokio::test]
async fn thetas_of_live_trajectories_are_served_after_a_restart() {
    let store = MemoryStore::new();
    let life = Life::begin(Arc::new(store.clone())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let mut thetas = VecDeque::new();
    for version in 0..6 {
        life.work(&worker, &run, version).await;
        thetas.push_back(life.handle.theta(run.clone(), version).await.unwrap());
    }
    let lease = life.lease(&worker).await;
    life.kill().await;
    let life = Life::begin(Arc::new(store)).await;
    let began = lease.window.current.began;
    for version in began..6 {
        assert_eq!(life.handle.theta(run.clone(), version).await.unwrap(), thetas[version as usize], "{version}");
    }
    let future = life.handle.theta(run.clone(), 6).await;
    assert_eq!(future, Err(Fault::ThetaNotFound { run, version: 6 }));
}

#[tokio::test]
async fn a_damaged_checkpoint_costs_only_time() {
    let store = MemoryStore::new();
    let life = Life::begin(Arc::new(store.clone())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let before = life.work(&worker, &run, 7).await;
    let checkpoints = life.handle.checkpoints(run.clone()).await.unwrap();
    life.kill().await;
    // The newest chunk belongs to the newest checkpoint.
    let (key, mut value) = store.scan(b"b/").unwrap().pop().unwrap();
    value[20] ^= 1;
    store.apply(vec![Change::Put(key, value)]).unwrap();

    let life = Life::begin(Arc::new(store)).await;
    let after = life.handle.get(run.clone()).await.unwrap();
    assert_eq!((after.status, after.theta_hash), (RunStatus::Running, before.theta_hash));
    let newest = checkpoints[0].outer_step;
    let corrupt = life.handle.checkpoint(run.clone(), Some(newest)).await;
    assert!(matches!(corrupt, Err(Fault::CheckpointCorrupt { outer_step, .. }) if outer_step == newest), "{corrupt:?}");
    assert!(life.handle.checkpoint(run, Some(checkpoints[1].outer_step)).await.is_ok());
}

#[tokio::test]
async fn shutdown_leaves_a_checkpoint_of_the_last_step() {
    let store = MemoryStore::new();
    let life = Life::begin(Arc::new(store.clone())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    life.work(&worker, &run, 3).await; // checkpoints are due at even steps
    let _held = life.lease(&worker).await;
    tokio::time::timeout(LONG, life.handle.shutdown()).await.unwrap();
    assert_eq!(life.handle.get(run.clone()).await, Err(Fault::ShuttingDown));
    assert_eq!(life.handle.ready(), Err(Fault::ShuttingDown));
    life.actor.await.unwrap();
    let life = Life::begin(Arc::new(store)).await;
    assert_eq!(life.handle.checkpoint(run, None).await.unwrap().0.outer_step, 3);
}

#[tokio::test]
async fn stopping_answers_after_the_last_checkpoint_and_is_idempotent() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    life.work(&worker, &run, 3).await;
    let lease = life.lease(&worker).await;
    for _ in 0..2 {
        let state = life.handle.stop(run.clone()).await.unwrap();
        assert_eq!((state.status, state.durable_checkpoint), (RunStatus::Stopped, 3));
    }
    let finished = Fault::RunFinished { run: run.clone(), status: "stopped".into() };
    assert_eq!(life.handle.submit(report(&worker, &lease)).await, Err(finished.clone()));
    assert_eq!(life.handle.resume(run).await, Err(finished));
    let directives = life.handle.heartbeat(worker, vec![lease.key], 1, 0).await.unwrap().directives;
    assert_eq!(directives, [Directive::Cancel]);
}

#[tokio::test]
async fn creating_again_answers_the_same_run() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let run = life.create().await;
    assert_eq!(life.create().await, run);
    let other = life.handle.create(request("request", STEPS + 1)).await;
    assert_eq!(other, Err(Fault::RequestIdReused { request_id: "request".into() }));
    let resumed = life.handle.create(CreateRequest { resume_unfinished: true, ..request("new", STEPS) }).await.unwrap();
    assert_eq!((resumed.state.run, resumed.resumed), (run, true));
    let only_checked = life.handle.create(CreateRequest { validate_only: true, ..request("", STEPS) }).await.unwrap();
    assert_eq!(only_checked.state.run.as_str(), "pes-00000000");
    assert_eq!(life.handle.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wait_that_is_given_up_costs_no_lease() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    assert_eq!(life.handle.lease(worker.clone(), Duration::from_millis(1), Vec::new()).await, Ok(None));
    // Dropped while it waits:
    let waiting = life.handle.lease(worker.clone(), LONG, Vec::new());
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    let run = life.create().await;
    let all: Vec<Lease> = [life.lease(&worker).await, life.lease(&worker).await].into();
    let ledger = life.handle.get(run).await.unwrap().ledger;
    assert_eq!((all.len() as u64, ledger.issued, ledger.outstanding), (2, 2, 2), "{ledger:?}");
}

#[tokio::test]
async fn a_lease_that_cannot_be_delivered_is_handed_back_at_once() {
    let disk = Arc::new(Disk::default());
    let life = Life::begin(Arc::clone(&disk) as Arc<dyn Store>).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    disk.hangs.store(true, Ordering::SeqCst);
    // The lease is given and waits for the disk; meanwhile the worker goes away.
    let asked = life.handle.lease(worker.clone(), LONG, Vec::new());
    assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err());
    disk.hangs.store(false, Ordering::SeqCst);
    let mut slots = Vec::new();
    for _ in 0..4 {
        let lease = life.lease(&worker).await;
        slots.push((lease.key.slot, lease.attempt));
    }
    slots.sort_unstable();
    assert_eq!(slots, [(0, 2), (1, 1), (2, 1), (3, 1)]);
    assert_eq!(life.handle.get(run).await.unwrap().ledger.released, 1);
}

#[tokio::test]
async fn a_lease_sends_only_what_is_not_held() {
    let life = Life::begin(Arc::new(MemoryStore::new())).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let holdings = vec![Holdings { run, theta_version: 0, slots: vec![2] }];
    let lease = life.handle.lease(worker, LONG, holdings).await.unwrap().unwrap();
    assert_eq!((lease.key.slot, lease.attempt, lease.theta, lease.spec), (2, 1, None, None));
}

/// A store whose disk can fill up, or hang.
#[derive(Debug, Default)]
struct Disk {
    memory: MemoryStore,
    full: AtomicBool,
    hangs: AtomicBool,
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(key)
    }
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.memory.scan(prefix)
    }
    fn keys(&self, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.memory.keys(from, to)
    }
    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(StoreError::Io { reason: "no space left on device".into() }),
            false => self.memory.apply(changes),
        }
    }
    fn flush(&self) -> Result<(), StoreError> {
        while self.hangs.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.memory.flush()
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_could_not_be_stored() {
    let store = Arc::new(Disk::default());
    let life = Life::begin(Arc::clone(&store) as Arc<dyn Store>).await;
    let worker = life.register("w").await;
    let run = life.create().await;
    let lease = life.lease(&worker).await;
    store.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = life.handle.submit(report(&worker, &lease)).await.unwrap_err();
        let Fault::StoreReadOnly { reason } = &refused else { panic!("{refused:?}") };
        assert!(reason.contains("no space left"), "{reason}");
    }
    assert!(matches!(life.handle.ready(), Err(Fault::StoreReadOnly { .. })));
    let beat = life.handle.heartbeat(worker.clone(), vec![lease.key.clone()], 1, 0).await;
    assert!(beat.is_ok(), "heartbeats need no disk: {beat:?}");
    tokio::time::timeout(LONG, life.handle.shutdown()).await.unwrap();

    let life = Life::begin(Arc::new(store.memory.clone())).await;
    life.register("w").await;
    assert_eq!(life.handle.get(run).await.unwrap().ledger.accepted, 0);
    assert_eq!(life.handle.submit(report(&worker, &lease)).await.unwrap().verdict, Verdict::Accepted);
}
