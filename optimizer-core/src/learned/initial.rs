//! Initial theta: truncated normal weights, zero biases, and what a few optimizers begin with otherwise.

use crate::noise::Draws;
use crate::params::{Layout, TensorSpec};
use crate::{Result, Seed, Theta};
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
    /// The same, rescaled so that after the cut the standard deviation is `1/√fan_in` (Haiku's `VarianceScaling`).
    RescaledTruncatedNormal {
        /// Number of inputs a unit sums up.
        fan_in: usize,
    },
}

/// Standard deviation of a standard normal that is cut at ±2.
const CUT_DEVIATION: f32 = 0.879_625_7;

/// The tensors of a theta and how each begins, in any order.
pub(super) type ThetaTensors = Vec<(TensorSpec, Initial)>;

/// Sorts tensors by name, the canonical order of theta.
pub(super) fn sorted(mut tensors: ThetaTensors) -> ThetaTensors {
    tensors.sort_by(|a, b| a.0.name().cmp(b.0.name()));
    tensors
}

/// A tensor that begins at 0.
pub(super) fn zeros(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> (TensorSpec, Initial) {
    (TensorSpec::new(name, shape), Initial::Constant(0.0))
}

/// A scalar that begins at `value`.
pub(super) fn scalar(name: &str, value: f32) -> (TensorSpec, Initial) {
    (TensorSpec::new(name, []), Initial::Constant(value))
}

/// Haiku's linear layer: weights `MODULE/w` `[inputs, outputs]` and bias `MODULE/b` `[outputs]`.
pub(super) fn linear(module: &str, inputs: usize, outputs: usize) -> [(TensorSpec, Initial); 2] {
    let weights = TensorSpec::new(format!("{module}/w"), [inputs, outputs]);
    [(weights, Initial::TruncatedNormal { fan_in: inputs }), zeros(format!("{module}/b"), [outputs])]
}

/// Theta's tensors in their canonical order, with how each begins.
#[derive(Clone, Debug)]
pub(super) struct InitialTheta {
    layout: Arc<Layout>,
    initial: Vec<Initial>,
}

impl InitialTheta {
    /// From tensors in any order.
    ///
    /// # Errors
    /// [`crate::Error::DuplicateTensor`].
    pub(super) fn new(tensors: ThetaTensors) -> Result<Self> {
        let (specs, initial): (Vec<_>, Vec<_>) = sorted(tensors).into_iter().unzip();
        Ok(Self { layout: Layout::new(specs)?, initial })
    }

    /// Theta's layout, sorted by name.
    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// One lane drawn from `seed`.
    pub(super) fn draw(&self, seed: Seed) -> Theta {
        draw(&self.layout, &self.initial, seed)
    }
}

/// Theta drawn from `seed`: each tensor from its own seed, so that adding a tensor changes no earlier one.
pub(super) fn draw(layout: &Arc<Layout>, initial: &[Initial], seed: Seed) -> Theta {
    let mut theta = Theta::zeros(layout, 1);
    for (index, initial) in initial.iter().enumerate() {
        let tensor = theta.tensor_mut(0, index);
        let (fan_in, deviation) = match *initial {
            Initial::Constant(value) => {
                tensor.fill(value);
                continue;
            }
            Initial::TruncatedNormal { fan_in } => (fan_in, 1.0),
            Initial::RescaledTruncatedNormal { fan_in } => (fan_in, CUT_DEVIATION),
        };
        let mut draws = Draws::new(seed.fold_in(index as u64));
        let scale = 1.0 / (fan_in as f32).sqrt() / deviation;
        tensor.fill_with(|| scale * truncated_normal(&mut draws));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_restores_the_deviation_that_the_cut_takes() {
        let tensors = vec![
            (TensorSpec::new("cut", [20_000]), Initial::TruncatedNormal { fan_in: 4 }),
            (TensorSpec::new("rescaled", [20_000]), Initial::RescaledTruncatedNormal { fan_in: 4 }),
        ];
        let theta = InitialTheta::new(tensors).unwrap().draw(Seed::new(2));
        let deviation = |index: usize| {
            let square: f64 = theta.tensor(0, index).iter().map(|&value| f64::from(value) * f64::from(value)).sum();
            (square / 20_000.0).sqrt()
        };
        assert!((deviation(0) - 0.5 * 0.8796).abs() < 0.006, "{}", deviation(0));
        assert!((deviation(1) - 0.5).abs() < 0.006, "{}", deviation(1));
    }
}
