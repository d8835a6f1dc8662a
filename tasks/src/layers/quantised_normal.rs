//! How likely 8-bit pixels are under a normal distribution: the likelihood of a VAE.
//!
//! ```text
//!        0        1        2     …     254      255       level k = 255 · pixel
//!  ──────────┼────────┼────────┼─   ─┼────────┼─────────  bin k: (k ± ½) / 255, the first and the last one open
//!  P(k) = Φ((upper − μ)/σ) − Φ((lower − μ)/σ)
//! ```
//!
//! The reference adds uniform noise to the pixel and takes the density instead, which estimates a lower bound of this;
//! here it is exact and needs no noise. All in f64, whatever the layers compute in: the difference of two close
//! probabilities is either a difference of scaled tails (`erfcx`), which does not vanish however far the mean is, or,
//! for bins narrow against σ, the series of the density around the middle of the bin.

use candle_core::{Result, Tensor, bail};

use super::erfc::erfcx;
use super::real::Real;
use super::sample::check_pair;
use super::slices::{block, lane_of};
use super::{Tape, by_type, host, tensor};

/// Log likelihood of pixels, in nats: summed over the entries of an example, averaged over the batch. `mean` and
/// `log_scale` (`ln σ`) are `[lanes, batch, …]`; `pixels`, in `[0, 1]` and rounded to a multiple of 1/255, have that
/// shape too, or one lane that all share; the result is `[lanes]`. Pixels are data and get no gradient; those out of
/// range count as the nearest level, and NaN makes the lane's result NaN.
///
/// # Errors
/// If shapes or types do not fit, or the pixels want a gradient.
pub fn quantised_normal(tape: &mut Tape, pixels: &Tensor, mean: &Tensor, log_scale: &Tensor) -> Result<Tensor> {
    check_pair("quantised normal", mean, log_scale)?;
    let (dims, of_pixels) = (mean.dims(), pixels.dims());
    let fits = of_pixels.len() == dims.len() && of_pixels[1..] == dims[1..];
    if !fits || (of_pixels[0] != dims[0] && of_pixels[0] != 1) || pixels.dtype() != mean.dtype() {
        bail!("quantised normal: pixels {:?} do not fit a mean {:?}", pixels.shape(), mean.shape());
    }
    if tape.tracks(pixels) {
        bail!("quantised normal: pixels must be data, not something with a gradient");
    }
    let (output, slopes) = by_type!("quantised normal", mean.dtype(), forward::<_>(pixels, mean, log_scale))?;
    let lanes = dims[0];
    let broadcast: Vec<usize> = std::iter::once(lanes).chain(dims[1..].iter().map(|_| 1)).collect();
    Ok(tape.record_keeping(
        "quantised normal",
        &[mean, log_scale],
        output,
        &slopes.clone().each_ref(),
        move |grad, _| {
            let grad = grad.reshape(broadcast)?;
            slopes.iter().map(|slope| Ok(Some(slope.broadcast_mul(&grad)?))).collect()
        },
    ))
}

/// The means, and their derivatives by mean and log scale, which cost little while the bin is at hand.
fn forward<T: Real>(pixels: &Tensor, mean: &Tensor, log_scale: &Tensor) -> Result<(Tensor, [Tensor; 2])> {
    let (pixel_guard, mean_guard) = (pixels.storage_and_layout(), mean.storage_and_layout());
    let scale_guard = log_scale.storage_and_layout();
    let (pixels, means) = (host::<T>(&pixel_guard)?, host::<T>(&mean_guard)?);
    let scales = host::<T>(&scale_guard)?;
    let (lanes, batch) = (mean.dim(0)?, mean.dim(1)? as f64);
    let size = means.len() / lanes;
    let mut sums = Vec::with_capacity(lanes);
    let (mut by_mean, mut by_scale) = (Vec::with_capacity(means.len()), Vec::with_capacity(means.len()));
    for lane in 0..lanes {
        let mut sum = 0.0;
        let parameters = block(means, lane, size).iter().zip(block(scales, lane, size));
        for (&pixel, (mean, scale)) in lane_of(pixels, lane, size).iter().zip(parameters) {
            let bin = Bin::of((pixel.to_f64() * 255.0).round(), mean.to_f64(), scale.to_f64());
            sum += bin.log_probability;
            by_mean.push(T::from_f64(bin.by_mean / batch));
            by_scale.push(T::from_f64(bin.by_log_scale / batch));
        }
        sums.push(T::from_f64(sum / batch));
    }
    Ok((tensor(sums, &[lanes])?, [tensor(by_mean, mean.dims())?, tensor(by_scale, mean.dims())?]))
}

/// The logarithm of a bin's probability with its derivatives.
#[derive(Debug)]
struct Bin {
    log_probability: f64,
    by_mean: f64,
    by_log_scale: f64,
}

impl Bin {
    fn of(level: f64, mean: f64, log_scale: f64) -> Self {
        let inverse = (-log_scale).exp();
        let at = |place: f64| (place / 255.0 - mean) * inverse;
        if level.is_nan() {
            return Self { log_probability: level, by_mean: level, by_log_scale: level };
        }
        if level <= 0.0 {
            return Self::tail(at(0.5), -inverse);
        }
        if level >= 255.0 {
            return Self::tail(-at(254.5), inverse);
        }
        let (middle, width) = (at(level), inverse / 255.0);
        // Mirrored, so that the larger part of the bin is on the side where Φ is small.
        if middle > 0.0 { Self::between(-middle, width, inverse) } else { Self::between(middle, width, -inverse) }
    }

    /// `ln Φ(edge)`; `slope` is the derivative of the edge by the mean.
    fn tail(edge: f64, slope: f64) -> Self {
        let (log_probability, ratio) = if edge <= 0.0 {
            let scaled = erfcx(-edge * FRAC_1_SQRT_2);
            (-0.5 * edge * edge + (0.5 * scaled).ln(), SQRT_2_OVER_PI / scaled)
        } else {
            let log_probability = (-upper_tail(edge)).ln_1p();
            (log_probability, density(edge) / log_probability.exp())
        };
        // Far out the density is 0 before the edge is infinite; their product is 0 all the same.
        let by_log_scale = if ratio == 0.0 { 0.0 } else { -edge * ratio };
        Self { log_probability, by_mean: slope * ratio, by_log_scale }
    }

    /// `ln (Φ(middle + width/2) − Φ(middle − width/2))` for a middle of at most 0; `slope` is the derivative of the
    /// middle by the mean.
    fn between(middle: f64, width: f64, slope: f64) -> Self {
        if width * (1.0 + middle.abs()) < NARROW {
            // ∫ φ = width φ(middle) (1 + width² (middle² − 1)/24 + …); the next term is below NARROW⁴/1920.
            let square = width * width;
            let correction = square * (middle * middle - 1.0) / 24.0;
            let by_middle = -middle + square * middle / 12.0 / (1.0 + correction);
            let by_log_width = 1.0 + 2.0 * correction / (1.0 + correction);
            let log_probability = width.ln() - 0.5 * middle * middle - LN_SQRT_2_PI + correction.ln_1p();
            return Self {
                log_probability,
                by_mean: slope * by_middle,
                by_log_scale: -middle * by_middle - by_log_width,
            };
        }
        let (lower, upper) = (middle - 0.5 * width, middle + 0.5 * width);
        // Densities at the edges over the probability; φ(lower)/φ(upper) = exp(width · middle).
        let (log_probability, upper_ratio) = if upper <= 0.0 {
            let scaled = erfcx(-upper * FRAC_1_SQRT_2) - (width * middle).exp() * erfcx(-lower * FRAC_1_SQRT_2);
            (-0.5 * upper * upper + (0.5 * scaled).ln(), SQRT_2_OVER_PI / scaled)
        } else {
            let probability = 1.0 - upper_tail(upper) - upper_tail(-lower);
            (probability.ln(), density(upper) / probability)
        };
        let lower_ratio = upper_ratio * (width * middle).exp();
        let by_middle = -upper_ratio * (width * middle).exp_m1();
        // Both edges move by their own size: upper · φ(upper) − lower · φ(lower).
        let by_log_scale = if upper_ratio == 0.0 { 0.0 } else { -(upper * by_middle + width * lower_ratio) };
        Self { log_probability, by_mean: slope * by_middle, by_log_scale }
    }
}

use core::f64::consts::FRAC_1_SQRT_2;

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// ln √(2π).
const LN_SQRT_2_PI: f64 = 0.918_938_533_204_672_8;
/// Bins narrower than this, on the scale on which the density changes, are integrated by their middle.
const NARROW: f64 = 1e-3;

/// `1 − Φ(x)` for `x ≥ 0`.
fn upper_tail(x: f64) -> f64 {
    0.5 * (-0.5 * x * x).exp() * erfcx(x * FRAC_1_SQRT_2)
}

/// φ(x).
fn density(x: f64) -> f64 {
    0.5 * SQRT_2_OVER_PI * (-0.5 * x * x).exp()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::gradcheck::{check, lanes_are_independent, values};

    /// Level, mean and log scale; log probability and its derivatives by both, from mpmath with 2200 digits.
    #[expect(clippy::excessive_precision, reason = "written to the digits they were computed to")]
    const EXPECTED: [(u32, f64, f64, f64, f64, f64); 13] = [
        (128, 0.5, -1.0, -5.4602210172330785, 0.014488208095057363, -0.99996212254698762),
        (128, 0.5, -5.5, -1.1045326035531312, 108.694302307383, -0.7290137239937491),
        (0, 0.25, -2.0, -3.3986615391437823, -16.447765964582999, 4.0796909696465673),
        (255, 0.25, -2.0, -17.934589392919205, 42.102520317726505, 31.494336276887572),
        (0, -0.5, -2.0, -0.00010403839019726717, -0.003035935079917196, -0.0015239203538407886),
        (255, 2.0, -3.0, -2.2324460041645631e-90, 9.0461615316927593e-88, -9.0638991033235294e-88),
        (10, 0.9, -3.0, -152.84457117240916, -347.09098436778864, 297.62107988937682),
        (200, 0.1, -4.0, -698.51305437223499, 2035.5249639389128, 1388.9437663282855),
        (37, 0.2, 4.0, -10.460202584158026, -1.8417556033788554e-5, -0.99999898841014638),
        (37, 0.2, 12.0, -18.460202078363156, -2.0726228870551912e-12, -0.99999999999988616),
        (100, 0.390625, -6.0, -0.71482600515116796, 202.15625201704002, -0.56474718809359641),
        (3, 3.0, -2.0, -248.21169873015721, -163.14078050047365, 486.46922724262192),
        (90, -1.5, -1.0, -18.144846065099485, 13.691356656058125, 24.369047755759014),
    ];

    #[test]
    fn bins_agree_with_many_digits_from_the_middle_to_the_far_tails() {
        for (level, mean, log_scale, log_probability, by_mean, by_log_scale) in EXPECTED {
            let bin = Bin::of(f64::from(level), mean, log_scale);
            let close = |got: f64, expected: f64| (got - expected).abs() <= 2e-11 * expected.abs();
            assert!(close(bin.log_probability, log_probability), "{level} {mean} {log_scale}: {bin:?}");
            assert!(close(bin.by_mean, by_mean), "{level} {mean} {log_scale}: {bin:?}");
            assert!(close(bin.by_log_scale, by_log_scale), "{level} {mean} {log_scale}: {bin:?}");
        }
    }

    #[test]
    fn the_probabilities_of_all_levels_sum_to_one() {
        for (mean, log_scale) in [(0.5, -1.0), (0.2, -4.0), (0.9, -6.5), (-3.0, 2.0), (0.4, 9.0)] {
            let sum: f64 = (0..256).map(|level| Bin::of(f64::from(level), mean, log_scale).log_probability.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{mean} {log_scale}: {sum}");
        }
    }

    fn pixels(lanes: usize) -> Tensor {
        values(&[lanes, 2, 5], 4).affine(0.4, 0.5).unwrap().clamp(0.0, 1.0).unwrap()
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let arguments = [values(&[3, 2, 5], 0), values(&[3, 2, 5], 1).affine(1.0, -1.5).unwrap()];
        for lanes in [1, 3] {
            check("quantised normal", &arguments, |tape, x| quantised_normal(tape, &pixels(lanes), &x[0], &x[1]));
        }
        // Means in the bin itself, where it straddles the middle, and beyond the open bins at both ends.
        let wide = pixels(3).affine(4.0, -1.5).unwrap().clamp(0.0, 1.0).unwrap();
        let inside = wide.affine(1.2, -0.1).unwrap();
        check("at the mean", &[inside, arguments[1].affine(1.0, -2.0).unwrap()], |tape, x| {
            quantised_normal(tape, &wide, &x[0], &x[1])
        });
        let shared = pixels(1).to_dtype(DType::F32).unwrap();
        lanes_are_independent(&arguments, |tape, x| quantised_normal(tape, &shared, &x[0], &x[1]));
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays() {
        for level in [0.0, 128.0, 255.0] {
            for mean in [-1e6, 0.5, 1e6] {
                for log_scale in [-8.0, 0.0, 80.0] {
                    let bin = Bin::of(level, mean, log_scale);
                    assert!(
                        bin.log_probability.is_finite() && bin.by_mean.is_finite() && bin.by_log_scale.is_finite(),
                        "{level} {mean} {log_scale}: {bin:?}"
                    );
                }
            }
        }
        let one = |value: f32| Tensor::new(&[[value]], &Device::Cpu).unwrap();
        for [pixel, mean, scale] in [[f32::NAN, 0.0, 0.0], [0.5, f32::NAN, 0.0], [0.5, 0.0, f32::NAN]] {
            let result = quantised_normal(&mut Tape::default(), &one(pixel), &one(mean), &one(scale)).unwrap();
            assert!(result.to_vec1::<f32>().unwrap()[0].is_nan(), "{pixel} {mean} {scale}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (mean, mut tape) = (values(&[2, 3], 0), Tape::default());
        let error = quantised_normal(&mut tape, &values(&[2, 4], 1), &mean, &mean).unwrap_err().to_string();
        assert!(error.contains("pixels [2, 4]"), "{error}");
        let error = quantised_normal(&mut tape, &mean, &mean, &values(&[2, 4], 1)).unwrap_err().to_string();
        assert!(error.contains("do not fit"), "{error}");
    }
}
