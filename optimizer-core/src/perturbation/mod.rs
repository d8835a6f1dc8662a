//! Perturbations of theta: which directions evolution strategies look in, and sums of many of them.
//!
//! ```text
//!  (run, outer step, slot, pair) ─► seed ─► ε        theta ± sigma ε          what a worker runs under
//!  Σ weight · ε(outer step, slot, pair)              the meta-gradient        what a coordinator folds
//! ```
//!
//! Nobody stores ε. A [`Term`] names one and its weight, and [`weighted_sum`] rebuilds all of them in one pass, block by
//! block, so that no temporary is as long as theta and a block stays in cache while the terms pass over it.

use serde::{Deserialize, Serialize};

use crate::params::Layout;
use crate::schedule::perturbation_seed;
use crate::{Seed, noise};

/// Values of theta handled at once: ε (f32) and the sum (f64) of a block fit the first-level cache.
const BLOCK: usize = 1024;

/// How a perturbation is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Noise {
    /// Every entry of theta independent and standard normal.
    #[default]
    Dense,
}

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

/// Adds `Σ weight · ε` to `sum`, which is as long as theta; in f64, terms in order.
pub fn weighted_sum(noise: Noise, layout: &Layout, run: Seed, terms: &[Term], sum: &mut [f64]) {
    debug_assert_eq!(sum.len(), layout.size(), "a sum of perturbations is as long as theta");
    match noise {
        Noise::Dense => dense_sum(run, terms, sum),
    }
}

fn dense_sum(run: Seed, terms: &[Term], sum: &mut [f64]) {
    let mut epsilon = [0.0; BLOCK];
    for (index, sum) in sum.chunks_mut(BLOCK).enumerate() {
        let first = (index * BLOCK) as u64;
        let epsilon = &mut epsilon[..sum.len()];
        for term in terms {
            noise::normals(perturbation_seed(run, term.outer_step, term.slot, term.pair), first, epsilon);
            for (sum, &epsilon) in sum.iter_mut().zip(&*epsilon) {
                *sum += term.weight * f64::from(epsilon);
            }
        }
    }
}
