//! The parts of graph attention: a score for each edge, and its share among the edges into one target.
//!
//! ```text
//!  nodes · a_source ─┐
//!                    ├─► leaky ReLU ─► softmax over the edges into a target, a head at a time ─► weights to aggregate with
//!  nodes · a_target ─┘
//! ```

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Tape, by_type, host, tensor};
use super::{Blocks, Graph, add_scaled, check_graphs, common_axes, dot, of_lane, row, row_mut};

/// One number a node and head: `nodes` is `[lanes | 1, batch, nodes, heads · width]`, `attention` `[lanes, heads, width]`,
/// the result `[lanes, batch, nodes, heads]`.
///
/// # Errors
/// If shapes or types do not fit, or lanes share something that has a gradient.
pub(crate) fn head_scores(tape: &mut Tape, nodes: &Tensor, attention: &Tensor) -> Result<Tensor> {
    const LAYER: &str = "head scores";
    let (lanes, heads, width) = attention.dims3()?;
    let (own, _, _, features) = nodes.dims4()?;
    if features != heads * width || heads == 0 || width == 0 || own != lanes {
        bail!("{LAYER}: attention {:?} does not fit nodes {:?}", attention.shape(), nodes.shape());
    }
    if nodes.dtype() != attention.dtype() {
        bail!("{LAYER}: nodes are {:?} and attention {:?}", nodes.dtype(), attention.dtype());
    }
    let output = by_type!(LAYER, nodes.dtype(), scores::<_>(nodes, attention))?;
    let (x, a) = (nodes.clone(), attention.clone());
    Ok(tape.record_keeping(LAYER, &[nodes, attention], output, &[nodes, attention], move |grad, _| {
        by_type!(LAYER, x.dtype(), scores_backward::<_>(&x, &a, grad))
    }))
}

fn scores<T: Real>(nodes: &Tensor, attention: &Tensor) -> Result<Tensor> {
    let guards = (nodes.storage_and_layout(), attention.storage_and_layout());
    let (x, a) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let (lanes, heads, width) = attention.dims3()?;
    let (_, batch, count, features) = nodes.dims4()?;
    let mut output = Vec::with_capacity(lanes * batch * count * heads);
    for lane in 0..lanes {
        let (x, a) = (row(x, lane, batch * count * features), row(a, lane, features));
        let rows = x.chunks_exact(features);
        output.extend(rows.flat_map(|x| x.chunks_exact(width).zip(a.chunks_exact(width)).map(|(x, a)| dot(x, a))));
    }
    tensor(output, &[lanes, batch, count, heads])
}

fn scores_backward<T: Real>(nodes: &Tensor, attention: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let guards = (nodes.storage_and_layout(), attention.storage_and_layout(), grad.storage_and_layout());
    let (x, a, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?, host::<T>(&guards.2)?);
    let (lanes, heads, width) = attention.dims3()?;
    let (_, batch, count, features) = nodes.dims4()?;
    let mut grad_x = vec![T::zero(); x.len()];
    let mut grad_a = vec![T::zero(); a.len()];
    for lane in 0..lanes {
        let (a, grad_a) = (row(a, lane, features), row_mut(&mut grad_a, lane, features));
        for index in lane * batch * count..(lane + 1) * batch * count {
            for (head, &grad) in row(grads, index, heads).iter().enumerate() {
                add_scaled(row_mut(grad_a, head, width), grad, row(row(x, index, features), head, width));
                let grad_x = row_mut(&mut grad_x, index, features);
                add_scaled(row_mut(grad_x, head, width), grad, row(a, head, width));
            }
        }
    }
    Ok(vec![Some(tensor(grad_x, nodes.dims())?), Some(tensor(grad_a, attention.dims())?)])
}

/// `leaky(from[source] + to[target])` for each edge, where `leaky(x)` is `slope · x` below 0 (its derivative at 0 is 1, as
/// in JAX): `from` and `to` are `[lanes, batch, nodes, heads]`, the result `[lanes, batch, edges, heads]`.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn edge_scores(
    tape: &mut Tape,
    from: &Tensor,
    to: &Tensor,
    graphs: &[Arc<Graph>],
    slope: f64,
) -> Result<Tensor> {
    const LAYER: &str = "edge scores";
    let (_, _, count, heads) = from.dims4()?;
    let edges = check_graphs(LAYER, graphs, count)?;
    let (lanes, batch) = common_axes(LAYER, tape, &[from, to], &[graphs.len()])?;
    if from.dims()[2..] != to.dims()[2..] || from.dims()[1] != to.dims()[1] {
        bail!("{LAYER}: {:?} and {:?} do not fit", from.shape(), to.shape());
    }
    let op = EdgeOp { graphs: graphs.to_vec(), lanes, batch, edges, heads };
    let output = by_type!(LAYER, from.dtype(), edge_forward::<_>(&op, from, to, slope))?;
    let (a, b) = (from.clone(), to.clone());
    Ok(tape.record_keeping(LAYER, &[from, to], output, &[from, to], move |grad, _| {
        by_type!(LAYER, a.dtype(), edge_backward::<_>(&op, &a, &b, slope, grad))
    }))
}

struct EdgeOp {
    graphs: Vec<Arc<Graph>>,
    lanes: usize,
    batch: usize,
    edges: usize,
    heads: usize,
}

impl EdgeOp {
    fn block(&self) -> Blocks {
        Blocks { lanes: self.lanes, batch: self.batch, size: self.edges * self.heads }
    }
}

fn edge_forward<T: Real>(op: &EdgeOp, from: &Tensor, to: &Tensor, slope: f64) -> Result<Tensor> {
    let guards = (from.storage_and_layout(), to.storage_and_layout());
    let (from_values, to_values) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let slope = T::from_f64(slope);
    let mut output = vec![T::zero(); op.lanes * op.batch * op.edges * op.heads];
    for lane in 0..op.lanes {
        let graph = of_lane(&op.graphs, lane);
        for example in 0..op.batch {
            let from = &from_values[Blocks::of(from).at(lane, example)];
            let to = &to_values[Blocks::of(to).at(lane, example)];
            let output = &mut output[op.block().at(lane, example)];
            for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
                let ends = row(from, source as usize, op.heads).iter().zip(row(to, target as usize, op.heads));
                for (output, (&from, &to)) in row_mut(output, edge, op.heads).iter_mut().zip(ends) {
                    let sum = from + to;
                    *output = if sum < T::zero() { slope * sum } else { sum };
                }
            }
        }
    }
    tensor(output, &[op.lanes, op.batch, op.edges, op.heads])
}

fn edge_backward<T: Real>(
    op: &EdgeOp,
    from: &Tensor,
    to: &Tensor,
    slope: f64,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let guards = (from.storage_and_layout(), to.storage_and_layout(), grad.storage_and_layout());
    let (from_values, to_values, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?, host::<T>(&guards.2)?);
    let slope = T::from_f64(slope);
    let mut grad_from = vec![T::zero(); from_values.len()];
    let mut grad_to = vec![T::zero(); to_values.len()];
    for lane in 0..op.lanes {
        let graph = of_lane(&op.graphs, lane);
        for example in 0..op.batch {
            let (of_from, of_to) = (Blocks::of(from).at(lane, example), Blocks::of(to).at(lane, example));
            let (from, to) = (&from_values[of_from.clone()], &to_values[of_to.clone()]);
            let (grad_from, grad_to) = (&mut grad_from[of_from], &mut grad_to[of_to]);
            let grads = &grads[op.block().at(lane, example)];
            for (edge, (&source, &target)) in graph.sources().iter().zip(graph.targets()).enumerate() {
                for (head, &grad) in row(grads, edge, op.heads).iter().enumerate() {
                    let (source, target) = (source as usize * op.heads + head, target as usize * op.heads + head);
                    let below = from[source] + to[target] < T::zero();
                    let grad = if below { slope * grad } else { grad };
                    grad_from[source] += grad;
                    grad_to[target] += grad;
                }
            }
        }
    }
    Ok(vec![Some(tensor(grad_from, from.dims())?), Some(tensor(grad_to, to.dims())?)])
}

/// `exp(score) / Σ exp(score)` over the edges into one target, a head at a time: `[lanes, batch, edges, heads]` to the
/// same. The largest score is subtracted first; a NaN among them makes all of them NaN.
///
/// # Errors
/// If shapes or graphs do not fit.
pub(crate) fn segment_softmax(tape: &mut Tape, scores: &Tensor, graphs: &[Arc<Graph>]) -> Result<Tensor> {
    const LAYER: &str = "segment softmax";
    let (lanes, batch, edges, heads) = scores.dims4()?;
    let nodes = graphs.first().map_or(0, |graph| graph.nodes());
    let longest = check_graphs(LAYER, graphs, nodes)?;
    if longest != edges || (graphs.len() != 1 && graphs.len() != lanes) {
        let count = graphs.len();
        bail!("{LAYER}: scores {:?} do not fit {count} graphs of up to {longest} edges", scores.shape());
    }
    let op = EdgeOp { graphs: graphs.to_vec(), lanes, batch, edges, heads };
    let output = by_type!(LAYER, scores.dtype(), softmax::<_>(&op, scores))?;
    let (shares, kept) = (output.clone(), output.clone());
    Ok(tape.record_keeping(LAYER, &[scores], output, &[&kept], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, shares.dtype(), softmax_backward::<_>(&op, &shares, grad))?)])
    }))
}

impl EdgeOp {
    /// Where the scores of one head and target are, for all of them; those of an edge are `heads` after the last's.
    fn segments(&self, lane: usize, example: usize) -> impl Iterator<Item = impl Iterator<Item = usize> + Clone> {
        let (heads, start) = (self.heads, self.block().at(lane, example).start);
        let graph = of_lane(&self.graphs, lane);
        (0..graph.nodes()).flat_map(move |node| {
            let edges = graph.incoming(node);
            (0..heads).map(move |head| edges.clone().map(move |edge| start + edge * heads + head))
        })
    }

    fn lanes_and_examples(&self) -> impl Iterator<Item = (usize, usize)> {
        let batch = self.batch;
        (0..self.lanes).flat_map(move |lane| (0..batch).map(move |example| (lane, example)))
    }
}

fn softmax<T: Real>(op: &EdgeOp, scores: &Tensor) -> Result<Tensor> {
    let guard = scores.storage_and_layout();
    let scores_in = host::<T>(&guard)?;
    let mut shares = vec![T::zero(); scores_in.len()];
    for (lane, example) in op.lanes_and_examples() {
        for segment in op.segments(lane, example) {
            let values = segment.clone().map(|place| scores_in[place]);
            // From the first on, so that a NaN there is not passed over; any other makes the total NaN.
            let Some(largest) = values.reduce(|largest, value| if value > largest { value } else { largest }) else {
                continue;
            };
            let mut total = T::zero();
            for place in segment.clone() {
                shares[place] = (scores_in[place] - largest).exp();
                total += shares[place];
            }
            segment.for_each(|place| shares[place] /= total);
        }
    }
    tensor(shares, scores.dims())
}

fn softmax_backward<T: Real>(op: &EdgeOp, shares: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let guards = (shares.storage_and_layout(), grad.storage_and_layout());
    let (values, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let mut output = vec![T::zero(); values.len()];
    for (lane, example) in op.lanes_and_examples() {
        for segment in op.segments(lane, example) {
            let mean = segment.clone().fold(T::zero(), |sum, place| sum + values[place] * grads[place]);
            segment.for_each(|place| output[place] = values[place] * (grads[place] - mean));
        }
    }
    tensor(output, shares.dims())
}

/// The mean of a node's heads: `[lanes, batch, nodes, heads · width]` to `[lanes, batch, nodes, width]`.
///
/// # Errors
/// If the features cannot be split among so many heads.
pub(crate) fn mean_heads(tape: &mut Tape, nodes: &Tensor, heads: usize) -> Result<Tensor> {
    const LAYER: &str = "mean of heads";
    let (_, _, _, features) = nodes.dims4()?;
    if heads == 0 || features == 0 || !features.is_multiple_of(heads) {
        bail!("{LAYER}: {features} features cannot be split among {heads} heads");
    }
    let output = by_type!(LAYER, nodes.dtype(), mean::<_>(nodes, heads))?;
    let x = nodes.clone();
    Ok(tape.record_keeping(LAYER, &[nodes], output, &[nodes], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, x.dtype(), mean_backward::<_>(&x, heads, grad))?)])
    }))
}

fn mean<T: Real>(nodes: &Tensor, heads: usize) -> Result<Tensor> {
    let guard = nodes.storage_and_layout();
    let (lanes, batch, count, features) = nodes.dims4()?;
    let (width, share) = (features / heads, T::one() / T::from_f64(heads as f64));
    let mut output = vec![T::zero(); lanes * batch * count * width];
    for (node, sum) in host::<T>(&guard)?.chunks_exact(features).zip(output.chunks_exact_mut(width)) {
        node.chunks_exact(width).for_each(|head| add_scaled(sum, share, head));
    }
    tensor(output, &[lanes, batch, count, width])
}

fn mean_backward<T: Real>(nodes: &Tensor, heads: usize, grad: &Tensor) -> Result<Tensor> {
    let guard = grad.storage_and_layout();
    let features = nodes.dims4()?.3;
    let (width, share) = (features / heads, T::one() / T::from_f64(heads as f64));
    let mut output = vec![T::zero(); nodes.elem_count()];
    for (node, grad) in output.chunks_exact_mut(features).zip(host::<T>(&guard)?.chunks_exact(width)) {
        node.chunks_exact_mut(width).for_each(|head| add_scaled(head, share, grad));
    }
    tensor(output, nodes.dims())
}
