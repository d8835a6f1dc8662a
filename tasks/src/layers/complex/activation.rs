//! Activation functions without parameters. Each is a value and two closed-form derivatives; equation (1) of the
//! [module](super) takes gradients back.
//!
//! ```text
//!   split        f(x) + j f(y)     crelu, split tanh, split sigmoid
//!   by modulus   s(|z|) z          polar tanh, siglog
//!   by angle                       zrelu (a quadrant), cardioid (the cosine)
//!   holomorphic  f(z)              holo tanh, holo sigmoid, with poles on the imaginary axis
//! ```

use candle_core::{Result, Tensor};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::pair::{number, rows, rows_mut};
use super::wirtinger::Polar;
use super::{ComplexTensor, Wirtinger};
use crate::layers::real::Real;
use crate::layers::{Tape, by_type, host, tensor};

/// An activation function of z = x + jy, r = |z|, e = z/r.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplexActivation {
    /// max(x, 0) + j max(y, 0); the derivative of max(·, 0) at 0 is 0.
    Crelu,
    /// z where x ≥ 0 and y ≥ 0, else 0. The closed quadrant, as Guberman has it (arXiv 1602.09046): real input, which
    /// lies on its edge, passes as through a relu.
    Zrelu,
    /// (1 + cos arg z) z / 2 (Virtue et al., arXiv 1707.00070). At 0 a gradient is halved, the mean over all
    /// directions.
    Cardioid,
    /// tanh x + j tanh y.
    SplitTanh,
    /// σ(x) + j σ(y).
    SplitSigmoid,
    /// tanh z, with poles at j(π/2 + kπ).
    HoloTanh,
    /// 1 / (1 + exp(−z)), with poles at j(2k + 1)π.
    HoloSigmoid,
    /// tanh(r) e.
    PolarTanh,
    /// z / (1 + r).
    Siglog,
}

impl ComplexActivation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Crelu,
        Self::Zrelu,
        Self::Cardioid,
        Self::SplitTanh,
        Self::SplitSigmoid,
        Self::HoloTanh,
        Self::HoloSigmoid,
        Self::PolarTanh,
        Self::Siglog,
    ];

    /// f(z). A NaN part makes a NaN.
    pub fn value(self, z: Complex64) -> Complex64 {
        match self {
            Self::Crelu => Complex64::new(relu(z.re), relu(z.im)),
            Self::Zrelu if outside_quadrant(z) => Complex64::ZERO,
            Self::Zrelu => z,
            Self::Cardioid => z * ((1.0 + Polar::of(z).e.re) / 2.0),
            Self::SplitTanh => Complex64::new(z.re.tanh(), z.im.tanh()),
            Self::SplitSigmoid => Complex64::new(sigmoid(z.re), sigmoid(z.im)),
            Self::HoloTanh => tanh(z),
            Self::HoloSigmoid => holomorphic_sigmoid(z),
            Self::PolarTanh => {
                let Polar { r, e } = Polar::of(z);
                e * r.tanh()
            }
            Self::Siglog => z / (1.0 + Polar::of(z).r),
        }
    }

    /// ∂f/∂z and ∂f/∂z̄.
    pub fn derivatives(self, z: Complex64) -> Wirtinger {
        match self {
            Self::Crelu => Wirtinger::split(step(z.re), step(z.im)),
            Self::Zrelu => Wirtinger::holomorphic(if outside_quadrant(z) { 0.0 } else { 1.0 }.into()),
            Self::Cardioid => {
                // f = (1 + x/r) z / 2. With |e| = 1 these are 1/2 + cos/2 + j sin/4 and −j sin e²/4.
                let e = Polar::of(z).e;
                let dz = (e - e.re * e.norm_sqr()) / 4.0 + (1.0 + e.re) / 2.0;
                Wirtinger { dz, dzbar: (e - e * e * e.re) / 4.0 }
            }
            Self::SplitTanh => Wirtinger::split(1.0 - z.re.tanh().powi(2), 1.0 - z.im.tanh().powi(2)),
            Self::SplitSigmoid => {
                let slope = |x: f64| sigmoid(x) * sigmoid(-x);
                Wirtinger::split(slope(z.re), slope(z.im))
            }
            Self::HoloTanh => {
                let value = tanh(z);
                Wirtinger::holomorphic(1.0 - value * value)
            }
            Self::HoloSigmoid => Wirtinger::holomorphic(holomorphic_sigmoid(z) * holomorphic_sigmoid(-z)),
            Self::PolarTanh => {
                let polar = Polar::of(z);
                let value = polar.r.tanh();
                let s = value / polar.r;
                Wirtinger::radial(polar, s, (1.0 - value * value - s) / polar.r)
            }
            Self::Siglog => {
                let polar = Polar::of(z);
                let s = 1.0 / (1.0 + polar.r);
                Wirtinger::radial(polar, s, -s * s)
            }
        }
    }
}

/// Not `x > 0`: that would hide a NaN.
fn relu(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { x }
}

fn step(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { 1.0 }
}

/// By comparisons, never by an angle: atan2(−0, −1) is −π. A NaN lies nowhere, and passes.
fn outside_quadrant(z: Complex64) -> bool {
    !z.is_nan() && (z.re < 0.0 || z.im < 0.0)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// (sinh 2x + j sin 2y) / (cosh 2x + cos 2y), divided through by cosh 2x, so that nothing overflows.
fn tanh(z: Complex64) -> Complex64 {
    let q = 1.0 / (2.0 * z.re).cosh();
    let d = 1.0 + q * (2.0 * z.im).cos();
    Complex64::new((2.0 * z.re).tanh() / d, q * (2.0 * z.im).sin() / d)
}

fn holomorphic_sigmoid(z: Complex64) -> Complex64 {
    (1.0 + tanh(z / 2.0)) / 2.0
}

/// The activation of each number: any shape `[…, channels]` to the same.
///
/// # Errors
/// If the tensor is not contiguous f32 or f64.
pub fn activate(tape: &mut Tape, input: &ComplexTensor, activation: ComplexActivation) -> Result<ComplexTensor> {
    let output = by_type!("complex activation", input.dtype(), forward::<_>(activation, input))?;
    let z = input.clone();
    let output =
        tape.record_keeping("complex activation", &[input.stacked()], output, &[input.stacked()], move |grad, _| {
            by_type!("complex activation", z.dtype(), backward::<_>(activation, &z, grad))
                .map(|gradient| vec![Some(gradient)])
        });
    ComplexTensor::from_stacked(output)
}

fn forward<T: Real>(activation: ComplexActivation, input: &ComplexTensor) -> Result<Tensor> {
    let (guard, channels) = (input.stacked().storage_and_layout(), input.channels());
    let values = host::<T>(&guard)?;
    let mut output = vec![T::zero(); values.len()];
    if activation == ComplexActivation::Crelu {
        // Comparing needs no f64, and each part goes its own way.
        for (output, &x) in output.iter_mut().zip(values) {
            *output = if x <= T::zero() { T::zero() } else { x };
        }
        return tensor(output, input.stacked().dims());
    }
    for ((re, im), (out_re, out_im)) in rows(values, channels).zip(rows_mut(&mut output, channels)) {
        for channel in 0..channels {
            let value = activation.value(number(re[channel], im[channel]));
            (out_re[channel], out_im[channel]) = (T::from_f64(value.re), T::from_f64(value.im));
        }
    }
    tensor(output, input.stacked().dims())
}

fn backward<T: Real>(activation: ComplexActivation, input: &ComplexTensor, grad: &Tensor) -> Result<Tensor> {
    let (guard, channels) = (input.stacked().storage_and_layout(), input.channels());
    let grad_guard = grad.storage_and_layout();
    let (values, grads) = (host::<T>(&guard)?, host::<T>(&grad_guard)?);
    let mut output = vec![T::zero(); values.len()];
    if activation == ComplexActivation::Crelu {
        for ((output, &x), &grad) in output.iter_mut().zip(values).zip(grads) {
            // A product, so that no NaN is hidden.
            *output = grad * if x <= T::zero() { T::zero() } else { T::one() };
        }
        return tensor(output, grad.dims());
    }
    let pairs = rows(values, channels).zip(rows(grads, channels));
    for (((re, im), (grad_re, grad_im)), (out_re, out_im)) in pairs.zip(rows_mut(&mut output, channels)) {
        for channel in 0..channels {
            let derivatives = activation.derivatives(number(re[channel], im[channel]));
            let gradient = derivatives.pull_back(number(grad_re[channel], grad_im[channel]));
            (out_re[channel], out_im[channel]) = (T::from_f64(gradient.re), T::from_f64(gradient.im));
        }
    }
    tensor(output, grad.dims())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_differences() {
        let h = 1e-5;
        for activation in ComplexActivation::ALL {
            for z in [(0.3, 0.7), (-0.4, 0.2), (0.9, -0.6), (-1.1, -0.5)].map(|(x, y)| Complex64::new(x, y)) {
                let along = |step: Complex64| (activation.value(z + step) - activation.value(z - step)) / (2.0 * h);
                let (dx, dy) = (along(h.into()), along(Complex64::new(0.0, h)));
                let j = Complex64::I;
                let Wirtinger { dz, dzbar } = activation.derivatives(z);
                let off = (dz - (dx - j * dy) / 2.0).norm().max((dzbar - (dx + j * dy) / 2.0).norm());
                assert!(off < 1e-8, "{activation:?} at {z}: off by {off}");
            }
        }
    }

    #[test]
    fn nan_is_never_hidden_and_far_away_is_finite() {
        for activation in ComplexActivation::ALL {
            for z in [(f64::NAN, -1.0), (-1.0, f64::NAN)].map(|(x, y)| Complex64::new(x, y)) {
                assert!(activation.value(z).is_nan(), "{activation:?} hides {z}");
            }
            for z in [(1e30, -3.0), (-1e30, 1e30), (2.0, 1e30), (0.0, 0.0)].map(|(x, y)| Complex64::new(x, y)) {
                let Wirtinger { dz, dzbar } = activation.derivatives(z);
                assert!(
                    activation.value(z).is_finite() && dz.is_finite() && dzbar.is_finite(),
                    "{activation:?} at {z}"
                );
            }
        }
    }

    #[test]
    fn names_are_those_of_recipes() {
        let names = serde_json::to_string(&ComplexActivation::ALL).unwrap();
        assert_eq!(
            names,
            r#"["crelu","zrelu","cardioid","split_tanh","split_sigmoid","holo_tanh","holo_sigmoid","polar_tanh","siglog"]"#
        );
    }
}
