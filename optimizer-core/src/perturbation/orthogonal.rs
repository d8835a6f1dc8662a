//! Orthogonal directions: Gram–Schmidt over the pairs of a slot, without storing a single direction.
//!
//! ```text
//!  raw normals   g₀  g₁  g₂ …       Gram matrix g_i · g_j       ε_i = Σ_{k ≤ i} c_ik g_k
//!  of each pair  (never stored)  ─► (pairs × pairs numbers) ─►  c lower triangular
//! ```
//!
//! What is left of `g_i` after its projection on `g_0 … g_{i−1}` points in a uniformly random direction and tells nothing
//! about the length of `g_i`. So that direction times that length is distributed exactly as `g_i` itself, and the ε of a
//! slot are orthogonal (Choromanski, Rowland, Sindhwani, Turner, Weller, arXiv 1804.02395). Pair i depends on pairs before
//! it alone.
//!
//! Everything happens on the coefficients c, so any part of a direction is had from the same parts of the raw ones, and a
//! weighted sum of directions is one of raw normals. Products of two normals are exact in f64 and are summed in a fixed
//! order: the coefficients are the same bits on every host.

use super::BLOCK;
use crate::work::{Executor, Piece};
use crate::{Seed, noise};

/// Values of theta whose products are summed by one piece of work.
const RANGE: usize = 64 * BLOCK;

/// A rest shorter than 2⁻⁶ of its vector (its square, 2⁻¹²) lost too many digits and is projected again. It takes about
/// as many pairs as theta has values to see one.
const SHORT: f64 = 1.0 / (1 << 12) as f64;

/// Least square of a rest, beside its vector's, that is told from rounding.
const LEAST: f64 = 1.0 / (1_u64 << 44) as f64;

/// The coefficients c of pairs 0, 1, 2 … whose streams have these seeds: row i has i + 1 of them.
pub(super) fn combinations(seeds: &[Seed], size: usize, executor: &dyn Executor) -> Vec<Vec<f64>> {
    let gram = Gram::of(seeds, size, executor);
    let mut units: Vec<Vec<f64>> = Vec::with_capacity(seeds.len());
    let mut combinations = Vec::with_capacity(seeds.len());
    for i in 0..seeds.len() {
        let square = gram.product(i, i);
        let mut unit = vec![0.0; i + 1];
        unit[i] = 1.0;
        if square == 0.0 {
            // Nothing but zeros: orthogonal to everything as it is, and nothing to project on.
            combinations.push(unit);
            units.push(vec![0.0; i + 1]);
            continue;
        }
        let shares: Vec<f64> =
            units.iter().map(|unit| (0..).zip(unit).map(|(k, u)| u * gram.product(k, i)).sum()).collect();
        let rest = square - shares.iter().map(|share| share * share).sum::<f64>();
        subtract(&mut unit, &units, &shares);
        scale(&mut unit, 1.0 / rest.max(LEAST * square).sqrt());
        if rest < SHORT * square {
            project_again(&mut unit, &units, seeds, size);
        }
        let length = square.sqrt();
        combinations.push(unit.iter().map(|u| u * length).collect());
        units.push(unit);
    }
    combinations
}

/// `unit −= Σ_j shares_j · units_j`.
fn subtract(unit: &mut [f64], units: &[Vec<f64>], shares: &[f64]) {
    for (earlier, share) in units.iter().zip(shares) {
        for (unit, earlier) in unit.iter_mut().zip(earlier) {
            *unit -= share * earlier;
        }
    }
}

fn scale(unit: &mut [f64], factor: f64) {
    unit.iter_mut().for_each(|unit| *unit *= factor);
}

/// A second projection, of the direction itself instead of its coefficients: twice is enough (Kahan, Parlett).
fn project_again(unit: &mut [f64], units: &[Vec<f64>], seeds: &[Seed], size: usize) {
    let mut shares = vec![0.0; units.len()];
    let mut square = 0.0;
    for_each_block(&seeds[..unit.len()], 0..size, |vectors, length| {
        let combined = |unit: &[f64]| {
            let mut sum = vec![0.0; length];
            for (unit, vector) in unit.iter().zip(vectors) {
                sum.iter_mut().zip(vector).for_each(|(sum, g)| *sum += unit * g);
            }
            sum
        };
        let direction = combined(unit);
        square += dot(&direction, &direction);
        for (share, unit) in shares.iter_mut().zip(units) {
            *share += dot(&direction, &combined(unit));
        }
    });
    subtract(unit, units, &shares);
    let rest = square - shares.iter().map(|share| share * share).sum::<f64>();
    scale(unit, 1.0 / rest.max(LEAST * square).sqrt());
}

/// All products of some streams, the lower triangle row by row.
struct Gram(Vec<f64>);

impl Gram {
    fn of(seeds: &[Seed], size: usize, executor: &dyn Executor) -> Self {
        let products = seeds.len() * (seeds.len() + 1) / 2;
        let mut parts = vec![vec![0.0; products]; size.div_ceil(RANGE)];
        let pieces = parts.iter_mut().enumerate().map(|(range, part)| -> Piece<'_> {
            let values = range * RANGE..size.min((range + 1) * RANGE);
            Box::new(move || {
                for_each_block(seeds, values, |vectors, _| {
                    let pairs = (0..vectors.len()).flat_map(|i| (0..=i).map(move |j| (i, j)));
                    for (sum, (i, j)) in part.iter_mut().zip(pairs) {
                        *sum += dot(&vectors[i], &vectors[j]);
                    }
                });
            })
        });
        executor.run(pieces.collect());
        let mut sums = vec![0.0; products];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        Self(sums)
    }

    fn product(&self, i: usize, j: usize) -> f64 {
        let (low, high) = if i < j { (i, j) } else { (j, i) };
        self.0[high * (high + 1) / 2 + low]
    }
}

/// The raw normals of all streams, block by block of `values`; `visit` is also told the block's length.
fn for_each_block(seeds: &[Seed], values: std::ops::Range<usize>, mut visit: impl FnMut(&[Vec<f64>], usize)) {
    let mut vectors = vec![Vec::with_capacity(BLOCK); seeds.len()];
    let mut normals = [0.0; BLOCK];
    for first in values.clone().step_by(BLOCK) {
        let normals = &mut normals[..BLOCK.min(values.end - first)];
        for (vector, seed) in vectors.iter_mut().zip(seeds) {
            noise::normals(*seed, first as u64, normals);
            vector.clear();
            vector.extend(normals.iter().map(|&g| f64::from(g)));
        }
        visit(&vectors, normals.len());
    }
}

/// Eight sums, entry by entry in turn, then added by halves.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Sequential;
    use std::thread;

    /// One thread a piece.
    struct Threads;

    impl Executor for Threads {
        fn run(&self, pieces: Vec<Piece<'_>>) {
            thread::scope(|scope| pieces.into_iter().for_each(|piece| drop(scope.spawn(piece))));
        }
    }

    fn seeds(pairs: u64) -> Vec<Seed> {
        (0..pairs).map(|pair| Seed::new(5).fold_in(pair)).collect()
    }

    #[test]
    fn a_pair_depends_on_those_before_it_and_threads_do_not_show() {
        let size = 2 * RANGE + 77;
        let all = combinations(&seeds(4), size, &Sequential);
        assert_eq!(combinations(&seeds(3), size, &Sequential), all[..3]);
        assert_eq!(combinations(&seeds(4), size, &Threads), all);
    }

    #[test]
    fn directions_nearly_in_the_span_of_the_earlier_ones_are_projected_again() {
        // As many pairs as values, over many seeds: some rests are short, and those would be off by far more.
        let size = 12;
        let (mut short, mut worst) = (0, 0.0_f64);
        for run in 0..2000 {
            let seeds: Vec<Seed> = (0..size as u64).map(|pair| Seed::new(run).fold_in(pair)).collect();
            let rows = combinations(&seeds, size, &Sequential);
            for_each_block(&seeds, 0..size, |vectors, _| {
                let epsilon: Vec<Vec<f64>> = rows
                    .iter()
                    .map(|row| (0..size).map(|i| row.iter().zip(vectors).map(|(c, g)| c * g[i]).sum()).collect())
                    .collect();
                for i in 0..size {
                    let length = dot(&epsilon[i], &epsilon[i]).sqrt();
                    let error = length / dot(&vectors[i], &vectors[i]).sqrt() - 1.0;
                    assert!(error.abs() < 1e-9, "length of pair {i}: {error:e}");
                    short += usize::from(rows[i][i] > 64.0);
                    for j in 0..i {
                        let other = dot(&epsilon[j], &epsilon[j]).sqrt();
                        worst = worst.max((dot(&epsilon[i], &epsilon[j]) / (length * other)).abs());
                    }
                }
            });
        }
        assert!(short > 0, "no rest was short: nothing was tested");
        assert!(worst < 1e-9, "cosine {worst:e}");
    }

    #[test]
    fn the_same_raw_vector_twice_cannot_be_made_orthogonal_but_stays_finite() {
        let twice = [Seed::new(1), Seed::new(1)];
        let rows = combinations(&twice, 100, &Sequential);
        assert!(rows.iter().flatten().all(|c| c.is_finite()), "{rows:?}");
    }
}
