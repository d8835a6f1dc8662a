//! Layer normalisation: each row of channels gets mean 0 and variance 1, then a learned scale and shift.
//!
//! ```text
//!  y = scale · x̂ + shift,   x̂ = (x − mean) / √(variance + ε),   both over the last axis
//!  ∂x = (g − mean(g) − x̂ · mean(g x̂)) / √(variance + ε),       g = ∂y · scale
//! ```
//!
//! (Ba, Kiros, Hinton, arXiv 1607.06450.) The variance is that of the row, divided by its length. Means are summed in
//! f64, the variance from differences to the mean: `E[x²] − E[x]²` would cancel.

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::slices::{block, block_mut};
use super::{Tape, by_type, host, tensor};

/// Normalises the last axis of `[lanes, …, channels]`; `scale` and `shift` are `[lanes, channels]`, `epsilon` is added
/// to the variance. The result has the shape of the input.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn layer_norm(tape: &mut Tape, input: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (lanes, channels) = scale.dims2()?;
    let dims = input.dims();
    if dims.len() < 2 || dims[0] != lanes || dims[dims.len() - 1] != channels || channels == 0 {
        bail!("layer norm: a scale {:?} does not fit an input {:?}", scale.shape(), input.shape());
    }
    if shift.dims() != scale.dims() {
        bail!("layer norm: a scale {:?} and a shift {:?}", scale.shape(), shift.shape());
    }
    let (output, kept) = by_type!("layer norm", input.dtype(), forward::<_>(input, scale, shift, epsilon))?;
    let (dtype, scale_kept) = (input.dtype(), scale.clone());
    Ok(tape.record_keeping("layer norm", &[input, scale, shift], output, &[&kept.normal.clone()], move |grad, _| {
        by_type!("layer norm", dtype, backward::<_>(&kept, &scale_kept, grad))
    }))
}

/// What the backward pass needs: x̂, and `1 / √(variance + ε)` of each row.
#[derive(Debug)]
struct Kept {
    normal: Tensor,
    inverse: Vec<f64>,
}

fn forward<T: Real>(input: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64) -> Result<(Tensor, Kept)> {
    let (input_guard, scale_guard) = (input.storage_and_layout(), scale.storage_and_layout());
    let shift_guard = shift.storage_and_layout();
    let (mut normal, scales) = (host::<T>(&input_guard)?.to_vec(), host::<T>(&scale_guard)?);
    let shifts = host::<T>(&shift_guard)?;
    let (lanes, channels) = scale.dims2()?;
    let mut output = vec![T::zero(); normal.len()];
    let mut inverse = Vec::with_capacity(normal.len() / channels);
    let size = normal.len() / lanes;
    for lane in 0..lanes {
        let (scale, shift) = (block(scales, lane, channels), block(shifts, lane, channels));
        let rows = block_mut(&mut normal, lane, size).chunks_exact_mut(channels);
        for (row, output) in rows.zip(block_mut(&mut output, lane, size).chunks_exact_mut(channels)) {
            let mean = row.iter().map(|value| value.to_f64()).sum::<f64>() / channels as f64;
            let square = |value: &T| (value.to_f64() - mean) * (value.to_f64() - mean);
            let variance = row.iter().map(square).sum::<f64>() / channels as f64;
            let factor = 1.0 / (variance + epsilon).sqrt();
            row.iter_mut().for_each(|value| *value = T::from_f64((value.to_f64() - mean) * factor));
            for ((output, &normal), (&scale, &shift)) in output.iter_mut().zip(&*row).zip(scale.iter().zip(shift)) {
                *output = normal * scale + shift;
            }
            inverse.push(factor);
        }
    }
    Ok((tensor(output, input.dims())?, Kept { normal: tensor(normal, input.dims())?, inverse }))
}

fn backward<T: Real>(kept: &Kept, scale: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let (normal_guard, scale_guard) = (kept.normal.storage_and_layout(), scale.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (normals, scales) = (host::<T>(&normal_guard)?, host::<T>(&scale_guard)?);
    let grads = host::<T>(&grad_guard)?;
    let (lanes, channels) = scale.dims2()?;
    let (size, count) = (grads.len() / lanes, channels as f64);
    let mut grad_input = vec![T::zero(); grads.len()];
    let (mut of_scale, mut of_shift) = (vec![0.0; scales.len()], vec![0.0; scales.len()]);
    let mut inverse = kept.inverse.iter();
    for lane in 0..lanes {
        let scale = block(scales, lane, channels);
        let (of_scale, of_shift) = (block_mut(&mut of_scale, lane, channels), block_mut(&mut of_shift, lane, channels));
        let rows =
            block(grads, lane, size).chunks_exact(channels).zip(block(normals, lane, size).chunks_exact(channels));
        for ((grad, normal), out) in rows.zip(block_mut(&mut grad_input, lane, size).chunks_exact_mut(channels)) {
            let (mut sum, mut sum_normal) = (0.0, 0.0);
            for i in 0..channels {
                let (grad, normal) = (grad[i].to_f64(), normal[i].to_f64());
                let before = grad * scale[i].to_f64();
                sum += before;
                sum_normal += before * normal;
                of_scale[i] += grad * normal;
                of_shift[i] += grad;
            }
            let factor = inverse.next().copied().unwrap_or(f64::NAN);
            for i in 0..channels {
                let before = grad[i].to_f64() * scale[i].to_f64();
                out[i] = T::from_f64(factor * (before - sum / count - normal[i].to_f64() * sum_normal / count));
            }
        }
    }
    let lower = |values: Vec<f64>| tensor(values.into_iter().map(T::from_f64).collect::<Vec<T>>(), scale.dims());
    Ok(vec![Some(tensor(grad_input, grad.dims())?), Some(lower(of_scale)?), Some(lower(of_shift)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences() {
        for shape in [&[2, 3, 5][..], &[1, 2, 2, 4], &[3, 2]] {
            let channels = [shape[0], shape[shape.len() - 1]];
            let arguments = [values(shape, 0), values(&channels, 1), values(&channels, 2)];
            check("layer norm", &arguments, |tape, x| layer_norm(tape, &x[0], &x[1], &x[2], 1e-2));
        }
        let arguments = [values(&[3, 4, 7], 0), values(&[3, 7], 1), values(&[3, 7], 2)];
        lanes_are_independent(&arguments, |tape, x| layer_norm(tape, &x[0], &x[1], &x[2], 1e-5));
    }

    #[test]
    fn values_are_those_of_candle() {
        let (input, scale, shift) = (values(&[2, 3, 4, 5], 0), values(&[2, 5], 1), values(&[2, 5], 2));
        let got = layer_norm(&mut Tape::default(), &input, &scale, &shift, 1e-5).unwrap();
        for lane in 0..2 {
            let of = |tensor: &Tensor| tensor.get(lane).unwrap();
            let expected = candle_nn::ops::layer_norm_slow(&of(&input), &of(&scale), &of(&shift), 1e-5).unwrap();
            close("layer norm", &of(&got), &expected, 1e-6);
        }
    }

    #[test]
    fn a_large_mean_does_not_cancel_and_nan_stays() {
        let row = |values: [f32; 4]| Tensor::new(&[[values]], &candle_core::Device::Cpu).unwrap();
        let (one, zero) =
            (Tensor::new(&[[1.0_f32; 4]], &candle_core::Device::Cpu).unwrap(), row([0.0; 4]).squeeze(0).unwrap());
        let run = |values| layer_norm(&mut Tape::default(), &row(values), &one, &zero, 1e-6).unwrap();
        close("shifted", &run([4096.0, 4097.0, 4098.0, 4099.0]), &run([0.0, 1.0, 2.0, 3.0]), 0.0);
        let broken: Vec<f32> = run([0.0, f32::NAN, 1.0, 2.0]).flatten_all().unwrap().to_vec1().unwrap();
        assert!(broken.iter().all(|value| value.is_nan()), "{broken:?}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let run = |input: &[usize], scale: &[usize], shift: &[usize]| {
            let (input, scale, shift) = (values(input, 0), values(scale, 1), values(shift, 2));
            layer_norm(&mut Tape::default(), &input, &scale, &shift, 1e-5).unwrap_err().to_string()
        };
        assert!(run(&[2, 3, 5], &[2, 4], &[2, 4]).contains("scale [2, 4]"));
        assert!(run(&[1, 3, 5], &[2, 5], &[2, 5]).contains("input [1, 3, 5]"));
        assert!(run(&[2, 3, 5], &[2, 5], &[2, 4]).contains("shift [2, 4]"));
    }
}
