//! The orthonormal discrete cosine transform (type II) of a few numbers, as a matrix.

use std::f64::consts::PI;
use std::ops::{AddAssign, Mul};

use super::grid::Grid;

/// The first `outputs` rows of the DCT-II of `inputs` numbers: `D[0, k] = 1/√M`, `D[i, k] = √(2/M) cos(πi(2k + 1) / 2M)`.
pub(crate) struct Dct {
    outputs: usize,
    inputs: usize,
    weights: Vec<f64>,
}

impl Dct {
    pub(crate) fn new(outputs: usize, inputs: usize) -> Self {
        let m = inputs as f64;
        let weight = |i: usize, k: usize| match i {
            0 => (1.0 / m).sqrt(),
            _ => (2.0 / m).sqrt() * (PI * i as f64 * (2 * k + 1) as f64 / (2.0 * m)).cos(),
        };
        let weights = (0..outputs).flat_map(|i| (0..inputs).map(move |k| weight(i, k))).collect();
        Self { outputs, inputs, weights }
    }

    /// `[outputs, inputs]`, row-major.
    #[cfg(test)]
    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Transforms every frame of `[inputs, frames]`.
    pub(crate) fn apply<T>(&self, bands: &Grid<T>) -> Grid<T>
    where
        T: Copy + Default + AddAssign + Mul<f64, Output = T>,
    {
        debug_assert_eq!(bands.rows(), self.inputs);
        let mut out = Grid::zeros(self.outputs, bands.frames());
        for (i, weights) in self.weights.chunks_exact(self.inputs).enumerate() {
            for (k, &weight) in weights.iter().enumerate() {
                out.row_mut(i).iter_mut().zip(bands.row(k)).for_each(|(out, &band)| *out += band * weight);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_orthonormal() {
        let dct = Dct::new(9, 13);
        for (i, a) in dct.weights.chunks(13).enumerate() {
            for (j, b) in dct.weights.chunks(13).enumerate() {
                let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-14, "rows {i} and {j}");
            }
        }
    }
}
