//! A linear map of sparse features: the rows of a bag of words times a matrix.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Tape, by_type, host, tensor};
use super::{Features, add_scaled, of_lane, row, row_mut};
use crate::cost::spend;

/// `features · weight`: `weight` is `[lanes, in, out]`, `features` one for all lanes or one a lane, all of as many rows;
/// the result is `[lanes, 1, rows, out]`. The features are data and get no gradient.
///
/// # Errors
/// If shapes or types do not fit.
pub(crate) fn sparse_linear(tape: &mut Tape, features: &[Arc<Features>], weight: &Tensor) -> Result<Tensor> {
    const LAYER: &str = "sparse linear";
    let (lanes, inputs, _) = weight.dims3()?;
    let rows = match features {
        [first, ..] if features.len() == 1 || features.len() == lanes => first.rows(),
        _ => bail!("{LAYER}: {} sets of features for {lanes} lanes", features.len()),
    };
    if let Some(other) = features.iter().find(|other| (other.rows(), other.columns()) != (rows, inputs)) {
        let (got, columns) = (other.rows(), other.columns());
        bail!("{LAYER}: expected {rows} rows of {inputs} features, got {got} of {columns}");
    }
    let output = by_type!(LAYER, weight.dtype(), forward::<_>(features, weight))?;
    let (features, dims, dtype) = (features.to_vec(), weight.dims().to_vec(), weight.dtype());
    Ok(tape.record_keeping(LAYER, &[weight], output, &[], move |grad, _| {
        Ok(vec![Some(by_type!(LAYER, dtype, backward::<_>(&features, &dims, grad))?)])
    }))
}

fn forward<T: Real>(features: &[Arc<Features>], weight: &Tensor) -> Result<Tensor> {
    let guard = weight.storage_and_layout();
    let weights = host::<T>(&guard)?;
    let (lanes, inputs, outputs) = weight.dims3()?;
    let rows = features[0].rows();
    let mut output = vec![T::zero(); lanes * rows * outputs];
    for lane in 0..lanes {
        let (features, weights) = (of_lane(features, lane), row(weights, lane, inputs * outputs));
        let output = row_mut(&mut output, lane, rows * outputs);
        for index in 0..rows {
            let sum = row_mut(output, index, outputs);
            let (columns, values) = features.row(index);
            spend(2.0 * columns.len() as f64 * outputs as f64);
            for (&column, &value) in columns.iter().zip(values) {
                add_scaled(sum, T::from_f64(f64::from(value)), row(weights, column as usize, outputs));
            }
        }
    }
    tensor(output, &[lanes, 1, rows, outputs])
}

fn backward<T: Real>(features: &[Arc<Features>], dims: &[usize], grad: &Tensor) -> Result<Tensor> {
    let guard = grad.storage_and_layout();
    let grads = host::<T>(&guard)?;
    let [lanes, inputs, outputs] = dims else { bail!("sparse linear: weights have three axes, not {dims:?}") };
    let (inputs, outputs) = (*inputs, *outputs);
    let rows = features[0].rows();
    let mut sums = vec![T::zero(); lanes * inputs * outputs];
    for lane in 0..*lanes {
        let (features, grads) = (of_lane(features, lane), row(grads, lane, rows * outputs));
        let sums = row_mut(&mut sums, lane, inputs * outputs);
        // Row by row: a word's gradient is one sum in the order of the nodes that have it.
        for index in 0..rows {
            let (columns, values) = features.row(index);
            spend(2.0 * columns.len() as f64 * outputs as f64);
            for (&column, &value) in columns.iter().zip(values) {
                let sum = row_mut(sums, column as usize, outputs);
                add_scaled(sum, T::from_f64(f64::from(value)), row(grads, index, outputs));
            }
        }
    }
    tensor(sums, dims)
}
