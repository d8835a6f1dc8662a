//! Nonlinearities entry by entry, one for all lanes or one a lane.
//!
//! A task draws its nonlinearity, so lanes that run side by side may differ in it:
//!
//! ```text
//!  lane 0  x ─► relu ─┐
//!  lane 1  x ─► cos  ─┼─► [lanes, …]
//!  lane 2  x ─► gelu ─┘
//! ```
//!
//! Derivatives at kinks are those of JAX; NaN stays NaN, forward and backward. What follows an affine layer directly
//! and is the identity or relu for all lanes is cheaper fused: see [`super::Activation`].

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::real::Real;
use super::{Tape, by_type, host, tensor};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// `x`.
    Identity,
    /// `max(x, 0)`; derivative 0 at 0.
    Relu,
    /// `min(max(x, 0), 6)`; derivative 0 at 0 and at 6.
    Relu6,
    /// `λ x` above 0, `λ α (eˣ − 1)` elsewhere, λ = 1.0507…, α = 1.6732… (Klambauer et al., arXiv 1706.02515).
    Selu,
    /// `tanh x`.
    Tanh,
    /// `cos x`.
    Cos,
    /// `sin x`.
    Sin,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`: the approximation that is JAX's default, not the exact `x Φ(x)`.
    Gelu,
    /// `x` from 0 on, `−x/2` below. The slope of −0.5 is no misprint: it is that of the list VeLO was trained with.
    LeakyRelu,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `eˣ`.
    Exp,
}

const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const LEAKY_SLOPE: f64 = -0.5;
/// √(2/π).
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

/// Applies a nonlinearity to every entry of `[lanes, …]`: `choices` is one for all lanes, or one a lane.
///
/// # Errors
/// If there are neither one nor `lanes` choices, or the tensor is not contiguous f32 or f64.
pub fn nonlinearity(tape: &mut Tape, input: &Tensor, choices: &[Nonlinearity]) -> Result<Tensor> {
    let lanes = input.dim(0)?;
    if choices.len() != 1 && choices.len() != lanes {
        bail!("nonlinearity: {} choices for {lanes} lanes: give one for all, or one a lane", choices.len());
    }
    if choices.iter().all(|&choice| choice == Nonlinearity::Identity) {
        return Ok(input.clone());
    }
    let output = by_type!("nonlinearity", input.dtype(), forward::<_>(input, choices))?;
    let (x, y, choices) = (input.clone(), output.clone(), choices.to_vec());
    Ok(tape.record("nonlinearity", &[input], output, move |grad, _| {
        by_type!("nonlinearity", x.dtype(), backward::<_>(&x, &y, grad, &choices)).map(|grad| vec![Some(grad)])
    }))
}

/// The choice of each lane with the range of the lane's entries.
fn by_lane(
    choices: &[Nonlinearity],
    lanes: usize,
    values: usize,
) -> impl Iterator<Item = (Nonlinearity, usize, usize)> {
    let size = values.checked_div(lanes).unwrap_or(0);
    (0..lanes).map(move |lane| (choices[if choices.len() == 1 { 0 } else { lane }], lane * size, (lane + 1) * size))
}

fn forward<T: Real>(input: &Tensor, choices: &[Nonlinearity]) -> Result<Tensor> {
    let guard = input.storage_and_layout();
    let mut values = host::<T>(&guard)?.to_vec();
    let count = values.len();
    for (choice, start, end) in by_lane(choices, input.dim(0)?, count) {
        choice.apply(&mut values[start..end]);
    }
    tensor(values, input.dims())
}

fn backward<T: Real>(input: &Tensor, output: &Tensor, grad: &Tensor, choices: &[Nonlinearity]) -> Result<Tensor> {
    let (input_guard, output_guard) = (input.storage_and_layout(), output.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (x, y) = (host::<T>(&input_guard)?, host::<T>(&output_guard)?);
    let mut grads = host::<T>(&grad_guard)?.to_vec();
    for (choice, start, end) in by_lane(choices, input.dim(0)?, x.len()) {
        choice.pull_back(&mut grads[start..end], &x[start..end], &y[start..end]);
    }
    tensor(grads, input.dims())
}

/// `1 / (1 + e⁻ˣ)`: 0 where `e⁻ˣ` overflows, as it should be.
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// `ln(1 + eˣ)` without overflow.
pub(super) fn softplus<T: Real>(x: T) -> T {
    let tail = (-x.abs()).exp().ln_1p();
    if x > T::zero() { x + tail } else { tail }
}

/// `1` above a kink at 0, `0` at and below it, NaN for NaN.
fn step<T: Real>(x: T) -> T {
    if x > T::zero() {
        T::one()
    } else if x <= T::zero() {
        T::zero()
    } else {
        x
    }
}

/// Values whose functions are computed together, in vectors.
const BLOCK: usize = 256;

/// Calls `work` for blocks of so many values, with space for as many inner ones.
fn by_blocks<T: Real>(values: usize, mut work: impl FnMut(std::ops::Range<usize>, &mut [T])) {
    let mut space = [T::zero(); BLOCK];
    for start in (0..values).step_by(BLOCK) {
        let block = start..values.min(start + BLOCK);
        let length = block.len();
        work(block, &mut space[..length]);
    }
}

/// The inner `tanh` of gelu, of every value.
fn gelu_tanhs<T: Real>(tanhs: &mut [T], x: &[T]) {
    let [scale, cube] = [GELU_SCALE, GELU_CUBE].map(T::from_f64);
    tanhs.iter_mut().zip(x).for_each(|(tanh, &x)| *tanh = scale * (x + cube * x * x * x));
    T::tanh_all(tanhs);
}

/// The logistic function of every value.
fn gates<T: Real>(gates: &mut [T], x: &[T]) {
    gates.copy_from_slice(x);
    T::sigmoid_all(gates);
}

impl Nonlinearity {
    // The match is outside of the loops, so that each loop is one function that the compiler can vectorise.
    fn apply<T: Real>(self, values: &mut [T]) {
        fn map<T: Copy>(values: &mut [T], f: impl Fn(T) -> T) {
            values.iter_mut().for_each(|value| *value = f(*value));
        }
        let (zero, one) = (T::zero(), T::one());
        match self {
            Self::Identity => {}
            // Not `if x > 0 { x } else { 0 }`: that would turn NaN into 0 and hide a diverged lane.
            Self::Relu => map(values, |x| if x <= zero { zero } else { x }),
            Self::Relu6 => {
                let six = T::from_f64(6.0);
                map(values, |x| {
                    if x <= zero {
                        zero
                    } else if x >= six {
                        six
                    } else {
                        x
                    }
                });
            }
            Self::Selu => {
                let [scale, alpha] = [SELU_SCALE, SELU_ALPHA].map(T::from_f64);
                map(values, |x| scale * if x > zero { x } else { alpha * x.exp_m1() });
            }
            Self::Tanh => T::tanh_all(values),
            Self::Cos => map(values, T::cos),
            Self::Sin => map(values, T::sin),
            Self::Sigmoid => T::sigmoid_all(values),
            Self::Silu => by_blocks(values.len(), |block, space| {
                gates(space, &values[block.clone()]);
                values[block].iter_mut().zip(space).for_each(|(x, gate)| *x *= *gate);
            }),
            Self::Gelu => by_blocks(values.len(), |block, space| {
                let half = T::from_f64(0.5);
                gelu_tanhs(space, &values[block.clone()]);
                values[block].iter_mut().zip(space).for_each(|(x, tanh)| *x = half * *x * (one + *tanh));
            }),
            Self::LeakyRelu => {
                let slope = T::from_f64(LEAKY_SLOPE);
                map(values, |x| if x >= zero { x } else { slope * x });
            }
            Self::Softplus => map(values, softplus),
            Self::Exp => T::exp_all(values),
        }
    }

    /// Turns gradients of outputs `y` into gradients of inputs `x`.
    fn pull_back<T: Real>(self, grads: &mut [T], x: &[T], y: &[T]) {
        fn map<T: Real>(grads: &mut [T], x: &[T], y: &[T], slope: impl Fn(T, T) -> T) {
            grads.iter_mut().zip(x).zip(y).for_each(|((grad, &x), &y)| *grad *= slope(x, y));
        }
        let (zero, one) = (T::zero(), T::one());
        match self {
            Self::Identity => {}
            Self::Relu => map(grads, x, y, |x, _| step(x)),
            Self::Relu6 => {
                let six = T::from_f64(6.0);
                map(grads, x, y, |x, _| if x >= six { zero } else { step(x) });
            }
            Self::Selu => {
                let [scale, alpha] = [SELU_SCALE, SELU_ALPHA].map(T::from_f64);
                map(grads, x, y, |x, y| if x > zero { scale } else { y + scale * alpha });
            }
            Self::Tanh => map(grads, x, y, |_, y| one - y * y),
            Self::Cos => map(grads, x, y, |x, _| -x.sin()),
            Self::Sin => map(grads, x, y, |x, _| x.cos()),
            Self::Sigmoid => map(grads, x, y, |_, y| y * (one - y)),
            Self::Silu => by_blocks(x.len(), |block, space| {
                gates(space, &x[block.clone()]);
                let of_block = grads[block.clone()].iter_mut().zip(&y[block]).zip(space);
                of_block.for_each(|((grad, &y), gate)| *grad *= *gate + y * (one - *gate));
            }),
            Self::Gelu => by_blocks(x.len(), |block, space| {
                let [half, scale, cube] = [0.5, GELU_SCALE, 3.0 * GELU_CUBE].map(T::from_f64);
                gelu_tanhs(space, &x[block.clone()]);
                let of_block = grads[block.clone()].iter_mut().zip(&x[block]).zip(space);
                of_block.for_each(|((grad, &x), tanh)| {
                    let tanh = *tanh;
                    *grad *= half * (one + tanh) + half * x * (one - tanh * tanh) * scale * (one + cube * x * x);
                });
            }),
            Self::LeakyRelu => {
                let slope = T::from_f64(LEAKY_SLOPE);
                // A NaN output makes the slope NaN, as everywhere.
                map(grads, x, y, |x, y| {
                    if x >= zero {
                        one
                    } else if x < zero {
                        slope
                    } else {
                        y
                    }
                });
            }
            Self::Softplus => by_blocks(x.len(), |block, space| {
                gates(space, &x[block.clone()]);
                grads[block].iter_mut().zip(space).for_each(|(grad, gate)| *grad *= *gate);
            }),
            Self::Exp => map(grads, x, y, |_, y| y),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    const ALL: [Nonlinearity; 13] = [
        Nonlinearity::Identity,
        Nonlinearity::Relu,
        Nonlinearity::Relu6,
        Nonlinearity::Selu,
        Nonlinearity::Tanh,
        Nonlinearity::Cos,
        Nonlinearity::Sin,
        Nonlinearity::Sigmoid,
        Nonlinearity::Silu,
        Nonlinearity::Gelu,
        Nonlinearity::LeakyRelu,
        Nonlinearity::Softplus,
        Nonlinearity::Exp,
    ];

    fn run(choice: Nonlinearity, x: f64) -> (f64, f64) {
        let input = Tensor::new(&[x], &Device::Cpu).unwrap();
        let mut tape = Tape::default();
        tape.variable(&input);
        let output = nonlinearity(&mut tape, &input, &[choice]).unwrap();
        let gradient = tape.backward(&output).unwrap().take(&input).unwrap();
        (output.to_vec1().unwrap()[0], gradient.to_vec1().unwrap()[0])
    }

    #[test]
    fn gradients_are_those_of_differences_for_one_choice_and_for_one_a_lane() {
        // Up to 6.8, to reach the upper kink of relu6.
        let wide = values(&[2, 3, 7], 0).affine(3.5, 0.01).unwrap();
        for choice in ALL {
            check(&format!("{choice:?}"), std::slice::from_ref(&wide), |tape, x| nonlinearity(tape, &x[0], &[choice]));
        }
        let x = values(&[13, 2, 5], 1);
        check("one a lane", std::slice::from_ref(&x), |tape, x| nonlinearity(tape, &x[0], &ALL));
        let mixed = nonlinearity(&mut Tape::default(), &x, &ALL).unwrap();
        for (lane, &choice) in ALL.iter().enumerate() {
            let alone = nonlinearity(&mut Tape::default(), &x.narrow(0, lane, 1).unwrap(), &[choice]).unwrap();
            close("lane", &mixed.narrow(0, lane, 1).unwrap(), &alone, 0.0);
        }
        lanes_are_independent(&[values(&[3, 2, 5], 2)], |tape, x| nonlinearity(tape, &x[0], &[Nonlinearity::Gelu]));
    }

    #[test]
    fn values_are_those_of_candle() {
        let x = values(&[2, 3, 7], 0);
        let expected = [
            (Nonlinearity::Relu, x.relu().unwrap()),
            (Nonlinearity::Relu6, x.clamp(0.0, 6.0).unwrap()),
            (Nonlinearity::Tanh, x.tanh().unwrap()),
            (Nonlinearity::Cos, x.cos().unwrap()),
            (Nonlinearity::Sin, x.sin().unwrap()),
            (Nonlinearity::Sigmoid, candle_nn::ops::sigmoid(&x).unwrap()),
            (Nonlinearity::Silu, candle_nn::ops::silu(&x).unwrap()),
            (Nonlinearity::Gelu, x.gelu().unwrap()),
            (Nonlinearity::LeakyRelu, candle_nn::ops::leaky_relu(&x, -0.5).unwrap()),
            (Nonlinearity::Softplus, (x.exp().unwrap() + 1.0).unwrap().log().unwrap()),
            (Nonlinearity::Selu, (x.elu(SELU_ALPHA).unwrap() * SELU_SCALE).unwrap()),
            (Nonlinearity::Exp, x.exp().unwrap()),
        ];
        for (choice, expected) in expected {
            let got = nonlinearity(&mut Tape::default(), &x, &[choice]).unwrap();
            close(&format!("{choice:?}"), &got, &expected, 1e-12);
        }
    }

    #[test]
    fn kinks_are_those_of_jax() {
        assert_eq!(run(Nonlinearity::Relu, 0.0), (0.0, 0.0));
        assert_eq!(run(Nonlinearity::Relu6, 0.0), (0.0, 0.0));
        assert_eq!(run(Nonlinearity::Relu6, 6.0), (6.0, 0.0));
        assert_eq!(run(Nonlinearity::LeakyRelu, 0.0), (0.0, 1.0));
        assert_eq!(run(Nonlinearity::Selu, 0.0), (0.0, SELU_SCALE * SELU_ALPHA));
    }

    #[test]
    fn nan_stays_and_large_values_do_not_overflow() {
        for choice in ALL {
            let (value, slope) = run(choice, f64::NAN);
            assert!(value.is_nan() && (slope.is_nan() || choice == Nonlinearity::Identity), "{choice:?}");
        }
        for choice in [Nonlinearity::Sigmoid, Nonlinearity::Silu, Nonlinearity::Softplus, Nonlinearity::Gelu] {
            for x in [-1e3, 1e3] {
                let (value, slope) = run(choice, x);
                assert!(value.is_finite() && slope.is_finite(), "{choice:?} at {x}: {value} {slope}");
            }
        }
        let error = nonlinearity(&mut Tape::default(), &values(&[3, 2], 0), &ALL[..2]).unwrap_err().to_string();
        assert!(error.contains("2 choices for 3 lanes"), "{error}");
    }

    #[test]
    fn names_are_in_snake_case() {
        assert_eq!(serde_json::to_string(&Nonlinearity::LeakyRelu).unwrap(), "\"leaky_relu\"");
        assert_eq!(serde_json::from_str::<Nonlinearity>("\"relu6\"").unwrap(), Nonlinearity::Relu6);
    }
}
