//! The life of a worker: one lease at a time, from its grant to its verdict.
//!
//! ```text
//!            ┌──────────────── next lease came with the verdict ───────────────┐
//!            ▼                                                                 │
//!  poll ─► hold ─► compute ◄─► pull missing theta ─► submit until a verdict ───┴─► poll
//!                     │ cancelled                          │ refused for good
//!                     ▼                                    ▼
//!            forget the slot, poll                log once, drop, poll
//! ```
//!
//! Drain (`shutdown`): polling ends, and a lease that comes all the same goes back; a lease in work is cancelled and
//! released; a finished result gets [`DRAIN`] to reach the coordinator.

use std::future::Future;
use std::time::Duration;

use paceline_proto::fault::describe;
use paceline_proto::model::{Lease, LeaseKey, ResultBody, Submission, SubmissionOutcome, Verdict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use tracing::field::Empty;

use crate::backoff::{Backoff, jitter};
use crate::compute::{Compute, ComputeError, Computed, Progress};
use crate::coordinator_client::CoordinatorClient;
use crate::held::{HeldLeases, LeaseCancel};
use crate::remedy::kind;
use crate::session::{Caller, Refusal};
use crate::trace;
use crate::{Error, Result};

/// How long a poll waits for a lease; the coordinator holds it at most 20 s.
const POLL: Duration = Duration::from_secs(15);
/// Polls begin at least this far apart, also when a coordinator answers "nothing" at once.
const POLL_SPACING: Duration = Duration::from_millis(200);
/// How long a drain tries to hand over a result or a lease.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a drain waits for the poll in flight: the coordinator may have granted a lease whose answer is under way,
/// and a lease that is not handed back blocks its slot until it expires.
const LAST_ANSWER: Duration = Duration::from_millis(300);

/// One lease at a time.
#[derive(Debug)]
pub(crate) struct LeaseLoop<C, K> {
    caller: Caller<C>,
    compute: K,
    held: HeldLeases,
    shutdown: CancellationToken,
    /// Grows while leases fail, so that a worker that can compute nothing does not spin.
    failures: Backoff,
}

/// Why a lease ended without a result.
enum Unfinished {
    Compute(ComputeError),
    Worker(Error),
}

impl From<ComputeError> for Unfinished {
    fn from(error: ComputeError) -> Self {
        Self::Compute(error)
    }
}

impl<C: CoordinatorClient, K: Compute> LeaseLoop<C, K> {
    /// A registered worker that holds nothing.
    pub(crate) fn new(caller: Caller<C>, compute: K, held: HeldLeases, shutdown: CancellationToken) -> Self {
        Self { caller, compute, held, shutdown, failures: Backoff::default() }
    }

    /// Works until `shutdown`.
    ///
    /// # Errors
    /// If the coordinator refuses this worker for good.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut next = None;
        loop {
            let lease = match next.take() {
                Some(lease) => lease,
                None => match self.poll().await? {
                    Some(lease) => lease,
                    None => return Ok(()),
                },
            };
            let LeaseKey { run, outer_step, slot, .. } = &lease.key;
            let worker = self.caller.session().worker();
            let span = tracing::info_span!("lease", %run, outer_step, slot, attempt = lease.attempt, %worker, trace_id = Empty);
            if let Some(place) = lease.traceparent {
                span.record("trace_id", format!("{:032x}", place.trace()));
            }
            next = self.work(lease).instrument(span).await?;
        }
    }

    /// Waits for a lease; `None` once draining.
    async fn poll(&self) -> Result<Option<Lease>> {
        let polling = async {
            while !self.shutdown.is_cancelled() {
                let began = Instant::now();
                let call = || {
                    let session = self.caller.session();
                    self.caller.client().lease(session.worker(), POLL, self.compute.holdings())
                };
                match self.caller.until_answered("ask for a lease", call).await {
                    Ok(Some(lease)) => return Ok(Some(lease)),
                    Ok(None) => tokio::time::sleep_until(began + POLL_SPACING).await,
                    Err(Refusal::Call(status)) => return Err(self.caller.fatal("ask for a lease", status)),
                    Err(Refusal::Worker(error)) => return Err(error),
                }
            }
            Ok(None)
        };
        match self.while_draining(LAST_ANSWER, polling).await {
            Some(lease) => self.unless_draining(lease?).await,
            None => Ok(None),
        }
    }

    /// From grant to verdict. Answers the next lease if one came with the verdict.
    async fn work(&mut self, lease: Lease) -> Result<Option<Lease>> {
        self.caller.session().saw_epoch(lease.epoch);
        let held = self.held.hold(lease.key.clone());
        let shutdown = self.shutdown.clone();
        let part = trace::part(&lease, "compute", self.caller.session().worker());
        let computed = {
            let computing = self.compute(&lease, held.cancel());
            tokio::pin!(computing);
            tokio::select! {
                computed = &mut computing => computed,
                () = shutdown.cancelled() => {
                    held.cancel().cancel();
                    computing.await
                }
            }
        };
        drop(part);
        match computed {
            Ok(computed) => self.report(&lease, computed).await,
            Err(Unfinished::Worker(error)) => Err(error),
            Err(Unfinished::Compute(ComputeError::Failed(reason))) => {
                tracing::warn!(reason, "lease cannot be computed");
                self.compute.forget(&lease.key.run, lease.key.slot);
                let body = ResultBody::Failure { reason };
                let theta_hash = lease.theta_hash;
                self.report(&lease, Computed { theta_hash, body, inner_steps: 0, diverged_lanes: 0 }).await
            }
            Err(Unfinished::Compute(ComputeError::Cancelled)) => {
                if shutdown.is_cancelled() {
                    self.release(&lease.key).await;
                } else {
                    tracing::debug!("lease cancelled by the coordinator");
                    self.compute.forget(&lease.key.run, lease.key.slot);
                }
                Ok(None)
            }
        }
    }

    /// Brings in what the lease needs and computes it.
    async fn compute(&mut self, lease: &Lease, cancel: &LeaseCancel) -> Result<Computed, Unfinished> {
        let run = &lease.key.run;
        self.compute.admit(lease)?;
        loop {
            let version = match self.compute.run(lease, cancel).await? {
                Progress::Computed(computed) => return Ok(computed),
                Progress::Missing(version) => version,
            };
            let call = || self.caller.client().pull_theta(run, version);
            let pulled = tokio::select! {
                pulled = self.caller.until_answered("pull theta", call) => pulled,
                () = cancel.cancelled() => return Err(ComputeError::Cancelled.into()),
            };
            match pulled {
                Ok(theta) => self.compute.supply(run, version, &theta)?,
                Err(Refusal::Worker(error)) => return Err(Unfinished::Worker(error)),
                Err(Refusal::Call(status)) => {
                    let text = format!("theta version {version} cannot be pulled: {}", describe(&status));
                    return Err(ComputeError::Failed(text).into());
                }
            }
        }
    }

    /// Sends a result until there is a verdict or a refusal for good.
    async fn report(&mut self, lease: &Lease, computed: Computed) -> Result<Option<Lease>> {
        let part = trace::part(lease, "report", self.caller.session().worker());
        let place = part.as_ref().and_then(trace::carried);
        let failed = matches!(computed.body, ResultBody::Failure { .. });
        let submission = Submission {
            worker: self.caller.session().worker().clone(),
            lease: lease.key.clone(),
            theta_hash: computed.theta_hash,
            body: computed.body,
            inner_steps: computed.inner_steps,
            diverged_lanes: computed.diverged_lanes,
            want_lease: !failed && !self.shutdown.is_cancelled(),
            holdings: self.compute.holdings(),
        };
        let call = || self.caller.client().submit(&submission, place);
        let submitted = self.while_draining(DRAIN, self.caller.until_answered("submit a result", call)).await;
        match submitted {
            None => {
                tracing::warn!("drain is over and the coordinator did not take the result: it is lost");
                Ok(None)
            }
            Some(Err(Refusal::Worker(error))) => Err(error),
            Some(Err(Refusal::Call(status))) => {
                tracing::warn!(reason = kind(&status), message = status.message(), "result refused: dropped");
                self.compute.forget(&lease.key.run, lease.key.slot);
                self.pause().await;
                Ok(None)
            }
            Some(Ok(SubmissionOutcome { verdict, next })) => {
                tracing::debug!(?verdict, inner_steps = submission.inner_steps, "submitted");
                match verdict {
                    Verdict::Accepted | Verdict::AlreadyAccepted | Verdict::Superseded => {
                        self.failures = Backoff::default();
                    }
                    Verdict::FailureNoted => self.pause().await,
                }
                self.unless_draining(next).await
            }
        }
    }

    /// A lease that came while draining goes straight back.
    async fn unless_draining(&self, next: Option<Lease>) -> Result<Option<Lease>> {
        match next {
            Some(lease) if self.shutdown.is_cancelled() => {
                self.release(&lease.key).await;
                Ok(None)
            }
            next => Ok(next),
        }
    }

    /// Hands a lease back. If that fails the lease ends by its time to live, which is slower and as safe.
    async fn release(&self, key: &LeaseKey) {
        let keys = std::slice::from_ref(key);
        let call = || self.caller.client().release(self.caller.session().worker(), keys);
        match self.while_draining(DRAIN, self.caller.until_answered("release a lease", call)).await {
            Some(Ok(_)) => tracing::info!("lease released"),
            Some(Err(refusal)) => tracing::warn!(?refusal, "lease not released: it will expire"),
            None => tracing::warn!("drain is over and the coordinator did not answer: the lease will expire"),
        }
    }

    /// Waits for something without end while working, but only for `grace` once draining.
    async fn while_draining<T>(&self, grace: Duration, what: impl Future<Output = T>) -> Option<T> {
        let end = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            done = what => Some(done),
            () = end => None,
        }
    }

    async fn pause(&mut self) {
        let pause = self.failures.wait(jitter());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests;
