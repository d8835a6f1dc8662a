//! What is done to real images to make them complex (shared spec, complex-and-audio.md §6.1, §8).
//!
//! ```text
//!  plain            x                     noise             x + a (N + jN), drawn anew for each batch
//!  imaginary        x + ja                rotation          x exp(jα)
//!  random_rotation  x exp(jα), α drawn for each example     fft   the image's transform, not a perturbation
//! ```
//!
//! The study perturbs training batches only, so that its test measures a shift; both is `perturb = "both"`.

use std::f64::consts::TAU;
use std::sync::Arc;

use num_complex::Complex;
use paceline_optimizer_core::noise::Draws;
use rustfft::{Fft, FftPlanner};
use serde::{Deserialize, Serialize};

use crate::phasor::cis;

/// How an image becomes complex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input {
    /// Imaginary parts are 0.
    #[default]
    Plain,
    /// Complex normal noise is added.
    Noise,
    /// Imaginary parts are a constant.
    Imaginary,
    /// Turned by a constant angle.
    Rotation,
    /// Each example is turned by an angle of its own.
    RandomRotation,
    /// The two-dimensional Fourier transform, low frequencies in the middle.
    Fft,
}

/// Which batches are perturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Perturbed {
    /// Those of training.
    #[default]
    Train,
    /// All.
    Both,
}

/// How strong perturbations are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strength {
    /// Deviation of each part of noise.
    pub(super) noise: f32,
    /// The imaginary part.
    pub(super) imaginary: f32,
    /// The angle, in radians.
    pub(super) rotation: f64,
}

impl Input {
    /// Whether every batch of these has imaginary parts of 0.
    pub(super) fn is_real(self) -> bool {
        self == Self::Plain
    }

    /// Perturbs an image: real values row by row, to numbers.
    pub(super) fn perturb(self, strength: Strength, image: &[f32], draws: &mut Draws) -> Vec<Complex<f32>> {
        let turned = |turns: f64| {
            let turn = cis(turns);
            let turn = Complex::new(turn.re as f32, turn.im as f32);
            image.iter().map(|&value| turn * value).collect()
        };
        match self {
            Self::Plain | Self::Fft => image.iter().map(|&value| value.into()).collect(),
            Self::Noise => {
                let mut noise = || strength.noise * draws.normal();
                image.iter().map(|&value| Complex::new(value + noise(), noise())).collect()
            }
            Self::Imaginary => image.iter().map(|&value| Complex::new(value, strength.imaginary)).collect(),
            Self::Rotation => turned(strength.rotation / TAU),
            Self::RandomRotation => turned(draws.uniform()),
        }
    }
}

/// The two-dimensional transform of square images, in f64.
pub(super) struct Fft2 {
    side: usize,
    fft: Arc<dyn Fft<f64>>,
}

impl Fft2 {
    pub(super) fn new(side: usize) -> Self {
        Self { side, fft: FftPlanner::new().plan_fft_forward(side) }
    }

    /// `side²` numbers, row by row, to as many: scaled by 1/side, which keeps the sum of squares, frequency 0 at place
    /// `side / 2` of both axes.
    pub(super) fn transform(&self, image: impl Iterator<Item = f32>) -> Vec<Complex<f32>> {
        let side = self.side;
        let mut values: Vec<Complex<f64>> = image.map(|value| f64::from(value).into()).collect();
        let transpose = |values: &[Complex<f64>]| -> Vec<_> {
            (0..side * side).map(|place| values[place % side * side + place / side]).collect()
        };
        for _ in 0..2 {
            self.fft.process(&mut values);
            values = transpose(&values);
        }
        let centred = |place: usize| (place + side - side / 2) % side;
        let numbers = (0..side * side).map(|place| values[centred(place / side) * side + centred(place % side)]);
        numbers.map(|z| Complex::new((z.re / side as f64) as f32, (z.im / side as f64) as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Seed;

    use super::*;

    const STRENGTH: Strength = Strength { noise: 1e-5, imaginary: 0.1, rotation: 0.5 };

    #[test]
    fn the_transform_is_the_sum_over_pixels() {
        for side in [1, 2, 5, 8] {
            let image: Vec<f32> = (0..side * side).map(|i| (i * i % 7) as f32 - 2.5).collect();
            let transformed = Fft2::new(side).transform(image.iter().copied());
            for (place, got) in transformed.into_iter().enumerate() {
                let frequency = |index: usize| index as f64 - (side / 2) as f64;
                let (v, u) = (frequency(place / side), frequency(place % side));
                let expected: Complex<f64> = (0..side * side)
                    .map(|i| {
                        let turns = (v * (i / side) as f64 + u * (i % side) as f64) / side as f64;
                        Complex::cis(-TAU * turns) * f64::from(image[i])
                    })
                    .sum::<Complex<f64>>()
                    / side as f64;
                let off = (Complex::new(f64::from(got.re), f64::from(got.im)) - expected).norm();
                assert!(off < 1e-5, "{side}: {place}: {got} is not {expected}");
            }
        }
    }

    #[test]
    fn perturbations_are_those_of_the_study() {
        let image = [1.0, -0.5, 0.0];
        let of = |input: Input| input.perturb(STRENGTH, &image, &mut Draws::new(Seed::new(1)));
        assert!(of(Input::Plain).iter().zip(image).all(|(z, x)| (z.re, z.im) == (x, 0.0)));
        assert!(of(Input::Imaginary).iter().zip(image).all(|(z, x)| (z.re, z.im) == (x, 0.1)));
        for (z, x) in of(Input::Rotation).into_iter().zip(image) {
            assert!((z - Complex::new(x * 0.5_f32.cos(), x * 0.5_f32.sin())).norm() < 1e-6, "{z}");
        }
        let noisy = of(Input::Noise);
        assert!(noisy.iter().zip(image).all(|(z, x)| z.im != 0.0 && (z - x).norm() < 1e-4), "{noisy:?}");
        let turned = of(Input::RandomRotation);
        assert!((turned[0].norm() - 1.0).abs() < 1e-6 && (turned[1] * -2.0 - turned[0]).norm() < 1e-6);
    }
}
