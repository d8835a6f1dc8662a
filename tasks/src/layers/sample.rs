//! A Gaussian to sample from with a gradient, and its distance to the standard normal: the middle of a VAE.
//!
//! ```text
//!  encoder ─┬─► μ ────────────────┐
//!           └─► ln σ² ─► σ ─► · ──+──► z = μ + σ ε ─► decoder
//!                             ε, given
//! ```
//!
//! (Kingma and Welling, arXiv 1312.6114, section 2.4 and appendix B.)

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::slices::{block, lane_of};
use super::{Tape, by_type, host, tensor};

/// `mean + exp(log_variance / 2) · epsilon`, entry by entry: `mean` and `log_variance` are `[lanes, batch, …]`;
/// `epsilon`, standard normal, has that shape too, or one lane that all share, and is data.
///
/// # Errors
/// If shapes or types do not fit, or `epsilon` wants a gradient.
pub fn reparametrise(tape: &mut Tape, mean: &Tensor, log_variance: &Tensor, epsilon: &Tensor) -> Result<Tensor> {
    check_pair("reparametrise", mean, log_variance)?;
    let (dims, of_noise) = (mean.dims(), epsilon.dims());
    let fits = of_noise.len() == dims.len() && of_noise[1..] == dims[1..];
    if !fits || (of_noise[0] != dims[0] && of_noise[0] != 1) || epsilon.dtype() != mean.dtype() {
        bail!("reparametrise: epsilon {:?} does not fit a mean {:?}", epsilon.shape(), mean.shape());
    }
    if tape.tracks(epsilon) {
        bail!("reparametrise: epsilon must be data, not something with a gradient");
    }
    let (output, noise) = by_type!("reparametrise", mean.dtype(), sampled::<_>(mean, log_variance, epsilon))?;
    let kept = noise.clone();
    Ok(tape.record_keeping("reparametrise", &[mean, log_variance], output, &[&kept], move |grad, _| {
        // ∂z/∂ ln σ² = σ ε / 2.
        Ok(vec![Some(grad.clone()), Some(((grad * &noise)? * 0.5)?)])
    }))
}

/// The sample, and `σ ε`.
fn sampled<T: Real>(mean: &Tensor, log_variance: &Tensor, epsilon: &Tensor) -> Result<(Tensor, Tensor)> {
    let (mean_guard, variance_guard) = (mean.storage_and_layout(), log_variance.storage_and_layout());
    let epsilon_guard = epsilon.storage_and_layout();
    let (means, variances) = (host::<T>(&mean_guard)?, host::<T>(&variance_guard)?);
    let epsilons = host::<T>(&epsilon_guard)?;
    let (lanes, half) = (mean.dim(0)?, T::from_f64(0.5));
    let size = means.len() / lanes;
    let mut noise = Vec::with_capacity(means.len());
    for lane in 0..lanes {
        let pairs = block(variances, lane, size).iter().zip(lane_of(epsilons, lane, size));
        noise.extend(pairs.map(|(&variance, &epsilon)| (half * variance).exp() * epsilon));
    }
    let output: Vec<T> = means.iter().zip(&noise).map(|(&mean, &noise)| mean + noise).collect();
    Ok((tensor(output, mean.dims())?, tensor(noise, mean.dims())?))
}

/// Divergence of `N(mean, exp(log_variance))` from the standard normal, in nats: summed over the entries of an example,
/// averaged over the batch. Both are `[lanes, batch, …]`, the result is `[lanes]`.
///
/// # Errors
/// If shapes or types do not fit.
pub fn kl_to_standard_normal(tape: &mut Tape, mean: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    check_pair("kl", mean, log_variance)?;
    let output = by_type!("kl", mean.dtype(), divergence::<_>(mean, log_variance))?;
    let (mean_kept, variance) = (mean.clone(), log_variance.clone());
    Ok(tape.record_keeping("kl", &[mean, log_variance], output, &[mean, log_variance], move |grad, _| {
        by_type!("kl", mean_kept.dtype(), divergence_backward::<_>(&mean_kept, &variance, grad))
    }))
}

/// `½ Σ (σ² + μ² − 1 − ln σ²)`.
fn divergence<T: Real>(mean: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    let (mean_guard, variance_guard) = (mean.storage_and_layout(), log_variance.storage_and_layout());
    let (means, variances) = (host::<T>(&mean_guard)?, host::<T>(&variance_guard)?);
    let (lanes, batch) = (mean.dim(0)?, mean.dim(1)? as f64);
    let size = means.len() / lanes;
    let losses = (0..lanes).map(|lane| {
        let pairs = block(means, lane, size).iter().zip(block(variances, lane, size));
        let term = |(mean, variance): (&T, &T)| {
            let (mean, variance) = (mean.to_f64(), variance.to_f64());
            // eˣ − 1 − x as such: near the prior both terms are small.
            0.5 * (variance.exp_m1() - variance + mean * mean)
        };
        T::from_f64(pairs.map(term).sum::<f64>() / batch)
    });
    tensor(losses.collect::<Vec<T>>(), &[lanes])
}

fn divergence_backward<T: Real>(mean: &Tensor, log_variance: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let (mean_guard, variance_guard) = (mean.storage_and_layout(), log_variance.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (means, variances) = (host::<T>(&mean_guard)?, host::<T>(&variance_guard)?);
    let (batch, half) = (mean.dim(1)? as f64, T::from_f64(0.5));
    let size = means.len() / mean.dim(0)?;
    let (mut of_mean, mut of_variance) = (Vec::with_capacity(means.len()), Vec::with_capacity(means.len()));
    for (lane, &grad) in host::<T>(&grad_guard)?.iter().enumerate() {
        let share = grad / T::from_f64(batch);
        of_mean.extend(block(means, lane, size).iter().map(|&mean| share * mean));
        of_variance.extend(block(variances, lane, size).iter().map(|&variance| share * half * variance.exp_m1()));
    }
    Ok(vec![Some(tensor(of_mean, mean.dims())?), Some(tensor(of_variance, mean.dims())?)])
}

/// Both parameters of a Gaussian have one shape `[lanes, batch, …]` and type, and are not empty.
pub(super) fn check_pair(layer: &str, mean: &Tensor, spread: &Tensor) -> Result<()> {
    if mean.rank() < 2 || mean.elem_count() == 0 || mean.dims() != spread.dims() || mean.dtype() != spread.dtype() {
        bail!("{layer}: a mean {:?} and a spread {:?} do not fit", mean.shape(), spread.shape());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences() {
        let arguments = [values(&[3, 2, 4], 0), values(&[3, 2, 4], 1)];
        for lanes in [1, 3] {
            let epsilon = values(&[lanes, 2, 4], 2);
            check("sample", &arguments, |tape, x| reparametrise(tape, &x[0], &x[1], &epsilon));
        }
        check("kl", &arguments, |tape, x| kl_to_standard_normal(tape, &x[0], &x[1]));
        let shared = values(&[1, 2, 4], 2).to_dtype(candle_core::DType::F32).unwrap();
        lanes_are_independent(&arguments, |tape, x| reparametrise(tape, &x[0], &x[1], &shared));
        lanes_are_independent(&arguments, |tape, x| kl_to_standard_normal(tape, &x[0], &x[1]));
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        let (mean, variance, epsilon) = (values(&[2, 3, 4], 0), values(&[2, 3, 4], 1), values(&[2, 3, 4], 2));
        let got = reparametrise(&mut Tape::default(), &mean, &variance, &epsilon).unwrap();
        let expected = (&mean + (variance.affine(0.5, 0.0).unwrap().exp().unwrap() * &epsilon).unwrap()).unwrap();
        close("sample", &got, &expected, 1e-12);
        let terms = (variance.exp().unwrap() + mean.sqr().unwrap()).unwrap() - variance.affine(1.0, 1.0).unwrap();
        let expected = (terms.unwrap().sum(2).unwrap().mean(1).unwrap() * 0.5).unwrap();
        close("kl", &kl_to_standard_normal(&mut Tape::default(), &mean, &variance).unwrap(), &expected, 1e-12);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (a, b) = (values(&[2, 3], 0), values(&[2, 4], 1));
        let mut tape = Tape::default();
        assert!(kl_to_standard_normal(&mut tape, &a, &b).unwrap_err().to_string().contains("mean [2, 3]"));
        assert!(reparametrise(&mut tape, &a, &a, &b).unwrap_err().to_string().contains("epsilon [2, 4]"));
        let epsilon = values(&[2, 3], 2);
        tape.variable(&epsilon);
        assert!(reparametrise(&mut tape, &a, &a, &epsilon).unwrap_err().to_string().contains("must be data"));
    }
}
