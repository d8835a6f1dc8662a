//! The mixture of a run as it is trained: what each entry costs and how far it has come. Neither decides a result.

/// What one lane of a mixture's entry costs, as whoever submitted the run found it. Leases are offered by it and people see
/// it; it is no part of what a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskCost {
    /// Floating-point operations of one inner step, from shapes.
    pub flop: f64,
    /// Most memory in use at a time, in bytes, from shapes.
    pub bytes: f64,
    /// Seconds of one inner step, as measured where the run was submitted.
    pub seconds: Option<f64>,
}

/// What one entry of a mixture has brought so far, at the last folded step.
///
/// A contribution is one slot of one outer step. One whose window holds a reset belongs to the entry that has more of its
/// places, with its whole loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EntryProgress {
    /// Contributions folded.
    pub contributions: u64,
    /// Inner steps trained for them, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u64,
    /// Where its meta-loss began; `None` before its first contribution.
    pub first: Option<SpanLoss>,
    /// Where its meta-loss is now; `None` until there is a later span to compare.
    pub latest: Option<SpanLoss>,
}

/// The mean meta-loss of one entry's contributions over a span of outer steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanLoss {
    /// First outer step of the span.
    pub from: u64,
    /// The outer step after its last.
    pub to: u64,
    /// Contributions in it.
    pub contributions: u64,
    /// Mean normalised meta-loss of them.
    pub meta_loss: f64,
}
