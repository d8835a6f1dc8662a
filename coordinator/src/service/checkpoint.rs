//! Trained optimizers.

use paceline_proto::fault::Fault;
use paceline_proto::model::{CheckpointInfo, RunId};
use paceline_proto::pb;
use paceline_proto::pb::checkpoint_service_server::CheckpointService;
use tonic::{Request, Response, Status};

use super::{Answer, Messages, named_run, page, pieces, refuse};
use crate::handle::CoordinatorHandle;

/// Trained optimizers.
pub(crate) struct Checkpoints {
    handle: CoordinatorHandle,
}

impl Checkpoints {
    pub(crate) fn new(handle: CoordinatorHandle) -> Self {
        Self { handle }
    }

    /// What is known of a checkpoint, the newest if no step is named, without reading its bytes.
    async fn info(&self, run: RunId, outer_step: Option<u64>) -> Result<CheckpointInfo, Fault> {
        let checkpoints = self.handle.checkpoints(run.clone()).await?;
        let wanted = |info: &CheckpointInfo| outer_step.is_none_or(|step| info.outer_step == step);
        checkpoints.into_iter().find(wanted).ok_or(Fault::CheckpointNotFound { run, outer_step })
    }
}

#[tonic::async_trait]
impl CheckpointService for Checkpoints {
    type PullCheckpointStream = Messages<pb::Chunk>;

    async fn list_checkpoints(
        &self,
        request: Request<pb::ListCheckpointsRequest>,
    ) -> Answer<pb::ListCheckpointsResponse> {
        let pb::ListCheckpointsRequest { run, page_size, page_token } = request.into_inner();
        let run = named_run(&run)?;
        let list = format!("checkpoints/{run}");
        let after = page::position(&list, &page_token).map_err(refuse)?;
        // A checkpoint may be pruned between two pages, so the mark is a place in the order, not an entry.
        let bound = after.and_then(|mark| mark.parse().ok()).unwrap_or(u64::MAX);
        let checkpoints = self.handle.checkpoints(run).await.map_err(refuse)?;
        let rest = match page_token.is_empty() {
            true => checkpoints,
            false => checkpoints.into_iter().filter(|info| info.outer_step < bound).collect(),
        };
        let (checkpoints, next_page_token) = page::first(rest, &list, page_size, |info| info.outer_step.to_string());
        let checkpoints = checkpoints.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListCheckpointsResponse { checkpoints, next_page_token }))
    }

    async fn get_checkpoint(&self, request: Request<pb::GetCheckpointRequest>) -> Answer<pb::GetCheckpointResponse> {
        let pb::GetCheckpointRequest { run, outer_step } = request.into_inner();
        let info = self.info(named_run(&run)?, outer_step).await.map_err(refuse)?;
        Ok(Response::new(pb::GetCheckpointResponse { checkpoint: Some(info.into()) }))
    }

    async fn pull_checkpoint(
        &self,
        request: Request<pb::PullCheckpointRequest>,
    ) -> Result<Response<Self::PullCheckpointStream>, Status> {
        let pb::PullCheckpointRequest { run, outer_step, offset } = request.into_inner();
        let (info, file) = self.handle.checkpoint(named_run(&run)?, outer_step).await.map_err(refuse)?;
        // The hash recorded when the checkpoint was written, so that the client checks the whole way.
        pieces(file, Some(info.sha256), offset).await
    }
}
