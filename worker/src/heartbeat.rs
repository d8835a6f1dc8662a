//! Heartbeats: on a task and a channel of their own, so that a busy worker never looks dead.
//!
//! One call renews every lease held, tells how much was trained, and brings back a directive a lease. It goes on while
//! all threads compute and while a result waits for a coordinator that is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use paceline_proto::client::CallResult;
use paceline_proto::model::{Directive, HeartbeatAnswer, LeaseKey};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::backoff::Outage;
use crate::coordinator_client::CoordinatorClient;
use crate::held::HeldLeases;
use crate::remedy::{Remedy, remedy};
use crate::session::Caller;

/// The interval until the coordinator names one.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// No coordinator can ask for more than ten beats a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The pulse of one worker.
#[derive(Debug)]
pub(crate) struct Heartbeat<C> {
    /// Its own channel.
    pub(crate) caller: Caller<C>,
    /// What to renew.
    pub(crate) held: HeldLeases,
    /// Inner steps trained since the worker started.
    pub(crate) progress: Arc<AtomicU64>,
    /// Cancelled when the worker has nothing left to renew.
    pub(crate) stop: CancellationToken,
}

impl<C: CoordinatorClient> Heartbeat<C> {
    /// Beats until stopped.
    ///
    /// # Errors
    /// If the coordinator, asked to register the worker again, refuses it for good.
    pub(crate) async fn run(self) -> Result<()> {
        let stop = self.stop.clone();
        tokio::select! {
            ended = self.beat_for_ever() => ended,
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn beat_for_ever(&self) -> Result<()> {
        let session = self.caller.session();
        let mut outage = Outage::new("heartbeat");
        let mut pause = self.interval();
        loop {
            tokio::time::sleep(pause).await;
            pause = self.interval();
            let keys = self.held.keys();
            match self.beat(&keys).await {
                Ok(answer) => {
                    outage.over();
                    session.was_answered();
                    session.saw_epoch(answer.epoch);
                    self.obey(&keys, &answer);
                    if !answer.known {
                        tracing::info!("the coordinator does not know this worker: registering again");
                        self.caller.register().await?;
                    }
                }
                Err(status) => match remedy(&status) {
                    Remedy::Retry { after } => pause = pause.min(outage.note(&status, after)),
                    Remedy::Register => drop(self.caller.register().await?),
                    // Losing heartbeats costs leases, never results: work goes on, the log says why.
                    Remedy::Refuse | Remedy::Distrust => drop(outage.note(&status, None)),
                    Remedy::Stop => return Err(self.caller.fatal("renew leases", status)),
                },
            }
        }
    }

    async fn beat(&self, keys: &[LeaseKey]) -> CallResult<HeartbeatAnswer> {
        let session = self.caller.session();
        let inner_steps = self.progress.load(Ordering::Relaxed);
        self.caller.client().heartbeat(session.worker(), keys, session.epoch(), inner_steps).await
    }

    fn obey(&self, keys: &[LeaseKey], answer: &HeartbeatAnswer) {
        for (key, directive) in keys.iter().zip(&answer.directives) {
            match directive {
                Directive::Continue => {}
                Directive::Cancel => self.held.cancel(key),
            }
        }
    }

    fn interval(&self) -> Duration {
        self.caller.session().terms().map_or(DEFAULT_INTERVAL, |terms| terms.heartbeat.max(SHORTEST_INTERVAL))
    }
}
