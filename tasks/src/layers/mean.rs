//! Sums and means over one axis: over time, tokens, patches, rows of pixels.

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::{Tape, by_type, host, tensor};

/// Mean over an axis, which vanishes. Summed in f64, in order.
///
/// # Errors
/// If the axis is that of the lanes, does not exist or is empty, or the tensor is not contiguous f32 or f64.
pub fn mean(tape: &mut Tape, input: &Tensor, axis: usize) -> Result<Tensor> {
    let count = input.dims().get(axis).copied().unwrap_or(0);
    if count == 0 {
        bail!("mean: nothing along axis {axis} of {:?}", input.shape());
    }
    reduce("mean", tape, input, axis, 1.0 / count as f64)
}

/// Sum over an axis, which vanishes. Summed in f64, in order.
///
/// # Errors
/// As [`mean()`], but an empty axis sums to 0.
pub fn sum(tape: &mut Tape, input: &Tensor, axis: usize) -> Result<Tensor> {
    reduce("sum", tape, input, axis, 1.0)
}

fn reduce(layer: &'static str, tape: &mut Tape, input: &Tensor, axis: usize, factor: f64) -> Result<Tensor> {
    if axis == 0 || axis >= input.rank() {
        bail!("{layer}: no axis {axis} to reduce in {:?}: axis 0 are the lanes", input.shape());
    }
    let output = by_type!(layer, input.dtype(), forward::<_>(input, axis, factor))?;
    let (dtype, dims) = (input.dtype(), input.dims().to_vec());
    Ok(tape.record_keeping(layer, &[input], output, &[], move |grad, _| {
        by_type!(layer, dtype, backward::<_>(&dims, axis, factor, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

fn forward<T: Real>(input: &Tensor, axis: usize, factor: f64) -> Result<Tensor> {
    let guard = input.storage_and_layout();
    let values = host::<T>(&guard)?;
    let dims = input.dims();
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let mut output = Vec::with_capacity(outer * inner);
    let mut sums = vec![0.0; inner];
    for index in 0..outer {
        sums.fill(0.0);
        for row in 0..dims[axis] {
            let start = (index * dims[axis] + row) * inner;
            sums.iter_mut().zip(&values[start..start + inner]).for_each(|(sum, value)| *sum += value.to_f64());
        }
        output.extend(sums.iter().map(|sum| T::from_f64(sum * factor)));
    }
    tensor(output, &[&dims[..axis], &dims[axis + 1..]].concat())
}

fn backward<T: Real>(dims: &[usize], axis: usize, factor: f64, grad: &Tensor) -> Result<Tensor> {
    let guard = grad.storage_and_layout();
    let grads = host::<T>(&guard)?;
    let (inner, factor) = (dims[axis + 1..].iter().product::<usize>(), T::from_f64(factor));
    let mut output = Vec::with_capacity(grads.len() * dims[axis]);
    if inner > 0 {
        for row in grads.chunks_exact(inner) {
            (0..dims[axis]).for_each(|_| output.extend(row.iter().map(|&grad| grad * factor)));
        }
    }
    tensor(output, dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences_and_values_those_of_candle() {
        let x = values(&[2, 3, 4, 2], 0);
        for axis in 1..4 {
            check("mean", std::slice::from_ref(&x), |tape, x| mean(tape, &x[0], axis));
            check("sum", std::slice::from_ref(&x), |tape, x| sum(tape, &x[0], axis));
            close("mean", &mean(&mut Tape::default(), &x, axis).unwrap(), &x.mean(axis).unwrap(), 1e-12);
            close("sum", &sum(&mut Tape::default(), &x, axis).unwrap(), &x.sum(axis).unwrap(), 1e-12);
            lanes_are_independent(std::slice::from_ref(&x), |tape, x| mean(tape, &x[0], axis));
        }
    }

    #[test]
    fn lanes_are_never_reduced() {
        let mut tape = Tape::default();
        let x = values(&[2, 3], 0);
        assert!(mean(&mut tape, &x, 0).unwrap_err().to_string().contains("axis 0 are the lanes"));
        assert!(sum(&mut tape, &x, 2).unwrap_err().to_string().contains("no axis 2"));
        assert!(mean(&mut tape, &x, 2).unwrap_err().to_string().contains("nothing along axis 2"));
    }
}
