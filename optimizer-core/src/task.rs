//! The inner problem, as the unroll sees it: a family with static shapes, and lanes of task instances drawn from it.
//!
//! ```text
//!  TaskFamily ─ bind([seed, seed, …]) ─► TaskLanes ─ loss_and_grads(params, batch) ─► losses [lanes], grads [lanes, …]
//!  (shapes, data)                        (lane i: the instance of seeds[i])
//! ```
//!
//! Common random numbers come from seeds: lanes with equal task seeds share initial weights and batches to the bit.
//!
//! Sampling has two levels, because lanes that run together need equal shapes. A family either has static shapes, or is a
//! distribution over such families ([`TaskFamily::draw`]): what it draws (widths, depth, batch) is the same for all lanes
//! of a lease, and what a task draws (weights, data order, activation) is each pair's own:
//!
//! ```text
//!  TaskFamily ─ draw(seed of the trajectory) ─► TaskFamily of static shapes ─ bind(seed of each pair, …) ─► TaskLanes
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::feed_forward::FeedForward;
use crate::params::{Layout, Params};
use crate::{Result, Seed};

/// Which part of the data a batch is drawn from: the four of the reference's `Datasets` (`tasks/datasets/base.py`,
/// google/learned_optimization @ 32186aa4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Inner gradients.
    Train,
    /// Given to a learned optimizer that wants a validation loss.
    InnerValid,
    /// Held-out meta-loss.
    OuterValid,
    /// Final reports only.
    Test,
}

/// A distribution over inner problems of one static shape: the reference's `TaskFamily` (`tasks/base.py`).
pub trait TaskFamily: Send + Sync + std::fmt::Debug {
    /// The family's registered name, for example `image_mlp`.
    fn name(&self) -> &'static str;

    /// Names and shapes (without lanes) of the parameters of every task of the family.
    fn layout(&self) -> &Arc<Layout>;

    /// What this family is a distribution over: one family of static shapes, by seed. `None` if its own shapes are static.
    ///
    /// The layout and the cost of a family that draws are those of a typical member.
    ///
    /// # Errors
    /// [`crate::Error::Task`] if the member cannot be made.
    fn draw(&self, seed: Seed) -> Result<Option<Arc<dyn TaskFamily>>> {
        let _ = seed;
        Ok(None)
    }

    /// What one lane costs.
    fn cost(&self) -> Cost;

    /// Binds lanes: lane `i` is the task instance of `seeds[i]`. Called on the thread that will run the lanes.
    ///
    /// # Errors
    /// [`crate::Error::Task`] if the instance cannot be made.
    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>>;

    /// The family as a plain feed-forward classifier of a data set, if that is all it is: what a device needs to train its
    /// tasks by itself.
    fn feed_forward(&self) -> Option<FeedForward<'_>> {
        None
    }

    /// Maps a loss, in the task's own units, to the range in which tasks may be mixed; a non-finite loss maps to the
    /// family's ceiling. Monotone, and finite for every input. (`Task.normalizer` of the reference.)
    fn normalise(&self, loss: f64) -> f64;
}

/// Task instances bound to lanes, in the order of the seeds they were bound with.
pub trait TaskLanes {
    /// Initial weights, `[lanes, shape…]` a tensor.
    ///
    /// # Errors
    /// [`crate::Error::Task`] if they cannot be computed.
    fn init_params(&mut self) -> Result<Params>;

    /// Loss of each lane, `[lanes]` in the task's own units, and its gradient, `[lanes, shape…]` a tensor, on training
    /// batch `batch` (any number; equal numbers are equal batches). Lanes cannot disturb each other: lane `i` gets the
    /// same bits whatever the other lanes hold.
    ///
    /// # Errors
    /// [`crate::Error::Task`] if they cannot be computed; a non-finite loss is a value, not an error.
    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)>;

    /// Loss (and accuracy, for classifiers) of each lane on batch `batch` of `split`, `[lanes]`, without gradients.
    ///
    /// # Errors
    /// [`crate::Error::Task`] if they cannot be computed.
    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>>;

    /// What training changes beside the parameters, `[lanes, shape…]` a tensor: running statistics of a norm, gradients on
    /// their way. `None` for tasks that have no such state.
    fn state(&self) -> Option<&Params> {
        None
    }

    /// Goes on from a state that [`TaskLanes::state`] gave.
    ///
    /// # Errors
    /// [`crate::Error::LayoutMismatch`] or [`crate::Error::Lanes`] if it is not of these tasks.
    fn restore(&mut self, state: Params) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// What one lane of a family costs: an estimate from shapes, the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Floating-point operations of one inner step: loss and gradient on one batch, without the optimizer.
    pub flop: f64,
    /// Most memory in use at a time during an inner step, in bytes: parameters, gradients, activations kept for the
    /// backward pass, the batch. Data sets, which lanes share, are not counted.
    pub bytes: f64,
}

/// What one lane scores on one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss over the batch, in the task's own units.
    pub loss: f32,
    /// Share of examples classified right, in `[0, 1]`; `None` where there are no classes.
    pub accuracy: Option<f32>,
}
