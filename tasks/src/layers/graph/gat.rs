//! Graph attention (Veličković et al., arXiv 1710.10903, equations 3 to 6).

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::{Activation, Tape};
use super::{Graph, Nodes, aggregate, edge_scores, finish, head_scores, mean_heads, project, segment_softmax};

/// The slope of the leaky ReLU below 0, as in the paper.
const SLOPE: f64 = 0.2;

/// What becomes of the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heads {
    /// Side by side: `heads · width` features.
    Concat,
    /// Their mean: `width` features, for a last layer.
    Mean,
}

/// Weights of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    /// `[lanes, in, heads · width]`, head after head.
    pub(crate) weight: &'a Tensor,
    /// `[lanes, heads, width]`, for the node that sends.
    pub(crate) source: &'a Tensor,
    /// `[lanes, heads, width]`, for the node that receives.
    pub(crate) target: &'a Tensor,
    /// `[lanes, heads · width]`, or `[lanes, width]` for the mean of heads.
    pub(crate) bias: &'a Tensor,
}

/// `activation(Σ_j α_ij · h_j + bias)` for each head, `h = nodes · weight` and `α_ij` the softmax over the edges into `i` of
/// `leaky(source · h_j + target · h_i)`. The result is `[lanes, batch, nodes, features]`, see [`Heads`]. A node attends
/// to itself only by a self loop: pass [`Graph::with_self_loops`]. Weights of the edges are not used.
///
/// # Errors
/// If shapes, types or graphs do not fit, or lanes share something that has a gradient.
pub(crate) fn gat(
    tape: &mut Tape,
    nodes: Nodes<'_>,
    graphs: &[Arc<Graph>],
    weights: Attention<'_>,
    heads: Heads,
    activation: Activation,
) -> Result<Tensor> {
    let (_, count, width) = weights.source.dims3()?;
    if weights.weight.dim(2)? != count * width {
        bail!("attention: weights {:?} do not make {count} heads of {width}", weights.weight.shape());
    }
    let projected = project(tape, nodes, weights.weight)?;
    let from = head_scores(tape, &projected, weights.source)?;
    let to = head_scores(tape, &projected, weights.target)?;
    let scores = edge_scores(tape, &from, &to, graphs, SLOPE)?;
    let shares = segment_softmax(tape, &scores, graphs)?;
    let mut sums = aggregate(tape, &projected, graphs, Some(&shares))?;
    if heads == Heads::Mean {
        sums = mean_heads(tape, &sums, count)?;
    }
    finish(tape, &sums, weights.bias, activation)
}
