//! What workers call.

use std::time::Duration;

use paceline_proto::fault::Fault;
use paceline_proto::model::{HeartbeatReport, LeaseRequest, Registration, ReleaseRequest, Submission};
use paceline_proto::pb;
use paceline_proto::pb::worker_service_server::WorkerService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Answer, Messages, accept, answer, named_run, pieces, refuse};
use crate::gate::{Caller, about};
use crate::handle::CoordinatorHandle;

/// Longest a call waits for work; proxies cut idle calls after 30 s or more.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// What workers call.
pub(crate) struct Workers {
    handle: CoordinatorHandle,
    /// Ends long polls when the server stops.
    shutdown: CancellationToken,
}

impl Workers {
    pub(crate) fn new(handle: CoordinatorHandle, shutdown: CancellationToken) -> Self {
        Self { handle, shutdown }
    }
}

/// Who calls. Every call that names a worker checks that it is the caller's: a lease is its holder's alone.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    Caller::of(request).map_err(refuse)
}

#[tonic::async_trait]
impl WorkerService for Workers {
    type PullThetaStream = Messages<pb::Chunk>;

    async fn register_worker(&self, request: Request<pb::RegisterWorkerRequest>) -> Answer<pb::RegisterWorkerResponse> {
        about(&request, &request.get_ref().worker);
        let caller = caller(&request)?;
        let registration: Registration = accept(request)?;
        caller.owns(&registration.worker).map_err(refuse)?;
        answer(self.handle.register(registration).await)
    }

    async fn lease_work(&self, request: Request<pb::LeaseWorkRequest>) -> Answer<pb::LeaseWorkResponse> {
        let caller = caller(&request)?;
        let LeaseRequest { worker, wait, holdings } = accept(request)?;
        caller.owns(&worker).map_err(refuse)?;
        let lease = tokio::select! {
            lease = self.handle.lease(worker, wait.min(LONGEST_WAIT), holdings) => lease,
            () = self.shutdown.cancelled() => Err(Fault::ShuttingDown),
        };
        let lease = lease.map_err(refuse)?.map(Into::into);
        Ok(Response::new(pb::LeaseWorkResponse { lease }))
    }

    async fn heartbeat(&self, request: Request<pb::HeartbeatRequest>) -> Answer<pb::HeartbeatResponse> {
        let caller = caller(&request)?;
        let HeartbeatReport { worker, leases, epoch, inner_steps } = accept(request)?;
        caller.owns(&worker).map_err(refuse)?;
        answer(self.handle.heartbeat(worker, leases, epoch, inner_steps).await)
    }

    async fn submit_result(&self, request: Request<pb::SubmitResultRequest>) -> Answer<pb::SubmitResultResponse> {
        let caller = caller(&request)?;
        let submission: Submission = accept(request)?;
        caller.owns(&submission.worker).map_err(refuse)?;
        answer(self.handle.submit(submission).await)
    }

    async fn release_leases(&self, request: Request<pb::ReleaseLeasesRequest>) -> Answer<pb::ReleaseLeasesResponse> {
        let caller = caller(&request)?;
        let ReleaseRequest { worker, leases } = accept(request)?;
        caller.owns(&worker).map_err(refuse)?;
        let released = self.handle.release(worker, leases).await.map_err(refuse)?;
        Ok(Response::new(pb::ReleaseLeasesResponse { released }))
    }

    async fn pull_theta(
        &self,
        request: Request<pb::PullThetaRequest>,
    ) -> Result<Response<Self::PullThetaStream>, Status> {
        let pb::PullThetaRequest { run, version, offset } = request.into_inner();
        let theta = self.handle.theta(named_run(&run)?, version).await.map_err(refuse)?;
        pieces(theta, None, offset).await
    }
}
