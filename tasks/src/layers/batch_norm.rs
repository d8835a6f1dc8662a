//! Batch normalisation: each channel of a lane gets mean 0 and variance 1 over the batch (and space), then a learned
//! scale and shift.
//!
//! ```text
//!  training     batch ─► moments ─► normalise          the caller keeps running moments:
//!                           └──────────────────────►   running ← d · running + (1 − d) · batch
//!  evaluation   running moments ─► normalise
//! ```
//!
//! (Ioffe and Szegedy, arXiv 1502.03167.) Both normalising and running variance are the biased one, divided by the
//! number of values, as in Haiku and in JAX's reference tasks. PyTorch keeps the unbiased one for evaluation, which
//! differs by the factor `n / (n − 1)`.

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::slices::{block, block_mut};
use super::{Tape, by_type, host, tensor};

/// Mean and variance of each channel of each lane, both `[lanes, channels]`: constants without a gradient.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Means.
    pub mean: Tensor,
    /// Biased variances.
    pub variance: Tensor,
}

impl Moments {
    /// `decay · self + (1 − decay) · batch`: the exponential moving average of Haiku without its correction for a start
    /// at zero. Start from the moments of the first batch, or from mean 0 and variance 1 as PyTorch does.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn averaged_with(&self, batch: &Self, decay: f64) -> Result<Self> {
        let average = |old: &Tensor, new: &Tensor| old.affine(decay, 0.0)? + new.affine(1.0 - decay, 0.0)?;
        Ok(Self { mean: average(&self.mean, &batch.mean)?, variance: average(&self.variance, &batch.variance)? })
    }
}

/// Normalises `[lanes, batch, …, channels]` by the moments of this very batch, which it returns too; `scale` and `shift`
/// are `[lanes, channels]`, `epsilon` is added to the variance. The gradient goes through the moments.
///
/// # Errors
/// If shapes or types do not fit, a lane has no values, or a tensor is not contiguous.
pub fn batch_norm(
    tape: &mut Tape,
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Moments)> {
    check_shapes(input, scale, shift)?;
    let moments = by_type!("batch norm", input.dtype(), moments_of::<_>(input, scale.dims2()?))?;
    Ok((normalise(tape, input, scale, shift, &moments, epsilon, true)?, moments))
}

/// Normalises by given moments, running ones for example, which get no gradient. Shapes as [`batch_norm`].
///
/// # Errors
/// As [`batch_norm`].
pub fn batch_norm_by(
    tape: &mut Tape,
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    moments: &Moments,
    epsilon: f64,
) -> Result<Tensor> {
    check_shapes(input, scale, shift)?;
    if moments.mean.dims() != scale.dims() || moments.variance.dims() != scale.dims() {
        bail!("batch norm: moments {:?} do not fit a scale {:?}", moments.mean.shape(), scale.shape());
    }
    normalise(tape, input, scale, shift, moments, epsilon, false)
}

fn check_shapes(input: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<()> {
    let (lanes, channels) = scale.dims2()?;
    let dims = input.dims();
    if dims.len() < 3 || dims[0] != lanes || dims[dims.len() - 1] != channels || input.elem_count() == 0 {
        bail!("batch norm: a scale {:?} does not fit an input {:?}", scale.shape(), input.shape());
    }
    if shift.dims() != scale.dims() {
        bail!("batch norm: a scale {:?} and a shift {:?}", scale.shape(), shift.shape());
    }
    Ok(())
}

/// Sums over the rows of a lane in f64, one sum a channel; `term` gives the summand of a place in the lane.
fn sums(size: usize, channels: usize, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for row in (0..size).step_by(channels) {
        for (channel, sum) in sums.iter_mut().enumerate() {
            *sum += term(row + channel, channel);
        }
    }
    sums
}

fn moments_of<T: Real>(input: &Tensor, (lanes, channels): (usize, usize)) -> Result<Moments> {
    let guard = input.storage_and_layout();
    let values = host::<T>(&guard)?;
    let size = values.len() / lanes;
    let count = (size / channels) as f64;
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for lane in 0..lanes {
        let values = block(values, lane, size);
        let mean: Vec<f64> = sums(size, channels, |i, _| values[i].to_f64()).iter().map(|sum| sum / count).collect();
        let squares = sums(size, channels, |i, channel| (values[i].to_f64() - mean[channel]).powi(2));
        means.extend(mean.into_iter().map(T::from_f64));
        variances.extend(squares.into_iter().map(|sum| T::from_f64(sum / count)));
    }
    Ok(Moments { mean: tensor(means, &[lanes, channels])?, variance: tensor(variances, &[lanes, channels])? })
}

/// `through` says whether the moments are those of the batch, so that the gradient goes through them.
fn normalise(
    tape: &mut Tape,
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    moments: &Moments,
    epsilon: f64,
    through: bool,
) -> Result<Tensor> {
    let (output, normal) = by_type!("batch norm", input.dtype(), forward::<_>(input, scale, shift, moments, epsilon))?;
    let (dtype, scale_kept, variance) = (input.dtype(), scale.clone(), moments.variance.clone());
    Ok(tape.record_keeping("batch norm", &[input, scale, shift], output, &[&normal.clone()], move |grad, _| {
        by_type!("batch norm", dtype, backward::<_>(&normal, &scale_kept, &variance, epsilon, through, grad))
    }))
}

/// The output, and the normalised input before scale and shift.
fn forward<T: Real>(
    input: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    moments: &Moments,
    epsilon: f64,
) -> Result<(Tensor, Tensor)> {
    let (input_guard, scale_guard) = (input.storage_and_layout(), scale.storage_and_layout());
    let (shift_guard, mean_guard) = (shift.storage_and_layout(), moments.mean.storage_and_layout());
    let variance_guard = moments.variance.storage_and_layout();
    let (mut normal, scales) = (host::<T>(&input_guard)?.to_vec(), host::<T>(&scale_guard)?);
    let (shifts, means) = (host::<T>(&shift_guard)?, host::<T>(&mean_guard)?);
    let factors = inverse_deviations(host::<T>(&variance_guard)?, epsilon);
    let (lanes, channels) = scale.dims2()?;
    let size = normal.len() / lanes;
    let mut output = vec![T::zero(); normal.len()];
    for lane in 0..lanes {
        let (scale, shift) = (block(scales, lane, channels), block(shifts, lane, channels));
        let (mean, factor) = (block(means, lane, channels), block(&factors, lane, channels));
        let rows = block_mut(&mut normal, lane, size).chunks_exact_mut(channels);
        for (row, output) in rows.zip(block_mut(&mut output, lane, size).chunks_exact_mut(channels)) {
            for i in 0..channels {
                row[i] = (row[i] - mean[i]) * factor[i];
                output[i] = row[i] * scale[i] + shift[i];
            }
        }
    }
    Ok((tensor(output, input.dims())?, tensor(normal, input.dims())?))
}

fn inverse_deviations<T: Real>(variances: &[T], epsilon: f64) -> Vec<T> {
    variances.iter().map(|variance| T::from_f64(1.0 / (variance.to_f64() + epsilon).sqrt())).collect()
}

fn backward<T: Real>(
    normal: &Tensor,
    scale: &Tensor,
    variance: &Tensor,
    epsilon: f64,
    through: bool,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let (normal_guard, scale_guard) = (normal.storage_and_layout(), scale.storage_and_layout());
    let (grad_guard, variance_guard) = (grad.storage_and_layout(), variance.storage_and_layout());
    let (normals, scales) = (host::<T>(&normal_guard)?, host::<T>(&scale_guard)?);
    let grads = host::<T>(&grad_guard)?;
    let factors = inverse_deviations(host::<T>(&variance_guard)?, epsilon);
    let (lanes, channels) = scale.dims2()?;
    let size = grads.len() / lanes;
    let count = (size / channels) as f64;
    let mut grad_input = vec![T::zero(); grads.len()];
    let (mut of_scale, mut of_shift) = (Vec::new(), Vec::new());
    for lane in 0..lanes {
        let (grad, normal) = (block(grads, lane, size), block(normals, lane, size));
        let sum = sums(size, channels, |i, _| grad[i].to_f64());
        let sum_normal = sums(size, channels, |i, _| grad[i].to_f64() * normal[i].to_f64());
        // ∂x = scale / √(variance + ε) · (∂y − mean(∂y) − x̂ · mean(∂y x̂)); the means only where the batch made them.
        let share = if through { 1.0 / count } else { 0.0 };
        let mean: Vec<T> = sum.iter().map(|sum| T::from_f64(sum * share)).collect();
        let mean_normal: Vec<T> = sum_normal.iter().map(|sum| T::from_f64(sum * share)).collect();
        let (scale, factor) = (block(scales, lane, channels), block(&factors, lane, channels));
        let rows = grad.chunks_exact(channels).zip(normal.chunks_exact(channels));
        for ((grad, normal), out) in rows.zip(block_mut(&mut grad_input, lane, size).chunks_exact_mut(channels)) {
            for i in 0..channels {
                out[i] = scale[i] * factor[i] * (grad[i] - mean[i] - normal[i] * mean_normal[i]);
            }
        }
        of_scale.extend(sum_normal.into_iter().map(T::from_f64));
        of_shift.extend(sum.into_iter().map(T::from_f64));
    }
    let dims = scale.dims();
    Ok(vec![Some(tensor(grad_input, grad.dims())?), Some(tensor(of_scale, dims)?), Some(tensor(of_shift, dims)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    fn moments(lanes: usize, channels: usize) -> Moments {
        let variance = values(&[lanes, channels], 5).sqr().unwrap().affine(1.0, 0.3).unwrap();
        Moments { mean: values(&[lanes, channels], 4), variance }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for shape in [&[2, 5, 3][..], &[1, 2, 2, 3, 2], &[2, 3, 1]] {
            let channels = [shape[0], shape[shape.len() - 1]];
            let arguments = [values(shape, 0), values(&channels, 1), values(&channels, 2)];
            check("training", &arguments, |tape, x| Ok(batch_norm(tape, &x[0], &x[1], &x[2], 1e-2)?.0));
            let running = moments(channels[0], channels[1]);
            check("evaluation", &arguments, |tape, x| batch_norm_by(tape, &x[0], &x[1], &x[2], &running, 1e-2));
        }
        let arguments = [values(&[3, 4, 7], 0), values(&[3, 7], 1), values(&[3, 7], 2)];
        lanes_are_independent(&arguments, |tape, x| Ok(batch_norm(tape, &x[0], &x[1], &x[2], 1e-5)?.0));
    }

    #[test]
    fn values_are_those_of_candle() {
        let (input, scale, shift) = (values(&[2, 3, 2, 2, 5], 0), values(&[2, 5], 1), values(&[2, 5], 2));
        let (trained, batch) = batch_norm(&mut Tape::default(), &input, &scale, &shift, 1e-5).unwrap();
        let running = moments(2, 5).averaged_with(&batch, 0.9).unwrap();
        let evaluated = batch_norm_by(&mut Tape::default(), &input, &scale, &shift, &running, 1e-5).unwrap();
        for lane in 0..2 {
            let of = |tensor: &Tensor| tensor.get(lane).unwrap();
            let images = of(&input).permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let start = moments(2, 5);
            let (mean, variance) = (of(&start.mean), of(&start.variance));
            let candle = candle_nn::BatchNorm::new(5, mean, variance, of(&scale), of(&shift), 1e-5).unwrap();
            let expected = candle.forward_train(&images).unwrap().permute((0, 2, 3, 1)).unwrap();
            close("training", &of(&trained), &expected, 1e-10);
            // Candle keeps the unbiased variance, as PyTorch does: of 12 values 12/11 of ours.
            close("running mean", &of(&running.mean), candle.running_mean(), 1e-10);
            let unbiased = (of(&batch.variance).affine(12.0 / 11.0 * 0.1, 0.0).unwrap()
                + of(&start.variance).affine(0.9, 0.0).unwrap())
            .unwrap();
            close("running variance", &unbiased, candle.running_var(), 1e-10);
            let (mean, variance) = (of(&running.mean), of(&running.variance));
            let candle = candle_nn::BatchNorm::new(5, mean, variance, of(&scale), of(&shift), 1e-5).unwrap();
            let expected =
                candle_nn::ModuleT::forward_t(&candle, &images, false).unwrap().permute((0, 2, 3, 1)).unwrap();
            close("evaluation", &of(&evaluated), &expected, 1e-10);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (scale, shift) = (values(&[2, 5], 1), values(&[2, 5], 2));
        let mut tape = Tape::default();
        let error = batch_norm(&mut tape, &values(&[2, 3, 4], 0), &scale, &shift, 1e-5).unwrap_err().to_string();
        assert!(error.contains("scale [2, 5]") && error.contains("input [2, 3, 4]"), "{error}");
        let input = values(&[2, 3, 5], 0);
        let error = batch_norm(&mut tape, &input, &scale, &values(&[2, 4], 2), 1e-5).unwrap_err().to_string();
        assert!(error.contains("shift [2, 4]"), "{error}");
        let error = batch_norm_by(&mut tape, &input, &scale, &shift, &moments(2, 4), 1e-5).unwrap_err().to_string();
        assert!(error.contains("moments [2, 4]"), "{error}");
    }
}
