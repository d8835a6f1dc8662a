//! The MLP-mixer (Tolstikhin et al., arXiv 2105.01601): blocks that mix tokens, then channels.
//!
//! ```text
//!  image ─► patches ─► linear ─► block ─► … ─► norm ─► mean over tokens ─► linear ─► logits
//!  block:  x + (mlp over tokens)(norm x), then x + (mlp over channels)(norm x)
//! ```

use candle_core::{Result, Tensor};

use super::Model;
use super::blocks::{Norm, affine, mixing_block, normalise, tokens_block};
use super::vit::patches;
use crate::layers::{Activation, Nonlinearity, add, dense, mean, permute};
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass};

/// Sizes of a mixer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixerSizes {
    /// Height and width of a patch.
    pub(crate) patch: usize,
    /// Blocks.
    pub(crate) layers: usize,
    /// Channels of a token.
    pub(crate) width: usize,
    /// Hidden units of the MLP over tokens.
    pub(crate) token_hidden: usize,
    /// Hidden units of the MLP over channels.
    pub(crate) channel_hidden: usize,
}

/// Patches through mixer blocks.
#[derive(Debug)]
pub(crate) struct Mixer {
    sizes: MixerSizes,
    parameters: Parameters,
}

impl Mixer {
    /// On images `[size, size, channels]`; the patch divides the size.
    pub(crate) fn new(image: [usize; 3], sizes: MixerSizes, classes: usize) -> Self {
        let [height, width, channels] = image;
        let MixerSizes { patch, layers, width: channels_out, token_hidden, channel_hidden } = sizes;
        let count = (height / patch) * (width / patch);
        let mut parameters = ParametersBuilder::default();
        parameters.affine("patches", [patch * patch * channels, channels_out]);
        for layer in 0..layers {
            let name = format!("block_{layer}");
            parameters.norm(&format!("{name}/norm_0"), channels_out);
            parameters.affine(&format!("{name}/tokens_0"), [count, token_hidden]);
            // A bias here adds one number to all channels of a token, which every norm behind it takes off again.
            parameters.tensor(format!("{name}/tokens_1/w"), [token_hidden, count], Initial::FAN_IN);
            parameters.norm(&format!("{name}/norm_1"), channels_out);
            parameters.affine(&format!("{name}/channels_0"), [channels_out, channel_hidden]);
            parameters.affine(&format!("{name}/channels_1"), [channel_hidden, channels_out]);
        }
        parameters.norm("norm", channels_out);
        parameters.affine("head", [channels_out, classes]);
        Self { sizes, parameters: parameters.build() }
    }
}

impl Model for Mixer {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
        let cut = patches(pass, images, self.sizes.patch)?;
        let (weight, bias) = (pass.weight()?, pass.weight()?);
        let mut tokens = dense(&mut pass.tape, &cut, weight, bias, Activation::Identity)?;
        for _ in 0..self.sizes.layers {
            let normed = normalise(pass, Norm::Layer, &tokens)?;
            let turned = permute(&mut pass.tape, &normed, &[0, 1, 3, 2])?;
            let mixed = mixing_block(pass, activations, &turned)?;
            let mixed = permute(&mut pass.tape, &mixed, &[0, 1, 3, 2])?;
            tokens = add(&mut pass.tape, &tokens, &mixed)?;
            let normed = normalise(pass, Norm::Layer, &tokens)?;
            let mixed = tokens_block(pass, activations, &normed)?;
            tokens = add(&mut pass.tape, &tokens, &mixed)?;
        }
        let tokens = normalise(pass, Norm::Layer, &tokens)?;
        let pooled = mean(&mut pass.tape, &tokens, 2)?;
        affine(pass, &[Nonlinearity::Identity], Norm::None, &pooled)
    }

    fn describe(&self) -> String {
        let MixerSizes { patch, layers, width, token_hidden, channel_hidden } = self.sizes;
        format!("mixer {layers} layers, width {width}, hidden {token_hidden} and {channel_hidden}, patch {patch}")
    }
}
