//! Losses against real-valued targets: squared error and binary cross-entropy, one a lane.
//!
//! Each is a mean over everything a lane has, batch and features alike, summed in f64 in order.

use candle_core::{Result, Tensor, bail};

use super::activation::{sigmoid, softplus};
use super::real::Real;
use super::slices::{block, lane_of};
use super::{Tape, by_type, host, tensor};

/// Mean over a lane of `(prediction − target)²`: `prediction` is `[lanes, batch, …]`, `target` has the same shape, or
/// one lane that all share; the result is `[lanes]`. The target is data: it gets no gradient.
///
/// # Errors
/// If shapes or types do not fit, there is nothing to average, or the target wants a gradient.
pub fn mean_squared_error(tape: &mut Tape, prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    against("mean squared error", tape, prediction, target, Kind::Squared)
}

/// `ln` of [`mean_squared_error`]: minus infinity where prediction and target are equal, and its gradient NaN.
///
/// # Errors
/// As [`mean_squared_error`].
pub fn log_mean_squared_error(tape: &mut Tape, prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    let error = mean_squared_error(tape, prediction, target)?;
    let (output, kept) = (error.log()?, error.clone());
    Ok(tape.record("log", &[&error], output, move |grad, _| Ok(vec![Some((grad / &kept)?)])))
}

/// Mean over a lane of `−t ln σ(x) − (1 − t) ln(1 − σ(x))`, where `x` are logits and `t` in `[0, 1]`: computed as
/// `ln(1 + eˣ) − t x`, which does not overflow. Shapes as [`mean_squared_error`].
///
/// # Errors
/// As [`mean_squared_error`].
pub fn binary_cross_entropy(tape: &mut Tape, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    against("binary cross entropy", tape, logits, target, Kind::Binary)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Squared,
    Binary,
}

fn against(layer: &'static str, tape: &mut Tape, input: &Tensor, target: &Tensor, kind: Kind) -> Result<Tensor> {
    let (dims, of_target) = (input.dims(), target.dims());
    let fits = dims.len() == of_target.len() && dims.iter().skip(1).eq(of_target.iter().skip(1));
    if dims.len() < 2 || !fits || (of_target[0] != dims[0] && of_target[0] != 1) || input.elem_count() == 0 {
        bail!("{layer}: a target {:?} does not fit {:?}", target.shape(), input.shape());
    }
    if target.dtype() != input.dtype() {
        bail!("{layer}: a target of type {:?} for {:?}", target.dtype(), input.dtype());
    }
    if tape.tracks(target) {
        bail!("{layer}: the target must be data, not something with a gradient");
    }
    let output = by_type!(layer, input.dtype(), forward::<_>(input, target, kind))?;
    let (x, target) = (input.clone(), target.clone());
    Ok(tape.record_keeping(layer, &[input], output, &[input], move |grad, _| {
        by_type!(layer, x.dtype(), backward::<_>(&x, &target, kind, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

fn forward<T: Real>(input: &Tensor, target: &Tensor, kind: Kind) -> Result<Tensor> {
    let (input_guard, target_guard) = (input.storage_and_layout(), target.storage_and_layout());
    let (values, targets) = (host::<T>(&input_guard)?, host::<T>(&target_guard)?);
    let lanes = input.dim(0)?;
    let size = values.len() / lanes;
    let losses = (0..lanes).map(|lane| {
        let pairs = block(values, lane, size).iter().zip(lane_of(targets, lane, size));
        let sum: f64 = match kind {
            Kind::Squared => pairs.map(|(x, t)| (x.to_f64() - t.to_f64()).powi(2)).sum(),
            Kind::Binary => pairs.map(|(&x, &t)| (softplus(x) - t * x).to_f64()).sum(),
        };
        T::from_f64(sum / size as f64)
    });
    tensor(losses.collect::<Vec<T>>(), &[lanes])
}

fn backward<T: Real>(input: &Tensor, target: &Tensor, kind: Kind, grad: &Tensor) -> Result<Tensor> {
    let (input_guard, target_guard) = (input.storage_and_layout(), target.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (values, targets, grads) = (host::<T>(&input_guard)?, host::<T>(&target_guard)?, host::<T>(&grad_guard)?);
    let size = values.len() / grads.len();
    let mut output = Vec::with_capacity(values.len());
    for (lane, &grad) in grads.iter().enumerate() {
        let share = grad / T::from_f64(size as f64);
        let pairs = block(values, lane, size).iter().zip(lane_of(targets, lane, size));
        match kind {
            Kind::Squared => output.extend(pairs.map(|(&x, &t)| (share + share) * (x - t))),
            Kind::Binary => output.extend(pairs.map(|(&x, &t)| share * (sigmoid(x) - t))),
        }
    }
    tensor(output, input.dims())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    type Loss = fn(&mut Tape, &Tensor, &Tensor) -> Result<Tensor>;
    const LOSSES: [Loss; 3] = [mean_squared_error, log_mean_squared_error, binary_cross_entropy];

    #[test]
    fn gradients_are_those_of_differences_for_own_and_shared_targets() {
        for loss in LOSSES {
            for lanes in [1, 3] {
                let target = values(&[lanes, 2, 5], 1);
                check("loss", &[values(&[3, 2, 5], 0)], |tape, x| loss(tape, &x[0], &target));
            }
            let shared = values(&[1, 2, 5], 1).to_dtype(candle_core::DType::F32).unwrap();
            lanes_are_independent(&[values(&[3, 2, 5], 0)], |tape, x| loss(tape, &x[0], &shared));
        }
    }

    #[test]
    fn values_are_those_of_candle() {
        let (x, target) = (values(&[2, 3, 5], 0), candle_nn::ops::sigmoid(&values(&[2, 3, 5], 1)).unwrap());
        for lane in 0..2 {
            let (of_x, of_target) = (x.get(lane).unwrap(), target.get(lane).unwrap());
            let squared = candle_nn::loss::mse(&of_x, &of_target).unwrap();
            let binary = candle_nn::loss::binary_cross_entropy_with_logit(&of_x, &of_target).unwrap();
            for (loss, expected) in LOSSES.into_iter().zip([squared.clone(), squared.log().unwrap(), binary]) {
                close("loss", &loss(&mut Tape::default(), &x, &target).unwrap().get(lane).unwrap(), &expected, 1e-12);
            }
        }
    }

    #[test]
    fn logits_far_out_stay_finite_and_nan_stays() {
        let run = |logits: [f32; 2]| {
            let target = Tensor::new(&[[0.0_f32, 1.0]], &Device::Cpu).unwrap();
            let logits = Tensor::new(&[logits], &Device::Cpu).unwrap();
            binary_cross_entropy(&mut Tape::default(), &logits, &target).unwrap().to_vec1::<f32>().unwrap()[0]
        };
        assert_eq!((run([1000.0, -1000.0]), run([-1000.0, 1000.0])), (1000.0, 0.0));
        assert!(run([f32::NAN, 0.0]).is_nan());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, mut tape) = (values(&[2, 3], 0), Tape::default());
        let error = mean_squared_error(&mut tape, &x, &values(&[2, 4], 1)).unwrap_err().to_string();
        assert!(error.contains("target [2, 4] does not fit [2, 3]"), "{error}");
        let target = values(&[2, 3], 1);
        tape.variable(&target);
        assert!(mean_squared_error(&mut tape, &x, &target).unwrap_err().to_string().contains("must be data"));
    }
}
