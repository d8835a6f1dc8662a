//! The variational auto-encoder with multilayer perceptrons (Kingma and Welling, arXiv 1312.6114, appendix C.2).
//!
//! ```text
//!  image ─► hidden ─► … ─► μ, ln σ² ─► z = μ + σ ε ─► hidden ─► … ─► mean, ln scale of every pixel
//!                            └─ KL to N(0, 1)                             └─ ln P(8-bit pixel)
//! ```

use std::fmt;

use candle_core::{Result, Tensor};

use super::blocks::{Norm, affine};
use crate::layers::{Nonlinearity, kl_to_standard_normal, quantised_normal, reparametrise, scale, subtract};
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// Encoder, latent normal, decoder.
pub(crate) struct Vae {
    pixels: usize,
    encoder: Vec<usize>,
    latent: usize,
    decoder: Vec<usize>,
    parameters: Parameters,
}

impl Vae {
    /// Of images of so many values; `encoder` and `decoder` are widths of hidden layers.
    pub(crate) fn new(pixels: usize, encoder: Vec<usize>, latent: usize, decoder: Vec<usize>) -> Self {
        let mut parameters = ParametersBuilder::default();
        for (part, inputs, hidden, [location, spread], outputs) in [
            ("encoder", pixels, &encoder, ["mean", "log_variance"], latent),
            ("decoder", latent, &decoder, ["mean", "log_scale"], pixels),
        ] {
            let widths = [&[inputs], hidden.as_slice()].concat();
            for (index, pair) in widths.windows(2).enumerate() {
                parameters.affine(&format!("{part}_{index}"), pair);
            }
            let last = hidden.last().copied().unwrap_or(inputs);
            parameters.affine(&format!("{part}_{location}"), [last, outputs]);
            parameters.affine(&format!("{part}_{spread}"), [last, outputs]);
        }
        Self { pixels, encoder, latent, decoder, parameters: parameters.build() }
    }

    /// Its parameters, in the order in which [`Vae::negative_bound`] reads them.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Entries of the latent normal.
    pub(crate) fn latent(&self) -> usize {
        self.latent
    }

    /// The negative evidence bound in nats a pixel value, `[lanes]`: of images `[lanes | 1, batch, pixels]` in `[0, 1]`
    /// with one sample each, from `epsilon` `[lanes | 1, batch, latent]`.
    pub(crate) fn negative_bound(
        &self,
        pass: &mut Pass<'_>,
        activations: &[Nonlinearity],
        images: &Tensor,
        epsilon: &Tensor,
    ) -> Result<Tensor> {
        let (mean, log_variance) = perceptron(pass, activations, self.encoder.len(), images)?;
        let sample = reparametrise(&mut pass.tape, &mean, &log_variance, epsilon)?;
        let divergence = kl_to_standard_normal(&mut pass.tape, &mean, &log_variance)?;
        let (mean, log_scale) = perceptron(pass, activations, self.decoder.len(), &sample)?;
        let likelihood = quantised_normal(&mut pass.tape, images, &mean, &log_scale)?;
        let bound = subtract(&mut pass.tape, &divergence, &likelihood)?;
        scale(&mut pass.tape, &bound, 1.0 / self.pixels as f64)
    }
}

/// Hidden layers, and two linear ones beside each other: location and spread.
fn perceptron(
    pass: &mut Pass<'_>,
    activations: &[Nonlinearity],
    hidden: usize,
    input: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let mut values = input.clone();
    for _ in 0..hidden {
        values = affine(pass, activations, Norm::None, &values)?;
    }
    let mut linear = || affine(pass, &[Nonlinearity::Identity], Norm::None, &values);
    Ok((linear()?, linear()?))
}

impl fmt::Debug for Vae {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pixels, encoder, latent, decoder, .. } = self;
        let widths = [&[*pixels], encoder.as_slice(), &[*latent], decoder, &[*pixels]].concat();
        let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
        write!(f, "vae {}, latent {latent}", widths.join("-"))
    }
}
