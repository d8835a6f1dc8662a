//! A person's calls about checkpoints.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tonic::Status;

use super::pull::pull;
use super::{CallResult, Link, PAGE, READ_DEADLINE, misunderstood, pages, plain, retried, timed};
use crate::chunk::sha256;
use crate::convert::nested;
use crate::model::{CheckpointInfo, RunId};
use crate::pb;
use crate::pb::checkpoint_service_client::CheckpointServiceClient;

/// A person's calls about checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointClient {
    service: CheckpointServiceClient<Link>,
}

impl CheckpointClient {
    /// Over this link, or a channel.
    pub fn new(link: impl Into<Link>) -> Self {
        Self { service: CheckpointServiceClient::new(link.into()) }
    }

    /// Checkpoints of a run, newest first (follows pages).
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn list(&self, run: &RunId) -> CallResult<Vec<CheckpointInfo>> {
        pages(|page_token| {
            let mut service = self.service.clone();
            let request =
                timed(pb::ListCheckpointsRequest { run: run.to_string(), page_size: PAGE, page_token }, READ_DEADLINE);
            async move {
                plain(service.list_checkpoints(request).await).map(|page| (page.checkpoints, page.next_page_token))
            }
        })
        .await
    }

    /// One checkpoint, the newest if `outer_step` is `None`.
    ///
    /// # Errors
    /// `NOT_FOUND CHECKPOINT_NOT_FOUND`.
    pub async fn get(&self, run: &RunId, outer_step: Option<u64>) -> CallResult<CheckpointInfo> {
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(pb::GetCheckpointRequest { run: run.to_string(), outer_step }, READ_DEADLINE);
            async move { plain(service.get_checkpoint(request).await) }
        });
        nested(response.await?.checkpoint, "checkpoint").map_err(misunderstood)
    }

    /// The file, checked piece by piece and as a whole; resumes by offset when the stream breaks. The newest is chosen
    /// once, before the first piece, so that a checkpoint written meanwhile cannot mix in.
    ///
    /// # Errors
    /// `NOT_FOUND`, `DATA_LOSS CHECKPOINT_CORRUPT`.
    pub async fn pull(&self, run: &RunId, outer_step: Option<u64>) -> CallResult<Bytes> {
        let info = self.get(run, outer_step).await?;
        let file = pull(|offset| {
            let mut service = self.service.clone();
            let outer_step = Some(info.outer_step);
            let request = pb::PullCheckpointRequest { run: run.to_string(), outer_step, offset };
            async move { plain(service.pull_checkpoint(request).await) }
        })
        .await?;
        if sha256(&file) != info.sha256 {
            let step = info.outer_step;
            return Err(Status::data_loss(format!("checkpoint {step} of run {run} is not the file that was recorded")));
        }
        Ok(file)
    }

    /// Where a pull to a file keeps its part until it is whole: beside it, so that a rename finishes it.
    pub fn part_path(file: &Path) -> PathBuf {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        file.with_file_name(name)
    }
}
