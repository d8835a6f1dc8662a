//! What the entries of a mixture cost and how far they have come.

use super::{Converted, ProtocolError, optional};
use crate::model::{EntryProgress, SpanLoss, TaskCost};
use crate::pb;

impl TryFrom<pb::TaskCost> for TaskCost {
    type Error = ProtocolError;

    fn try_from(cost: pb::TaskCost) -> Converted<Self> {
        let pb::TaskCost { flop, bytes, seconds } = cost;
        for (field, value) in [("flop", flop), ("bytes", bytes), ("seconds", seconds.unwrap_or(0.0))] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ProtocolError::invalid(field, format!("is a finite number, at least 0, got {value}")));
            }
        }
        Ok(Self { flop, bytes, seconds })
    }
}

impl From<TaskCost> for pb::TaskCost {
    fn from(cost: TaskCost) -> Self {
        let TaskCost { flop, bytes, seconds } = cost;
        Self { flop, bytes, seconds }
    }
}

impl TryFrom<pb::EntryProgress> for EntryProgress {
    type Error = ProtocolError;

    fn try_from(entry: pb::EntryProgress) -> Converted<Self> {
        Ok(Self {
            contributions: entry.contributions,
            inner_steps: entry.inner_steps,
            diverged_lanes: entry.diverged_lanes,
            first: optional(entry.first, "first")?,
            latest: optional(entry.latest, "latest")?,
        })
    }
}

impl From<EntryProgress> for pb::EntryProgress {
    fn from(entry: EntryProgress) -> Self {
        let EntryProgress { contributions, inner_steps, diverged_lanes, first, latest } = entry;
        Self {
            contributions,
            inner_steps,
            diverged_lanes,
            first: first.map(Into::into),
            latest: latest.map(Into::into),
        }
    }
}

impl TryFrom<pb::SpanLoss> for SpanLoss {
    type Error = ProtocolError;

    fn try_from(span: pb::SpanLoss) -> Converted<Self> {
        let pb::SpanLoss { from, to, contributions, meta_loss } = span;
        Ok(Self { from, to, contributions, meta_loss })
    }
}

impl From<SpanLoss> for pb::SpanLoss {
    fn from(span: SpanLoss) -> Self {
        let SpanLoss { from, to, contributions, meta_loss } = span;
        Self { from, to, contributions, meta_loss }
    }
}
