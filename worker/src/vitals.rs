//! How a worker is, for probes: whether it lives, knows its coordinator, and can compute.
//!
//! ```text
//!  session: registered, last answer ──────────────┐
//!  ticks of the event loop ───────────────────────┤
//!  a tiny op a minute, where leases are computed ─┼─► Vitals ─► /healthz /readyz /startupz /metrics
//!  inner steps, leases held ──────────────────────┘
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use paceline_admin::{Check, Probes, Report, Version, exposition};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cuda::DeviceProbe;
use crate::held::HeldLeases;
use crate::session::Session;

/// How often the event loop ticks.
const TICK: Duration = Duration::from_secs(1);
/// How old its last tick may be before the process should be ended.
const LIVE: Duration = Duration::from_secs(10);
/// How often a tiny op is tried.
const TRY_OUT: Duration = Duration::from_secs(60);
/// How soon again after one that went wrong.
const TRY_AGAIN: Duration = Duration::from_secs(10);
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
    /// How the tiny ops went.
    tried: Mutex<Tried>,
    /// The device that leases are computed on, where it is not the processor.
    device: OnceLock<(String, Arc<DeviceProbe>)>,
    work: OnceLock<Work>,
}

/// How the tiny ops went.
#[derive(Debug, Default)]
struct Tried {
    /// When the last one was right; `None` before the first.
    right: Option<Instant>,
    /// When the last one ended, and why it went wrong, if it did.
    last: Option<(Instant, Result<(), String>)>,
}

impl Tried {
    /// Whether it is time for another.
    fn is_due(&self) -> bool {
        self.last
            .as_ref()
            .is_none_or(|(ended, outcome)| ended.elapsed() >= if outcome.is_ok() { TRY_OUT } else { TRY_AGAIN })
    }

    fn note(&mut self, outcome: Result<(), String>) {
        let now = Instant::now();
        if outcome.is_ok() {
            self.right = Some(now);
        }
        self.last = Some((now, outcome));
    }
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
        Self(Arc::new(Inner {
            begun,
            ticked: Mutex::new(begun),
            tried: Mutex::default(),
            device: OnceLock::new(),
            work: OnceLock::new(),
        }))
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

    /// Leases are computed on this device, so it is what is tried out.
    pub(crate) fn computes_on(&self, device: String, probe: DeviceProbe) {
        // A worker has one device.
        let _ = self.0.device.set((device, Arc::new(probe)));
    }

    /// Ticks, and tries out what computes leases, for ever.
    pub(crate) async fn live(&self) {
        let mut ticks = tokio::time::interval(TICK);
        let mut trying: Option<oneshot::Receiver<Result<(), String>>> = None;
        loop {
            ticks.tick().await;
            *lock(&self.0.ticked) = Instant::now();
            let ended = trying.as_mut().and_then(|answer| match answer.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => Some(Err("it panicked: see the log".to_owned())),
            });
            if let Some(outcome) = ended {
                trying = None;
                if let Err(reason) = &outcome {
                    tracing::warn!(device = self.0.device(), reason, "a tiny op went wrong: the worker is not ready");
                }
                lock(&self.0.tried).note(outcome);
            }
            if trying.is_none() && lock(&self.0.tried).is_due() {
                trying = Some(self.0.try_out());
            }
        }
    }
}

/// What is locked here is replaced as a whole, so a panic cannot leave half of it.
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
    fn device(&self) -> &str {
        self.device.get().map_or("cpu", |(device, _)| device)
    }

    /// Begins a tiny op. On a thread of its own, for it may take as long as a lease that keeps the device busy, or never end
    /// where a device hangs; a thread of the runtime would have to end before the program does.
    fn try_out(&self) -> oneshot::Receiver<Result<(), String>> {
        let (tell, answer) = oneshot::channel();
        let probe = self.device.get().map(|(_, probe)| Arc::clone(probe));
        let work = move || {
            let outcome = match probe {
                Some(probe) => probe.check(),
                None if tiny_op() => Ok(()),
                None => Err("a product of two small matrices is wrong".to_owned()),
            };
            // Nobody waits any more if the worker has ended.
            let _ = tell.send(outcome);
        };
        if let Err(error) = std::thread::Builder::new().name("tiny-op".to_owned()).spawn(work) {
            tracing::debug!(%error, "no thread for a tiny op");
        }
        answer
    }

    fn able(&self) -> Check {
        let tried = lock(&self.tried);
        let device = self.device();
        match (&tried.right, &tried.last) {
            (_, Some((ended, Err(reason)))) => {
                Check::failing("compute", ended.elapsed(), format!("the last tiny op on {device} went wrong: {reason}"))
            }
            (Some(right), _) => {
                Check::recent("compute", right.elapsed(), ABLE, &format!("a tiny op on {device} was right"))
            }
            (None, _) => {
                Check::failing("compute", self.begun.elapsed(), format!("no tiny op on {device} was right yet"))
            }
        }
    }

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
        let draining = self.work.get().is_some_and(|work| work.drain.is_cancelled());
        let accepting = match draining {
            true => Check::failing("accepting", self.begun.elapsed(), "the worker drains"),
            false => Check::passing("accepting", self.begun.elapsed(), "not asked to stop"),
        };
        Report::of([self.registered(), self.able(), accepting].into_iter().chain(self.answered()))
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
    use paceline_optimizer_core::learned::LearnedOptimizer;
    use paceline_optimizer_core::optimizer::OptState;
    use paceline_optimizer_core::task::TaskFamily;
    use paceline_optimizer_core::unroll::{LaneTrainer, Training};
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
        lock(&probes.tried).note(Ok(()));
        assert_eq!(failing(&probes.readiness()), Vec::<&str>::new());
        assert!(probes.readiness().checks.iter().any(|check| check.name == "coordinator"));
        for line in ["paceline_worker_inner_steps_total 77", "paceline_worker_ready 1.0", "paceline_worker_leases 0.0"]
        {
            assert!(probes.metrics(true).lines().any(|found| found == line), "{line}: {}", probes.metrics(true));
        }
        drain.cancel();
        assert_eq!(failing(&probes.readiness()), ["accepting"]);
    }

    /// A device that answers when it is told to.
    #[derive(Debug)]
    struct Told(Mutex<std::sync::mpsc::Receiver<&'static str>>);

    impl LaneTrainer for Told {
        fn knows(&self, _: &dyn TaskFamily, _: &dyn LearnedOptimizer) -> Result<(), String> {
            Ok(())
        }

        fn train(
            &self,
            training: &Training<'_>,
            _: &mut OptState,
            _: &mut [bool],
        ) -> Result<Vec<f32>, paceline_optimizer_core::Error> {
            let reason = lock(&self.0).recv().unwrap_or("the test is over").to_owned();
            Err(paceline_optimizer_core::Error::Task { family: training.family.name().into(), reason })
        }
    }

    fn compute(vitals: &Vitals) -> Check {
        let report = vitals.0.readiness();
        report.checks.into_iter().find(|check| check.name == "compute").expect("it is always looked at")
    }

    /// The clock is paused, so that ticks pass as fast as the threads that compute.
    #[tokio::test(start_paused = true)]
    async fn the_device_that_computes_leases_is_tried_and_never_waited_for() {
        let (tell, told) = std::sync::mpsc::channel();
        let vitals = Vitals::default();
        vitals.computes_on("cuda:3".to_owned(), DeviceProbe::new(Arc::new(Told(Mutex::new(told)))));
        let watching = async {
            // It does not answer, and the worker lives on.
            let begun = *lock(&vitals.0.ticked);
            for _ in 0..5 {
                tokio::time::sleep(TICK).await;
            }
            assert!(*lock(&vitals.0.ticked) > begun && vitals.0.health().passes());
            assert!(compute(&vitals).found.contains("no tiny op on cuda:3 was right yet"), "{:?}", compute(&vitals));
            tell.send("it fell off the bus").unwrap();
            while !compute(&vitals).found.contains("fell off the bus") {
                tokio::time::sleep(TICK).await;
            }
            let check = compute(&vitals);
            assert!(!check.passes && check.found.contains("on cuda:3 went wrong"), "{check:?}");
        };
        tokio::select! {
            () = vitals.live() => unreachable!("it lives for ever"),
            () = watching => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_device_the_processor_is_tried() {
        let vitals = Vitals::default();
        let watching = async {
            while !compute(&vitals).passes {
                tokio::time::sleep(TICK).await;
            }
            assert!(compute(&vitals).found.starts_with("a tiny op on cpu was right"), "{:?}", compute(&vitals));
        };
        tokio::select! {
            () = vitals.live() => unreachable!("it lives for ever"),
            () = watching => {}
        }
    }

    #[test]
    fn one_that_went_wrong_is_tried_again_sooner() {
        let long_ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("this machine is up");
        let tried = |seconds, outcome| Tried { right: None, last: Some((long_ago(seconds), outcome)) };
        assert!(Tried::default().is_due());
        assert!(!tried(11, Ok(())).is_due() && tried(61, Ok(())).is_due());
        assert!(!tried(9, Err(String::new())).is_due() && tried(11, Err(String::new())).is_due());
    }
}
