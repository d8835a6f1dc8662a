//! Complete graphs of few nodes: the weights are a matrix, row = target, column = source.
//!
//! ```text
//!  phases [lanes | 1, batch, nodes, features] ─ phase_distances ─► [lanes | 1, batch | 1, nodes, nodes]
//!            one matrix an example, or one a batch                          │ dense_normalise: D^-½ (A + I) D^-½
//!  features [lanes | 1, batch, nodes, in] ──────────────────────────────────┴─► dense_gcn ─► [lanes, batch, nodes, out]
//! ```

use candle_core::{Result, Tensor, bail};

use super::super::matrix::{Into, Matrix, multiply};
use super::super::real::Real;
use super::super::{Activation, Tape, by_type, host, tensor};
use super::normalise::inverse_root;
use super::{Blocks, Nodes, common_axes, finish, project, row, row_mut};

/// Which phases make an edge's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseGraph {
    /// One matrix for the batch, of its mean phases: what an example gives then depends on the others.
    BatchMean,
    /// One matrix an example.
    PerSample,
}

/// How far the phases of nodes are apart: `w_ij` is the mean over features of `|phi_i − phi_j|`, from `[lanes | 1, batch,
/// nodes, features]` to `[lanes | 1, batch, nodes, nodes]`, or a batch of 1 for [`PhaseGraph::BatchMean`]. Phases are not
/// wrapped. Where two are equal the derivative is 0. Means are taken in f64.
///
/// # Errors
/// If the shape or type does not fit, or there is nothing to take a mean of.
pub(crate) fn phase_distances(tape: &mut Tape, phases: &Tensor, graph: PhaseGraph) -> Result<Tensor> {
    const LAYER: &str = "phase distances";
    let (_, batch, _, features) = phases.dims4()?;
    if batch == 0 || features == 0 {
        bail!("{LAYER}: no phases in {:?}", phases.shape());
    }
    let output = by_type!(LAYER, phases.dtype(), distances::<_>(phases, graph))?;
    let phi = phases.clone();
    Ok(tape.record_keeping(LAYER, &[phases], output, &[phases], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, phi.dtype(), distances_backward::<_>(&phi, graph, grad))?)])
    }))
}

/// The phases of which distances are taken, in f64: those of each example, or their mean.
fn compared<T: Real>(values: &[T], batch: usize, size: usize, graph: PhaseGraph) -> Vec<f64> {
    match graph {
        PhaseGraph::PerSample => values.iter().map(|value| value.to_f64()).collect(),
        PhaseGraph::BatchMean => (values.chunks_exact((batch * size).max(1)))
            .flat_map(|lane| {
                (0..size).map(move |i| (0..batch).map(|b| lane[b * size + i].to_f64()).sum::<f64>() / batch as f64)
            })
            .collect(),
    }
}

fn distances<T: Real>(phases: &Tensor, graph: PhaseGraph) -> Result<Tensor> {
    let guard = phases.storage_and_layout();
    let (lanes, batch, nodes, features) = phases.dims4()?;
    let values = compared(host::<T>(&guard)?, batch, nodes * features, graph);
    let matrices = values.len() / (nodes * features).max(1);
    let mut output = Vec::with_capacity(matrices * nodes * nodes);
    for matrix in 0..matrices {
        let phi = |node: usize| row(&values, matrix * nodes + node, features);
        for (target, source) in (0..nodes * nodes).map(|place| (place / nodes, place % nodes)) {
            let sum: f64 = phi(target).iter().zip(phi(source)).map(|(i, j)| (i - j).abs()).sum();
            output.push(T::from_f64(sum / features as f64));
        }
    }
    tensor(output, &[lanes, if graph == PhaseGraph::BatchMean { 1 } else { batch }, nodes, nodes])
}

fn distances_backward<T: Real>(phases: &Tensor, graph: PhaseGraph, grad: &Tensor) -> Result<Tensor> {
    let guards = (phases.storage_and_layout(), grad.storage_and_layout());
    let grads = host::<T>(&guards.1)?;
    let (lanes, batch, nodes, features) = phases.dims4()?;
    let size = nodes * features;
    let values = compared(host::<T>(&guards.0)?, batch, size, graph);
    let mut sums = vec![0.0; values.len()];
    for matrix in 0..values.len() / size.max(1) {
        let (values, sums) = (row(&values, matrix, size), row_mut(&mut sums, matrix, size));
        for (target, source) in (0..nodes * nodes).map(|place| (place / nodes, place % nodes)) {
            let grad = grads[(matrix * nodes + target) * nodes + source].to_f64() / features as f64;
            for feature in 0..features {
                let (i, j) = (target * features + feature, source * features + feature);
                let difference = values[i] - values[j];
                // The sign, 0 at 0; NaN stays NaN.
                let slope = if difference == 0.0 { 0.0 } else { difference / difference.abs() };
                sums[i] += grad * slope;
                sums[j] -= grad * slope;
            }
        }
    }
    let output = match graph {
        PhaseGraph::PerSample => sums.into_iter().map(T::from_f64).collect(),
        PhaseGraph::BatchMean => (0..lanes * batch * size)
            .map(|place| T::from_f64(sums[place / (batch * size) * size + place % size] / batch as f64))
            .collect(),
    };
    tensor(output, phases.dims())
}

/// `D^-1/2 (A + I) D^-1/2` of matrices `[lanes | 1, batch | 1, nodes, nodes]`, `D` the sums of the rows of `A + I`, in f64. A
/// node whose degree is not positive passes nothing.
///
/// # Errors
/// If the matrices are not square, or the type does not fit.
pub(crate) fn dense_normalise(tape: &mut Tape, weights: &Tensor) -> Result<Tensor> {
    const LAYER: &str = "dense normalisation";
    let (_, _, nodes, columns) = weights.dims4()?;
    if nodes != columns {
        bail!("{LAYER}: expected square matrices, got {:?}", weights.shape());
    }
    let output = by_type!(LAYER, weights.dtype(), normalise::<_>(weights))?;
    let w = weights.clone();
    Ok(tape.record_keeping(LAYER, &[weights], output, &[weights], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, w.dtype(), normalise_backward::<_>(&w, grad))?)])
    }))
}

/// `A + I`, and `d^-1/2` of each row.
fn weigh<T: Real>(matrix: &[T], nodes: usize) -> (Vec<f64>, Vec<f64>) {
    let mut weights: Vec<f64> = matrix.iter().map(|weight| weight.to_f64()).collect();
    (0..nodes).for_each(|node| weights[node * (nodes + 1)] += 1.0);
    let scales = weights.chunks_exact(nodes.max(1)).map(|row| inverse_root(row.iter().sum())).collect();
    (weights, scales)
}

fn normalise<T: Real>(weights: &Tensor) -> Result<Tensor> {
    let guard = weights.storage_and_layout();
    let nodes = weights.dims4()?.2;
    let mut output = Vec::with_capacity(weights.elem_count());
    for matrix in host::<T>(&guard)?.chunks_exact((nodes * nodes).max(1)) {
        let (weights, scales) = weigh(matrix, nodes);
        let normalised = weights.iter().enumerate();
        output.extend(normalised.map(|(i, weight)| T::from_f64(scales[i / nodes] * weight * scales[i % nodes])));
    }
    tensor(output, weights.dims())
}

fn normalise_backward<T: Real>(weights: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let guards = (weights.storage_and_layout(), grad.storage_and_layout());
    let nodes = weights.dims4()?.2;
    let size = (nodes * nodes).max(1);
    let mut output = Vec::with_capacity(weights.elem_count());
    let matrices = host::<T>(&guards.0)?.chunks_exact(size).zip(host::<T>(&guards.1)?.chunks_exact(size));
    for (matrix, grads) in matrices {
        let (weights, scales) = weigh(matrix, nodes);
        let mut of_degree = vec![0.0; nodes];
        for (place, grad) in grads.iter().enumerate() {
            let through = grad.to_f64() * weights[place];
            of_degree[place / nodes] += through * scales[place % nodes];
            of_degree[place % nodes] += through * scales[place / nodes];
        }
        // d (d^-1/2) / dd = -1/2 d^-3/2
        of_degree.iter_mut().zip(&scales).for_each(|(sum, scale)| *sum *= -0.5 * scale.powi(3));
        output.extend(grads.iter().enumerate().map(|(place, grad)| {
            let direct = grad.to_f64() * scales[place / nodes] * scales[place % nodes];
            T::from_f64(direct + of_degree[place / nodes])
        }));
    }
    tensor(output, weights.dims())
}

/// `weights · nodes` for each example: `nodes` is `[lanes | 1, batch | 1, nodes, features]`, `weights` `[lanes | 1, batch | 1,
/// nodes, nodes]`, the result `[lanes, batch, nodes, features]`.
///
/// # Errors
/// If shapes or types do not fit, or lanes share something that has a gradient.
pub(crate) fn dense_aggregate(tape: &mut Tape, nodes: &Tensor, weights: &Tensor) -> Result<Tensor> {
    const LAYER: &str = "dense aggregate";
    let (lanes, batch) = common_axes(LAYER, tape, &[nodes, weights], &[])?;
    let (_, _, count, features) = nodes.dims4()?;
    if weights.dims()[2..] != [count, count] {
        bail!("{LAYER}: expected weights of {count} × {count} nodes, got {:?}", weights.shape());
    }
    let output_blocks = Blocks { lanes, batch, size: count * features };
    let output = by_type!(LAYER, nodes.dtype(), products::<_>(output_blocks, nodes, weights))?;
    let (x, w) = (nodes.clone(), weights.clone());
    Ok(tape.record_keeping(LAYER, &[nodes, weights], output, &[nodes, weights], move |grad, wanted| {
        by_type!(LAYER, x.dtype(), products_backward::<_>(output_blocks, &x, &w, grad, wanted))
    }))
}

fn products<T: Real>(blocks: Blocks, nodes: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let guards = (nodes.storage_and_layout(), weights.storage_and_layout());
    let (x, w) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let (_, _, count, features) = nodes.dims4()?;
    let mut output = vec![T::zero(); blocks.lanes * blocks.batch * blocks.size];
    for (lane, example) in (0..blocks.lanes * blocks.batch).map(|i| (i / blocks.batch, i % blocks.batch)) {
        let x = Matrix::new(&x[Blocks::of(nodes).at(lane, example)], count, features);
        let w = Matrix::new(&w[Blocks::of(weights).at(lane, example)], count, count);
        multiply(&mut output[blocks.at(lane, example)], w, x, Into::Overwrite);
    }
    tensor(output, &[blocks.lanes, blocks.batch, count, features])
}

fn products_backward<T: Real>(
    blocks: Blocks,
    nodes: &Tensor,
    weights: &Tensor,
    grad: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let guards = (nodes.storage_and_layout(), weights.storage_and_layout(), grad.storage_and_layout());
    let (x, w, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?, host::<T>(&guards.2)?);
    let (_, _, count, features) = nodes.dims4()?;
    let mut grad_x = wanted[0].then(|| vec![T::zero(); x.len()]);
    let mut grad_w = wanted[1].then(|| vec![T::zero(); w.len()]);
    for (lane, example) in (0..blocks.lanes * blocks.batch).map(|i| (i / blocks.batch, i % blocks.batch)) {
        let (of_x, of_w) = (Blocks::of(nodes).at(lane, example), Blocks::of(weights).at(lane, example));
        let grad = Matrix::new(&grads[blocks.at(lane, example)], count, features);
        if let Some(grad_x) = &mut grad_x {
            let w = Matrix::new(&w[of_w.clone()], count, count);
            multiply(&mut grad_x[of_x.clone()], w.transposed(), grad, Into::Add);
        }
        if let Some(grad_w) = &mut grad_w {
            let x = Matrix::new(&x[of_x], count, features);
            multiply(&mut grad_w[of_w], grad, x.transposed(), Into::Add);
        }
    }
    let grad_x = grad_x.map(|values| tensor(values, nodes.dims())).transpose()?;
    Ok(vec![grad_x, grad_w.map(|values| tensor(values, weights.dims())).transpose()?])
}

/// `activation(normalised · nodes · weight + bias)`: `normalised` is `[lanes | 1, batch | 1, nodes, nodes]`, `weight` `[lanes,
/// in, out]`, `bias` `[lanes, out]`, the result `[lanes, batch, nodes, out]`.
///
/// # Errors
/// As [`dense_aggregate`].
pub(crate) fn dense_gcn(
    tape: &mut Tape,
    nodes: &Tensor,
    normalised: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    activation: Activation,
) -> Result<Tensor> {
    let (_, inputs, outputs) = weight.dims3()?;
    let sums = if inputs < outputs {
        let sums = dense_aggregate(tape, nodes, normalised)?;
        project(tape, Nodes::Dense(&sums), weight)?
    } else {
        let projected = project(tape, Nodes::Dense(nodes), weight)?;
        dense_aggregate(tape, &projected, normalised)?
    };
    finish(tape, &sums, bias, activation)
}
