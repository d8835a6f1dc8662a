//! The services' way to the coordinator.

use std::time::Duration;

use bytes::Bytes;
use paceline_proto::client::Created;
use paceline_proto::fault::Fault;
use paceline_proto::model::*;
use tokio::sync::watch;

/// The services' way to the coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle;

#[allow(missing_docs, clippy::missing_errors_doc, unused_variables)]
impl CoordinatorHandle {
    pub async fn register(&self, registration: Registration) -> Result<Registered, Fault> {
        unimplemented!()
    }
    pub async fn lease(
        &self,
        worker: WorkerId,
        wait: Duration,
        holdings: Vec<Holdings>,
    ) -> Result<Option<Lease>, Fault> {
        unimplemented!()
    }
    pub async fn heartbeat(
        &self,
        worker: WorkerId,
        leases: Vec<LeaseKey>,
        epoch: u64,
        inner_steps: u64,
    ) -> Result<HeartbeatAnswer, Fault> {
        unimplemented!()
    }
    pub async fn submit(&self, submission: Submission) -> Result<SubmissionOutcome, Fault> {
        unimplemented!()
    }
    pub async fn release(&self, worker: WorkerId, leases: Vec<LeaseKey>) -> Result<u32, Fault> {
        unimplemented!()
    }
    pub async fn theta(&self, run: RunId, version: u64) -> Result<Bytes, Fault> {
        unimplemented!()
    }
    pub async fn create(
        &self,
        spec: RunSpec,
        request_id: String,
        validate_only: bool,
        resume_unfinished: bool,
    ) -> Result<Created, Fault> {
        unimplemented!()
    }
    pub async fn get(&self, run: RunId) -> Result<RunState, Fault> {
        unimplemented!()
    }
    pub async fn list(&self) -> Result<Vec<RunState>, Fault> {
        unimplemented!()
    }
    pub async fn watch(&self, run: RunId) -> Result<watch::Receiver<RunState>, Fault> {
        unimplemented!()
    }
    pub async fn pause(&self, run: RunId) -> Result<RunState, Fault> {
        unimplemented!()
    }
    pub async fn resume(&self, run: RunId) -> Result<RunState, Fault> {
        unimplemented!()
    }
    pub async fn stop(&self, run: RunId) -> Result<RunState, Fault> {
        unimplemented!()
    }
    pub async fn checkpoints(&self, run: RunId) -> Result<Vec<CheckpointInfo>, Fault> {
        unimplemented!()
    }
    pub async fn checkpoint(&self, run: RunId, outer_step: Option<u64>) -> Result<(CheckpointInfo, Bytes), Fault> {
        unimplemented!()
    }
}
