//! How a worker is, for probes: whether it lives, knows its coordinator, and can compute.
//!
//! ```text
//!  session: registered, last answer ─┐
//!  ticks, a tiny op a minute ────────┼─► Vitals ─► /healthz /readyz /startupz /metrics
//!  inner steps, leases held ─────────┘
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use paceline_admin::{Check, Probes, Report, Version, exposition};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::held::HeldLeases;
use crate::session::Session;

/// How often the event loop ticks.
const TICK: Duration = Duration::from_secs(1);
/// How old its last tick may be before the process should be ended.
const LIVE: Duration = Duration::from_secs(10);
/// How often the processor is asked for a tiny op.
const TRY_OUT: Duration = Duration::from_secs(60);
/// How old the last good one may be.
const ABLE: Duration = Duration::from_secs(150);
/// Heartbeats that may go unanswered before the worker is not ready.
const UNANSWERED: u32 = 3;

/// How a worker is; clones share it. Made before the worker, so that it answers while that starts.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    ticked: Mutex<Instant>,
    /// When the last tiny op was right; `None` before the first.
    able: Mutex<Option<Instant>>,
    work: OnceLock<Work>,
}

/// What is looked at once the worker works.
#[derive(Debug)]
struct Work {
    session: Arc<Session>,
    held: HeldLeases,
    progress: Arc<AtomicU64>,
    drain: CancellationToken,
}

impl Default for Vitals {
    fn default() -> Self {
        let begun = Instant::now();
        Self(Arc::new(Inner { begun, ticked: Mutex::new(begun), able: Mutex::new(None), work: OnceLock::new() }))
    }
}

impl Vitals {
    /// Answers probes and scrapes on a bound listener until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        paceline_admin::serve(paceline_admin::routes(self.0), listener, stop).await
    }

    /// The worker begins.
    pub(crate) fn watch(
        &self,
        session: &Arc<Session>,
        held: &HeldLeases,
        progress: &Arc<AtomicU64>,
        drain: &CancellationToken,
    ) {
        let work = Work {
            session: Arc::clone(session),
            held: held.clone(),
            progress: Arc::clone(progress),
            drain: drain.clone(),
        };
        // A worker begins once.
        let _ = self.0.work.set(work);
    }

    /// Ticks, and tries the processor out, for ever.
    pub(crate) async fn live(&self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            *lock(&self.0.ticked) = Instant::now();
            let due = lock(&self.0.able).is_none_or(|last| last.elapsed() >= TRY_OUT);
            // On a thread of its own: the threads that compute are busy as they should be.
            if due && tokio::task::spawn_blocking(tiny_op).await.is_ok_and(|right| right) {
                *lock(&self.0.able) = Some(Instant::now());
            }
        }
    }
}

/// An instant is replaced as a whole, so a panic cannot leave half of one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A product of two small matrices whose result is known.
fn tiny_op() -> bool {
    const N: usize = 16;
    let value = |row: usize, column: usize| std::hint::black_box((row + column) as f32);
    let product = |row, column| (0..N).map(|k| value(row, k) * value(k, column)).sum::<f32>();
    // Σ (r + k)(k + c) over k, in whole numbers that f32 holds exactly.
    let exact = |row: usize, column: usize| (0..N).map(|k| (row + k) * (k + column)).sum::<usize>() as f32;
    (0..N).all(|row| (0..N).all(|column| product(row, column) == exact(row, column)))
}

impl Inner {
    fn registered(&self) -> Check {
        match self.work.get().and_then(|work| work.session.terms()) {
            Some(terms) => {
                let found = format!("with epoch {} of the coordinator", terms.epoch);
                Check::passing("registered", self.begun.elapsed(), found)
            }
            None => Check::failing("registered", self.begun.elapsed(), "no coordinator has taken this worker yet"),
        }
    }

    fn answered(&self) -> Option<Check> {
        let session = &self.work.get()?.session;
        let most = session.terms()?.heartbeat * UNANSWERED;
        Some(Check::recent("coordinator", session.answered()?.elapsed(), most.max(TICK * 2), "answered"))
    }
}

impl Probes for Inner {
    fn health(&self) -> Report {
        Report::of([Check::recent("event_loop", lock(&self.ticked).elapsed(), LIVE, "ticked")])
    }

    fn readiness(&self) -> Report {
        let able = match *lock(&self.able) {
            Some(last) => Check::recent("compute", last.elapsed(), ABLE, "a tiny op was right"),
            None => Check::failing("compute", self.begun.elapsed(), "no tiny op was right yet"),
        };
        let draining = self.work.get().is_some_and(|work| work.drain.is_cancelled());
        let accepting = match draining {
            true => Check::failing("accepting", self.begun.elapsed(), "the worker drains"),
            false => Check::passing("accepting", self.begun.elapsed(), "not asked to stop"),
        };
        Report::of([self.registered(), able, accepting].into_iter().chain(self.answered()))
    }

    fn startup(&self) -> Report {
        Report::of([self.registered()])
    }

    fn version(&self) -> Version {
        Version {
            program: "paceline-worker",
            version: env!("CARGO_PKG_VERSION"),
            speaks: vec![("protocol", paceline_proto::PROTOCOL)],
        }
    }

    fn metrics(&self, open_metrics: bool) -> String {
        let mut registry = Registry::with_prefix("paceline_worker");
        let work = self.work.get();
        let steps = work.map_or(0, |work| work.progress.load(Ordering::Relaxed));
        registry.register("inner_steps", "Inner steps trained, all lanes", ConstCounter::new(steps));
        let held = work.map_or(0, |work| work.held.keys().len());
        registry.register("leases", "Leases held", ConstGauge::new(held as f64));
        let ready = f64::from(self.readiness().passes());
        registry.register("ready", "Whether every check of /readyz passes", ConstGauge::new(ready));
        exposition(&registry, open_metrics)
    }
}

#[cfg(test)]
mod tests {
    use paceline_proto::model::{Registered, Registration};

    use super::*;

    fn failing(report: &Report) -> Vec<&'static str> {
        report.failing().collect()
    }

    #[test]
    fn the_tiny_op_is_right() {
        assert!(tiny_op());
    }

    #[test]
    fn a_worker_is_ready_once_registered_able_and_answered() {
        let vitals = Vitals::default();
        let probes = &vitals.0;
        assert!(probes.health().passes(), "a worker that waits for its coordinator is not dead");
        assert_eq!(failing(&probes.readiness()), ["registered", "compute"]);
        let registration = Registration {
            protocol: paceline_proto::PROTOCOL,
            worker: "w1".parse().unwrap(),
            code_version: "0".into(),
            device: "cpu".into(),
            threads: 1,
            families: Vec::new(),
        };
        let session = Session::new(registration);
        let drain = CancellationToken::new();
        vitals.watch(&session, &HeldLeases::default(), &Arc::new(AtomicU64::new(77)), &drain);
        assert_eq!(failing(&probes.startup()), ["registered"]);
        let heartbeat = Duration::from_secs(5);
        session.took(Registered { epoch: 3, heartbeat, lease_ttl: heartbeat * 6 });
        *lock(&probes.able) = Some(Instant::now());
        assert_eq!(failing(&probes.readiness()), Vec::<&str>::new());
        assert!(probes.readiness().checks.iter().any(|check| check.name == "coordinator"));
        for line in ["paceline_worker_inner_steps_total 77", "paceline_worker_ready 1.0", "paceline_worker_leases 0.0"]
        {
            assert!(probes.metrics(true).lines().any(|found| found == line), "{line}: {}", probes.metrics(true));
        }
        drain.cancel();
        assert_eq!(failing(&probes.readiness()), ["accepting"]);
    }
}
