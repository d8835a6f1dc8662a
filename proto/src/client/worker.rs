//! A worker's calls. None is repeated here: a worker decides what a lost coordinator means for the work in its hands.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use super::pull::pull;
use super::{CallResult, Link, answer, plain, timed};
use crate::convert::MAX_VECTOR_BYTES;
use crate::model::{
    HeartbeatAnswer, HeartbeatReport, Holdings, Lease, LeaseKey, LeaseRequest, Registered, Registration,
    ReleaseRequest, ResultBody, RunId, Submission, SubmissionOutcome, TraceParent, WorkerId,
};
use crate::pb;
use crate::pb::worker_service_client::WorkerServiceClient;

const REGISTER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest long poll asked for; a coordinator holds no call longer.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Granted for the answer itself, beyond the wait of a long poll.
const ANSWER_GRACE: Duration = Duration::from_secs(10);
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(5);
const SUBMIT_DEADLINE: Duration = Duration::from_secs(30);
/// Added to the deadline of a dense result for every MiB.
const SUBMIT_PER_MIB: Duration = Duration::from_secs(1);
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Largest answer: a lease with theta, and 1 MiB for all else.
const LARGEST_ANSWER: usize = MAX_VECTOR_BYTES + (1 << 20);

/// A worker's calls.
#[derive(Clone, Debug)]
pub struct WorkerClient {
    service: WorkerServiceClient<Link>,
}

impl WorkerClient {
    /// Over this link (see [`super::Access`]), or a channel.
    pub fn new(link: impl Into<Link>) -> Self {
        Self { service: WorkerServiceClient::new(link.into()).max_decoding_message_size(LARGEST_ANSWER) }
    }

    /// Introduces the worker.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION VERSION_UNSUPPORTED`, `UNAVAILABLE`.
    pub async fn register(&self, registration: Registration) -> CallResult<Registered> {
        let request = timed(registration.into(), REGISTER_DEADLINE);
        answer(self.service.clone().register_worker(request).await)
    }

    /// Long poll; `None` after at most `wait` (20 s at most).
    ///
    /// # Errors
    /// `UNAVAILABLE`, `NOT_FOUND WORKER_NOT_FOUND`.
    pub async fn lease(&self, worker: &WorkerId, wait: Duration, holdings: Vec<Holdings>) -> CallResult<Option<Lease>> {
        let wait = wait.min(LONGEST_WAIT);
        let request = LeaseRequest { worker: worker.clone(), wait, holdings };
        let request = timed(request.into(), wait + ANSWER_GRACE);
        match plain(self.service.clone().lease_work(request).await) {
            Ok(response) => crate::convert::optional(response.lease, "lease").map_err(super::misunderstood),
            Err(status) if status.code() == Code::DeadlineExceeded => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Renews leases.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn heartbeat(
        &self,
        worker: &WorkerId,
        leases: &[LeaseKey],
        epoch: u64,
        inner_steps: u64,
    ) -> CallResult<HeartbeatAnswer> {
        let report = HeartbeatReport { worker: worker.clone(), leases: leases.to_vec(), epoch, inner_steps };
        let request = timed(report.into(), HEARTBEAT_DEADLINE);
        let heard: HeartbeatAnswer = answer(self.service.clone().heartbeat(request).await)?;
        if heard.directives.len() != leases.len() {
            let reason = format!("holds one for each of {} leases, got {}", leases.len(), heard.directives.len());
            return Err(super::misunderstood(crate::convert::ProtocolError::invalid("directives", reason)));
        }
        Ok(heard)
    }

    /// Reports a lease.
    ///
    /// # Errors
    /// See `docs/errors.md`.
    pub async fn submit(&self, submission: &Submission) -> CallResult<SubmissionOutcome> {
        self.submit_within(submission, None).await
    }

    /// [`WorkerClient::submit`] as part of a trace.
    ///
    /// # Errors
    /// See `docs/errors.md`.
    pub async fn submit_within(
        &self,
        submission: &Submission,
        place: Option<TraceParent>,
    ) -> CallResult<SubmissionOutcome> {
        let mebibytes = match &submission.body {
            ResultBody::Dense { gradient, .. } => (gradient.len() * 4).div_ceil(1 << 20),
            ResultBody::SeedCoded(_) | ResultBody::Failure { .. } => 0,
        };
        let deadline = SUBMIT_DEADLINE + SUBMIT_PER_MIB * u32::try_from(mebibytes).unwrap_or(u32::MAX);
        let mut request = timed(submission.clone().into(), deadline);
        if let Some(value) = place.and_then(|place| place.to_string().parse().ok()) {
            request.metadata_mut().insert("traceparent", value);
        }
        answer(self.service.clone().submit_result(request).await)
    }

    /// Hands leases back.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn release(&self, worker: &WorkerId, leases: &[LeaseKey]) -> CallResult<u32> {
        let request = ReleaseRequest { worker: worker.clone(), leases: leases.to_vec() };
        let request = timed(request.into(), RELEASE_DEADLINE);
        plain(self.service.clone().release_leases(request).await).map(|response| response.released)
    }

    /// One version of theta, checked against its SHA-256; resumes by offset when the stream breaks.
    ///
    /// # Errors
    /// `NOT_FOUND THETA_NOT_FOUND`, `DATA_LOSS`.
    pub async fn pull_theta(&self, run: &RunId, version: u64) -> CallResult<Bytes> {
        pull(|offset| {
            let mut service = self.service.clone();
            let request = pb::PullThetaRequest { run: run.to_string(), version, offset };
            async move { plain(service.pull_theta(request).await) }
        })
        .await
    }
}
