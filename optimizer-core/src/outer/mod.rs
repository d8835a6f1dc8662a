//! The outer loop: fold the slots of a step, then move theta.
//!
//! ```text
//!  slot 0, 1, 2 … (in order, f64) ─► meta-gradient ─► clip ─► accumulate ─► Adam ─► theta, version + 1
//! ```
//!
//! Everything here is a function of what it is given, and every sum has a fixed order: the same accepted results make
//! the same next theta to the bit, whoever computed them and in whatever order they arrived.

mod adam;
mod config;
mod fold;
mod result_form;
mod state;
mod variance;

pub use config::{OuterConfig, Report, ThetaOptimizer};
pub use fold::{Contribution, Folded, SlotResult, fold, fold_with, slot_gradient};
pub use result_form::{MOST_DENSE_VALUES, ResultForm};
pub use state::{OuterState, StepSummary};
pub use variance::Variance;
