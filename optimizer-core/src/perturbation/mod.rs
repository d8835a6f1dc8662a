//! Perturbations of theta: which directions evolution strategies look in, and sums of many of them.
//!
//! ```text
//!  (run, outer step, slot, pair) ─► seed ─► ε        theta ± sigma ε          what a worker runs under
//!  Σ weight · ε(outer step, slot, pair)              the meta-gradient        what a coordinator folds
//!
//!  Dense        ε ~ N(0, 1), every entry            Orthogonal   ε_i ⊥ ε_j within a slot
//!  LowRank      matrices A Bᵀ/√r, the rest dense:   2.3 M parameters of VeLO from 50 k normals
//! ```
//!
//! Nobody stores ε. A [`Perturbation`] tells any part of one; a [`Term`] names one and its weight, and [`weighted_sum`]
//! adds up thousands without ever making a vector of them. How ε is drawn is a [`Noise`]. [`Antithetic`] is the thetas of
//! many lanes; whoever makes them elsewhere is told of which [`Part`]s ε consists.

mod antithetic;
mod epsilon;
mod kind;
mod orthogonal;
mod plan;
mod product;
mod sum;

pub use antithetic::Antithetic;
pub(crate) use antithetic::belong_to;
pub use epsilon::{Factors, Perturbation};
pub use kind::{MOST_RANK, Noise, TermCost};
pub use plan::{FactoredMatrix, Part};
pub use product::add_outer_products;
pub use sum::weighted_sum;

/// Values of theta handled at once: ε (f32) and the sum (f64) of a block fit the first-level cache.
const BLOCK: usize = 1024;

/// One perturbation of a run and its weight in a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Outer step the perturbation belongs to.
    pub outer_step: u64,
    /// Slot.
    pub slot: u32,
    /// Pair within the slot.
    pub pair: u32,
    /// Factor of ε.
    pub weight: f64,
}
