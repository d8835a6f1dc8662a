//! From nodes to graphs: what the nodes of each graph of a disjoint union have together.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::super::real::Real;
use super::super::{Tape, by_type, host, tensor};
use super::{Blocks, add_scaled, common_axes, of_lane, row, row_mut};

/// Which graph of a disjoint union each node belongs to; padding belongs to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    graphs: usize,
    of_node: Vec<Option<u32>>,
}

impl Membership {
    /// # Errors
    /// If a node is of a graph that is not one of `graphs`.
    pub(crate) fn new(graphs: usize, of_node: Vec<Option<u32>>) -> Result<Self> {
        match of_node.iter().flatten().find(|&&graph| graph as usize >= graphs) {
            Some(graph) => bail!("membership: a node of graph {graph} among {graphs} graphs"),
            None => Ok(Self { graphs, of_node }),
        }
    }

    /// Graphs of `nodes` nodes side by side, of which those with a mask of 0 are padding: `mask` is `[graphs · nodes]`.
    ///
    /// # Errors
    /// If the mask does not tell of whole graphs.
    pub(crate) fn padded(nodes: usize, mask: &[f32]) -> Result<Self> {
        if nodes == 0 || !mask.len().is_multiple_of(nodes) {
            bail!("membership: a mask of {} nodes is not one of graphs of {nodes}", mask.len());
        }
        let of_node = mask.iter().enumerate().map(|(node, &mask)| (mask != 0.0).then_some((node / nodes) as u32));
        Self::new(mask.len() / nodes, of_node.collect())
    }

    /// Nodes and their graphs, in order; padding left out.
    fn members(&self) -> impl Iterator<Item = (usize, usize)> {
        self.of_node.iter().enumerate().filter_map(|(node, graph)| graph.map(|graph| (node, graph as usize)))
    }

    fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.graphs];
        self.members().for_each(|(_, graph)| sizes[graph] += 1);
        sizes
    }
}

/// What a graph gets of its nodes, a feature at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readout {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest; the first of equals gets the whole gradient, and a NaN is the largest.
    Max,
}

/// One row a graph: `nodes` is `[lanes | 1, batch, nodes, features]`, the result `[lanes, batch, graphs, features]`.
/// `members` is one for all lanes or one a lane, all of as many nodes and graphs. A graph without nodes gets 0.
///
/// # Errors
/// If shapes do not fit, or lanes share something that has a gradient.
pub(crate) fn readout(tape: &mut Tape, nodes: &Tensor, members: &[Arc<Membership>], kind: Readout) -> Result<Tensor> {
    const LAYER: &str = "readout";
    let (_, _, count, features) = nodes.dims4()?;
    let Some(graphs) = members.first().map(|members| members.graphs) else {
        bail!("{LAYER}: needs one membership for all lanes or one a lane, got none");
    };
    if let Some(other) = members.iter().find(|other| (other.of_node.len(), other.graphs) != (count, graphs)) {
        let (got, of) = (other.of_node.len(), other.graphs);
        bail!("{LAYER}: expected the graphs of {count} nodes among {graphs}, got those of {got} among {of}");
    }
    let (lanes, batch) = common_axes(LAYER, tape, &[nodes], &[members.len()])?;
    let op = Op { members: members.to_vec(), kind, lanes, batch, graphs, features };
    let output = by_type!(LAYER, nodes.dtype(), forward::<_>(&op, nodes))?;
    let x = nodes.clone();
    Ok(tape.record_keeping(LAYER, &[nodes], output, &[nodes], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, x.dtype(), backward::<_>(&op, &x, grad))?)])
    }))
}

struct Op {
    members: Vec<Arc<Membership>>,
    kind: Readout,
    lanes: usize,
    batch: usize,
    graphs: usize,
    features: usize,
}

impl Op {
    fn block(&self) -> Blocks {
        Blocks { lanes: self.lanes, batch: self.batch, size: self.graphs * self.features }
    }

    /// What each node counts in its graph, for a sum or a mean.
    fn shares<T: Real>(&self, members: &Membership) -> Vec<T> {
        let of_size = |size: usize| match self.kind {
            Readout::Mean => T::one() / T::from_f64(size as f64),
            Readout::Sum | Readout::Max => T::one(),
        };
        members.sizes().into_iter().map(of_size).collect()
    }

    /// The node that has each graph's largest value of each feature.
    fn largest<T: Real>(&self, members: &Membership, x: &[T]) -> Vec<Option<usize>> {
        let mut largest: Vec<Option<usize>> = vec![None; self.graphs * self.features];
        for (node, graph) in members.members() {
            let best = row_mut(&mut largest, graph, self.features);
            for (feature, best) in best.iter_mut().enumerate() {
                let value = |node: usize| x[node * self.features + feature];
                let is_larger = best
                    .is_none_or(|best| !value(best).is_nan() && (value(node) > value(best) || value(node).is_nan()));
                if is_larger {
                    *best = Some(node);
                }
            }
        }
        largest
    }
}

fn forward<T: Real>(op: &Op, nodes: &Tensor) -> Result<Tensor> {
    let guard = nodes.storage_and_layout();
    let x = host::<T>(&guard)?;
    let mut output = vec![T::zero(); op.lanes * op.batch * op.graphs * op.features];
    for lane in 0..op.lanes {
        let members = of_lane(&op.members, lane);
        let shares = op.shares::<T>(members);
        for example in 0..op.batch {
            let x = &x[Blocks::of(nodes).at(lane, example)];
            let output = &mut output[op.block().at(lane, example)];
            if op.kind == Readout::Max {
                let largest = op.largest(members, x).into_iter().enumerate();
                for (place, node) in largest.filter_map(|(place, node)| node.map(|node| (place, node))) {
                    output[place] = x[node * op.features + place % op.features];
                }
            } else {
                for (node, graph) in members.members() {
                    add_scaled(row_mut(output, graph, op.features), shares[graph], row(x, node, op.features));
                }
            }
        }
    }
    tensor(output, &[op.lanes, op.batch, op.graphs, op.features])
}

fn backward<T: Real>(op: &Op, nodes: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let guards = (nodes.storage_and_layout(), grad.storage_and_layout());
    let (x, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let mut output = vec![T::zero(); x.len()];
    for lane in 0..op.lanes {
        let members = of_lane(&op.members, lane);
        let shares = op.shares::<T>(members);
        for example in 0..op.batch {
            let of_nodes = Blocks::of(nodes).at(lane, example);
            let (x, output) = (&x[of_nodes.clone()], &mut output[of_nodes]);
            let grads = &grads[op.block().at(lane, example)];
            if op.kind == Readout::Max {
                let largest = op.largest(members, x).into_iter().enumerate();
                for (place, node) in largest.filter_map(|(place, node)| node.map(|node| (place, node))) {
                    output[node * op.features + place % op.features] = grads[place];
                }
            } else {
                for (node, graph) in members.members() {
                    add_scaled(row_mut(output, node, op.features), shares[graph], row(grads, graph, op.features));
                }
            }
        }
    }
    tensor(output, nodes.dims())
}
