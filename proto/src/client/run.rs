//! A person's calls about runs.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};

use super::{CHANGE_DEADLINE, CallResult, Link, PAGE, READ_DEADLINE, misunderstood, pages, plain, retried, timed};
use crate::convert::{Converted, nested};
use crate::model::{CreateRequest, Evaluation, EvaluationReport, FoldedStep, RunId, RunSpec, RunState, TaskCost};
use crate::pb;
use crate::pb::run_service_client::RunServiceClient;

/// Largest answer: a page of runs with their specs.
const LARGEST_ANSWER: usize = 64 << 20;

/// States of a run as they change.
pub type RunStates = Pin<Box<dyn Stream<Item = CallResult<RunState>> + Send>>;

/// A person's calls about runs.
#[derive(Clone, Debug)]
pub struct RunClient {
    service: RunServiceClient<Link>,
}

/// Answer to [`RunClient::create`].
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// Where the run stands.
    pub state: RunState,
    /// Whether an unfinished run was continued instead.
    pub resumed: bool,
}

impl TryFrom<pb::CreateRunResponse> for Created {
    type Error = crate::convert::ProtocolError;

    fn try_from(response: pb::CreateRunResponse) -> Converted<Self> {
        Ok(Self { state: nested(response.state, "state")?, resumed: response.resumed })
    }
}

impl From<Created> for pb::CreateRunResponse {
    fn from(created: Created) -> Self {
        Self { state: Some(created.state.into()), resumed: created.resumed }
    }
}

/// The state every answer about one run holds.
fn state(state: Option<pb::RunState>) -> CallResult<RunState> {
    nested(state, "state").map_err(misunderstood)
}

impl RunClient {
    /// Over this link, or a channel.
    pub fn new(link: impl Into<Link>) -> Self {
        Self { service: RunServiceClient::new(link.into()).max_decoding_message_size(LARGEST_ANSWER) }
    }

    /// Creates a run; `request_id` makes it safe to repeat. `costs` are those of each entry of the mixture, if they are
    /// known, else none.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT FIELD_INVALID` naming each field.
    pub async fn create(
        &self,
        spec: &RunSpec,
        costs: &[TaskCost],
        request_id: &str,
        resume_unfinished: bool,
    ) -> CallResult<Created> {
        let (spec, costs, request_id) = (spec.clone(), costs.to_vec(), request_id.to_owned());
        let request = CreateRequest { spec, costs, request_id, validate_only: false, resume_unfinished };
        let request = pb::CreateRunRequest::from(request);
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(request.clone(), CHANGE_DEADLINE);
            async move { plain(service.create_run(request).await) }
        });
        response.await?.try_into().map_err(misunderstood)
    }

    /// Where a run stands.
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn get(&self, run: &RunId) -> CallResult<RunState> {
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(pb::GetRunRequest { run: run.to_string() }, READ_DEADLINE);
            async move { plain(service.get_run(request).await) }
        });
        state(response.await?.state)
    }

    /// All runs, newest first (follows pages).
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn list(&self) -> CallResult<Vec<RunState>> {
        pages(|page_token| {
            let mut service = self.service.clone();
            let request = timed(pb::ListRunsRequest { page_size: PAGE, page_token }, READ_DEADLINE);
            async move { plain(service.list_runs(request).await).map(|page| (page.runs, page.next_page_token)) }
        })
        .await
    }

    /// All folded steps of a run that are kept, oldest first (follows pages).
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn steps(&self, run: &RunId) -> CallResult<Vec<FoldedStep>> {
        pages(|page_token| {
            let mut service = self.service.clone();
            let request =
                timed(pb::ListStepsRequest { run: run.to_string(), page_size: PAGE, page_token }, READ_DEADLINE);
            async move { plain(service.list_steps(request).await).map(|page| (page.steps, page.next_page_token)) }
        })
        .await
    }

    /// Keeps an evaluation of a checkpoint in place of an earlier one of it.
    ///
    /// # Errors
    /// `NOT_FOUND` for run or checkpoint, `INVALID_ARGUMENT FIELD_INVALID` if it does not fit them.
    pub async fn record_evaluation(&self, run: &RunId, evaluation: &Evaluation) -> CallResult<()> {
        let report = EvaluationReport { run: run.clone(), evaluation: evaluation.clone() };
        let request = pb::RecordEvaluationRequest::from(report);
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(request.clone(), CHANGE_DEADLINE);
            async move { plain(service.record_evaluation(request).await) }
        });
        let pb::RecordEvaluationResponse {} = response.await?;
        Ok(())
    }

    /// All evaluations of a run that are kept, newest checkpoint first (follows pages).
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn evaluations(&self, run: &RunId) -> CallResult<Vec<Evaluation>> {
        pages(|page_token| {
            let mut service = self.service.clone();
            let request = pb::ListEvaluationsRequest { run: run.to_string(), page_size: 0, page_token };
            let request = timed(request, READ_DEADLINE);
            async move {
                plain(service.list_evaluations(request).await).map(|page| (page.evaluations, page.next_page_token))
            }
        })
        .await
    }

    /// States as they change, until the run ends. The stream yields model values.
    ///
    /// # Errors
    /// `NOT_FOUND RUN_NOT_FOUND`.
    pub async fn watch(&self, run: &RunId) -> CallResult<RunStates> {
        let stream = retried(|| {
            let mut service = self.service.clone();
            let request = pb::WatchRunRequest { run: run.to_string() };
            async move { plain(service.watch_run(request).await) }
        });
        Ok(Box::pin(stream.await?.map(|item| state(item?.state))))
    }

    /// Pauses.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION RUN_FINISHED`.
    pub async fn pause(&self, run: &RunId) -> CallResult<RunState> {
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(pb::PauseRunRequest { run: run.to_string() }, CHANGE_DEADLINE);
            async move { plain(service.pause_run(request).await) }
        });
        state(response.await?.state)
    }

    /// Resumes.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION RUN_FINISHED`.
    pub async fn resume(&self, run: &RunId) -> CallResult<RunState> {
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(pb::ResumeRunRequest { run: run.to_string() }, CHANGE_DEADLINE);
            async move { plain(service.resume_run(request).await) }
        });
        state(response.await?.state)
    }

    /// Stops.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn stop(&self, run: &RunId) -> CallResult<RunState> {
        let response = retried(|| {
            let mut service = self.service.clone();
            let request = timed(pb::StopRunRequest { run: run.to_string() }, CHANGE_DEADLINE);
            async move { plain(service.stop_run(request).await) }
        });
        state(response.await?.state)
    }
}
