//! What happened, for whoever counts: said by the machine as it decides, counted by its surroundings.
//!
//! A fact is no promise: it may be told before what it tells of is durable, and a restart tells nothing again.

use std::time::Duration;

use paceline_proto::model::{RunId, Token};

/// Kinds of devices, few however large a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceClass {
    /// A processor.
    Cpu,
    /// A CUDA device, whichever its number.
    Cuda,
    /// What this version does not know.
    Other,
}

impl DeviceClass {
    /// The class of a device as a worker names it, for example `cuda:1`.
    pub fn of(device: &str) -> Self {
        match device.split(':').next() {
            Some("cpu") => Self::Cpu,
            Some("cuda") => Self::Cuda,
            _ => Self::Other,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Other => "other",
        }
    }
}

/// Why a slot was leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    /// It was open and never leased.
    First,
    /// A lease of it was lost or refused.
    Retry,
    /// Its lease takes unusually long.
    Hedge,
}

impl AttemptKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
        }
    }
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its result fills the slot.
    Accepted,
    /// Another lease filled the slot.
    Superseded,
    /// Its deadline passed.
    Expired,
    /// Its worker handed it back.
    Released,
    /// Its result was refused.
    Rejected,
    /// Its worker could not compute it.
    Failed,
}

impl Outcome {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// Something to be counted or timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A worker that was not known registered.
    WorkerJoined(DeviceClass),
    /// A worker was silent for too long and is forgotten.
    WorkerLost(DeviceClass),
    /// A known worker's heartbeat came this much later than it was asked for.
    HeartbeatLate(Duration),
    /// A lease was given.
    LeaseIssued {
        /// The run.
        run: RunId,
        /// Why.
        kind: AttemptKind,
        /// Time its worker waited for it.
        waited: Duration,
        /// Slots of the step that nobody works on now.
        open: usize,
    },
    /// A lease ended.
    LeaseEnded {
        /// The run.
        run: RunId,
        /// Which.
        token: Token,
        /// How.
        outcome: Outcome,
    },
    /// A result filled its slot.
    SlotFilled {
        /// Family of the slot's first place.
        family: String,
        /// What computed it.
        device: DeviceClass,
        /// Time from its lease to its result.
        took: Duration,
    },
    /// A result was judged.
    ResultJudged {
        /// The run.
        run: RunId,
        /// Outer steps the run was ahead of it.
        staleness: u64,
        /// Whether its lease was over, or its slot filled.
        late: bool,
    },
    /// A result was refused.
    ResultRejected {
        /// The run.
        run: RunId,
        /// The reason of the fault.
        reason: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_fall_into_few_classes() {
        for (device, class) in [
            ("cpu", DeviceClass::Cpu),
            ("cuda:0", DeviceClass::Cuda),
            ("cuda:15", DeviceClass::Cuda),
            ("", DeviceClass::Other),
            ("cpu-but-not-quite", DeviceClass::Other),
        ] {
            assert_eq!(DeviceClass::of(device), class, "{device:?}");
        }
    }
}
