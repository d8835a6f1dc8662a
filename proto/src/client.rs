//! Typed clients: model in, model out.
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

use crate::model::{
    CheckpointInfo, HeartbeatAnswer, Holdings, Lease, LeaseKey, Registered, Registration, RunId, RunSpec, RunState,
    Submission, SubmissionOutcome, WorkerId,
};

/// Result of a call: a [`tonic::Status`] keeps its code, reason and details.
pub type CallResult<T> = Result<T, tonic::Status>;

/// An endpoint with Paceline's deadlines and keep-alive. Does not connect yet.
///
/// # Errors
/// If `address` is no `http://host:port`.
pub fn endpoint(_address: &str) -> Result<Endpoint, tonic::transport::Error> {
    unimplemented!()
}

/// A worker's calls.
#[derive(Clone, Debug)]
pub struct WorkerClient {
    channel: Channel,
}
/// A person's calls about runs.
#[derive(Clone, Debug)]
pub struct RunClient {
    channel: Channel,
}
/// A person's calls about checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointClient {
    channel: Channel,
}

impl WorkerClient {
    /// Over this channel (see [`endpoint`]).
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }
    /// Introduces the worker.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION VERSION_UNSUPPORTED`, `UNAVAILABLE`.
    pub async fn register(&self, _registration: Registration) -> CallResult<Registered> {
        unimplemented!("{:?}", self.channel)
    }
    /// Long poll; `None` after at most `wait`.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `NOT_FOUND WORKER_NOT_FOUND`.
    pub async fn lease(
        &self,
        _worker: &WorkerId,
        _wait: Duration,
        _holdings: Vec<Holdings>,
    ) -> CallResult<Option<Lease>> {
        unimplemented!()
    }
    /// Renews leases.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn heartbeat(
        &self,
        _worker: &WorkerId,
        _leases: &[LeaseKey],
        _epoch: u64,
        _inner_steps: u64,
    ) -> CallResult<HeartbeatAnswer> {
        unimplemented!()
    }
    /// Reports a lease.
    ///
    /// # Errors
    /// See `docs/errors.md`.
    pub async fn submit(&self, _submission: &Submission) -> CallResult<SubmissionOutcome> {
        unimplemented!()
    }
    /// Hands leases back.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn release(&self, _worker: &WorkerId, _leases: &[LeaseKey]) -> CallResult<u32> {
        unimplemented!()
    }
    /// One version of theta, checked against its SHA-256; resumes by offset when the stream breaks.
    ///
    /// # Errors
    /// `NOT_FOUND THETA_NOT_FOUND`, `DATA_LOSS`.
    pub async fn pull_theta(&self, _run: &RunId, _version: u64) -> CallResult<Bytes> {
        unimplemented!()
    }
}

/// Answer to [`RunClient::create`].
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// Where the run stands.
    pub state: RunState,
    /// Whether an unfinished run was continued instead.
    pub resumed: bool,
}

impl RunClient {
    /// Over this channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }
    /// Creates a run; `request_id` makes it safe to repeat.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT FIELD_INVALID` naming each field.
    pub async fn create(&self, _spec: &RunSpec, _request_id: &str, _resume_unfinished: bool) -> CallResult<Created> {
        unimplemented!("{:?}", self.channel)
    }
    /// Where a run stands.
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn get(&self, _run: &RunId) -> CallResult<RunState> {
        unimplemented!()
    }
    /// All runs, newest first (follows pages).
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn list(&self) -> CallResult<Vec<RunState>> {
        unimplemented!()
    }
    /// States as they change, until the run ends. The stream yields model values.
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn watch(
        &self,
        _run: &RunId,
    ) -> CallResult<std::pin::Pin<Box<dyn tokio_stream::Stream<Item = CallResult<RunState>> + Send>>> {
        unimplemented!()
    }
    /// Pauses.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION RUN_FINISHED`.
    pub async fn pause(&self, _run: &RunId) -> CallResult<RunState> {
        unimplemented!()
    }
    /// Resumes.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION RUN_FINISHED`.
    pub async fn resume(&self, _run: &RunId) -> CallResult<RunState> {
        unimplemented!()
    }
    /// Stops.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn stop(&self, _run: &RunId) -> CallResult<RunState> {
        unimplemented!()
    }
}

impl CheckpointClient {
    /// Over this channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }
    /// Checkpoints of a run, newest first (follows pages).
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn list(&self, _run: &RunId) -> CallResult<Vec<CheckpointInfo>> {
        unimplemented!("{:?}", self.channel)
    }
    /// One checkpoint, the newest if `outer_step` is `None`.
    ///
    /// # Errors
    /// `NOT_FOUND CHECKPOINT_NOT_FOUND`.
    pub async fn get(&self, _run: &RunId, _outer_step: Option<u64>) -> CallResult<CheckpointInfo> {
        unimplemented!()
    }
    /// The file, checked piece by piece and as a whole; resumes by offset when the stream breaks.
    ///
    /// # Errors
    /// `NOT_FOUND`, `DATA_LOSS CHECKPOINT_CORRUPT`.
    pub async fn pull(&self, _run: &RunId, _outer_step: Option<u64>) -> CallResult<Bytes> {
        unimplemented!()
    }
    /// Where a pull to a file keeps its part until it is whole.
    pub fn part_path(file: &Path) -> std::path::PathBuf {
        file.with_extension("part")
    }
}
