//! Meta-gradients by evolution strategies.
//!
//! ```text
//!  unroll under theta + sigma ε ─► l+ ┐
//!                                     ├─► PairReport (four numbers) ─► fold: rebuild ε from its seed, weigh, sum in f64
//!  unroll under theta − sigma ε ─► l− ┘
//! ```
//!
//! An estimator turns the per-step losses of an antithetic pair into two weights. Both are plain functions of losses:
//! they know no optimizer, no noise and no theta, which is why they can be checked against any toy.
//!
//! - [`full_es`]: the whole unroll is one number a sign; nothing is carried between outer steps.
//! - [`windowed`]: a window of a longer trajectory; the part before a reset is weighed by the perturbations since the
//!   trajectory began, the part after it by this window's alone. PES, GPES, NRES and truncated ES are this.
//!
//! - [`backprop`]: the exact gradient of a tiny problem, to check the others with.
//!
//! Which perturbations a weight meets is told by [`EstimatorKind::terms`].

pub mod backprop;
mod config;
pub mod full_es;
mod terms;
pub mod windowed;

pub use config::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};

/// What one antithetic pair reports: the pair's part of the meta-gradient is
/// `[carried (A + ε) + fresh ε'] / (2 sigma)`, with ε the unit perturbation that the trajectory ran under, A the sum of
/// its earlier ones and ε' this outer step's (the same as ε in PES). Full and truncated ES have `carried = 0`. All four
/// are in units of the normalised loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairReport {
    /// Weight of the part of the window that belongs to a trajectory begun in it.
    pub fresh: f64,
    /// Weight of the part that belongs to a trajectory begun earlier.
    pub carried: f64,
    /// Normalised meta-loss of the + lane.
    pub loss_plus: f64,
    /// Normalised meta-loss of the − lane.
    pub loss_minus: f64,
}

/// A pair's report, and how many of its differences were not finite and therefore counted as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The report.
    pub report: PairReport,
    /// Differences `l+ − l−` that were infinite or not a number.
    pub non_finite: u32,
}

/// `l+ − l−`, or 0 if that is not finite: one bad lane must not spoil the others of a step.
fn finite_difference(plus: f64, minus: f64, non_finite: &mut u32) -> f64 {
    let difference = plus - minus;
    if difference.is_finite() {
        difference
    } else {
        *non_finite += 1;
        0.0
    }
}

/// −1, 0 or 1.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
