//! Where a run stands, and the wish for one.

use bytes::Bytes;
use paceline_optimizer_core::outer::Variance;

use super::{Converted, MAX_TASKS, ProtocolError, at_most, from_nan, list, nested, run_id, theta_hash, to_nan};
use crate::model::{CreateRequest, FoldedStep, Ledger, RunSpec, RunState, RunStatus};
use crate::pb;

impl TryFrom<pb::RunState> for RunState {
    type Error = ProtocolError;

    fn try_from(state: pb::RunState) -> Converted<Self> {
        let mut reason = state.reason;
        let status = match pb::RunStatus::try_from(state.status).unwrap_or(pb::RunStatus::Unspecified) {
            pb::RunStatus::Unspecified => {
                let reason = format!("value {} is not known to this version of paceline", state.status);
                return Err(ProtocolError::invalid("status", reason));
            }
            pb::RunStatus::Running => RunStatus::Running,
            pb::RunStatus::Paused => RunStatus::Paused,
            pb::RunStatus::Completed => RunStatus::Completed,
            pb::RunStatus::Stopped => RunStatus::Stopped,
            // A failed run does not wait, so its only reason is why it failed.
            pb::RunStatus::Failed => RunStatus::Failed { reason: std::mem::take(&mut reason) },
        };
        let ledger = state.ledger.ok_or_else(|| ProtocolError::Missing { field: "ledger".into() })?;
        Ok(Self {
            run: run_id(&state.run, "run")?,
            spec: nested(state.spec, "spec")?,
            status,
            reason,
            outer_step: state.outer_step,
            meta_loss: from_nan(state.meta_loss),
            grad_norm: from_nan(state.grad_norm),
            variance: Variance {
                signal_to_noise: state.signal_to_noise,
                antithetic_correlation: state.antithetic_correlation,
            },
            inner_steps: state.inner_steps,
            diverged_lanes: state.diverged_lanes,
            theta_hash: theta_hash(&state.theta_hash, "theta_hash")?,
            durable_checkpoint: state.durable_checkpoint,
            workers: state.workers,
            ledger: ledger.into(),
            costs: list(state.costs, MAX_TASKS, "costs")?,
            entries: list(state.entries, MAX_TASKS, "entries")?,
        })
    }
}

impl From<RunState> for pb::RunState {
    fn from(state: RunState) -> Self {
        let (status, reason) = match state.status {
            RunStatus::Running => (pb::RunStatus::Running, state.reason),
            RunStatus::Paused => (pb::RunStatus::Paused, state.reason),
            RunStatus::Completed => (pb::RunStatus::Completed, state.reason),
            RunStatus::Stopped => (pb::RunStatus::Stopped, state.reason),
            RunStatus::Failed { reason } => (pb::RunStatus::Failed, reason),
        };
        Self {
            run: state.run.into(),
            spec: Some(state.spec.into()),
            status: status.into(),
            reason,
            outer_step: state.outer_step,
            meta_loss: to_nan(state.meta_loss),
            grad_norm: to_nan(state.grad_norm),
            inner_steps: state.inner_steps,
            diverged_lanes: state.diverged_lanes,
            theta_hash: Bytes::copy_from_slice(&state.theta_hash.0),
            durable_checkpoint: state.durable_checkpoint,
            workers: state.workers,
            ledger: Some(state.ledger.into()),
            signal_to_noise: state.variance.signal_to_noise,
            antithetic_correlation: state.variance.antithetic_correlation,
            costs: state.costs.into_iter().map(Into::into).collect(),
            entries: state.entries.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::FoldedStep> for FoldedStep {
    type Error = ProtocolError;

    fn try_from(step: pb::FoldedStep) -> Converted<Self> {
        at_most(step.entry_losses.len(), MAX_TASKS, "entry_losses")?;
        Ok(Self {
            outer_step: step.outer_step,
            folded_at_ms: step.folded_at_ms,
            meta_loss: step.meta_loss,
            grad_norm: step.grad_norm,
            variance: Variance {
                signal_to_noise: step.signal_to_noise,
                antithetic_correlation: step.antithetic_correlation,
            },
            update_norm: step.update_norm,
            inner_steps: step.inner_steps,
            diverged_lanes: step.diverged_lanes,
            entry_losses: step.entry_losses.into_iter().map(from_nan).collect(),
        })
    }
}

impl From<FoldedStep> for pb::FoldedStep {
    fn from(step: FoldedStep) -> Self {
        Self {
            outer_step: step.outer_step,
            folded_at_ms: step.folded_at_ms,
            meta_loss: step.meta_loss,
            grad_norm: step.grad_norm,
            signal_to_noise: step.variance.signal_to_noise,
            antithetic_correlation: step.variance.antithetic_correlation,
            update_norm: step.update_norm,
            inner_steps: step.inner_steps,
            diverged_lanes: step.diverged_lanes,
            entry_losses: step.entry_losses.into_iter().map(to_nan).collect(),
        }
    }
}

impl From<pb::Ledger> for Ledger {
    fn from(ledger: pb::Ledger) -> Self {
        let pb::Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = ledger;
        Self { issued, accepted, superseded, expired, released, rejected, outstanding }
    }
}

impl From<Ledger> for pb::Ledger {
    fn from(ledger: Ledger) -> Self {
        let Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = ledger;
        Self { issued, accepted, superseded, expired, released, rejected, outstanding }
    }
}

/// Longest request id; a UUID has 36 characters.
const MAX_REQUEST_ID: usize = 64;

impl TryFrom<pb::CreateRunRequest> for CreateRequest {
    type Error = ProtocolError;

    fn try_from(request: pb::CreateRunRequest) -> Converted<Self> {
        let id = &request.request_id;
        if id.is_empty() && !request.validate_only {
            return Err(ProtocolError::Missing { field: "request_id".into() });
        }
        if id.len() > MAX_REQUEST_ID || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let shown: String = id.chars().take(MAX_REQUEST_ID).collect();
            let reason =
                format!("is a UUID: at most {MAX_REQUEST_ID} characters of a-z, A-Z, 0-9 and '-', got {shown:?}");
            return Err(ProtocolError::invalid("request_id", reason));
        }
        let spec: RunSpec = nested(request.spec, "spec")?;
        let costs = list(request.costs, MAX_TASKS, "costs")?;
        if !costs.is_empty() && costs.len() != spec.tasks.len() {
            return Err(ProtocolError::Shape { field: "costs".into(), expected: spec.tasks.len(), got: costs.len() });
        }
        Ok(Self {
            spec,
            costs,
            request_id: request.request_id,
            validate_only: request.validate_only,
            resume_unfinished: request.resume_unfinished,
        })
    }
}

impl From<CreateRequest> for pb::CreateRunRequest {
    fn from(request: CreateRequest) -> Self {
        Self {
            spec: Some(request.spec.into()),
            costs: request.costs.into_iter().map(Into::into).collect(),
            request_id: request.request_id,
            validate_only: request.validate_only,
            resume_unfinished: request.resume_unfinished,
        }
    }
}
