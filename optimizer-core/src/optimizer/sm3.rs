//! SM3 (arXiv 1901.11150, optax semantics): a second moment in as much memory as the sides of a tensor.
//!
//! ```text
//!           μ_1[j]                A[i, j] = c · g² + β2 · min(μ_0[i], μ_1[j])       c = 1 if β2 = 1, else 1 − β2
//!         ┌────────┐              w = g / √(A + 1e-8)                               (0 where A is 0)
//!  μ_0[i] │  A     │              μ_i ← max of A over all other axes
//!         └────────┘              a ← momentum · a + (1−momentum) · w               p ← p − lr · a
//! ```
//!
//! A scalar is a vector of one element.

use serde::{Deserialize, Serialize};

use super::adagrad::inverse_root;
use super::decay::Decay;
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::learned::float::{maximum, minimum};
use crate::params::TensorSpec;

/// Added inside the root.
const EPSILON: f32 = 1e-8;

/// SM3 (Anil et al., arXiv 1901.11150, Algorithm SM3-II), as the reference's `SM3` (optax 0.2.8 `scale_by_sm3`): a
/// second moment in as much memory as the sides of a tensor.
///
/// ```text
///  A = c · g² + β2 · min over axes of μ_i      c = 1 if β2 = 1, else 1 − β2
///  w = g / √(A + 1e-8)  (0 where A is 0)       μ_i ← max of A over all axes but i
///  a ← momentum · a + (1−momentum) · w         p ← p − lr · a
/// ```
///
/// Slots: `m/NAME`, as the tensor, and `axis_I/NAME` `[size of axis I]` for every axis; a scalar counts as a vector of
/// one element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sm3 {
    /// Step size; 0.01.
    pub learning_rate: Schedule,
    /// Decay of the momentum; 0.9.
    pub momentum: f64,
    /// Decay of the accumulators, in `[0, 1]`; 1: they only grow.
    #[serde(alias = "b2")]
    pub beta2: f64,
}

impl Default for Sm3 {
    fn default() -> Self {
        Self { learning_rate: 0.01.into(), momentum: 0.9, beta2: 1.0 }
    }
}

/// The sides of a tensor; a scalar has one, of size 1.
fn sides(tensor: &TensorSpec) -> &[usize] {
    if tensor.shape().is_empty() { &[1] } else { tensor.shape() }
}

impl Rule for Sm3 {
    /// The learning rate.
    type Numbers = f32;

    fn name(&self) -> &'static str {
        "sm3"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::decay("momentum", self.momentum)?;
        settings::require("beta2", self.beta2, (0.0..=1.0).contains(&self.beta2), "must lie in [0, 1]")
    }

    /// The momentum `m`, then `axis_0`, `axis_1`, …
    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        let side = |(axis, &size)| Buffer { prefix: format!("axis_{axis}").into(), shape: vec![size], initial: 0.0 };
        std::iter::once(Buffer::like(tensor, "m")).chain(sides(tensor).iter().enumerate().map(side)).collect()
    }

    fn numbers(&self, now: Moment) -> f32 {
        now.of(&self.learning_rate)
    }

    fn update(&self, &learning_rate: &f32, tensor: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let [momentum, axes @ ..] = buffers else { unreachable!("at least two buffers a tensor") };
        let average = Decay::literal(self.momentum);
        let keep = self.beta2 as f32;
        let take = if self.beta2 == 1.0 { 1.0 } else { (1.0 - self.beta2) as f32 };
        let mut largest: Vec<Vec<f32>> = axes.iter().map(|axis| vec![0.0; axis.len()]).collect();
        let mut place = vec![0; axes.len()];
        for ((p, &g), m) in p.iter_mut().zip(g).zip(momentum.iter_mut()) {
            let least = axes.iter().zip(&place).map(|(axis, &at)| axis[at]).reduce(minimum).unwrap_or(0.0);
            let accumulated = take * (g * g) + keep * least;
            *m = average.mix(*m, g * inverse_root(accumulated, EPSILON));
            *p -= learning_rate * *m;
            for (largest, &at) in largest.iter_mut().zip(&place) {
                largest[at] = maximum(largest[at], accumulated);
            }
            advance(&mut place, sides(tensor));
        }
        for (axis, largest) in axes.iter_mut().zip(largest) {
            axis.copy_from_slice(&largest);
        }
    }
}

/// The row-major place after `place`.
fn advance(place: &mut [usize], sides: &[usize]) {
    for (at, &side) in place.iter_mut().zip(sides).rev() {
        *at += 1;
        if *at < side {
            return;
        }
        *at = 0;
    }
}
