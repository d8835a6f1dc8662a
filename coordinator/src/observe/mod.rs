//! What a coordinator lets be seen of itself. The machine says facts; here they are counted, at the edge.
//!
//! ```text
//!  actor ─ facts, phases of steps, ticks, a survey a second ─► Observer ─► Metrics ──┐
//!  writer ─ times of appends and flushes ─────────────────────►    │                 ├─► /metrics
//!  rpc ─ time and code of every call ─────────────────────────►    └─► survey, beat ─┴─► probes, pages
//! ```
//!
//! Nothing here is ever waited for: counters are atomics, and a survey replaces the one before.

mod clock;
mod gauges;
mod logs;
mod metrics;
mod refusals;
mod rpc;
mod traces;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use paceline_proto::model::RunId;
use tokio::sync::watch;

use crate::machine::Survey;
use crate::store::Store;

pub(crate) use clock::{Phase, StepClock};
pub(crate) use gauges::Gauges;
pub(crate) use logs::say;
pub(crate) use metrics::Metrics;
pub(crate) use refusals::{Refusal, Refusals};
pub(crate) use rpc::CallTimes;
pub(crate) use traces::Traces;

/// Collects what a coordinator lets be seen; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// Milliseconds from `begun` to the last sign of life of the event loop.
    beat: AtomicU64,
    /// When the store was found to be read-only, and why.
    broken: Mutex<Option<(Instant, String)>>,
    seen: watch::Sender<Seen>,
    /// Bytes of accepted results that are kept.
    journal: AtomicU64,
    /// Weak, so that nobody who looks keeps a store open.
    store: Mutex<Option<Weak<dyn Store>>>,
    /// When the newest checkpoint of each run that goes on was made.
    checkpoints: Mutex<HashMap<RunId, Instant>>,
    /// What callers were refused.
    refusals: Mutex<Refusals>,
    /// When the coordinator's own certificate ends, in seconds since 1970.
    certificate: Mutex<Option<i64>>,
    metrics: Metrics,
}

/// The last survey; every part of it is durable.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// What was seen.
    pub(crate) survey: Arc<Survey>,
    /// When.
    pub(crate) at: Instant,
    /// The coordinator's epoch; 0 before it has one.
    pub(crate) epoch: u64,
}

impl Default for Observer {
    fn default() -> Self {
        let begun = Instant::now();
        let nothing = Seen { survey: Arc::default(), at: begun, epoch: 0 };
        Self(Arc::new(Inner {
            begun,
            beat: AtomicU64::new(0),
            broken: Mutex::default(),
            seen: watch::Sender::new(nothing),
            journal: AtomicU64::new(0),
            store: Mutex::default(),
            checkpoints: Mutex::default(),
            refusals: Mutex::default(),
            certificate: Mutex::default(),
            metrics: Metrics::default(),
        }))
    }
}

/// What stands in it: every change is one assignment or one insert, so a panic between leaves nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Time since the program began to look at itself.
    pub(crate) fn age(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// The event loop lives.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.0.beat.store(now, Ordering::Relaxed);
    }

    /// Time since the event loop's last sign of life.
    pub(crate) fn beat_age(&self) -> Duration {
        self.age().saturating_sub(Duration::from_millis(self.0.beat.load(Ordering::Relaxed)))
    }

    /// The store can no longer be written.
    pub(crate) fn store_broke(&self, reason: &str) {
        // Only the first reason counts: the others follow from it.
        locked(&self.0.broken).get_or_insert_with(|| (Instant::now(), reason.to_owned()));
    }

    /// For how long the store could not be written, and why; `None` while it can.
    pub(crate) fn store_broken(&self) -> Option<(Duration, String)> {
        locked(&self.0.broken).as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }

    /// A store was opened: its size is told from now on, and what broke before it is over.
    pub(crate) fn watch_store(&self, store: &Arc<dyn Store>) {
        *locked(&self.0.store) = Some(Arc::downgrade(store));
        *locked(&self.0.broken) = None;
    }

    /// Bytes the store takes on disk, if it is on one.
    pub(crate) fn store_bytes(&self) -> Option<u64> {
        locked(&self.0.store).as_ref()?.upgrade()?.size_bytes()
    }

    /// A caller was refused.
    pub(crate) fn refused(&self, reason: &str, method: &str, said: &str) {
        locked(&self.0.refusals).note(reason, method, said, Instant::now());
    }

    /// What callers were refused since this start.
    pub(crate) fn refusals(&self) -> Refusals {
        locked(&self.0.refusals).clone()
    }

    /// The certificate in use ends then, in seconds since 1970.
    pub(crate) fn certificate_ends(&self, ends: Option<i64>) {
        *locked(&self.0.certificate) = ends;
    }

    /// When the certificate in use ends, in seconds since 1970; `None` without TLS.
    pub(crate) fn certificate_end(&self) -> Option<i64> {
        *locked(&self.0.certificate)
    }

    /// This many bytes of accepted results are kept.
    pub(crate) fn journal_holds(&self, bytes: u64) {
        self.0.journal.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of accepted results that are kept.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.0.journal.load(Ordering::Relaxed)
    }

    /// A checkpoint was made.
    pub(crate) fn checkpointed(&self, run: &RunId) {
        self.checkpoints().insert(run.clone(), Instant::now());
    }

    /// A run ended.
    pub(crate) fn ended(&self, run: &RunId) {
        self.checkpoints().remove(run);
    }

    /// Time since the run's newest checkpoint was made, or since this start.
    pub(crate) fn checkpoint_age(&self, run: &RunId) -> Duration {
        self.checkpoints().get(run).map_or(self.age(), Instant::elapsed)
    }

    fn checkpoints(&self) -> MutexGuard<'_, HashMap<RunId, Instant>> {
        locked(&self.0.checkpoints)
    }

    /// Takes a new survey.
    pub(crate) fn see(&self, survey: Survey, epoch: u64) {
        self.0.seen.send_replace(Seen { survey: Arc::new(survey), at: Instant::now(), epoch });
    }

    /// The last survey.
    pub(crate) fn seen(&self) -> Seen {
        self.0.seen.borrow().clone()
    }

    /// Where to count.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
