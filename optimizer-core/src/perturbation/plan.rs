//! Where the parts of a perturbation lie: in theta, and in the pair's stream of normals.
//!
//! ```text
//!  theta   │ bias [n] │ weight [m, n]            │ scale [k] │     tensors in layout order
//!             │              │                        │
//!  stream  │ n values │ A: rank·m │ B: rank·n │ k values  │        one stream a pair, from normal 0
//! ```
//!
//! A and B stand column by column: first the m entries of A's first column, then those of its second, then B likewise.
//! This order is part of `noise/v1`; `tests/perturbation_v1.json` pins it.

use std::ops::Range;

use super::Noise;
use crate::params::Layout;

/// The parts of one perturbation, in order of theta and of the stream alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    /// Length of the stream.
    pub(super) normals: u64,
}

/// A contiguous range of theta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every value is a normal; tensors that follow each other are one part.
    Dense {
        /// Values of theta.
        theta: Range<usize>,
        /// Place of the first one's normal in the stream.
        stream: u64,
    },
    /// A matrix, `A Bᵀ / √rank`.
    Factored(FactoredMatrix),
}

/// A matrix of theta whose perturbation is a product of two thin ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactoredMatrix {
    /// Index of the tensor.
    pub tensor: usize,
    /// Where it begins in theta.
    pub offset: usize,
    /// m.
    pub rows: usize,
    /// n.
    pub columns: usize,
    /// Columns of A and B.
    pub rank: usize,
    /// Place of the first normal of A in the stream.
    pub stream: u64,
}

impl FactoredMatrix {
    /// Place of the first normal of B in the stream.
    pub fn stream_of_b(&self) -> u64 {
        self.stream + (self.rank * self.rows) as u64
    }

    /// Values of theta.
    pub fn theta(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }

    /// `1/√rank`; square root and quotient are the same bits on every host.
    pub fn scale(&self) -> f64 {
        1.0 / (self.rank as f64).sqrt()
    }
}

impl Plan {
    pub(super) fn new(noise: Noise, layout: &Layout) -> Self {
        let rank = match noise {
            Noise::Dense | Noise::Orthogonal => None,
            Noise::LowRank { rank } => Some(rank as usize),
        };
        let mut plan = Self { parts: Vec::new(), normals: 0 };
        for (tensor, spec) in layout.tensors().iter().enumerate() {
            let offset = layout.offset(tensor);
            match (rank, spec.shape()) {
                (Some(rank), &[rows, columns]) if rank.saturating_mul(rows + columns) < rows * columns => {
                    let stream = plan.normals;
                    plan.parts.push(Part::Factored(FactoredMatrix { tensor, offset, rows, columns, rank, stream }));
                    plan.normals += (rank * (rows + columns)) as u64;
                }
                _ => plan.append_dense(offset..offset + spec.size()),
            }
        }
        plan
    }

    fn append_dense(&mut self, theta: Range<usize>) {
        let stream = self.normals;
        self.normals += theta.len() as u64;
        match self.parts.last_mut() {
            Some(Part::Dense { theta: before, .. }) => before.end = theta.end,
            Some(Part::Factored(_)) | None => self.parts.push(Part::Dense { theta, stream }),
        }
    }

    /// The matrices that are factored.
    pub(super) fn factored(&self) -> impl Iterator<Item = &FactoredMatrix> {
        self.parts.iter().filter_map(|part| match part {
            Part::Factored(matrix) => Some(matrix),
            Part::Dense { .. } => None,
        })
    }
}

impl Part {
    /// Values of theta.
    pub fn theta(&self) -> Range<usize> {
        match self {
            Self::Dense { theta, .. } => theta.clone(),
            Self::Factored(matrix) => matrix.theta(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::TensorSpec;

    #[test]
    fn matrices_worth_it_are_factored_and_the_rest_runs_together() {
        let specs = [("a", &[3][..]), ("b", &[2, 2]), ("c", &[4, 5]), ("d", &[]), ("e", &[2, 3, 4]), ("f", &[1, 9])];
        let specs = specs.map(|(name, shape)| TensorSpec::new(name, shape)).to_vec();
        let layout = Layout::new(specs).unwrap();
        let dense = |theta, stream| Part::Dense { theta, stream };
        assert_eq!(Plan::new(Noise::Dense, &layout), Plan { parts: vec![dense(0..61, 0)], normals: 61 });
        let c = FactoredMatrix { tensor: 2, offset: 7, rows: 4, columns: 5, rank: 2, stream: 7 };
        let expected = Plan { parts: vec![dense(0..7, 0), Part::Factored(c), dense(27..61, 25)], normals: 59 };
        assert_eq!(Plan::new(Noise::LowRank { rank: 2 }, &layout), expected);
        assert_eq!(c.stream_of_b(), 15);
        // Three columns of A and B are 27 normals, more than the 20 of the matrix.
        assert_eq!(Plan::new(Noise::LowRank { rank: 3 }, &layout).parts, [dense(0..61, 0)]);
    }
}
