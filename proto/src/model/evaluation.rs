//! How a checkpoint trains held-out tasks, beside baselines.
//!
//! ```text
//!  inner steps  0 1 2   4     8            16                     ends of spans, evenly spread by logarithm
//!               │ │ │   │     │             │
//!  task 1       ╰─┴─┴───┴─────┴─────────────╯  mean training loss of each span ─┐
//!  task 2       …                                                               ├─ quartiles over tasks ─► Quartiles
//!  task 3       …                                                               ┘
//! ```

use paceline_optimizer_core::ThetaHash;

use super::RunId;

/// How one checkpoint of a run trains held-out tasks of each entry of the mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The checkpoint's outer step.
    pub outer_step: u64,
    /// Names its theta.
    pub theta_hash: ThetaHash,
    /// When the coordinator took it, in milliseconds since 1970.
    pub recorded_at_ms: u64,
    /// Held-out tasks of each family; at least 1.
    pub seeds: u32,
    /// Inner steps at which spans end, growing. The first span begins at 0, each other where the one before ended.
    pub ends: Vec<u32>,
    /// The curves of each entry of the mixture, in order.
    pub families: Vec<FamilyCurves>,
}

/// The curves of one family.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyCurves {
    /// The family's name.
    pub family: String,
    /// The checkpoint, then what it is compared with.
    pub contenders: Vec<ContenderCurve>,
}

/// The training losses of one optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct ContenderCurve {
    /// What people call it.
    pub name: String,
    /// One a span.
    pub losses: Vec<Quartiles>,
}

/// The middle half of some values; all finite, none below the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// First quartile.
    pub lower: f32,
    /// Median.
    pub median: f32,
    /// Third quartile.
    pub upper: f32,
}

/// An evaluation on its way to the run it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The run.
    pub run: RunId,
    /// What was found.
    pub evaluation: Evaluation,
}
