//! One perturbation: any part of ε, its factors, the whole.

use std::ops::Range;
use std::sync::Arc;

use super::plan::{FactoredMatrix, Part, Plan};
use super::{BLOCK, Noise, orthogonal};
use crate::params::Layout;
use crate::schedule::perturbation_seed;
use crate::work::Sequential;
use crate::{Result, Seed, noise};

/// The ε of one `(run, outer step, slot, pair)`: a value that can tell any of its parts, not a vector.
///
/// The same bits on every host: entries are normals of `noise/v1`, or sums of products of them in f64, taken in order and
/// rounded once.
///
/// ```
/// use paceline_optimizer_core::perturbation::{Noise, Perturbation};
/// use paceline_optimizer_core::{Layout, Seed, TensorSpec};
///
/// let layout = Layout::new(vec![TensorSpec::new("w", [64, 32]), TensorSpec::new("b", [32])])?;
/// let epsilon = Perturbation::new(Seed::new(7), Noise::LowRank { rank: 1 }, &layout, 0, 3, 1)?;
/// let factors = epsilon.factors(0).expect("a matrix of this size is factored");
/// assert_eq!(epsilon.whole()[5 * 32 + 9], factors.a[5] * factors.b[9]);
/// assert_eq!(epsilon.normals(), 64 + 32 + 32);
/// # Ok::<(), paceline_optimizer_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Perturbation {
    layout: Arc<Layout>,
    plan: Plan,
    /// Streams of normals and the factor of each: the pair's own, or with orthogonal noise those of all pairs up to it.
    streams: Vec<(Seed, f64)>,
}

/// The factors of one matrix of a low-rank ε, `A Bᵀ / √rank`.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Columns of A and B.
    pub rank: usize,
    /// The columns of A, one after another: `[rank, m]`.
    pub a: Vec<f32>,
    /// The columns of B, one after another: `[rank, n]`.
    pub b: Vec<f32>,
}

impl Factors {
    /// `1 / √rank`.
    pub fn scale(&self) -> f64 {
        1.0 / (self.rank as f64).sqrt()
    }
}

impl Perturbation {
    /// The perturbation of one pair in one outer step of a run, for a theta of this layout.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting of the noise is out of its range, or if orthogonal noise is asked for more
    /// pairs than theta has values.
    pub fn new(run: Seed, noise: Noise, layout: &Arc<Layout>, outer_step: u64, slot: u32, pair: u32) -> Result<Self> {
        noise.validate()?;
        noise.check_pairs(pair.saturating_add(1), layout.size())?;
        let seed = |pair| perturbation_seed(run, outer_step, slot, pair);
        let streams = match noise {
            Noise::Dense | Noise::LowRank { .. } => vec![(seed(pair), 1.0)],
            Noise::Orthogonal => {
                let seeds: Vec<Seed> = (0..=pair).map(seed).collect();
                let last = orthogonal::combinations(&seeds, layout.size(), &Sequential).pop().unwrap_or_default();
                seeds.into_iter().zip(last).collect()
            }
        };
        Ok(Self { layout: Arc::clone(layout), plan: Plan::new(noise, layout), streams })
    }

    /// The layout of theta.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What ε consists of, in order of theta: the same for all perturbations of a layout and a kind of noise.
    pub fn parts(&self) -> &[Part] {
        &self.plan.parts
    }

    /// The streams of normals that parts are drawn from, and the factor of each: a dense value is the sum over them, in
    /// f64 and in this order, or the normal itself where there is one stream of factor 1. Matrices are drawn from the last.
    pub fn streams(&self) -> &[(Seed, f64)] {
        &self.streams
    }

    /// Normals drawn for the whole of ε, once.
    pub fn normals(&self) -> u64 {
        self.plan.normals * self.streams.len() as u64
    }

    /// Writes the entries of ε that begin at place `first` of theta.
    ///
    /// # Panics
    /// If they end beyond theta.
    pub fn values(&self, first: usize, out: &mut [f32]) {
        let wanted = first..first + out.len();
        assert!(wanted.end <= self.layout.size(), "{wanted:?} lies beyond {} values", self.layout.size());
        for part in &self.plan.parts {
            let theta = part.theta();
            let common = wanted.start.max(theta.start)..wanted.end.min(theta.end);
            if common.is_empty() {
                continue;
            }
            let out = &mut out[common.start - first..common.end - first];
            match part {
                Part::Dense { stream, .. } => self.dense(stream + (common.start - theta.start) as u64, out),
                Part::Factored(matrix) => {
                    self.product(matrix, common.start - theta.start..common.end - theta.start, out);
                }
            }
        }
    }

    /// All of ε, as long as theta.
    pub fn whole(&self) -> Vec<f32> {
        let mut epsilon = vec![0.0; self.layout.size()];
        self.values(0, &mut epsilon);
        epsilon
    }

    /// The entries of ε for one tensor.
    pub fn tensor(&self, index: usize) -> Vec<f32> {
        let mut epsilon = vec![0.0; self.layout.tensors()[index].size()];
        self.values(self.layout.offset(index), &mut epsilon);
        epsilon
    }

    /// The factors of one tensor; `None` where ε is not factored.
    pub fn factors(&self, tensor: usize) -> Option<Factors> {
        let matrix = self.plan.factored().find(|matrix| matrix.tensor == tensor)?;
        let (mut a, mut b) = (vec![0.0; matrix.rank * matrix.rows], vec![0.0; matrix.rank * matrix.columns]);
        noise::normals(self.own(), matrix.stream, &mut a);
        noise::normals(self.own(), matrix.stream_of_b(), &mut b);
        Some(Factors { rank: matrix.rank, a, b })
    }

    /// The stream of the pair itself.
    fn own(&self) -> Seed {
        self.streams[self.streams.len() - 1].0
    }

    fn dense(&self, stream: u64, out: &mut [f32]) {
        if let [(seed, 1.0)] = self.streams[..] {
            return noise::normals(seed, stream, out);
        }
        let (mut normals, mut sums) = ([0.0; BLOCK], [0.0; BLOCK]);
        for (index, out) in out.chunks_mut(BLOCK).enumerate() {
            let (normals, sums) = (&mut normals[..out.len()], &mut sums[..out.len()]);
            sums.fill(0.0);
            for &(seed, factor) in &self.streams {
                noise::normals(seed, stream + (index * BLOCK) as u64, normals);
                sums.iter_mut().zip(&*normals).for_each(|(sum, &g)| *sum += factor * f64::from(g));
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
        }
    }

    /// Entries of a matrix, counted along its rows.
    fn product(&self, matrix: &FactoredMatrix, entries: Range<usize>, out: &mut [f32]) {
        let &FactoredMatrix { rows, columns, rank, stream, .. } = matrix;
        let needed = entries.start / columns..entries.end.div_ceil(columns);
        let mut a = vec![0.0; rank * needed.len()];
        for (column, a) in a.chunks_exact_mut(needed.len()).enumerate() {
            noise::normals(self.own(), stream + (column * rows + needed.start) as u64, a);
        }
        let mut b = vec![0.0; rank * columns];
        noise::normals(self.own(), matrix.stream_of_b(), &mut b);
        let scale = matrix.scale();
        let mut sums = vec![0.0; columns];
        for row in needed.clone() {
            sums.fill(0.0);
            for (a, b) in a.chunks_exact(needed.len()).zip(b.chunks_exact(columns)) {
                let a = f64::from(a[row - needed.start]);
                sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum += a * f64::from(b));
            }
            let begin = row * columns;
            let common = entries.start.max(begin)..entries.end.min(begin + columns);
            let out = &mut out[common.start - entries.start..common.end - entries.start];
            let sums = &sums[common.start - begin..common.end - begin];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum * scale) as f32);
        }
    }
}
