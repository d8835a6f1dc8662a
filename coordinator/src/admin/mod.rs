//! The coordinator's admin listener: probes, metrics and pages. It only reads, but for what somebody who has logged in does.
//!
//! ```text
//!  begin ──► Starting ──store open, runs rebuilt──► Open ──asked to stop──► Draining ──► (gone)
//!               └─ answers probes and scrapes already       └─ pages still answer
//! ```

mod pages;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use paceline_admin::{Check, Probes, Report, Version, exposition};
use paceline_proto::PROTOCOL;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::credentials::Credentials;
use crate::handle::CoordinatorHandle;
use crate::observe::{Gauges, Observer};
use crate::store::FORMAT;
use sessions::Sessions;

/// How old the event loop's last sign of life may be before the process should be ended. The loop ticks four times a
/// second whatever the load.
const LIVE: Duration = Duration::from_secs(10);

/// What the admin listener knows of a coordinator; clones share it. Made before the coordinator, so that it answers while
/// that starts.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    observer: Observer,
    registry: Registry,
    stage: Mutex<(Stage, Instant)>,
    /// Logins of this life of the coordinator, where callers are asked who they are.
    sessions: Mutex<Option<Arc<Sessions>>>,
}

/// How far the coordinator is.
#[derive(Clone, Debug)]
enum Stage {
    Starting,
    Open(CoordinatorHandle),
    Draining(CoordinatorHandle),
    Stopped,
}

impl Default for Admin {
    fn default() -> Self {
        let observer = Observer::default();
        let mut registry = Registry::default();
        observer.metrics().register(&mut registry);
        registry.sub_registry_with_prefix("paceline").register_collector(Box::new(Gauges::new(observer.clone())));
        let stage = Mutex::new((Stage::Starting, Instant::now()));
        Self(Arc::new(Inner { observer, registry, stage, sessions: Mutex::default() }))
    }
}

impl Admin {
    /// Answers on a bound listener until `stop` is cancelled.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        paceline_admin::serve(self.router(), listener, stop).await
    }

    fn router(self) -> Router {
        paceline_admin::routes(Arc::clone(&self.0)).merge(pages::routes(Arc::clone(&self.0)))
    }

    /// Where the coordinator counts.
    pub(crate) fn observer(&self) -> &Observer {
        &self.0.observer
    }

    /// The coordinator answers calls from now on, until the answer is dropped. Whom `credentials` know may log in; without
    /// them nobody may.
    pub(crate) fn open(&self, handle: CoordinatorHandle, credentials: Option<Arc<Credentials>>) -> Opened {
        // Earlier logins end: the tokens they were made with are read anew, and revoked there.
        *self.0.logins() = credentials.map(|credentials| Arc::new(Sessions::new(credentials)));
        self.enter(Stage::Open(handle));
        Opened(self.clone())
    }

    fn enter(&self, stage: Stage) {
        *self.stage() = (stage, Instant::now());
    }

    fn stage(&self) -> MutexGuard<'_, (Stage, Instant)> {
        // A stage is replaced as a whole.
        self.0.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A coordinator that answers calls. Dropping it lets go of the coordinator, so that no page keeps its store open.
#[derive(Debug)]
pub(crate) struct Opened(Admin);

impl Opened {
    /// The coordinator begins anew on the same store.
    pub(crate) fn reopens(self) {
        let admin = self.0.clone();
        drop(self);
        admin.enter(Stage::Starting);
    }

    /// No new work is begun.
    pub(crate) fn draining(&self) {
        let stage = self.0.stage().0.clone();
        if let Stage::Open(handle) = stage {
            self.0.enter(Stage::Draining(handle));
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.enter(Stage::Stopped);
    }
}

impl Inner {
    fn logins(&self) -> MutexGuard<'_, Option<Arc<Sessions>>> {
        // They are replaced as a whole.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logins, where callers are asked who they are.
    fn sessions(&self) -> Option<Arc<Sessions>> {
        self.logins().clone()
    }

    fn stage(&self) -> (Stage, Duration) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        (stage.0.clone(), stage.1.elapsed())
    }

    /// The coordinator, while there is one.
    fn handle(&self) -> Option<CoordinatorHandle> {
        match self.stage().0 {
            Stage::Open(handle) | Stage::Draining(handle) => Some(handle),
            Stage::Starting | Stage::Stopped => None,
        }
    }

    /// What somebody who looks should know first.
    fn trouble(&self) -> Option<String> {
        if let Some((_, reason)) = self.observer.store_broken() {
            return Some(format!(
                "The store cannot be written, and no work is given: {reason}. Free space or mend the disk: the coordinator \
                 looks now and then, and goes on by itself."
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
        if let Some(trouble) = self.observer.certificate_end().and_then(|end| certificate_trouble(end - now)) {
            return Some(trouble);
        }
        match self.stage().0 {
            Stage::Draining(_) => Some("The coordinator was asked to stop and gives no more work.".to_owned()),
            Stage::Starting | Stage::Open(_) | Stage::Stopped => None,
        }
    }

    fn recovered(&self) -> Check {
        let (stage, age) = self.stage();
        match stage {
            Stage::Starting => {
                Check::failing("recovered", self.observer.age(), "the store is being opened and runs are rebuilt")
            }
            Stage::Open(_) | Stage::Draining(_) | Stage::Stopped => {
                Check::passing("recovered", age, "runs are rebuilt")
            }
        }
    }
}

impl Probes for Inner {
    fn health(&self) -> Report {
        let (stage, age) = self.stage();
        Report::of([match stage {
            Stage::Starting => Check::passing("event_loop", age, "not begun: the store is being opened"),
            Stage::Open(_) | Stage::Draining(_) => {
                Check::recent("event_loop", self.observer.beat_age(), LIVE, "ticked")
            }
            Stage::Stopped => Check::passing("event_loop", age, "ended: the program is about to"),
        }])
    }

    fn readiness(&self) -> Report {
        let (stage, age) = self.stage();
        let journal = match self.observer.store_broken() {
            Some((age, reason)) => Check::failing(
                "journal",
                age,
                format!("nothing can be stored: {reason}; free space or mend the disk, and it goes on by itself"),
            ),
            None => Check::passing("journal", age, "can be written"),
        };
        let draining = match stage {
            Stage::Draining(_) | Stage::Stopped => {
                Check::failing("accepting", age, "the coordinator was asked to stop")
            }
            Stage::Starting | Stage::Open(_) => Check::passing("accepting", age, "not asked to stop"),
        };
        Report::of([self.recovered(), journal, draining])
    }

    fn startup(&self) -> Report {
        Report::of([self.recovered()])
    }

    fn version(&self) -> Version {
        Version {
            program: "paceline-coordinator",
            version: env!("CARGO_PKG_VERSION"),
            speaks: vec![("protocol", PROTOCOL), ("store_format", FORMAT)],
        }
    }

    fn metrics(&self, open_metrics: bool) -> String {
        exposition(&self.registry, open_metrics)
    }
}

/// What to tell of the coordinator's own certificate, which holds for so many seconds more.
fn certificate_trouble(left: i64) -> Option<String> {
    const DAY: i64 = 24 * 3600;
    const CURE: &str = "Make a new one in its place (docs/security.md): it is taken up without a restart.";
    if left <= 0 {
        Some(format!(
            "The coordinator's certificate has expired {} days ago, and clients refuse it. {CURE}",
            -left / DAY
        ))
    } else if left < 14 * DAY {
        Some(format!("The coordinator's certificate expires in {} days. {CURE}", left / DAY))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::start_seen;
    use crate::machine::Settings;
    use crate::store::MemoryStore;

    fn failing(report: &Report) -> Vec<&'static str> {
        report.failing().collect()
    }

    #[tokio::test]
    async fn each_stage_answers_for_itself() {
        let admin = Admin::default();
        let probes = &admin.0;
        assert!(probes.health().passes(), "a program that starts is not dead");
        assert_eq!((failing(&probes.readiness()), failing(&probes.startup())), (vec!["recovered"], vec!["recovered"]));
        assert!(probes.metrics(true).ends_with("# EOF\n"), "a scrape during start-up is answered");

        let settings = Settings { lease_ttl: Duration::from_secs(30), heartbeat: Duration::from_secs(5) };
        let store = Arc::new(MemoryStore::new());
        let (handle, actor) = start_seen(store, settings, admin.observer().clone()).await.unwrap();
        let opened = admin.open(handle.clone(), None);
        assert_eq!((failing(&probes.health()), failing(&probes.readiness())), (vec![], vec![]));
        while !probes.metrics(false).contains("paceline_coordinator_epoch 1") {
            tokio::task::yield_now().await;
        }
        opened.draining();
        assert_eq!((failing(&probes.readiness()), failing(&probes.startup())), (vec!["accepting"], vec![]));
        handle.shutdown().await;
        actor.await.unwrap();
        drop(opened);
        assert!(matches!(probes.stage().0, Stage::Stopped), "the handle is let go of");
    }

    #[tokio::test]
    async fn a_coordinator_that_opens_anew_knows_its_tokens_anew() {
        let admin = Admin::default();
        let settings = Settings { lease_ttl: Duration::from_secs(30), heartbeat: Duration::from_secs(5) };
        let (handle, _actor) = start_seen(Arc::new(MemoryStore::new()), settings, Observer::default()).await.unwrap();
        let credentials = || Some(Arc::new(Credentials::open(None).unwrap()));
        admin.open(handle.clone(), credentials()).reopens();
        let before = admin.0.sessions().unwrap();
        let _opened = admin.open(handle, credentials());
        let after = admin.0.sessions().unwrap();
        assert!(!Arc::ptr_eq(&before, &after), "a token that is revoked now would stay good in a login of before");
    }

    #[test]
    fn a_certificate_that_ends_is_told_in_time() {
        let day = 24 * 3600;
        assert_eq!(certificate_trouble(14 * day), None);
        assert!(certificate_trouble(13 * day).is_some_and(|told| told.contains("expires in 13 days")));
        assert!(certificate_trouble(-3 * day).is_some_and(|told| told.contains("expired 3 days ago")));
        assert!(certificate_trouble(0).is_some_and(|told| told.contains("clients refuse it")));
    }

    #[test]
    fn a_broken_store_is_named_with_its_reason_and_keeps_the_process_alive() {
        let admin = Admin::default();
        admin.observer().store_broke("no space left on device");
        let report = admin.0.readiness();
        let journal = report.checks.iter().find(|check| check.name == "journal").unwrap();
        assert!(!journal.passes && journal.found.contains("no space left on device"), "{journal:?}");
        assert!(admin.0.health().passes());
        assert!(admin.0.metrics(true).contains("paceline_store_read_only 1"));
    }
}
