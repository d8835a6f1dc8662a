//! Initial values of parameters.

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::{Purpose, Seed};

/// How a tensor begins. The fan-in is the product of all axes but the last, which counts outputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Initial {
    /// One value everywhere.
    Constant(f32),
    /// Normal within two deviations, of deviation `gain / √fan-in` before truncation (Haiku's default, gain 1, which the
    /// JAX reference trains with).
    FanIn {
        /// Factor of the deviation.
        gain: f32,
    },
    /// Normal of this deviation.
    Normal {
        /// Standard deviation.
        deviation: f32,
    },
    /// Normal within two deviations of this deviation before truncation.
    TruncatedNormal {
        /// Standard deviation before truncation.
        deviation: f32,
    },
    /// Uniform in `[−limit, limit)`.
    Uniform {
        /// Largest absolute value.
        limit: f32,
    },
    /// The mean of two that are uniform in `[−limit, limit)`.
    Triangular {
        /// Largest absolute value.
        limit: f32,
    },
    /// Orthonormal rows or columns (whichever are fewer) of the matrix `[fan-in, outputs]`, times a gain: Saxe,
    /// McClelland, Ganguli, arXiv 1312.6120. By Gram-Schmidt of normals.
    Orthogonal {
        /// Factor of the orthonormal matrix.
        gain: f32,
    },
    /// The identity matrix times a factor, for square recurrent weights (IRNN: Le, Jaitly, Hinton, arXiv 1504.00941).
    Identity {
        /// Factor.
        gain: f32,
    },
    /// These values.
    Values(Vec<f32>),
}

impl Initial {
    /// Zeros.
    pub(crate) const ZEROS: Self = Self::Constant(0.0);
    /// Haiku's default for weights.
    pub(crate) const FAN_IN: Self = Self::FanIn { gain: 1.0 };

    /// The same times a factor.
    #[must_use]
    pub(crate) fn scaled(&self, factor: f32) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(factor * value),
            Self::FanIn { gain } => Self::FanIn { gain: factor * gain },
            Self::Normal { deviation } => Self::Normal { deviation: factor * deviation },
            Self::TruncatedNormal { deviation } => Self::TruncatedNormal { deviation: factor * deviation },
            Self::Uniform { limit } => Self::Uniform { limit: factor * limit },
            Self::Triangular { limit } => Self::Triangular { limit: factor * limit },
            Self::Orthogonal { gain } => Self::Orthogonal { gain: factor * gain },
            Self::Identity { gain } => Self::Identity { gain: factor * gain },
            Self::Values(values) => Self::Values(values.iter().map(|value| factor * value).collect()),
        }
    }

    /// Writes the values of tensor number `tensor` of the task seeded `task`; `values` has the size of `shape`.
    pub(crate) fn write(&self, task: Seed, tensor: usize, shape: &[usize], values: &mut [f32]) {
        let draws = || Draws::new(task.purpose(Purpose::Init).fold_in(tensor as u64));
        let outputs = shape.last().copied().unwrap_or(1).max(1);
        let fan_in = values.len() / outputs;
        match *self {
            Self::Constant(value) => values.fill(value),
            Self::FanIn { gain } => truncated(draws(), gain * (1.0 / (fan_in.max(1) as f32).sqrt()), values),
            Self::TruncatedNormal { deviation } => truncated(draws(), deviation, values),
            Self::Normal { deviation } => {
                let mut draws = draws();
                values.iter_mut().for_each(|value| *value = deviation * draws.normal());
            }
            Self::Uniform { limit } => {
                let mut draws = draws();
                values.iter_mut().for_each(|value| *value = limit * (2.0 * draws.uniform() - 1.0) as f32);
            }
            Self::Triangular { limit } => {
                let mut draws = draws();
                values.iter_mut().for_each(|value| {
                    let sum = draws.uniform() + draws.uniform();
                    *value = limit * (sum - 1.0) as f32;
                });
            }
            Self::Orthogonal { gain } => orthogonal(draws(), gain, fan_in, outputs, values),
            Self::Identity { gain } => {
                values.fill(0.0);
                (0..fan_in.min(outputs)).for_each(|i| values[i * outputs + i] = gain);
            }
            Self::Values(ref given) => values.copy_from_slice(given),
        }
    }
}

fn truncated(mut draws: Draws, scale: f32, values: &mut [f32]) {
    for value in values {
        *value = loop {
            let normal = draws.normal();
            if normal.abs() <= 2.0 {
                break normal * scale;
            }
        };
    }
}

/// Gram-Schmidt, twice, in f64: rows of the `short × long` matrix become orthonormal.
fn orthogonal(mut draws: Draws, gain: f32, rows: usize, columns: usize, values: &mut [f32]) {
    let (short, long) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(short);
    for _ in 0..short {
        let mut vector: Vec<f64> = (0..long).map(|_| f64::from(draws.normal())).collect();
        for _ in 0..2 {
            for earlier in &basis {
                let along: f64 = earlier.iter().zip(&vector).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(earlier).for_each(|(value, earlier)| *value -= along * earlier);
            }
        }
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|value| *value /= norm);
        basis.push(vector);
    }
    for row in 0..rows {
        for column in 0..columns {
            let value = if rows <= columns { basis[row][column] } else { basis[column][row] };
            values[row * columns + column] = gain * value as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(initial: &Initial, shape: &[usize]) -> Vec<f32> {
        let mut values = vec![f32::NAN; shape.iter().product()];
        initial.write(Seed::new(3), 0, shape, &mut values);
        values
    }

    #[test]
    fn moments_are_those_of_the_laws() {
        let deviation = |values: &[f32]| {
            (values.iter().map(|value| f64::from(value * value)).sum::<f64>() / values.len() as f64).sqrt()
        };
        // A normal cut at two deviations keeps 0.8796 of its deviation.
        for (initial, expected) in [
            (Initial::FAN_IN, 0.8796 / 20.0),
            (Initial::TruncatedNormal { deviation: 0.1 }, 0.08796),
            (Initial::Normal { deviation: 0.1 }, 0.1),
            (Initial::Uniform { limit: 0.3 }, 0.3 / 3.0_f64.sqrt()),
            (Initial::Triangular { limit: 0.3 }, 0.3 / 6.0_f64.sqrt()),
        ] {
            let values = values(&initial, &[4, 100, 50]);
            let got = deviation(&values);
            assert!((got / expected - 1.0).abs() < 0.02, "{initial:?}: {got}");
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
            assert!(mean.abs() < 4.0 * expected / (values.len() as f64).sqrt(), "{initial:?}: {mean}");
        }
    }

    #[test]
    fn orthogonal_matrices_are_orthonormal_along_the_shorter_side() {
        for (rows, columns) in [(3, 5), (5, 3), (4, 4), (1, 6)] {
            let values = values(&Initial::Orthogonal { gain: 2.0 }, &[rows, columns]);
            let at =
                |i: usize, j: usize| if rows <= columns { values[i * columns + j] } else { values[j * columns + i] };
            for i in 0..rows.min(columns) {
                for j in 0..rows.min(columns) {
                    let product: f32 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
                    assert!((product - if i == j { 4.0 } else { 0.0 }).abs() < 1e-5, "{rows}×{columns}: {product}");
                }
            }
        }
        assert_eq!(values(&Initial::Identity { gain: 0.5 }, &[2, 2]), [0.5, 0.0, 0.0, 0.5]);
        assert_eq!(values(&Initial::Values(vec![1.0, 2.0]), &[2]), [1.0, 2.0]);
    }
}
