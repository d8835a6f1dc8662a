//! Weighted sums of rows of features along edges, at one end of them: the inner loop of message passing and of its
//! gradient.
//!
//! ```text
//!  out[node] += Σ weight[edge] · from[end of edge]      edges of the node, in their order
//!                                ├─ 16 features ─┤      added up in a register
//! ```
//!
//! Each feature is a sum of products in the order of the edges, so vectors and loops give the same bits.

use paceline_optimizer_core::simd::{Kernel, Simd, WIDTH, dispatch};

use super::super::real::Real;
use super::{add_scaled, row, row_mut};
use crate::graph::sparse::Walk;

/// What is summed.
#[derive(Clone, Copy)]
pub(in crate::layers) struct Sums<'a, T> {
    /// The edges of each node.
    pub(super) walk: Walk<'a>,
    pub(super) weights: Weights<'a, T>,
    /// Each head weights its own `features / heads` features.
    pub(super) heads: usize,
    /// Rows of `features` values.
    pub(super) from: &'a [T],
    pub(super) features: usize,
}

/// The weights of edges.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a, T> {
    /// Given ones, of each head of each edge.
    Given(&'a [T]),
    /// The graph's own, the same for all heads, or ones.
    Own(Option<&'a [f32]>),
}

impl<T: Real> Sums<'_, T> {
    fn weight(&self, edge: usize, head: usize) -> T {
        match self.weights {
            Weights::Given(weights) => weights[edge * self.heads + head],
            Weights::Own(weights) => T::from_f64(weights.map_or(1.0, |weights| f64::from(weights[edge]))),
        }
    }
}

/// Adds the sums to the rows of `out`: the loop for any type.
pub(in crate::layers) fn add_sums<T: Real>(out: &mut [T], sums: Sums<'_, T>) {
    let (walk, width) = (sums.walk, sums.features / sums.heads);
    for (node, out) in out.chunks_exact_mut(sums.features.max(1)).enumerate() {
        for place in walk.places(node) {
            let edge = walk.edge(place);
            let from = row(sums.from, walk.ends[edge] as usize, sums.features);
            for head in 0..sums.heads {
                add_scaled(row_mut(out, head, width), sums.weight(edge, head), row(from, head, width));
            }
        }
    }
}

/// As [`add_sums`], in vectors.
pub(in crate::layers) fn add_sums_f32(out: &mut [f32], sums: Sums<'_, f32>) {
    dispatch(AddSums { out, sums });
}

struct AddSums<'a> {
    out: &'a mut [f32],
    sums: Sums<'a, f32>,
}

impl Kernel for AddSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sums { walk, weights, heads, from, features } = self.sums;
        let width = features / heads;
        for (node, out) in self.out.chunks_exact_mut(features.max(1)).enumerate() {
            for head in 0..heads {
                for strip in (0..width).step_by(WIDTH) {
                    let column = head * width + strip;
                    let out = &mut out[column..][..WIDTH.min(width - strip)];
                    let mut sum = s.load_part(out);
                    for place in walk.places(node) {
                        let edge = walk.edge(place);
                        let weight = match weights {
                            Weights::Given(weights) => weights[edge * heads + head],
                            Weights::Own(Some(weights)) => weights[edge],
                            Weights::Own(None) => 1.0,
                        };
                        // A whole vector also where the head ends within it: what lies behind is summed and left out.
                        let values = s.load_part(&from[walk.ends[edge] as usize * features + column..]);
                        // No fused multiply-add: the loop for any type has none.
                        sum = s.add(sum, s.mul(s.splat(weight), values));
                    }
                    s.store_part(sum, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::simd::InstructionSet;

    use super::*;
    use crate::graph::sparse::Graph;

    #[test]
    fn vectors_and_loops_agree_to_the_bit() {
        let edges = [(1, 0, 0.3), (2, 0, -1.7), (4, 0, 0.1), (0, 2, 2.5), (3, 3, 0.7), (0, 4, -0.9), (1, 4, 1.1)];
        let graph = Graph::weighted(5, &edges).unwrap();
        let value = |i: usize| if i % 41 == 40 { f32::NAN } else { ((i * 37 + 11) % 23) as f32 / 7.0 - 1.6 };
        for (features, heads) in [(1, 1), (7, 1), (16, 1), (16, 2), (48, 1), (51, 3)] {
            let from: Vec<f32> = (0..5 * features).map(value).collect();
            let given: Vec<f32> = (0..edges.len() * heads).map(|i| value(i + 2)).collect();
            for walk in [graph.by_target(), graph.by_source()] {
                for weights in [Weights::Given(&given), Weights::Own(graph.weights()), Weights::Own(None)] {
                    let sums = Sums { walk, weights, heads, from: &from, features };
                    let mut loops = vec![0.1; 5 * features];
                    add_sums(&mut loops, sums);
                    for set in InstructionSet::available() {
                        let mut vectors = vec![0.1; 5 * features];
                        set.run(AddSums { out: &mut vectors, sums });
                        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                        assert!(vectors.iter().zip(&loops).all(same), "{features} features, {heads} heads, {set:?}");
                    }
                }
            }
        }
    }
}
