//! Meta-gradients by evolution strategies.
//!
//! ```text
//!  unroll under theta + sigma ε ─► l+ ┐
//!                                     ├─► PairReport (four numbers) ─► fold: rebuild ε from its seed, weigh, sum in f64
//!  unroll under theta − sigma ε ─► l− ┘
//! ```

use serde::{Deserialize, Serialize};

use crate::schedule::HorizonSchedule;

mod text;

/// How meta-gradients are estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "text::EstimatorText")]
pub struct EstimatorConfig {
    /// The estimator.
    #[serde(flatten)]
    pub kind: EstimatorKind,
    /// Standard deviation of perturbations.
    pub sigma: f32,
    /// Planned lengths of trajectories.
    pub horizon: HorizonSchedule,
    /// Bound on `|l+ − l−|`, applied after non-finite differences became 0.
    pub clip_delta: Option<f64>,
    /// Replace a difference by this times its sign.
    pub sign_delta: Option<f64>,
}

/// Which estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EstimatorKind {
    /// Whole unrolls, nothing carried between outer steps (VeLO's estimator).
    FullEs {
        /// What of an unroll is compared.
        #[serde(default)]
        loss: MetaLoss,
    },
    /// Persistent evolution strategies: windows of a longer trajectory, perturbations accumulated (arXiv 2112.13835).
    Pes {
        /// Inner steps a window.
        window: u32,
    },
}

/// What of a whole unroll is compared between the signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaLoss {
    /// Mean over the unroll.
    #[default]
    Average,
    /// Least over the unroll.
    Min,
    /// At the last step.
    Last,
}

/// What one antithetic pair reports: the pair's part of the meta-gradient is
/// `[carried (A + ε) + fresh ε] / (2 sigma)`, with ε this outer step's unit perturbation and A the sum of the
/// trajectory's earlier ones. Full ES has `carried = 0`.
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
