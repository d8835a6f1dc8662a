//! The vision transformer (Dosovitskiy et al., arXiv 2010.11929): patches as tokens, transformer blocks, the mean over
//! tokens, a linear head.
//!
//! ```text
//!  image ─► patches ─► linear + position ─► block ─► … ─► norm ─► mean over tokens ─► linear ─► logits
//! ```

use candle_core::{Result, Tensor};

use super::Model;
use super::blocks::{Norm, Tokens, affine, drop, normalise, transformer_block};
use crate::layers::{Activation, Nonlinearity, add, dense, mean, permute, reshape};
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass};

/// Patches through transformer blocks.
#[derive(Debug)]
pub(crate) struct Vit {
    patch: usize,
    layers: usize,
    tokens: Tokens,
    parameters: Parameters,
}

impl Vit {
    /// On images `[size, size, channels]`; `patch` divides the size.
    pub(crate) fn new(image: [usize; 3], patch: usize, layers: usize, tokens: Tokens, classes: usize) -> Self {
        let [height, width, channels] = image;
        let mut parameters = ParametersBuilder::default();
        let count = (height / patch) * (width / patch);
        parameters.affine("patches", [patch * patch * channels, tokens.width]);
        parameters.tensor("position", [count, tokens.width], Initial::Normal { deviation: 0.02 });
        for layer in 0..layers {
            tokens.list(&format!("block_{layer}"), &mut parameters);
        }
        parameters.norm("norm", tokens.width);
        parameters.affine("head", [tokens.width, classes]);
        Self { patch, layers, tokens, parameters: parameters.build() }
    }
}

/// Images `[lanes, batch, height, width, channels]` as patches `[lanes, batch, count, patch · patch · channels]`.
pub(super) fn patches(pass: &mut Pass<'_>, images: &Tensor, patch: usize) -> Result<Tensor> {
    let (lanes, batch, height, width, channels) = images.dims5()?;
    let (rows, columns) = (height / patch, width / patch);
    let tape = &mut pass.tape;
    let cut = reshape(tape, images, &[lanes * batch, rows, patch, columns, patch * channels])?;
    let cut = permute(tape, &cut, &[0, 1, 3, 2, 4])?;
    reshape(tape, &cut, &[lanes, batch, rows * columns, patch * patch * channels])
}

/// Adds the next weight, `[lanes, time, width]`, to every example.
pub(super) fn add_position(pass: &mut Pass<'_>, tokens: &Tensor) -> Result<Tensor> {
    let position = pass.weight()?;
    let (lanes, time, width) = position.dims3()?;
    let position = reshape(&mut pass.tape, position, &[lanes, 1, time, width])?;
    add(&mut pass.tape, tokens, &position)
}

impl Model for Vit {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
        let cut = patches(pass, images, self.patch)?;
        let (weight, bias) = (pass.weight()?, pass.weight()?);
        let tokens = dense(&mut pass.tape, &cut, weight, bias, Activation::Identity)?;
        let tokens = add_position(pass, &tokens)?;
        let mut tokens = drop(pass, self.tokens.dropout, &tokens)?;
        for _ in 0..self.layers {
            tokens = transformer_block(pass, activations, &self.tokens, &tokens)?;
        }
        let tokens = normalise(pass, Norm::Layer, &tokens)?;
        let pooled = mean(&mut pass.tape, &tokens, 2)?;
        affine(pass, &[Nonlinearity::Identity], Norm::None, &pooled)
    }

    fn describe(&self) -> String {
        let Tokens { heads, width, hidden, dropout, .. } = self.tokens;
        let (patch, layers) = (self.patch, self.layers);
        let dropout = if dropout > 0.0 { format!(", dropout {dropout:.2}") } else { String::new() };
        format!("vit {layers} layers, {heads} heads, width {width}, mlp {hidden}, patch {patch}{dropout}")
    }
}
