//! Complex batch normalisation: real and imaginary part are whitened together (Trabelsi et al., arXiv 1705.09792,
//! §3.5).
//!
//! ```text
//!   z ─► c = z − mean ─► u = V^(−1/2) c ─► y = Γ u + β              per lane and channel, over batch and places
//!
//!   V = [[rr, ri], [ri, ii]] = mean of c cᵀ + ε I,   s = √det V,   t = √(rr + ii + 2s)
//!   V^(−1/2) = [[ii + s, −ri], [−ri, rr + s]] / (s t),   Γ = [[rr, ri], [ri, ii]]
//! ```
//!
//! Everything is computed in f64, whatever the type of the tensors: where imaginary parts are nearly proportional to
//! real ones, det V is a small difference of large numbers. It is clamped below at ε², its least value without
//! rounding.

use candle_core::{Result, Tensor, bail};

use super::inverse_root::{InverseRoot, Symmetric};
use super::pair::{number, rows, rows_mut};
use super::{ComplexTensor, Moments, Pair};
use crate::layers::real::Real;
use crate::layers::{Tape, by_type, host, tensor};

/// The parameters Γ (symmetric) and β, `[lanes, channels]` each.
#[derive(Clone, Debug)]
pub struct Whitening {
    /// Γ, real to real. Starts at 1/√2, so that E|y|² = 1; √2 in complexPyTorch.
    pub rr: Tensor,
    /// Γ, imaginary to imaginary. Starts as `rr`.
    pub ii: Tensor,
    /// Γ, across. Starts at 0.
    pub ri: Tensor,
    /// β. Starts at 0.
    pub beta: Pair,
}

/// Normalises with the statistics of the batch itself: `input` is `[lanes, batch, …, channels]`. Returns them too, and
/// the number of values a channel that they are of, for [`Moments::update`]; no gradient goes through these.
///
/// # Errors
/// If shapes or types do not fit, or there are fewer than two values a channel.
pub fn batch_norm_train(
    tape: &mut Tape,
    input: &ComplexTensor,
    params: &Whitening,
    epsilon: f64,
) -> Result<(ComplexTensor, Moments, usize)> {
    let sizes = Sizes::of(input, params)?;
    if sizes.count < 2 {
        bail!("complex batch norm: {} values a channel have no covariance", sizes.count);
    }
    let moments = by_type!("complex batch norm", input.dtype(), moments_of::<_>(sizes, input))?;
    let output = normalise(tape, input, params, &moments, sizes, Norm { epsilon, of_batch: true })?;
    Ok((output, moments, sizes.count))
}

/// Normalises with running statistics, which are constants.
///
/// # Errors
/// If shapes or types do not fit.
pub fn batch_norm_eval(
    tape: &mut Tape,
    input: &ComplexTensor,
    params: &Whitening,
    running: &Moments,
    epsilon: f64,
) -> Result<ComplexTensor> {
    let sizes = Sizes::of(input, params)?;
    let channels = sizes.lanes * sizes.channels;
    if running.mean.len() != channels || running.covariance.len() != channels {
        bail!("complex batch norm: running statistics of {} channels for {channels}", running.mean.len());
    }
    normalise(tape, input, params, running, sizes, Norm { epsilon, of_batch: false })
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    lanes: usize,
    /// Values of a channel in a lane.
    count: usize,
    channels: usize,
}

impl Sizes {
    fn of(input: &ComplexTensor, params: &Whitening) -> Result<Self> {
        let (z, channels) = (input.stacked(), input.channels());
        let &[lanes, ref batch @ .., _] = z.dims() else { bail!("complex batch norm: {:?} has no lanes", z.shape()) };
        for param in [&params.rr, &params.ii, &params.ri, &params.beta.re, &params.beta.im] {
            if param.dims() != [lanes, channels] || param.dtype() != z.dtype() {
                bail!(
                    "complex batch norm: a parameter {:?} {:?} for {:?} {:?} (parts stacked)",
                    param.dtype(),
                    param.shape(),
                    z.dtype(),
                    z.shape()
                );
            }
        }
        Ok(Self { lanes, count: batch.iter().product(), channels })
    }

    /// Each lane's values.
    fn lanes<'a, T>(&self, values: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        values.chunks_exact((self.count * self.channels * 2).max(1))
    }
}

#[derive(Clone, Copy, Debug)]
struct Norm {
    epsilon: f64,
    /// Whether the statistics are made of the input, so that gradients go through them.
    of_batch: bool,
}

fn normalise(
    tape: &mut Tape,
    input: &ComplexTensor,
    params: &Whitening,
    moments: &Moments,
    sizes: Sizes,
    norm: Norm,
) -> Result<ComplexTensor> {
    let dtype = input.dtype();
    let output = by_type!("complex batch norm", dtype, forward::<_>(sizes, input, params, moments, norm))?;
    let inputs = [input.stacked(), &params.rr, &params.ii, &params.ri, &params.beta.re, &params.beta.im];
    let (kept, kept_params, moments) = (input.clone(), params.clone(), moments.clone());
    let output = tape.record_keeping("complex batch norm", &inputs, output, &inputs, move |grad, _| {
        by_type!("complex batch norm", dtype, backward::<_>(sizes, &kept, &kept_params, &moments, norm, grad))
    });
    ComplexTensor::from_stacked(output)
}

fn moments_of<T: Real>(sizes: Sizes, input: &ComplexTensor) -> Result<Moments> {
    let guard = input.stacked().storage_and_layout();
    let values = host::<T>(&guard)?;
    let (channels, count) = (sizes.channels, sizes.count as f64);
    let mut moments = Moments { mean: Vec::new(), covariance: Vec::new() };
    for values in sizes.lanes(values) {
        let mut mean = vec![[0.0; 2]; channels];
        for (re, im) in rows(values, channels) {
            for (sum, (&x, &y)) in mean.iter_mut().zip(re.iter().zip(im)) {
                *sum = [sum[0] + x.to_f64(), sum[1] + y.to_f64()];
            }
        }
        mean.iter_mut().for_each(|sum| *sum = sum.map(|part| part / count));
        let mut covariance = vec![[0.0; 3]; channels];
        for (re, im) in rows(values, channels) {
            for (channel, [rr, ii, ri]) in covariance.iter_mut().enumerate() {
                let [x, y] = [re[channel].to_f64() - mean[channel][0], im[channel].to_f64() - mean[channel][1]];
                (*rr, *ii, *ri) = (*rr + x * x, *ii + y * y, *ri + x * y);
            }
        }
        covariance.iter_mut().for_each(|sum| *sum = sum.map(|part| part / count));
        moments.mean.extend(mean);
        moments.covariance.extend(covariance);
    }
    Ok(moments)
}

/// Γ and β of each channel of each lane, in f64.
fn parameters<T: Real>(params: &Whitening) -> Result<Vec<(Symmetric, [f64; 2])>> {
    let values = |tensor: &Tensor| -> Result<Vec<f64>> {
        let guard = tensor.storage_and_layout();
        Ok(host::<T>(&guard)?.iter().map(|value| value.to_f64()).collect())
    };
    let (rr, ii, ri) = (values(&params.rr)?, values(&params.ii)?, values(&params.ri)?);
    let (re, im) = (values(&params.beta.re)?, values(&params.beta.im)?);
    Ok((0..rr.len()).map(|i| (Symmetric { rr: rr[i], ii: ii[i], ri: ri[i] }, [re[i], im[i]])).collect())
}

fn forward<T: Real>(
    sizes: Sizes,
    input: &ComplexTensor,
    params: &Whitening,
    moments: &Moments,
    norm: Norm,
) -> Result<Tensor> {
    let guard = input.stacked().storage_and_layout();
    let (values, params, channels) = (host::<T>(&guard)?, parameters::<T>(params)?, sizes.channels);
    let mut output = vec![T::zero(); values.len()];
    let mut places = rows_mut(&mut output, channels);
    for (lane, values) in sizes.lanes(values).enumerate() {
        let of_lane = lane * channels..(lane + 1) * channels;
        let roots: Vec<InverseRoot> = moments.covariance[of_lane.clone()]
            .iter()
            .map(|&covariance| InverseRoot::of(covariance, norm.epsilon))
            .collect();
        let (means, params) = (&moments.mean[of_lane.clone()], &params[of_lane]);
        for ((re, im), (out_re, out_im)) in rows(values, channels).zip(&mut places) {
            for channel in 0..channels {
                let (gamma, beta) = params[channel];
                let u = roots[channel].root.apply(centred(re[channel], im[channel], means[channel]));
                let y = gamma.apply(u);
                (out_re[channel], out_im[channel]) = (T::from_f64(y[0] + beta[0]), T::from_f64(y[1] + beta[1]));
            }
        }
    }
    drop(places);
    tensor(output, input.stacked().dims())
}

fn centred<T: Real>(re: T, im: T, mean: [f64; 2]) -> [f64; 2] {
    let z = number(re, im);
    [z.re - mean[0], z.im - mean[1]]
}

/// Sums over a channel's values in a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// For Γ.
    gamma: Symmetric,
    /// Of the gradients themselves: for β.
    beta: [f64; 2],
    /// For V^(−1/2).
    root: Symmetric,
}

fn backward<T: Real>(
    sizes: Sizes,
    input: &ComplexTensor,
    params: &Whitening,
    moments: &Moments,
    norm: Norm,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let (guard, grad_guard) = (input.stacked().storage_and_layout(), grad.storage_and_layout());
    let (values, grads) = (host::<T>(&guard)?, host::<T>(&grad_guard)?);
    let (params, channels, count) = (parameters::<T>(params)?, sizes.channels, sizes.count as f64);
    let mut output = vec![T::zero(); values.len()];
    let mut places = rows_mut(&mut output, channels);
    let mut all_sums = Vec::with_capacity(sizes.lanes * channels);
    for (lane, (values, grads)) in sizes.lanes(values).zip(sizes.lanes(grads)).enumerate() {
        let of_lane = lane * channels..(lane + 1) * channels;
        let roots: Vec<InverseRoot> = moments.covariance[of_lane.clone()]
            .iter()
            .map(|&covariance| InverseRoot::of(covariance, norm.epsilon))
            .collect();
        let (means, params) = (&moments.mean[of_lane.clone()], &params[of_lane]);
        let numbers = || rows(values, channels).zip(rows(grads, channels));

        let mut sums = vec![Sums::default(); channels];
        for ((re, im), (grad_re, grad_im)) in numbers() {
            for (channel, sums) in sums.iter_mut().enumerate() {
                let c = centred(re[channel], im[channel], means[channel]);
                let g = [grad_re[channel].to_f64(), grad_im[channel].to_f64()];
                sums.beta = [sums.beta[0] + g[0], sums.beta[1] + g[1]];
                sums.gamma.add_gradient(g, roots[channel].root.apply(c));
                sums.root.add_gradient(params[channel].0.apply(g), c);
            }
        }

        // With statistics of the batch, a value moves V = Σ c cᵀ / n and the mean; Σ c = 0, so V does not move the
        // mean.
        let of_v: Vec<Symmetric> = sums.iter().zip(&roots).map(|(sums, root)| root.pull_back(sums.root)).collect();
        for (((re, im), (grad_re, grad_im)), (out_re, out_im)) in numbers().zip(&mut places) {
            for channel in 0..channels {
                let (gamma, root) = (params[channel].0, roots[channel].root);
                let mut g = root.apply(gamma.apply([grad_re[channel].to_f64(), grad_im[channel].to_f64()]));
                if norm.of_batch {
                    let c = centred(re[channel], im[channel], means[channel]);
                    let of_mean = root.apply(gamma.apply(sums[channel].beta));
                    let v = of_v[channel];
                    g[0] += (2.0 * v.rr * c[0] + v.ri * c[1] - of_mean[0]) / count;
                    g[1] += (2.0 * v.ii * c[1] + v.ri * c[0] - of_mean[1]) / count;
                }
                (out_re[channel], out_im[channel]) = (T::from_f64(g[0]), T::from_f64(g[1]));
            }
        }
        all_sums.extend(sums);
    }
    drop(places);
    let of_params = |of: fn(&Sums) -> f64| {
        let values = all_sums.iter().map(|sums| T::from_f64(of(sums))).collect();
        tensor(values, &[sizes.lanes, channels]).map(Some)
    };
    Ok(vec![
        Some(tensor(output, grad.dims())?),
        of_params(|sums| sums.gamma.rr)?,
        of_params(|sums| sums.gamma.ii)?,
        of_params(|sums| sums.gamma.ri)?,
        of_params(|sums| sums.beta[0])?,
        of_params(|sums| sums.beta[1])?,
    ])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use num_complex::Complex64;

    use super::*;

    fn plain(lanes: usize, channels: usize) -> Whitening {
        let full = |value: f64| Tensor::full(value, (lanes, channels), &Device::Cpu).unwrap();
        let gamma = std::f64::consts::FRAC_1_SQRT_2;
        Whitening { rr: full(gamma), ii: full(gamma), ri: full(0.0), beta: Pair { re: full(0.0), im: full(0.0) } }
    }

    #[test]
    fn what_is_normalised_is_white_and_of_modulus_1() {
        let numbers: Vec<Complex64> = (0..50_i32)
            .map(|i| Complex64::new(f64::from(i * i % 17), 3.0 + f64::from(i * 7 % 13 + i * i % 17)))
            .collect();
        let input = ComplexTensor::from_numbers(&numbers, &[1, 50, 1], DType::F64).unwrap();
        let (output, _, count) = batch_norm_train(&mut Tape::default(), &input, &plain(1, 1), 1e-9).unwrap();
        let output = output.to_numbers().unwrap();
        let mean = |of: fn(&Complex64) -> Complex64| output.iter().map(of).sum::<Complex64>() / count as f64;
        assert!(mean(|z| *z).norm() < 1e-12 && mean(|z| z * z).norm() < 1e-8);
        assert!((mean(|z| z.norm_sqr().into()).re - 1.0).abs() < 1e-8);
    }

    #[test]
    fn a_singular_covariance_is_clamped_and_nan_is_not_hidden() {
        let InverseRoot { s, clamped, .. } = InverseRoot::of([1e20, 1e20, 1e20], 1e-5);
        assert!(clamped && s == 1e-5);
        let numbers = |first: f64| {
            let numbers: Vec<Complex64> =
                (0..6).map(|i| Complex64::new(1e8 * f64::from(i), 3e8 * f64::from(i))).collect();
            let mut numbers = numbers;
            numbers[0].re = first;
            ComplexTensor::from_numbers(&numbers, &[1, 6, 1], DType::F64).unwrap()
        };
        let normal =
            |input| batch_norm_train(&mut Tape::default(), &input, &plain(1, 1), 1e-5).unwrap().0.to_numbers().unwrap();
        assert!(normal(numbers(0.0)).iter().all(|z| z.is_finite()));
        assert!(normal(numbers(f64::NAN)).iter().all(|z| z.is_nan()));
    }

    #[test]
    fn what_has_no_covariance_or_does_not_fit_is_refused() {
        let input = ComplexTensor::from_numbers(&[Complex64::ONE; 2], &[1, 1, 2], DType::F64).unwrap();
        let mut tape = Tape::default();
        let error = batch_norm_train(&mut tape, &input, &plain(1, 2), 1e-5).unwrap_err().to_string();
        assert!(error.contains("no covariance"), "{error}");
        let error = batch_norm_train(&mut tape, &input, &plain(1, 1), 1e-5).unwrap_err().to_string();
        assert!(error.contains("parameter"), "{error}");
        let error =
            batch_norm_eval(&mut tape, &input, &plain(1, 2), &Moments::initial(1, 1), 1e-5).unwrap_err().to_string();
        assert!(error.contains("running"), "{error}");
    }
}
