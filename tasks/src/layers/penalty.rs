//! A penalty on weights that is part of the loss, for tasks whose published recipe has one.
//!
//! An optimizer's own weight decay is another thing: adaptive ones rescale a penalty's gradient with the rest (Loshchilov
//! and Hutter, arXiv 1711.05101).

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::slices::block;
use super::{Tape, by_type, host, tensor};

/// `factor / 2 · Σ w²` over each lane of `[lanes, …]`, `[lanes]`; its gradient is `factor · w`. Summed in f64, in order.
///
/// # Errors
/// If the tensor has no lanes, or is not contiguous f32 or f64.
pub fn half_squares(tape: &mut Tape, weight: &Tensor, factor: f64) -> Result<Tensor> {
    const LAYER: &str = "half squares";
    if weight.rank() == 0 {
        bail!("{LAYER}: expected [lanes, …], got a single number");
    }
    let output = by_type!(LAYER, weight.dtype(), forward::<_>(weight, factor))?;
    let w = weight.clone();
    Ok(tape.record_keeping(LAYER, &[weight], output, &[weight], move |grad, _| {
        by_type!(LAYER, w.dtype(), backward::<_>(&w, factor, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

fn forward<T: Real>(weight: &Tensor, factor: f64) -> Result<Tensor> {
    let guard = weight.storage_and_layout();
    let values = host::<T>(&guard)?;
    let lanes = weight.dim(0)?;
    let size = values.len() / lanes.max(1);
    let sums = (0..lanes).map(|lane| {
        let sum: f64 = block(values, lane, size).iter().map(|value| value.to_f64() * value.to_f64()).sum();
        T::from_f64(0.5 * factor * sum)
    });
    tensor(sums.collect::<Vec<T>>(), &[lanes])
}

fn backward<T: Real>(weight: &Tensor, factor: f64, grad: &Tensor) -> Result<Tensor> {
    let guards = (weight.storage_and_layout(), grad.storage_and_layout());
    let (values, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let size = values.len() / grads.len().max(1);
    let factors = grads.iter().map(|&grad| T::from_f64(factor) * grad);
    let output =
        factors.enumerate().flat_map(|(lane, factor)| block(values, lane, size).iter().map(move |&w| factor * w));
    tensor(output.collect::<Vec<T>>(), weight.dims())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, lanes_are_independent, values};

    #[test]
    fn it_is_half_the_squares_and_so_is_its_gradient() {
        let weight = values(&[2, 3, 4], 0);
        check("half squares", std::slice::from_ref(&weight), |tape, a| half_squares(tape, &a[0], 0.3));
        let got: Vec<f64> = half_squares(&mut Tape::default(), &weight, 0.3).unwrap().to_vec1().unwrap();
        for (lane, got) in got.into_iter().enumerate() {
            let values: Vec<f64> = weight.get(lane).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let expected = 0.15 * values.iter().map(|value| value * value).sum::<f64>();
            assert!((got - expected).abs() < 1e-12, "{got}, not {expected}");
        }
        lanes_are_independent(&[values(&[3, 4], 1)], |tape, a| half_squares(tape, &a[0], 0.3));
    }
}
