//! `Σ weight · ε` over many perturbations, none of which exists as a vector.
//!
//! ```text
//!  dense part     a block of theta at a time: draw, weigh, add, for every term         (stays in the first-level cache)
//!  matrix         columns of 512 terms at a time:   [w₀a₀ w₁a₁ …] · [b₀ b₁ …]ᵀ         one product in f64
//!  orthogonal     Σ weight · ε = Σ weight' · g      other weights on raw normals, then as the dense part
//! ```

use std::collections::BTreeMap;

use super::plan::{FactoredMatrix, Part, Plan};
use super::product::{INNER, SHORTEST, add_outer_products, to_29_bits};
use super::{BLOCK, Noise, Term, orthogonal};
use crate::params::Layout;
use crate::schedule::perturbation_seed;
use crate::work::{Executor, Piece};
use crate::{Seed, noise};

/// Values of a dense part that are one piece of work.
const VALUES: usize = 32 * BLOCK;

/// Terms whose columns are drawn by one piece of work.
const TERMS: usize = 16;

/// Rows of a matrix that are one piece of work, about.
const ROWS: usize = 128;

/// A stream of normals and its weight.
type Stream = (Seed, f64);

/// Adds `Σ weight · ε` to `sum`, which is as long as theta; in f64.
///
/// Every entry is summed in the order of the terms, or of `(outer step, slot, pair)` with orthogonal noise, where at most
/// 512 products of a matrix's columns are added up before they meet `sum`. The bits depend on terms and settings alone:
/// neither on the executor nor on the host.
pub fn weighted_sum(
    noise: Noise,
    layout: &Layout,
    run: Seed,
    terms: &[Term],
    sum: &mut [f64],
    executor: &dyn Executor,
) {
    debug_assert_eq!(sum.len(), layout.size(), "a sum of perturbations is as long as theta");
    let streams = match noise {
        Noise::Dense | Noise::LowRank { .. } => terms
            .iter()
            .map(|term| (perturbation_seed(run, term.outer_step, term.slot, term.pair), term.weight))
            .collect(),
        Noise::Orthogonal => raw_streams(run, layout.size(), terms, executor),
    };
    let plan = Plan::new(noise, layout);
    let (mut dense, mut matrices): (Vec<Piece<'_>>, Vec<Matrix<'_>>) = (Vec::new(), Vec::new());
    let (streams, mut rest) = (&streams[..], sum);
    for part in &plan.parts {
        let (sum, later) = rest.split_at_mut(part.theta().len());
        rest = later;
        match part {
            &Part::Dense { stream, .. } => {
                for (index, sum) in sum.chunks_mut(VALUES).enumerate() {
                    let first = stream + (index * VALUES) as u64;
                    dense.push(Box::new(move || add_dense(streams, first, sum)));
                }
            }
            Part::Factored(shape) => matrices.push(Matrix { shape: *shape, sum, left: vec![], right: vec![] }),
        }
    }
    executor.run(dense);
    if let Some(rank) = matrices.first().map(|matrix| matrix.shape.rank) {
        for streams in streams.chunks((INNER / rank).max(1)) {
            let draws = matrices.iter_mut().flat_map(|matrix| matrix.draw(streams));
            executor.run(draws.collect());
            let products = matrices.iter_mut().flat_map(Matrix::multiply);
            executor.run(products.collect());
        }
    }
}

/// The raw normals and their weights that make the same sum as the terms' orthogonal directions.
fn raw_streams(run: Seed, size: usize, terms: &[Term], executor: &dyn Executor) -> Vec<Stream> {
    // The directions of one slot in one outer step depend on each other.
    let mut groups: BTreeMap<(u64, u32), Vec<f64>> = BTreeMap::new();
    for term in terms {
        let weights = groups.entry((term.outer_step, term.slot)).or_default();
        let pair = term.pair as usize;
        weights.resize(weights.len().max(pair + 1), 0.0);
        weights[pair] += term.weight;
    }
    let mut streams = Vec::new();
    for ((outer_step, slot), weights) in groups {
        let pairs = 0..weights.len() as u32;
        let seeds: Vec<Seed> = pairs.map(|pair| perturbation_seed(run, outer_step, slot, pair)).collect();
        let mut raw = vec![0.0; seeds.len()];
        for (weight, row) in weights.iter().zip(orthogonal::combinations(&seeds, size, executor)) {
            raw.iter_mut().zip(row).for_each(|(raw, c)| *raw += weight * c);
        }
        streams.extend(seeds.into_iter().zip(raw));
    }
    streams
}

/// Adds a dense part that begins at normal `first` of every stream.
fn add_dense(streams: &[Stream], first: u64, sum: &mut [f64]) {
    let mut epsilon = [0.0; BLOCK];
    for (index, sum) in sum.chunks_mut(BLOCK).enumerate() {
        let epsilon = &mut epsilon[..sum.len()];
        for &(seed, weight) in streams {
            noise::normals(seed, first + (index * BLOCK) as u64, epsilon);
            for (sum, &epsilon) in sum.iter_mut().zip(&*epsilon) {
                *sum += weight * f64::from(epsilon);
            }
        }
    }
}

/// A matrix of theta with the columns that are about to be multiplied.
struct Matrix<'a> {
    shape: FactoredMatrix,
    sum: &'a mut [f64],
    /// Weighed columns of A, `[inner, m]`.
    left: Vec<f64>,
    /// Columns of B, `[inner, n]`.
    right: Vec<f64>,
}

impl Matrix<'_> {
    /// The pieces that draw the columns of some streams.
    fn draw<'a>(&'a mut self, streams: &'a [Stream]) -> impl Iterator<Item = Piece<'a>> {
        let shape = self.shape;
        let FactoredMatrix { rows, columns, rank, .. } = shape;
        let inner = (streams.len() * rank).max(SHORTEST);
        // All zeros where there are fewer columns than a product needs.
        for (columns, length) in [(&mut self.left, inner * rows), (&mut self.right, inner * columns)] {
            columns.clear();
            columns.resize(length, 0.0);
        }
        let left = self.left.chunks_mut(TERMS * rank * rows);
        let right = self.right.chunks_mut(TERMS * rank * columns);
        streams.chunks(TERMS).zip(left.zip(right)).map(move |(streams, (left, right))| -> Piece<'a> {
            Box::new(move || draw_columns(&shape, streams, left, right))
        })
    }

    /// The pieces that add the products of the columns to the sum.
    fn multiply(&mut self) -> impl Iterator<Item = Piece<'_>> {
        let FactoredMatrix { rows, columns, .. } = self.shape;
        let (left, right) = (&self.left[..], &self.right[..]);
        let inner = left.len() / rows;
        // Blocks of equal height, so that none is a single row.
        let blocks = (rows / ROWS).max(1);
        let mut rest = &mut *self.sum;
        (0..blocks).map(move |block| -> Piece<'_> {
            let rows = block * rows / blocks..(block + 1) * rows / blocks;
            let (sum, later) = std::mem::take(&mut rest).split_at_mut(rows.len() * columns);
            rest = later;
            Box::new(move || add_outer_products(left, right, inner, rows, sum))
        })
    }
}

/// Draws the columns of A, weighed, and those of B.
fn draw_columns(matrix: &FactoredMatrix, streams: &[Stream], left: &mut [f64], right: &mut [f64]) {
    let (of_a, of_b) = (matrix.rank * matrix.rows, matrix.rank * matrix.columns);
    let mut normals = vec![0.0; of_a.max(of_b)];
    for (&(seed, weight), (left, right)) in
        streams.iter().zip(left.chunks_exact_mut(of_a).zip(right.chunks_exact_mut(of_b)))
    {
        let weight = weight * matrix.scale();
        noise::normals(seed, matrix.stream, &mut normals[..of_a]);
        left.iter_mut().zip(&normals).for_each(|(left, &a)| *left = to_29_bits(weight * f64::from(a)));
        noise::normals(seed, matrix.stream_of_b(), &mut normals[..of_b]);
        right.iter_mut().zip(&normals).for_each(|(right, &b)| *right = f64::from(b));
    }
}
