//! Graph convolution (Kipf and Welling, arXiv 1609.02907): normalised sums of linear maps of neighbours.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::{Activation, Tape, linear, reshape};
use super::{Graph, Nodes, aggregate, finish, sparse_linear};

/// `activation(Â · nodes · weight + bias)`: `weight` is `[lanes, in, out]`, `bias` `[lanes, out]`, the result `[lanes,
/// batch, nodes, out]`. `Â` is `normalised` (from [`gcn_weights`](super::gcn_weights)) on the edges of `graphs`, or the
/// graphs' own weights, as [`Graph::gcn_normalised`] gives them.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn gcn(
    tape: &mut Tape,
    nodes: Nodes<'_>,
    graphs: &[Arc<Graph>],
    normalised: Option<&Tensor>,
    (weight, bias): (&Tensor, &Tensor),
    activation: Activation,
) -> Result<Tensor> {
    let sums = propagate(tape, nodes, graphs, normalised, weight)?;
    finish(tape, &sums, bias, activation)
}

/// `A · nodes · weight`, the cheaper product first: `weight` is `[lanes, in, out]`, the result `[lanes, batch, nodes,
/// out]`; `edge_weights` as in [`aggregate`](super::aggregate()).
///
/// # Errors
/// As [`gcn`].
pub(crate) fn propagate(
    tape: &mut Tape,
    nodes: Nodes<'_>,
    graphs: &[Arc<Graph>],
    edge_weights: Option<&Tensor>,
    weight: &Tensor,
) -> Result<Tensor> {
    let (_, inputs, outputs) = weight.dims3()?;
    match nodes {
        // By the widths alone: how many lanes there are must not change how a lane is rounded.
        Nodes::Dense(nodes) if inputs < outputs => {
            let sums = aggregate(tape, nodes, graphs, edge_weights)?;
            project(tape, Nodes::Dense(&sums), weight)
        }
        _ => {
            let projected = project(tape, nodes, weight)?;
            aggregate(tape, &projected, graphs, edge_weights)
        }
    }
}

/// `nodes · weight`: `weight` is `[lanes, in, out]`, the result `[lanes, batch, nodes, out]`.
///
/// # Errors
/// If shapes or types do not fit, or lanes share something that has a gradient.
pub(crate) fn project(tape: &mut Tape, nodes: Nodes<'_>, weight: &Tensor) -> Result<Tensor> {
    let (lanes, inputs, outputs) = weight.dims3()?;
    let nodes = match nodes {
        Nodes::Sparse(features) => return sparse_linear(tape, features, weight),
        Nodes::Dense(nodes) => nodes,
    };
    let (own, batch, count, features) = nodes.dims4()?;
    if features != inputs {
        bail!("projection: weights {:?} do not fit nodes {:?}", weight.shape(), nodes.shape());
    }
    let rows = reshape(tape, nodes, &[own, batch * count, features])?;
    let no_bias = Tensor::zeros((lanes, outputs), weight.dtype(), weight.device())?;
    let rows = linear(tape, &rows, weight, &no_bias, Activation::Identity)?;
    reshape(tape, &rows, &[lanes, batch, count, outputs])
}
