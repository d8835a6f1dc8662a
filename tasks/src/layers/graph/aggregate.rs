//! Sums of messages: what each node gets along its incoming edges.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Tape, by_type, host, tensor};
use super::sums::{Sums, Weights};
use super::{Blocks, Graph, check_graphs, common_axes, dot, of_lane, row, row_mut};
use crate::cost::spend;

/// `out[target] = Σ weight_e · nodes[source]` over the edges into `target`: `nodes` is `[lanes | 1, batch | 1, nodes,
/// features]`, `weights` `[lanes | 1, batch | 1, edges]`, or `[…, edges, heads]` where each head weights its own
/// `features / heads` features. Without `weights` those of the graphs are used. The result is `[lanes, batch, nodes,
/// features]`; a node that nothing reaches gets 0.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn aggregate(
    tape: &mut Tape,
    nodes: &Tensor,
    graphs: &[Arc<Graph>],
    weights: Option<&Tensor>,
) -> Result<Tensor> {
    const LAYER: &str = "aggregate";
    let operands: Vec<&Tensor> = std::iter::once(nodes).chain(weights).collect();
    let (_, _, count, features) = nodes.dims4()?;
    let edges = check_graphs(LAYER, graphs, count)?;
    let (lanes, batch) = common_axes(LAYER, tape, &operands, &[graphs.len()])?;
    let heads = match weights.map(|weights| &weights.dims()[2..]) {
        None => 1,
        Some([of, heads @ ..]) if *of == edges && heads.len() < 2 => heads.first().copied().unwrap_or(1),
        Some(other) => bail!("{LAYER}: weights of {edges} edges expected, got {other:?}"),
    };
    if heads == 0 || !features.is_multiple_of(heads) {
        bail!("{LAYER}: {features} features cannot be split among {heads} heads");
    }
    let op = Aggregate { graphs: graphs.to_vec(), lanes, batch, count, features, heads };
    let output = by_type!(LAYER, nodes.dtype(), forward::<_>(&op, nodes, weights))?;
    let (x, w) = (nodes.clone(), weights.cloned());
    Ok(tape.record_keeping(LAYER, &operands, output, &operands, move |grad, wanted| {
        by_type!(LAYER, x.dtype(), backward::<_>(&op, &x, w.as_ref(), grad, wanted))
    }))
}

struct Aggregate {
    graphs: Vec<Arc<Graph>>,
    lanes: usize,
    batch: usize,
    count: usize,
    features: usize,
    heads: usize,
}

impl Aggregate {
    /// Lanes and examples, lanes outermost.
    fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        let batch = self.batch;
        (0..self.lanes).flat_map(move |lane| (0..batch).map(move |example| (lane, example)))
    }

    fn block(&self) -> Blocks {
        Blocks { lanes: self.lanes, batch: self.batch, size: self.count * self.features }
    }
}

fn forward<T: Real>(op: &Aggregate, nodes: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    let guards = (nodes.storage_and_layout(), weights.map(Tensor::storage_and_layout));
    let (x, w) = (host::<T>(&guards.0)?, guards.1.as_ref().map(host::<T>).transpose()?);
    let mut output = vec![T::zero(); op.lanes * op.batch * op.count * op.features];
    for (lane, example) in op.each() {
        let graph = of_lane(&op.graphs, lane);
        spend(2.0 * graph.edges() as f64 * op.features as f64);
        let from = &x[Blocks::of(nodes).at(lane, example)];
        let weights = weights_of(graph, weights, w, (lane, example));
        let sums = Sums { walk: graph.by_target(), weights, heads: op.heads, from, features: op.features };
        T::add_sums(&mut output[op.block().at(lane, example)], sums);
    }
    tensor(output, &[op.lanes, op.batch, op.count, op.features])
}

fn backward<T: Real>(
    op: &Aggregate,
    nodes: &Tensor,
    weights: Option<&Tensor>,
    grad: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let guards = (nodes.storage_and_layout(), weights.map(Tensor::storage_and_layout), grad.storage_and_layout());
    let (x, w) = (host::<T>(&guards.0)?, guards.1.as_ref().map(host::<T>).transpose()?);
    let grads = host::<T>(&guards.2)?;
    let width = op.features / op.heads;
    let mut grad_x = wanted[0].then(|| vec![T::zero(); x.len()]);
    let mut grad_w = weights.filter(|_| wanted[1]).map(|weights| vec![T::zero(); weights.elem_count()]);
    for (lane, example) in op.each() {
        let graph = of_lane(&op.graphs, lane);
        let grad = &grads[op.block().at(lane, example)];
        let of_nodes = Blocks::of(nodes).at(lane, example);
        if let Some(grad_x) = &mut grad_x {
            spend(2.0 * graph.edges() as f64 * op.features as f64);
            // The same edges by source: each node's gradient is one sum in the order of its targets.
            let weights = weights_of(graph, weights, w, (lane, example));
            let sums = Sums { walk: graph.by_source(), weights, heads: op.heads, from: grad, features: op.features };
            T::add_sums(&mut grad_x[of_nodes.clone()], sums);
        }
        if let (Some(grad_w), Some(weights)) = (&mut grad_w, weights) {
            spend(2.0 * graph.edges() as f64 * op.features as f64);
            let grad_w = &mut grad_w[Blocks::of(weights).at(lane, example)];
            let x = &x[of_nodes];
            for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
                let (x, grad) = (row(x, source as usize, op.features), row(grad, target as usize, op.features));
                for (head, sum) in row_mut(grad_w, edge, op.heads).iter_mut().enumerate() {
                    *sum += dot(row(x, head, width), row(grad, head, width));
                }
            }
        }
    }
    let mut gradients = vec![grad_x.map(|values| tensor(values, nodes.dims())).transpose()?];
    if let Some(weights) = weights {
        gradients.push(grad_w.map(|values| tensor(values, weights.dims())).transpose()?);
    }
    Ok(gradients)
}

/// The weights of one lane and example: given ones, or the graph's own.
fn weights_of<'a, T>(
    graph: &'a Graph,
    weights: Option<&Tensor>,
    values: Option<&'a [T]>,
    (lane, example): (usize, usize),
) -> Weights<'a, T> {
    match (weights, values) {
        (Some(weights), Some(values)) => Weights::Given(&values[Blocks::of(weights).at(lane, example)]),
        _ => Weights::Own(graph.weights()),
    }
}
