//! Where a run stands.

use bytes::Bytes;

use super::{Converted, ProtocolError, from_nan, nested, run_id, theta_hash, to_nan};
use crate::model::{Ledger, RunState, RunStatus};
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
            inner_steps: state.inner_steps,
            diverged_lanes: state.diverged_lanes,
            theta_hash: theta_hash(&state.theta_hash, "theta_hash")?,
            durable_checkpoint: state.durable_checkpoint,
            workers: state.workers,
            ledger: ledger.into(),
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
