//! What people do with runs.

use paceline_proto::client::Created;
use paceline_proto::fault::{Fault, FieldFault};
use paceline_proto::model::RunState;
use paceline_proto::pb;
use paceline_proto::pb::run_service_server::RunService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::watching::Watching;
use super::{Answer, Messages, accept, answer, named_run, page, refuse};
use crate::gate::about;
use crate::handle::CoordinatorHandle;

/// What people do with runs.
pub(crate) struct Runs {
    handle: CoordinatorHandle,
    /// Ends watches when the server stops.
    shutdown: CancellationToken,
}

impl Runs {
    pub(crate) fn new(handle: CoordinatorHandle, shutdown: CancellationToken) -> Self {
        Self { handle, shutdown }
    }
}

/// A refused spec is the field `spec` of the request, so every fault in it is named from there.
fn within_request(fault: Fault) -> Fault {
    let named = |fault: FieldFault| FieldFault { field: format!("spec.{}", fault.field), ..fault };
    match fault {
        Fault::FieldsInvalid(faults) => Fault::FieldsInvalid(faults.into_iter().map(named).collect()),
        other => other,
    }
}

/// The state every answer about one run holds.
fn state(outcome: Result<RunState, Fault>) -> Result<Option<pb::RunState>, Status> {
    outcome.map(|state| Some(state.into())).map_err(refuse)
}

#[tonic::async_trait]
impl RunService for Runs {
    type WatchRunStream = Messages<pb::WatchRunResponse>;

    async fn create_run(&self, request: Request<pb::CreateRunRequest>) -> Answer<pb::CreateRunResponse> {
        about(&request, request.get_ref().spec.as_ref().map_or("", |spec| &spec.name));
        let created = self.handle.create(accept(request)?).await;
        answer::<Created, _>(created.map_err(within_request))
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Answer<pb::GetRunResponse> {
        let run = named_run(&request.into_inner().run)?;
        Ok(Response::new(pb::GetRunResponse { state: state(self.handle.get(run).await)? }))
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> Answer<pb::ListRunsResponse> {
        let pb::ListRunsRequest { page_size, page_token } = request.into_inner();
        let after = page::position("runs", &page_token).map_err(refuse)?;
        let runs = self.handle.list().await.map_err(refuse)?;
        let rest = match after {
            None => runs,
            // Runs are never forgotten, and newer ones stand before the mark.
            Some(mark) => runs.into_iter().skip_while(|run| run.run.as_str() != mark).skip(1).collect(),
        };
        let (runs, next_page_token) = page::first(rest, "runs", page_size, |run| run.run.to_string());
        Ok(Response::new(pb::ListRunsResponse { runs: runs.into_iter().map(Into::into).collect(), next_page_token }))
    }

    async fn watch_run(&self, request: Request<pb::WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        let run = named_run(&request.into_inner().run)?;
        let states = self.handle.watch(run).await.map_err(refuse)?;
        Ok(Response::new(Box::pin(Watching::new(states, self.shutdown.clone()))))
    }

    async fn list_steps(&self, request: Request<pb::ListStepsRequest>) -> Answer<pb::ListStepsResponse> {
        let pb::ListStepsRequest { run, page_size, page_token } = request.into_inner();
        let run = named_run(&run)?;
        let list = format!("steps of {run}");
        // Marks are ours, so one that is no number cannot come from an honest token.
        let after =
            page::position(&list, &page_token).map_err(refuse)?.and_then(|mark| mark.parse().ok()).unwrap_or(0_u64);
        let size = page::size(page_size);
        let last = after.saturating_add(size as u64);
        let folded = self.handle.get(run.clone()).await.map_err(refuse)?.outer_step;
        let steps = self.handle.steps(run, after.saturating_add(1)..=last, size).await.map_err(refuse)?;
        let next_page_token = if last < folded { page::token_for(&list, &last.to_string()) } else { String::new() };
        Ok(Response::new(pb::ListStepsResponse { steps: steps.into_iter().map(Into::into).collect(), next_page_token }))
    }

    async fn record_evaluation(
        &self,
        request: Request<pb::RecordEvaluationRequest>,
    ) -> Answer<pb::RecordEvaluationResponse> {
        about(&request, &request.get_ref().run);
        let recorded = self.handle.record_evaluation(accept(request)?).await;
        recorded.map(|()| Response::new(pb::RecordEvaluationResponse {})).map_err(refuse)
    }

    async fn list_evaluations(
        &self,
        request: Request<pb::ListEvaluationsRequest>,
    ) -> Answer<pb::ListEvaluationsResponse> {
        let pb::ListEvaluationsRequest { run, page_size, page_token } = request.into_inner();
        let run = named_run(&run)?;
        let list = format!("evaluations of {run}");
        let after = page::position(&list, &page_token).map_err(refuse)?.and_then(|mark| mark.parse().ok());
        let mut rest = self.handle.evaluations(run).await.map_err(refuse)?;
        // Newer ones stand before the mark, and were seen.
        rest.retain(|evaluation| after.is_none_or(|mark: u64| evaluation.outer_step < mark));
        let (page, next_page_token) = page::first(rest, &list, page_size, |one| one.outer_step.to_string());
        let evaluations = page.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListEvaluationsResponse { evaluations, next_page_token }))
    }

    async fn pause_run(&self, request: Request<pb::PauseRunRequest>) -> Answer<pb::PauseRunResponse> {
        about(&request, &request.get_ref().run);
        let run = named_run(&request.into_inner().run)?;
        Ok(Response::new(pb::PauseRunResponse { state: state(self.handle.pause(run).await)? }))
    }

    async fn resume_run(&self, request: Request<pb::ResumeRunRequest>) -> Answer<pb::ResumeRunResponse> {
        about(&request, &request.get_ref().run);
        let run = named_run(&request.into_inner().run)?;
        Ok(Response::new(pb::ResumeRunResponse { state: state(self.handle.resume(run).await)? }))
    }

    async fn stop_run(&self, request: Request<pb::StopRunRequest>) -> Answer<pb::StopRunResponse> {
        about(&request, &request.get_ref().run);
        let run = named_run(&request.into_inner().run)?;
        Ok(Response::new(pb::StopRunResponse { state: state(self.handle.stop(run).await)? }))
    }
}
