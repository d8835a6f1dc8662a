//! From complex outputs to real losses.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::ComplexTensor;
use super::pair::{number, rows};
use super::wirtinger::Polar;
use crate::layers::real::Real;
use crate::layers::{Tape, by_type, cross_entropy, host, tensor};

/// `|z|` of each number: `[…, channels]`, real. At 0 the gradient is 0.
///
/// # Errors
/// If the tensor is not contiguous f32 or f64.
pub fn modulus(tape: &mut Tape, input: &ComplexTensor) -> Result<Tensor> {
    let output = by_type!("modulus", input.dtype(), moduli::<_>(input))?;
    let z = input.clone();
    Ok(tape.record_keeping("modulus", &[input.stacked()], output, &[input.stacked()], move |grad, _| {
        by_type!("modulus", z.dtype(), along_directions::<_>(&z, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

/// The classifier's head: [`cross_entropy()`] with the moduli of `scores` `[lanes, batch, classes]` as logits. As no
/// score is negative, how small the loss can get depends on their scale.
///
/// # Errors
/// As [`cross_entropy()`].
pub fn cross_entropy_of_modulus(tape: &mut Tape, scores: &ComplexTensor, labels: &Arc<Vec<u32>>) -> Result<Tensor> {
    let logits = modulus(tape, scores)?;
    cross_entropy(tape, &logits, labels)
}

/// Mean of `|f − t|²` over all numbers of a lane: `input` f is `[lanes, …, channels]`, the data `target` t the same or
/// with one lane that all share, the result `[lanes]`.
///
/// # Errors
/// If shapes or types do not fit, the target is something with a gradient, or a tensor is not contiguous.
pub fn mean_squared_distance(tape: &mut Tape, input: &ComplexTensor, target: &ComplexTensor) -> Result<Tensor> {
    let (f, t) = (input.stacked(), target.stacked());
    let fits = f.rank() == t.rank() && f.dims()[1..] == t.dims()[1..] && [1, f.dim(0)?].contains(&t.dim(0)?);
    if !fits || f.dtype() != t.dtype() || f.elem_count() == 0 {
        bail!(
            "mean squared distance: targets {:?} {:?} do not fit {:?} {:?}",
            t.dtype(),
            t.shape(),
            f.dtype(),
            f.shape()
        );
    }
    if tape.tracks(t) {
        bail!("mean squared distance: the target must be data, not something with a gradient");
    }
    let output = by_type!("mean squared distance", f.dtype(), mean_distances::<_>(f, t))?;
    let (f, t) = (f.clone(), t.clone());
    let kept = [&f.clone(), &t.clone()];
    Ok(tape.record_keeping("mean squared distance", &[input.stacked()], output, &kept, move |grad, _| {
        by_type!("mean squared distance", f.dtype(), differences::<_>(&f, &t, grad))
            .map(|gradient| vec![Some(gradient)])
    }))
}

fn moduli<T: Real>(input: &ComplexTensor) -> Result<Tensor> {
    let (guard, channels) = (input.stacked().storage_and_layout(), input.channels());
    let numbers = rows(host::<T>(&guard)?, channels).flat_map(|(re, im)| re.iter().zip(im));
    let output = numbers.map(|(&x, &y)| T::from_f64(Polar::of(number(x, y)).r)).collect();
    let mut dims = input.stacked().dims().to_vec();
    dims.pop();
    dims.push(channels);
    tensor(output, &dims)
}

/// `G e`.
fn along_directions<T: Real>(input: &ComplexTensor, grad: &Tensor) -> Result<Tensor> {
    let (guard, grad_guard, channels) =
        (input.stacked().storage_and_layout(), grad.storage_and_layout(), input.channels());
    let (values, grads) = (host::<T>(&guard)?, host::<T>(&grad_guard)?);
    let mut output = Vec::with_capacity(values.len());
    for ((re, im), grads) in rows(values, channels).zip(grads.chunks_exact(channels.max(1))) {
        let directions = re.iter().zip(im).zip(grads).map(|((&x, &y), g)| Polar::of(number(x, y)).e * g.to_f64());
        let start = output.len();
        output.extend(directions.clone().map(|e| T::from_f64(e.re)));
        output.extend(directions.map(|e| T::from_f64(e.im)));
        debug_assert_eq!(output.len(), start + 2 * channels);
    }
    tensor(output, input.stacked().dims())
}

/// What a lane of the target is.
fn target_of<T>(targets: &[T], lane: usize, size: usize) -> &[T] {
    if targets.len() == size { targets } else { &targets[lane * size..(lane + 1) * size] }
}

fn mean_distances<T: Real>(input: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (guard, target_guard, lanes) = (input.storage_and_layout(), target.storage_and_layout(), input.dim(0)?);
    let (values, targets) = (host::<T>(&guard)?, host::<T>(&target_guard)?);
    let size = values.len() / lanes;
    let of_lane = |(lane, values): (usize, &[T])| {
        let pairs = values.iter().zip(target_of(targets, lane, size));
        let sum: f64 = pairs.map(|(f, t)| (f.to_f64() - t.to_f64()).powi(2)).sum();
        // Two parts make a number.
        T::from_f64(sum / (size / 2) as f64)
    };
    tensor(values.chunks_exact(size).enumerate().map(of_lane).collect(), &[lanes])
}

fn differences<T: Real>(input: &Tensor, target: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (guard, target_guard, grad_guard) =
        (input.storage_and_layout(), target.storage_and_layout(), grad.storage_and_layout());
    let (values, targets, grads) = (host::<T>(&guard)?, host::<T>(&target_guard)?, host::<T>(&grad_guard)?);
    let size = values.len() / grads.len();
    let mut output = Vec::with_capacity(values.len());
    for (lane, values) in values.chunks_exact(size).enumerate() {
        let scale = 2.0 * grads[lane].to_f64() / (size / 2) as f64;
        let pairs = values.iter().zip(target_of(targets, lane, size));
        output.extend(pairs.map(|(f, t)| T::from_f64(scale * (f.to_f64() - t.to_f64()))));
    }
    tensor(output, input.dims())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use num_complex::Complex64;

    use super::*;

    fn numbers(parts: &[(f64, f64)], shape: &[usize]) -> ComplexTensor {
        let numbers: Vec<Complex64> = parts.iter().map(|&(re, im)| Complex64::new(re, im)).collect();
        ComplexTensor::from_numbers(&numbers, shape, DType::F64).unwrap()
    }

    #[test]
    fn the_modulus_has_a_gradient_at_0() {
        let z = numbers(&[(0.0, 0.0), (3.0, -4.0)], &[1, 2, 1]);
        let mut tape = Tape::default();
        tape.variable(z.stacked());
        let output = modulus(&mut tape, &z).unwrap();
        let values: Vec<f64> = output.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, [1e-10, 5.0]);
        let gradient = tape.backward(&output).unwrap().take(z.stacked()).unwrap();
        let gradient = ComplexTensor::from_stacked(gradient).unwrap().to_numbers().unwrap();
        assert_eq!(gradient, [Complex64::ZERO, Complex64::new(0.6, -0.8)]);
    }

    #[test]
    fn distances_are_those_of_complex_numbers() {
        let f = numbers(&[(1.0, 1.0), (0.0, 0.0), (2.0, 0.0), (f64::NAN, 0.0)], &[2, 1, 2]);
        let shared = numbers(&[(0.0, 0.0), (0.0, 2.0)], &[1, 1, 2]);
        let losses: Vec<f64> = mean_squared_distance(&mut Tape::default(), &f, &shared).unwrap().to_vec1().unwrap();
        assert_eq!(losses[0], 3.0);
        assert!(losses[1].is_nan());
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        let f = numbers(&[(1.0, 1.0), (0.0, 0.0)], &[1, 1, 2]);
        let mut tape = Tape::default();
        tape.variable(f.stacked());
        assert!(mean_squared_distance(&mut tape, &f, &f).unwrap_err().to_string().contains("data"));
        let other = numbers(&[(1.0, 1.0)], &[1, 1, 1]);
        assert!(mean_squared_distance(&mut tape, &f, &other).unwrap_err().to_string().contains("do not fit"));
    }
}
