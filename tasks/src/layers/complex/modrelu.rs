//! modReLU (Arjovsky, Shah and Bengio, arXiv 1511.06464): the modulus is shifted by a learned threshold and cut at 0,
//! the direction stays.

use candle_core::{Result, Tensor, bail};
use num_complex::Complex64;

use super::pair::{number, rows, rows_mut};
use super::wirtinger::Polar;
use super::{ComplexTensor, Wirtinger};
use crate::layers::real::Real;
use crate::layers::{Tape, by_type, host, tensor};

/// `max(|z| + b, 0) z/|z|`, real `threshold` b `[lanes, channels]`, `input` `[lanes, batch, …, channels]`.
///
/// At z = 0 value and gradient are 0. Keep b ≤ 0: with a positive one the function jumps at 0, and its derivative grows
/// without bound on the way there.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn modrelu(tape: &mut Tape, input: &ComplexTensor, threshold: &Tensor) -> Result<ComplexTensor> {
    let z = input.stacked();
    if threshold.dims() != [z.dim(0)?, input.channels()] || threshold.dtype() != z.dtype() {
        bail!(
            "modrelu: thresholds {:?} {:?} do not fit {:?} {:?} (parts stacked)",
            threshold.dtype(),
            threshold.shape(),
            z.dtype(),
            z.shape()
        );
    }
    let output = by_type!("modrelu", z.dtype(), forward::<_>(input, threshold))?;
    let (kept, b) = (input.clone(), threshold.clone());
    let output = tape.record_keeping("modrelu", &[z, threshold], output, &[z, threshold], move |grad, _| {
        by_type!("modrelu", kept.dtype(), backward::<_>(&kept, &b, grad))
    });
    ComplexTensor::from_stacked(output)
}

fn value(z: Complex64, b: f64) -> Complex64 {
    let Polar { r, e } = Polar::of(z);
    // Written so that NaN is not cut.
    if r + b <= 0.0 { Complex64::ZERO } else { e * (r + b) }
}

/// ∂f/∂z and ∂f/∂z̄ of [`modrelu`] with the threshold `b`.
pub fn modrelu_derivatives(z: Complex64, b: f64) -> Wirtinger {
    let polar = Polar::of(z);
    if polar.r + b <= 0.0 || z == Complex64::ZERO {
        return Wirtinger::holomorphic(Complex64::ZERO);
    }
    Wirtinger::radial(polar, 1.0 + b / polar.r, -b / (polar.r * polar.r))
}

/// The values of each lane, and its thresholds.
fn lanes<'a, T>(values: &'a [T], thresholds: &'a [T], channels: usize) -> impl Iterator<Item = (&'a [T], &'a [T])> {
    let channels = channels.max(1);
    let size = (values.len() * channels / thresholds.len().max(1)).max(1);
    values.chunks_exact(size).zip(thresholds.chunks_exact(channels))
}

fn forward<T: Real>(input: &ComplexTensor, threshold: &Tensor) -> Result<Tensor> {
    let (guard, threshold_guard) = (input.stacked().storage_and_layout(), threshold.storage_and_layout());
    let (values, thresholds, channels) = (host::<T>(&guard)?, host::<T>(&threshold_guard)?, input.channels());
    let mut output = vec![T::zero(); values.len()];
    let mut places = rows_mut(&mut output, channels);
    for (values, thresholds) in lanes(values, thresholds, channels) {
        for ((re, im), (out_re, out_im)) in rows(values, channels).zip(&mut places) {
            for channel in 0..channels {
                let value = value(number(re[channel], im[channel]), thresholds[channel].to_f64());
                (out_re[channel], out_im[channel]) = (T::from_f64(value.re), T::from_f64(value.im));
            }
        }
    }
    drop(places);
    tensor(output, input.stacked().dims())
}

fn backward<T: Real>(input: &ComplexTensor, threshold: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let (guard, threshold_guard) = (input.stacked().storage_and_layout(), threshold.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (values, thresholds, channels) = (host::<T>(&guard)?, host::<T>(&threshold_guard)?, input.channels());
    let mut output = vec![T::zero(); values.len()];
    let mut of_thresholds = Vec::with_capacity(thresholds.len());
    let mut places = rows(host::<T>(&grad_guard)?, channels).zip(rows_mut(&mut output, channels));
    for (values, thresholds) in lanes(values, thresholds, channels) {
        let mut sums = vec![0.0; channels];
        for ((re, im), ((grad_re, grad_im), (out_re, out_im))) in rows(values, channels).zip(&mut places) {
            for channel in 0..channels {
                let (z, b) = (number(re[channel], im[channel]), thresholds[channel].to_f64());
                let g = number(grad_re[channel], grad_im[channel]);
                let gradient = modrelu_derivatives(z, b).pull_back(g);
                (out_re[channel], out_im[channel]) = (T::from_f64(gradient.re), T::from_f64(gradient.im));
                let Polar { r, e } = Polar::of(z);
                sums[channel] += if r + b <= 0.0 { 0.0 } else { (g.conj() * e).re };
            }
        }
        of_thresholds.extend(sums.into_iter().map(T::from_f64));
    }
    drop(places);
    Ok(vec![Some(tensor(output, grad.dims())?), Some(tensor(of_thresholds, threshold.dims())?)])
}
