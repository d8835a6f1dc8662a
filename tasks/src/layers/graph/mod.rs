//! Layers on graphs: nodes send messages along edges and sum what reaches them.
//!
//! ```text
//!  nodes [lanes | 1, batch, nodes, features]          x_source ──weight──► Σ at target       aggregate
//!  edges [lanes | 1, batch | 1, edges(, heads)]
//!                                                     gcn        D^-½ (A + I) D^-½ · X W + b
//!  one graph that lanes share, or one a lane,         gat        softmax over the edges into a target
//!  all of as many nodes (pad with nodes that          sage       X W_self + mean of neighbours · W_neighbour
//!  have no edges)                                     message passing, readout, dense graphs
//! ```
//!
//! A batch of examples has one graph ([`aggregate()`]'s batch axis), or is one disjoint union of graphs with a batch axis
//! of 1, told apart again by a [`Membership`]. Where lanes have graphs with unlike numbers of edges, edge tensors are as
//! long as the longest: what lies beyond a graph's edges is not read and gets a gradient of 0.
//!
//! Every sum has a fixed order: a target's messages by source, a source's gradient by target. No lane count, thread or
//! other lane changes a bit of it.

mod aggregate;
mod attention;
mod dense;
mod finish;
mod gat;
mod gcn;
mod messages;
mod normalise;
mod readout;
mod sage;
mod sparse_linear;
pub(super) mod sums;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub(crate) use aggregate::aggregate;
pub(crate) use attention::{edge_scores, head_scores, mean_heads, segment_softmax};
pub(crate) use dense::{PhaseGraph, dense_aggregate, dense_gcn, dense_normalise, phase_distances};
pub(crate) use finish::finish;
pub(crate) use gat::{Attention, Heads, gat};
pub(crate) use gcn::{gcn, project, propagate};
pub(crate) use messages::{MessagePassing, edge_messages, message_passing};
pub(crate) use normalise::{SelfLoops, gcn_weights};
pub(crate) use readout::{Membership, Readout, readout};
pub(crate) use sage::{Sage, mean_weights, sage};
pub(crate) use sparse_linear::sparse_linear;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::Tape;
use super::real::Real;
use crate::graph::features::Features;
use crate::graph::sparse::Graph;

/// Features of nodes, as a layer takes them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nodes<'a> {
    /// `[lanes | 1, batch, nodes, features]`.
    Dense(&'a Tensor),
    /// Sparse data with a batch axis of 1: one for all lanes, or one a lane.
    Sparse(&'a [Arc<Features>]),
}

impl<'a> From<&'a Tensor> for Nodes<'a> {
    fn from(nodes: &'a Tensor) -> Self {
        Self::Dense(nodes)
    }
}

/// Blocks of `size` values, one a lane and example, in a tensor that lanes, or examples, may share.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    lanes: usize,
    batch: usize,
    size: usize,
}

impl Blocks {
    /// Of a tensor `[lanes | 1, batch | 1, …]`.
    fn of(tensor: &Tensor) -> Self {
        let dims = tensor.dims();
        Self { lanes: dims[0], batch: dims[1], size: dims[2..].iter().product() }
    }

    /// Where the values of this lane and example are.
    fn at(self, lane: usize, example: usize) -> Range<usize> {
        let lane = if self.lanes == 1 { 0 } else { lane };
        let example = if self.batch == 1 { 0 } else { example };
        let start = (lane * self.batch + example) * self.size;
        start..start + self.size
    }
}

/// The longest of axis `axis` among operands of which some may have 1 there, being shared.
fn common(layer: &str, axis: &str, lengths: impl Iterator<Item = usize> + Clone) -> Result<usize> {
    let longest = lengths.clone().find(|&length| length != 1).unwrap_or(1);
    match lengths.clone().find(|&length| length != 1 && length != longest) {
        Some(other) => bail!("{layer}: operands of {longest} and of {other} {axis} do not go together"),
        None => Ok(longest),
    }
}

/// Lanes and batch of operands `[lanes | 1, batch | 1, …]` of one type; `lists` are the lengths of lists with one entry
/// a lane, or one for all. Operands with a gradient have their own lane.
fn common_axes(layer: &str, tape: &Tape, operands: &[&Tensor], lists: &[usize]) -> Result<(usize, usize)> {
    let [first, ..] = operands else { bail!("{layer}: no operands") };
    for operand in operands {
        if operand.rank() < 3 {
            bail!("{layer}: expected [lanes, batch, …], got {:?}", operand.shape());
        }
        if operand.dtype() != first.dtype() {
            bail!("{layer}: operands are {:?} and {:?}", first.dtype(), operand.dtype());
        }
    }
    let dims = |axis: usize| operands.iter().map(move |operand| operand.dims()[axis]);
    let lanes = common(layer, "lanes", dims(0).chain(lists.iter().copied()))?;
    if let Some(shared) = operands.iter().find(|operand| operand.dims()[0] != lanes && tape.tracks(operand)) {
        bail!("{layer}: {:?} shared by {lanes} lanes must be data, not something with a gradient", shared.shape());
    }
    Ok((lanes, common(layer, "examples", dims(1))?))
}

/// That each graph has `nodes` nodes; gives the length of an edge tensor, the most edges of any.
fn check_graphs(layer: &str, graphs: &[Arc<Graph>], nodes: usize) -> Result<usize> {
    if let Some(graph) = graphs.iter().find(|graph| graph.nodes() != nodes) {
        bail!("{layer}: features of {nodes} nodes do not fit a graph of {}", graph.nodes());
    }
    match graphs.iter().map(|graph| graph.edges()).max() {
        Some(edges) => Ok(edges),
        None => bail!("{layer}: needs one graph for all lanes or one a lane, got none"),
    }
}

/// The entry of a list with one entry a lane, or one for all.
fn of_lane<T>(list: &[Arc<T>], lane: usize) -> &T {
    if list.len() == 1 { &list[0] } else { &list[lane] }
}

/// `sum += factor · values`.
fn add_scaled<T: Real>(sum: &mut [T], factor: T, values: &[T]) {
    sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += factor * value);
}

/// `Σ a · b`, in order.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::zero(), |sum, (&a, &b)| sum + a * b)
}

/// The `index`-th row of `width` values.
fn row<T>(values: &[T], index: usize, width: usize) -> &[T] {
    &values[index * width..(index + 1) * width]
}

/// [`row`], to be changed.
fn row_mut<T>(values: &mut [T], index: usize, width: usize) -> &mut [T] {
    &mut values[index * width..(index + 1) * width]
}
