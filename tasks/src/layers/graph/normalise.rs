//! The propagation matrix of a GCN (Kipf and Welling, arXiv 1609.02907, equation 2), differentiable in the edge weights.
//!
//! ```text
//!  A + I ─► degree d_t = Σ weights into t ─► s = d^-½ ─► normalised weight of an edge = s_target · weight · s_source
//! ```

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Tape, by_type, host, tensor};
use super::{Blocks, Graph};

/// `A + I`: a graph with a self loop on every node, and which of its edges are those of `A`.
#[derive(Clone, Debug)]
pub(crate) struct SelfLoops {
    graph: Arc<Graph>,
    /// For each edge of `A + I` the edge of `A` it is; a node's new self loop is none.
    before: Vec<Option<u32>>,
    edges_before: usize,
}

impl SelfLoops {
    /// Adds a self loop of weight 1 to every node; where there is one, its weight grows by 1.
    pub(crate) fn new(graph: &Graph) -> Self {
        let looped = graph.with_self_loops();
        // Both lists have one order, so one walk finds each edge again.
        let mut next = 0;
        let ends = looped.sources().iter().zip(looped.targets());
        let before = ends.map(|(source, target)| {
            let same = next < graph.edges() && (graph.sources()[next], graph.targets()[next]) == (*source, *target);
            same.then(|| {
                next += 1;
                next as u32 - 1
            })
        });
        Self { before: before.collect(), edges_before: graph.edges(), graph: Arc::new(looped) }
    }

    /// `A + I`, whose edges are those of [`gcn_weights`].
    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

/// `D^-1/2 (A + I) D^-1/2` as a weight for each edge of `A + I`, where `D` sums incoming weights: `weights` is `[lanes | 1,
/// batch | 1, edges]` for the edges of `A`, the result `[…, edges of A + I]`, as [`aggregate`](super::aggregate()) takes
/// it with [`SelfLoops::graph`]. A node whose degree is not positive passes nothing. Sums are in f64. Weights that are
/// data give a constant, to be computed once.
///
/// # Errors
/// If the shape or type does not fit.
pub(crate) fn gcn_weights(tape: &mut Tape, loops: &Arc<SelfLoops>, weights: &Tensor) -> Result<Tensor> {
    const LAYER: &str = "gcn weights";
    let (_, _, edges) = weights.dims3()?;
    if edges != loops.edges_before {
        bail!("{LAYER}: weights of {} edges expected, got {edges}", loops.edges_before);
    }
    let output = by_type!(LAYER, weights.dtype(), forward::<_>(loops, weights))?;
    let (loops, w) = (Arc::clone(loops), weights.clone());
    Ok(tape.record_keeping(LAYER, &[weights], output, &[weights], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, w.dtype(), backward::<_>(&loops, &w, grad))?)])
    }))
}

/// `A + I` of one lane and example: its weights, and `d^-1/2` of each node.
fn weigh<T: Real>(loops: &SelfLoops, weights: &[T]) -> (Vec<f64>, Vec<f64>) {
    let ends = loops.before.iter().enumerate();
    let weights: Vec<f64> = ends
        .map(|(edge, before)| {
            let is_loop = loops.graph.sources()[edge] == loops.graph.targets()[edge];
            let own = before.map_or(0.0, |before| weights[before as usize].to_f64());
            own + f64::from(u8::from(is_loop))
        })
        .collect();
    let scales = (0..loops.graph.nodes()).map(|node| inverse_root(weights[loops.graph.incoming(node)].iter().sum()));
    let scales = scales.collect();
    (weights, scales)
}

/// `d^-1/2`, or 0 where `d` is not positive. NaN stays NaN.
pub(super) fn inverse_root(degree: f64) -> f64 {
    if degree <= 0.0 { 0.0 } else { degree.sqrt().recip() }
}

fn forward<T: Real>(loops: &SelfLoops, weights: &Tensor) -> Result<Tensor> {
    let guard = weights.storage_and_layout();
    let values = host::<T>(&guard)?;
    let (lanes, batch, _) = weights.dims3()?;
    let graph = &loops.graph;
    let mut output = Vec::with_capacity(lanes * batch * graph.edges());
    for index in 0..lanes * batch {
        let (weights, scales) = weigh(loops, super::row(values, index, loops.edges_before));
        let ends = graph.sources().iter().zip(graph.targets()).zip(weights);
        output.extend(ends.map(|((&source, &target), weight)| {
            T::from_f64(scales[target as usize] * weight * scales[source as usize])
        }));
    }
    tensor(output, &[lanes, batch, graph.edges()])
}

fn backward<T: Real>(loops: &SelfLoops, weights: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let guards = (weights.storage_and_layout(), grad.storage_and_layout());
    let (values, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let graph = &loops.graph;
    let blocks = Blocks::of(weights);
    let mut output = vec![T::zero(); values.len()];
    for index in 0..blocks.lanes * blocks.batch {
        let (weights, scales) = weigh(loops, super::row(values, index, loops.edges_before));
        let grads = super::row(grads, index, graph.edges());
        // An edge's weight also changes the degree of its target, and so every edge that touches the target.
        let mut of_degree = vec![0.0; graph.nodes()];
        for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
            let (source, target) = (source as usize, target as usize);
            let through = grads[edge].to_f64() * weights[edge];
            of_degree[target] += through * scales[source];
            of_degree[source] += through * scales[target];
        }
        // d (d^-1/2) / dd = -1/2 d^-3/2
        of_degree.iter_mut().zip(&scales).for_each(|(sum, scale)| *sum *= -0.5 * scale.powi(3));
        let output = super::row_mut(&mut output, index, loops.edges_before);
        for (edge, before) in loops.before.iter().enumerate() {
            let Some(before) = before else { continue };
            let (source, target) = (graph.sources()[edge] as usize, graph.targets()[edge] as usize);
            let direct = grads[edge].to_f64() * scales[target] * scales[source];
            output[*before as usize] = T::from_f64(direct + of_degree[target]);
        }
    }
    tensor(output, weights.dims())
}
