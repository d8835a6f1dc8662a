//! Initial weights of complex layers.
//!
//! ```text
//!  polar            w = m exp(jt), m ~ Rayleigh(σ), t ~ U(−π, π)         E w = 0, E|w|² = 2σ²
//!  componentwise    re, im ~ N(0, σ²), the same distribution             E w = 0, E|w|² = 2σ²
//!  torch's default  re, im ~ U(−a, a), a = 1/√fan_in; biases too         E w = 0, E|w|² = 2a²/3
//!
//!  Glorot: σ = 1/√(fan_in + fan_out)     He: σ = 1/√fan_in
//! ```
//!
//! As in Trabelsi et al. (arXiv 1705.09792, section 3.6). Their code passes σ² for σ, and torchcvnn halves the variance
//! of He; this is the paper's.

use std::f64::consts::PI;

use num_complex::Complex64;
use paceline_optimizer_core::noise::Draws;
use serde::{Deserialize, Serialize};

/// How many numbers an output sees, and how many outputs see an input: both in complex numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fans {
    /// Inputs of an output.
    pub inputs: usize,
    /// Outputs of an input.
    pub outputs: usize,
}

impl Fans {
    /// Of a linear layer.
    pub fn linear(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs }
    }

    /// Of a convolution with `inputs` and `outputs` channels in `groups` groups; 0 groups are taken for one.
    pub fn conv2d(kernel: [usize; 2], inputs: usize, outputs: usize, groups: usize) -> Self {
        let (places, groups) = (kernel[0] * kernel[1], groups.max(1));
        Self { inputs: inputs / groups * places, outputs: outputs / groups * places }
    }
}

/// A distribution of initial weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplexInit {
    /// Rayleigh modulus, uniform phase, variance of Glorot.
    PolarGlorot,
    /// Rayleigh modulus, uniform phase, variance of He.
    PolarHe,
    /// Normal parts, variance of Glorot.
    NormalGlorot,
    /// Normal parts, variance of He.
    NormalHe,
    /// What PyTorch gives two real layers: uniform parts, and biases that are not 0.
    TorchUniform,
}

impl ComplexInit {
    /// σ, or the bound a of uniform parts.
    pub fn scale(self, fans: Fans) -> f64 {
        match self {
            Self::PolarGlorot | Self::NormalGlorot => 1.0 / ((fans.inputs + fans.outputs) as f64).sqrt(),
            Self::PolarHe | Self::NormalHe | Self::TorchUniform => 1.0 / (fans.inputs as f64).sqrt(),
        }
    }

    /// One weight. Takes four words of `draws`, two of normal parts.
    pub fn weight(self, fans: Fans, draws: &mut Draws) -> Complex64 {
        let scale = self.scale(fans);
        match self {
            Self::PolarGlorot | Self::PolarHe => {
                // u lies in [0, 1), so 1 − u is never 0.
                let modulus = scale * (-2.0 * (1.0 - draws.uniform()).ln()).sqrt();
                Complex64::from_polar(modulus, PI * symmetric(draws))
            }
            Self::NormalGlorot | Self::NormalHe => {
                let re = f64::from(draws.normal());
                Complex64::new(re, f64::from(draws.normal())) * scale
            }
            Self::TorchUniform => {
                let re = symmetric(draws);
                Complex64::new(re, symmetric(draws)) * scale
            }
        }
    }

    /// One bias. 0, but for PyTorch's: there two real layers have biases R and I, uniform as the weights, which amount
    /// to (R − I) + j (R + I).
    pub fn bias(self, fans: Fans, draws: &mut Draws) -> Complex64 {
        match self {
            Self::TorchUniform => {
                let biases = self.weight(fans, draws);
                Complex64::new(biases.re - biases.im, biases.re + biases.im)
            }
            _ => Complex64::ZERO,
        }
    }

    /// Weights into the pair of a parameter, one after another.
    ///
    /// # Panics
    /// If the parts have different lengths.
    pub fn fill_weights(self, fans: Fans, draws: &mut Draws, re: &mut [f32], im: &mut [f32]) {
        fill(re, im, || self.weight(fans, draws));
    }

    /// Biases into the pair of a parameter, one after another.
    ///
    /// # Panics
    /// If the parts have different lengths.
    pub fn fill_biases(self, fans: Fans, draws: &mut Draws, re: &mut [f32], im: &mut [f32]) {
        fill(re, im, || self.bias(fans, draws));
    }
}

/// Uniform in [−1, 1).
fn symmetric(draws: &mut Draws) -> f64 {
    2.0 * draws.uniform() - 1.0
}

fn fill(re: &mut [f32], im: &mut [f32], mut draw: impl FnMut() -> Complex64) {
    assert_eq!(re.len(), im.len(), "the parts of a pair have one shape");
    for (re, im) in re.iter_mut().zip(im) {
        let number = draw();
        (*re, *im) = (number.re as f32, number.im as f32);
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Seed;

    use super::*;

    #[test]
    fn polar_and_componentwise_draws_have_one_distribution() {
        let fans = Fans::conv2d([3, 3], 8, 16, 2);
        assert_eq!(fans, Fans { inputs: 36, outputs: 72 });
        let count = 40_000;
        for (polar, normal) in
            [(ComplexInit::PolarGlorot, ComplexInit::NormalGlorot), (ComplexInit::PolarHe, ComplexInit::NormalHe)]
        {
            let sigma = polar.scale(fans);
            assert_eq!(sigma, normal.scale(fans));
            for init in [polar, normal] {
                let mut draws = Draws::new(Seed::new(1));
                let weights: Vec<Complex64> = (0..count).map(|_| init.weight(fans, &mut draws)).collect();
                let mean = |of: &dyn Fn(Complex64) -> Complex64| {
                    weights.iter().copied().map(of).sum::<Complex64>() / f64::from(count)
                };
                // Four deviations of each mean.
                let bound = 4.0 / f64::from(count).sqrt();
                assert!(mean(&|w| w).norm() < 2.0_f64.sqrt() * bound * sigma, "{init:?}");
                assert!(mean(&|w| w * w).norm() < 4.0 * bound * sigma.powi(2), "{init:?} is not circular");
                assert!((mean(&|w| w.norm_sqr().into()).re / (2.0 * sigma.powi(2)) - 1.0).abs() < bound, "{init:?}");
                assert!(
                    (mean(&|w| w.re.powi(4).into()).re / (3.0 * sigma.powi(4)) - 1.0).abs() < 3.3 * bound,
                    "{init:?}"
                );
            }
        }
    }

    #[test]
    fn pairs_are_filled_in_order_and_biases_are_0_but_for_those_of_torch() {
        let fans = Fans::linear(5, 7);
        let (mut re, mut im) = ([0.0; 4], [0.0; 4]);
        ComplexInit::PolarHe.fill_weights(fans, &mut Draws::new(Seed::new(2)), &mut re, &mut im);
        let mut draws = Draws::new(Seed::new(2));
        for (re, im) in re.into_iter().zip(im) {
            let weight = ComplexInit::PolarHe.weight(fans, &mut draws);
            assert_eq!((re, im), (weight.re as f32, weight.im as f32));
        }
        ComplexInit::PolarHe.fill_biases(fans, &mut draws, &mut re, &mut im);
        assert_eq!((re, im), ([0.0; 4], [0.0; 4]));
        ComplexInit::TorchUniform.fill_biases(fans, &mut draws, &mut re, &mut im);
        assert!(re.iter().chain(&im).all(|&part| part != 0.0));
    }
}
