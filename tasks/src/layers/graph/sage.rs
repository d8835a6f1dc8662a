//! GraphSAGE with the mean aggregator (Hamilton, Ying and Leskovec, arXiv 1706.02216).

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::super::{Activation, Tape, add};
use super::{Graph, Nodes, check_graphs, finish, project, propagate};

/// Weights of a GraphSAGE layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sage<'a> {
    /// `[lanes, in, out]`, for the node itself.
    pub(crate) own: &'a Tensor,
    /// `[lanes, in, out]`, for the mean of its neighbours.
    pub(crate) neighbour: &'a Tensor,
    /// `[lanes, out]`.
    pub(crate) bias: &'a Tensor,
}

/// `activation(x_i · own + mean of x_j over the edges j → i · neighbour + bias)`, `[lanes, batch, nodes, out]`. Weights of
/// the graphs' edges are not used; `mean` is [`mean_weights`] of the graphs. The mean of no neighbours is 0.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn sage(
    tape: &mut Tape,
    nodes: Nodes<'_>,
    graphs: &[Arc<Graph>],
    mean: &Tensor,
    weights: Sage<'_>,
    activation: Activation,
) -> Result<Tensor> {
    let own = project(tape, nodes, weights.own)?;
    let neighbours = propagate(tape, nodes, graphs, Some(mean), weights.neighbour)?;
    let sum = add(tape, &own, &neighbours)?;
    finish(tape, &sum, weights.bias, activation)
}

/// One over the number of edges into the target, for each edge: `[graphs, 1, edges]`.
///
/// # Errors
/// If there is no graph, they differ in nodes, or the type is not f32 or f64.
pub(crate) fn mean_weights(graphs: &[Arc<Graph>], dtype: DType) -> Result<Tensor> {
    let nodes = graphs.first().map_or(0, |graph| graph.nodes());
    let edges = check_graphs("mean weights", graphs, nodes)?;
    let mut weights = vec![0.0; graphs.len() * edges];
    for (index, graph) in graphs.iter().enumerate() {
        let weights = super::row_mut(&mut weights, index, edges);
        for (weight, &target) in weights.iter_mut().zip(graph.targets()) {
            *weight = 1.0 / graph.incoming(target as usize).len() as f64;
        }
    }
    Tensor::from_vec(weights, (graphs.len(), 1, edges), &Device::Cpu)?.to_dtype(dtype)
}
