//! The outer loop: fold the slots of a step, then move theta.
//!
//! ```text
//!  slot 0, 1, 2 … (in order, f64) ─► meta-gradient ─► clip ─► accumulate ─► Adam ─► theta, version + 1
//! ```

use serde::{Deserialize, Serialize};

use crate::estimator::{EstimatorConfig, PairReport};
use crate::schedule::Window;
use crate::{Result, Seed, Theta};

/// The outer loop's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterConfig {
    /// Outer steps until the run is complete.
    pub steps: u64,
    /// Slots in an outer step; one lease fills one.
    pub slots: u32,
    /// Antithetic pairs in a slot.
    pub pairs_per_slot: u32,
    /// How theta moves.
    pub optimizer: ThetaOptimizer,
    /// Per-element bound on the meta-gradient.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Bound on the Euclidean norm of the meta-gradient, after the per-element one.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Outer steps folded into one update of theta.
    #[serde(default = "one")]
    pub accumulation: u32,
    /// How results travel.
    #[serde(default)]
    pub report: Report,
}

fn one() -> u32 {
    1
}

/// Adam over theta, with decoupled decay when `weight_decay` is positive (AdamW).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThetaOptimizer {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// Added inside the root; 1e-8 in the reference.
    pub eps_root: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
}

impl Default for ThetaOptimizer {
    fn default() -> Self {
        Self { learning_rate: 3e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, eps_root: 1e-8, weight_decay: 0.0 }
    }
}

/// How a slot's result travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The smaller of the two.
    #[default]
    Auto,
    /// Four numbers a pair; the coordinator rebuilds the perturbations.
    SeedCoded,
    /// One vector as long as theta, already summed by the worker.
    Dense,
}

/// One slot's part of an outer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The slot.
    pub slot: u32,
    /// What it ran.
    pub window: Window,
    /// What came back.
    pub result: SlotResult,
    /// Inner steps trained for it, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u32,
}

/// A slot's result, seed-coded or dense.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotResult {
    /// One report a pair, in pair order.
    SeedCoded(Vec<PairReport>),
    /// Already summed over the slot's pairs: `Σ [carried (A + ε) + fresh ε] / (2 sigma)`.
    Dense {
        /// As long as theta.
        gradient: Vec<f32>,
        /// Mean normalised meta-loss over pairs and signs.
        loss: f64,
    },
}

/// A whole outer step, folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// Mean meta-gradient over all pairs, before clipping; as long as theta.
    pub gradient: Vec<f64>,
    /// Mean normalised meta-loss.
    pub loss: f64,
    /// Inner steps trained, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u64,
}

/// The sum over one slot's pairs of `[carried (A + ε) + fresh ε] / (2 sigma)`, in f64, pairs in order, with ε and A
/// rebuilt from seeds. `size` is D.
pub fn slot_gradient(
    _run: Seed,
    _outer_step: u64,
    _slot: u32,
    _window: &Window,
    _estimator: &EstimatorConfig,
    _pairs: &[PairReport],
    _size: usize,
) -> Vec<f64> {
    unimplemented!()
}

/// Folds the slots of one outer step in slot order.
///
/// # Errors
/// [`crate::Error::Length`] if a contribution has the wrong number of pairs or values.
pub fn fold(
    _run: Seed,
    _outer_step: u64,
    _config: &OuterConfig,
    _estimator: &EstimatorConfig,
    _size: usize,
    _contributions: &[Contribution],
) -> Result<Folded> {
    unimplemented!()
}

/// Theta and everything its optimizer remembers: the whole state of an outer loop between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterState {
    /// Meta-parameters, one lane.
    pub theta: Theta,
    /// First moment, as long as theta.
    pub moment1: Vec<f32>,
    /// Second moment, as long as theta.
    pub moment2: Vec<f32>,
    /// Clipped meta-gradients summed since the last update of theta.
    pub pending: Vec<f64>,
    /// Outer steps in `pending`.
    pub pending_steps: u32,
    /// Updates of theta so far.
    pub updates: u64,
    /// Outer steps folded so far; the version of theta.
    pub outer_step: u64,
    /// Inner steps trained so far, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite so far.
    pub diverged_lanes: u64,
    /// Meta-loss and Euclidean norm of the unclipped meta-gradient of the last folded step.
    pub last: Option<StepSummary>,
}

/// What one outer step looked like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSummary {
    /// Mean normalised meta-loss.
    pub meta_loss: f64,
    /// Euclidean norm of the meta-gradient before clipping.
    pub grad_norm: f64,
}

impl OuterState {
    /// Before the first outer step.
    pub fn new(_theta: Theta) -> Self {
        unimplemented!()
    }

    /// After one more folded step.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if the gradient is not as long as theta.
    pub fn apply(self, _config: &OuterConfig, _folded: &Folded) -> Result<Self> {
        unimplemented!()
    }
}
