//! Softmax over the last axis, all of it or up to the diagonal.
//!
//! ```text
//!  causal, 3×3:   ■ · ·      row i is a query at time i, column j a key at time j:
//!                 ■ ■ ·      what lies ahead gets probability 0, and no gradient
//!                 ■ ■ ■
//! ```

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::{Tape, by_type, host, tensor};

/// Which entries of a row take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    None,
    /// Row `i` of a square matrix sees columns `0..=i`.
    Causal,
}

/// `exp(x) / Σ exp(x)` over the last axis of a tensor of any shape, entries outside of the mask 0. The largest entry of
/// a row is taken off first, so nothing overflows; a NaN that takes part makes its row NaN.
///
/// # Errors
/// If a causal mask meets matrices that are not square, or the tensor is not contiguous f32 or f64.
pub fn softmax(tape: &mut Tape, input: &Tensor, mask: Mask) -> Result<Tensor> {
    let columns = input.dims().last().copied().unwrap_or(0);
    let square = input.rank() >= 2 && input.dims()[input.rank() - 2] == columns;
    if columns == 0 || (mask == Mask::Causal && !square) {
        bail!("softmax: no rows for mask {mask:?} in {:?}", input.shape());
    }
    let output = by_type!("softmax", input.dtype(), forward::<_>(input, columns, mask))?;
    let y = output.clone();
    Ok(tape.record_keeping("softmax", &[input], output, &[&y.clone()], move |grad, _| {
        by_type!("softmax", y.dtype(), backward::<_>(&y, columns, mask, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

/// How many entries of the `row`-th row take part.
fn visible(mask: Mask, row: usize, columns: usize) -> usize {
    match mask {
        Mask::None => columns,
        Mask::Causal => row % columns + 1,
    }
}

fn forward<T: Real>(input: &Tensor, columns: usize, mask: Mask) -> Result<Tensor> {
    let guard = input.storage_and_layout();
    let mut values = host::<T>(&guard)?.to_vec();
    for (index, row) in values.chunks_exact_mut(columns).enumerate() {
        let (seen, hidden) = row.split_at_mut(visible(mask, index, columns));
        let largest = seen.iter().copied().fold(seen[0], |a, b| if b > a { b } else { a });
        let mut total = 0.0;
        for value in &mut *seen {
            *value = (*value - largest).exp();
            total += value.to_f64();
        }
        let share = T::from_f64(1.0 / total);
        seen.iter_mut().for_each(|value| *value *= share);
        hidden.fill(T::zero());
    }
    tensor(values, input.dims())
}

/// `y (g − Σ g y)`.
fn backward<T: Real>(output: &Tensor, columns: usize, mask: Mask, grad: &Tensor) -> Result<Tensor> {
    let (output_guard, grad_guard) = (output.storage_and_layout(), grad.storage_and_layout());
    let (outputs, mut grads) = (host::<T>(&output_guard)?, host::<T>(&grad_guard)?.to_vec());
    for (index, (row, y)) in grads.chunks_exact_mut(columns).zip(outputs.chunks_exact(columns)).enumerate() {
        let (seen, hidden) = row.split_at_mut(visible(mask, index, columns));
        let mean = seen.iter().zip(y).map(|(grad, y)| grad.to_f64() * y.to_f64()).sum::<f64>();
        let mean = T::from_f64(mean);
        seen.iter_mut().zip(y).for_each(|(grad, &y)| *grad = y * (*grad - mean));
        hidden.fill(T::zero());
    }
    tensor(grads, output.dims())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences() {
        check("softmax", &[values(&[2, 3, 5], 0)], |tape, x| softmax(tape, &x[0], Mask::None));
        check("causal", &[values(&[2, 2, 4, 4], 0)], |tape, x| softmax(tape, &x[0], Mask::Causal));
        lanes_are_independent(&[values(&[3, 2, 4, 4], 0)], |tape, x| softmax(tape, &x[0], Mask::Causal));
    }

    #[test]
    fn values_are_those_of_candle() {
        let input = values(&[2, 3, 4, 4], 0);
        let run = |mask| softmax(&mut Tape::default(), &input, mask).unwrap();
        close("softmax", &run(Mask::None), &candle_nn::ops::softmax(&input, 3).unwrap(), 1e-12);
        let ahead: Vec<f64> = (0..16).map(|i| if i % 4 > i / 4 { f64::NEG_INFINITY } else { 0.0 }).collect();
        let masked = input.broadcast_add(&Tensor::from_vec(ahead, (4, 4), &Device::Cpu).unwrap()).unwrap();
        close("causal", &run(Mask::Causal), &candle_nn::ops::softmax(&masked, 3).unwrap(), 1e-12);
    }

    #[test]
    fn the_future_is_not_seen_and_the_present_hides_nothing() {
        let rows = [[1000.0_f32, f32::NAN, 1.0], [-1000.0, 0.0, f32::NAN], [0.0, f32::NAN, 0.0]];
        let input = Tensor::new(&[rows], &Device::Cpu).unwrap();
        let output = softmax(&mut Tape::default(), &input, Mask::Causal).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!((output[0][0].as_slice(), output[0][1].as_slice()), (&[1.0, 0.0, 0.0][..], &[0.0, 1.0, 0.0][..]));
        assert!(output[0][2].iter().all(|value| value.is_nan()), "{output:?}");
        let error = softmax(&mut Tape::default(), &values(&[2, 3, 4], 0), Mask::Causal).unwrap_err().to_string();
        assert!(error.contains("Causal") && error.contains("[2, 3, 4]"), "{error}");
    }
}
