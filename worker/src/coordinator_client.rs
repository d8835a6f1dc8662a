//! All that a worker needs of a coordinator, and nothing more: the seam at which tests put a scripted one.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use paceline_proto::client::{CallResult, WorkerClient};
use paceline_proto::model::{
    HeartbeatAnswer, Holdings, Lease, LeaseKey, Registered, Registration, RunId, Submission, SubmissionOutcome,
    TraceParent, WorkerId,
};

/// A coordinator, seen by a worker. Every call is safe to repeat; errors keep code, reason and details.
pub(crate) trait CoordinatorClient: Send + Sync + 'static {
    /// Introduces the worker.
    fn register(&self, registration: Registration) -> impl Future<Output = CallResult<Registered>> + Send;

    /// Waits for a lease, at most `wait`.
    fn lease(
        &self,
        worker: &WorkerId,
        wait: Duration,
        holdings: Vec<Holdings>,
    ) -> impl Future<Output = CallResult<Option<Lease>>> + Send;

    /// Renews leases; one directive comes back for each, in order.
    fn heartbeat(
        &self,
        worker: &WorkerId,
        leases: &[LeaseKey],
        epoch: u64,
        inner_steps: u64,
    ) -> impl Future<Output = CallResult<HeartbeatAnswer>> + Send;

    /// Reports a lease, as part of a trace if there is one.
    fn submit(
        &self,
        submission: &Submission,
        place: Option<TraceParent>,
    ) -> impl Future<Output = CallResult<SubmissionOutcome>> + Send;

    /// Hands leases back unfinished; answers how many.
    fn release(&self, worker: &WorkerId, leases: &[LeaseKey]) -> impl Future<Output = CallResult<u32>> + Send;

    /// One version of theta as little-endian f32.
    fn pull_theta(&self, run: &RunId, version: u64) -> impl Future<Output = CallResult<Bytes>> + Send;
}

impl CoordinatorClient for WorkerClient {
    async fn register(&self, registration: Registration) -> CallResult<Registered> {
        self.register(registration).await
    }

    async fn lease(&self, worker: &WorkerId, wait: Duration, holdings: Vec<Holdings>) -> CallResult<Option<Lease>> {
        self.lease(worker, wait, holdings).await
    }

    async fn heartbeat(
        &self,
        worker: &WorkerId,
        leases: &[LeaseKey],
        epoch: u64,
        inner_steps: u64,
    ) -> CallResult<HeartbeatAnswer> {
        self.heartbeat(worker, leases, epoch, inner_steps).await
    }

    async fn submit(&self, submission: &Submission, place: Option<TraceParent>) -> CallResult<SubmissionOutcome> {
        self.submit_within(submission, place).await
    }

    async fn release(&self, worker: &WorkerId, leases: &[LeaseKey]) -> CallResult<u32> {
        self.release(worker, leases).await
    }

    async fn pull_theta(&self, run: &RunId, version: u64) -> CallResult<Bytes> {
        self.pull_theta(run, version).await
    }
}
