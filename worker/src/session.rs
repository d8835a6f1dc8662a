//! A worker's standing with its coordinator, and calls that outlast an outage.
//!
//! ```text
//!  until_answered(call) ─► ask ─► answer
//!        ▲                  ├─ Retry: wait (jittered), ask again, for ever
//!        └──────────────────┼─ Register: introduce ourselves again, ask again
//!                           └─ Refuse / Stop: hand the status to the caller
//! ```
//!
//! Waiting ends only when the caller drops the future; callers `select!` on their own reasons to stop.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use paceline_proto::client::CallResult;
use paceline_proto::model::{Registered, Registration, WorkerId};
use tonic::{Code, Status};

use crate::backoff::{Backoff, Outage, jitter};
use crate::coordinator_client::CoordinatorClient;
use crate::remedy::{Remedy, remedy};
use crate::{Error, Result};

/// What lease loop and heartbeat share.
#[derive(Debug)]
pub(crate) struct Session {
    registration: Registration,
    /// Highest epoch seen of any coordinator.
    epoch: AtomicU64,
    /// What the last registration was answered.
    terms: Mutex<Option<Registered>>,
    /// When a coordinator last answered a registration or a heartbeat.
    answered: Mutex<Option<Instant>>,
}

/// A call that will not succeed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This very call; others may go on.
    Call(Status),
    /// The worker as a whole.
    Worker(Error),
}

/// A channel to the coordinator and the standing it serves.
#[derive(Debug)]
pub(crate) struct Caller<C> {
    client: C,
    session: Arc<Session>,
}

impl Session {
    /// Before the first registration.
    pub(crate) fn new(registration: Registration) -> Arc<Self> {
        Arc::new(Self { registration, epoch: AtomicU64::new(0), terms: Mutex::new(None), answered: Mutex::new(None) })
    }

    /// The worker's id.
    pub(crate) fn worker(&self) -> &WorkerId {
        &self.registration.worker
    }

    /// Highest epoch seen.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Notes an epoch seen.
    pub(crate) fn saw_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::Relaxed);
    }

    /// Whether the coordinator has answered before: then certificates that no longer fit are waited out.
    fn is_trusting(&self) -> bool {
        self.terms().is_some()
    }

    /// Notes what a registration was answered.
    pub(crate) fn took(&self, terms: Registered) {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(terms);
        self.was_answered();
    }

    /// Notes that a coordinator answered.
    pub(crate) fn was_answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When a coordinator last answered; `None` before the first time.
    pub(crate) fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last registration was answered; `None` before the first.
    pub(crate) fn terms(&self) -> Option<Registered> {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: CoordinatorClient> Caller<C> {
    /// Calls over this channel for that session.
    pub(crate) fn new(client: C, session: &Arc<Session>) -> Self {
        Self { client, session: Arc::clone(session) }
    }

    /// The channel.
    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    /// The standing.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Introduces the worker, however long the coordinator is away.
    ///
    /// # Errors
    /// [`Error::VersionUnsupported`] or [`Error::Refused`].
    pub(crate) async fn register(&self) -> Result<Registered> {
        let registration = &self.session.registration;
        let call = || self.client.register(registration.clone());
        match retrying("register this worker", self.session.is_trusting(), call).await {
            Ok(registered) => {
                self.session.saw_epoch(registered.epoch);
                self.session.took(registered);
                Ok(registered)
            }
            Err(status) => Err(self.fatal("register this worker", status)),
        }
    }

    /// Asks until there is an answer, registering again if the coordinator does not know the worker.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) async fn until_answered<T, F>(&self, what: &'static str, call: impl Fn() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = CallResult<T>>,
    {
        let mut unknown = Backoff::default();
        loop {
            let status = match retrying(what, self.session.is_trusting(), &call).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            match remedy(&status) {
                Remedy::Register => {
                    tracing::info!(call = what, "the coordinator does not know this worker: registering again");
                    self.register().await.map_err(Refusal::Worker)?;
                    // A coordinator that forgets at once must not be asked in a tight loop.
                    tokio::time::sleep(unknown.wait(jitter())).await;
                }
                Remedy::Stop => return Err(Refusal::Worker(self.fatal(what, status))),
                Remedy::Refuse | Remedy::Retry { .. } | Remedy::Distrust => return Err(Refusal::Call(status)),
            }
        }
    }

    /// The error of a worker that cannot go on without this call.
    pub(crate) fn fatal(&self, call: &'static str, status: Status) -> Error {
        let status = Box::new(status);
        match remedy(&status) {
            Remedy::Distrust => Error::NotAllowed { call, status },
            Remedy::Stop if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
                Error::NotAllowed { call, status }
            }
            Remedy::Stop => Error::VersionUnsupported { ours: self.session.registration.protocol, status },
            Remedy::Retry { .. } | Remedy::Register | Remedy::Refuse => Error::Refused { call, status },
        }
    }
}

/// Asks until there is an answer or a refusal; a coordinator that is `trusting`ly known may have trouble with certificates
/// for a while.
async fn retrying<T, F>(what: &'static str, trusting: bool, call: impl Fn() -> F) -> CallResult<T>
where
    F: Future<Output = CallResult<T>>,
{
    let mut outage = Outage::new(what);
    loop {
        match call().await {
            Ok(answer) => {
                outage.over();
                return Ok(answer);
            }
            Err(status) => match remedy(&status) {
                Remedy::Retry { after } => tokio::time::sleep(outage.note(&status, after)).await,
                Remedy::Distrust if trusting => tokio::time::sleep(outage.note(&status, None)).await,
                Remedy::Distrust | Remedy::Register | Remedy::Refuse | Remedy::Stop => return Err(status),
            },
        }
    }
}
