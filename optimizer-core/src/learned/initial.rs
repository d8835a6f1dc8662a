//! Initial theta: truncated normal weights, zero biases.

use crate::noise::Draws;
use crate::params::{Layout, TensorSpec};
use crate::{Seed, Theta};
use std::sync::Arc;

/// How one tensor of theta begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Initial {
    /// Every entry has this value.
    Constant(f32),
    /// Normal with standard deviation `1/√fan_in`, cut at two of them and not rescaled (Haiku's linear layer).
    TruncatedNormal {
        /// Number of inputs a unit sums up.
        fan_in: usize,
    },
}

/// The tensors of a theta and how each begins, in any order.
pub(super) type ThetaTensors = Vec<(TensorSpec, Initial)>;

/// Sorts tensors by name, the canonical order of theta.
pub(super) fn sorted(mut tensors: ThetaTensors) -> ThetaTensors {
    tensors.sort_by(|a, b| a.0.name().cmp(b.0.name()));
    tensors
}

/// Theta drawn from `seed`: each tensor from its own seed, so that adding a tensor changes no earlier one.
pub(super) fn draw(layout: &Arc<Layout>, initial: &[Initial], seed: Seed) -> Theta {
    let mut theta = Theta::zeros(layout, 1);
    for (index, initial) in initial.iter().enumerate() {
        let tensor = theta.tensor_mut(0, index);
        match *initial {
            Initial::Constant(value) => tensor.fill(value),
            Initial::TruncatedNormal { fan_in } => {
                let mut draws = Draws::new(seed.fold_in(index as u64));
                let scale = 1.0 / (fan_in as f32).sqrt();
                tensor.fill_with(|| scale * truncated_normal(&mut draws));
            }
        }
    }
    theta
}

/// A standard normal between −2 and 2: draws until one fits.
fn truncated_normal(draws: &mut Draws) -> f32 {
    loop {
        let value = draws.normal();
        if value.abs() <= 2.0 {
            return value;
        }
    }
}
