//! Message passing with features of edges (Gilmer et al., arXiv 1704.01212, equations 1 and 2), as molecules need it.
//!
//! ```text
//!  x_source · W_source ─┐
//!                       ├─► ReLU = message ─► Σ at target ─► · W_message ─┐
//!  edge · W_edge + b_e ─┘                            x · W_own ───────────┴─► + b ─► activation
//! ```

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Activation, Tape, add, by_type, host, linear, reshape, tensor};
use super::{Blocks, Graph, Nodes, check_graphs, common_axes, finish, of_lane, project, row, row_mut};
use crate::cost::spend;

/// `out[target] = Σ max(nodes[source] + edges[e], 0)` over the edges `e` into `target`: `nodes` is `[lanes | 1, batch | 1,
/// nodes, features]`, `edges` `[lanes | 1, batch | 1, edges, features]`, the result `[lanes, batch, nodes, features]`. There
/// may be room for more edges than a graph has; it is not read and gets a gradient of 0. A NaN in a message stays one.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn edge_messages(tape: &mut Tape, nodes: &Tensor, edges: &Tensor, graphs: &[Arc<Graph>]) -> Result<Tensor> {
    const LAYER: &str = "edge messages";
    let (_, _, count, features) = nodes.dims4()?;
    let longest = check_graphs(LAYER, graphs, count)?;
    let (lanes, batch) = common_axes(LAYER, tape, &[nodes, edges], &[graphs.len()])?;
    let (_, _, room, width) = edges.dims4()?;
    if room < longest || width != features {
        bail!("{LAYER}: expected {longest} edges of {features} features, got {:?}", edges.shape());
    }
    let op = Messages { graphs: graphs.to_vec(), lanes, batch, count, features };
    // By the room for edges, as every layer: what a batch costs does not depend on which graphs it has.
    spend(2.0 * (lanes * batch * room * features) as f64);
    let output = by_type!(LAYER, nodes.dtype(), forward::<_>(&op, nodes, edges))?;
    let (x, e) = (nodes.clone(), edges.clone());
    Ok(tape.record_keeping(LAYER, &[nodes, edges], output, &[nodes, edges], move |grad, _| {
        by_type!(LAYER, x.dtype(), backward::<_>(&op, &x, &e, grad))
    }))
}

struct Messages {
    graphs: Vec<Arc<Graph>>,
    lanes: usize,
    batch: usize,
    count: usize,
    features: usize,
}

impl Messages {
    fn block(&self) -> Blocks {
        Blocks { lanes: self.lanes, batch: self.batch, size: self.count * self.features }
    }
}

fn forward<T: Real>(op: &Messages, nodes: &Tensor, edges: &Tensor) -> Result<Tensor> {
    let guards = (nodes.storage_and_layout(), edges.storage_and_layout());
    let (x, e) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let mut output = vec![T::zero(); op.lanes * op.batch * op.count * op.features];
    for lane in 0..op.lanes {
        let graph = of_lane(&op.graphs, lane);
        for example in 0..op.batch {
            let (x, e) = (&x[Blocks::of(nodes).at(lane, example)], &e[Blocks::of(edges).at(lane, example)]);
            let output = &mut output[op.block().at(lane, example)];
            for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
                let parts = row(x, source as usize, op.features).iter().zip(row(e, edge, op.features));
                for (sum, (&x, &e)) in row_mut(output, target as usize, op.features).iter_mut().zip(parts) {
                    let message = x + e;
                    // Not `if message > 0`, which would hide a NaN.
                    *sum += if message <= T::zero() { T::zero() } else { message };
                }
            }
        }
    }
    tensor(output, &[op.lanes, op.batch, op.count, op.features])
}

fn backward<T: Real>(op: &Messages, nodes: &Tensor, edges: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let guards = (nodes.storage_and_layout(), edges.storage_and_layout(), grad.storage_and_layout());
    let (x, e, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?, host::<T>(&guards.2)?);
    let mut grad_x = vec![T::zero(); x.len()];
    let mut grad_e = vec![T::zero(); e.len()];
    for lane in 0..op.lanes {
        let graph = of_lane(&op.graphs, lane);
        for example in 0..op.batch {
            let (of_nodes, of_edges) = (Blocks::of(nodes).at(lane, example), Blocks::of(edges).at(lane, example));
            let (x, e) = (&x[of_nodes.clone()], &e[of_edges.clone()]);
            let (grad_x, grad_e) = (&mut grad_x[of_nodes], &mut grad_e[of_edges]);
            let grads = &grads[op.block().at(lane, example)];
            spend(2.0 * (Blocks::of(edges).size) as f64);
            for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
                let (source, target) = (source as usize * op.features, target as usize * op.features);
                for feature in 0..op.features {
                    let (source, edge) = (source + feature, edge * op.features + feature);
                    // As the activation of other layers: what is not above 0, NaN included, passes nothing back.
                    if x[source] + e[edge] > T::zero() {
                        grad_x[source] += grads[target + feature];
                        grad_e[edge] += grads[target + feature];
                    }
                }
            }
        }
    }
    Ok(vec![Some(tensor(grad_x, nodes.dims())?), Some(tensor(grad_e, edges.dims())?)])
}

/// Weights of a message-passing layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessagePassing<'a> {
    /// `[lanes, in, messages]`, for the node that sends.
    pub(crate) source: &'a Tensor,
    /// `[lanes, edge features, messages]` and `[lanes, messages]`.
    pub(crate) edge: (&'a Tensor, &'a Tensor),
    /// `[lanes, messages, out]`, for the sum of messages.
    pub(crate) message: &'a Tensor,
    /// `[lanes, in, out]`, for the node itself.
    pub(crate) own: &'a Tensor,
    /// `[lanes, out]`.
    pub(crate) bias: &'a Tensor,
}

/// See the [module](self): `edges` is `[lanes | 1, batch, edges, edge features]`, the result `[lanes, batch, nodes, out]`.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn message_passing(
    tape: &mut Tape,
    nodes: Nodes<'_>,
    edges: &Tensor,
    graphs: &[Arc<Graph>],
    weights: MessagePassing<'_>,
    activation: Activation,
) -> Result<Tensor> {
    let (own, batch, count, features) = edges.dims4()?;
    let (lanes, _, messages) = weights.edge.0.dims3()?;
    let rows = reshape(tape, edges, &[own, batch * count, features])?;
    let rows = linear(tape, &rows, weights.edge.0, weights.edge.1, Activation::Identity)?;
    let of_edges = reshape(tape, &rows, &[lanes, batch, count, messages])?;
    let of_sources = project(tape, nodes, weights.source)?;
    let sums = edge_messages(tape, &of_sources, &of_edges, graphs)?;
    let sums = project(tape, Nodes::Dense(&sums), weights.message)?;
    let own = project(tape, nodes, weights.own)?;
    let sum = add(tape, &own, &sums)?;
    finish(tape, &sum, weights.bias, activation)
}
