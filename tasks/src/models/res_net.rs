//! A residual network with batch norm, in its second form: norms and activations before the convolutions (He et al., arXiv
//! 1603.05027).
//!
//! ```text
//!  image ─► stem ─► group ─► group ─► … ─► norm, act ─► mean over space ─► linear ─► logits
//!  group:  block, block, …         the first block of all groups but the first halves the image
//!  block:  x ─┬─► norm, act ─► conv 3×3 ─► norm, act ─► conv 3×3 ─► + ─►
//!             └─────────────── (conv 1×1 where the shape changes) ──┘
//! ```

use candle_core::{Result, Tensor};

use super::Model;
use super::blocks::{Norm, act, affine, no_bias, normalise};
use super::conv_net::spatial_mean;
use crate::layers::{Activation, Conv2d, Nonlinearity, add, conv2d};
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass};

/// Groups of residual blocks.
#[derive(Debug)]
pub(crate) struct ResNet {
    stem: Stem,
    blocks: Vec<Block>,
    shape: String,
    parameters: Parameters,
    state: Parameters,
}

/// The first convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stem {
    /// Height and width of its kernel.
    pub(crate) kernel: usize,
    /// Its stride.
    pub(crate) stride: usize,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    stride: usize,
    /// Whether the shortcut needs a convolution to change the shape.
    projects: bool,
}

impl ResNet {
    /// `blocks[i]` blocks of `channels[i]` channels in group `i`; the two lists are equally long.
    pub(crate) fn new(image_channels: usize, stem: Stem, blocks: &[usize], channels: &[usize], classes: usize) -> Self {
        let (mut parameters, mut state) = (ParametersBuilder::default(), ParametersBuilder::default());
        let mut inputs = channels.first().copied().unwrap_or(classes);
        convolution_weight(&mut parameters, "stem", [stem.kernel, stem.kernel, image_channels, inputs]);
        let mut list = Vec::new();
        for (group, (&count, &outputs)) in blocks.iter().zip(channels).enumerate() {
            for block in 0..count {
                let name = format!("group_{group}/block_{block}");
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let projects = stride > 1 || inputs != outputs;
                Norm::Batch.list(&format!("{name}/norm_0"), inputs, &mut parameters, &mut state);
                if projects {
                    convolution_weight(&mut parameters, &format!("{name}/shortcut"), [1, 1, inputs, outputs]);
                }
                convolution_weight(&mut parameters, &format!("{name}/conv_0"), [3, 3, inputs, outputs]);
                Norm::Batch.list(&format!("{name}/norm_1"), outputs, &mut parameters, &mut state);
                convolution_weight(&mut parameters, &format!("{name}/conv_1"), [3, 3, outputs, outputs]);
                list.push(Block { stride, projects });
                inputs = outputs;
            }
        }
        Norm::Batch.list("norm", inputs, &mut parameters, &mut state);
        parameters.affine("head", [inputs, classes]);
        let groups: Vec<String> =
            blocks.iter().zip(channels).map(|(count, width)| format!("{count}×{width}")).collect();
        let Stem { kernel, stride } = stem;
        let shape = format!("resnet {}, stem {kernel}×{kernel} stride {stride}, batch norm", groups.join(" "));
        Self { stem, blocks: list, shape, parameters: parameters.build(), state: state.build() }
    }
}

/// Lists a convolution without bias: batch norm takes off the mean behind every one of them.
fn convolution_weight(parameters: &mut ParametersBuilder, name: &str, shape: [usize; 4]) {
    parameters.tensor(format!("{name}/w"), shape, Initial::FAN_IN);
}

/// A convolution that keeps the size, but for its stride.
fn convolution(pass: &mut Pass<'_>, input: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let weight = pass.weight()?;
    let activation = Activation::Identity;
    let settings = Conv2d { stride: [stride; 2], padding: [kernel / 2; 2], activation, dilation: [1, 1] };
    conv2d(&mut pass.tape, input, weight, &no_bias(weight)?, settings)
}

impl Model for ResNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
        let norm_act = |pass: &mut Pass<'_>, input: &Tensor| {
            let normed = normalise(pass, Norm::Batch, input)?;
            act(pass, activations, &normed)
        };
        let mut values = convolution(pass, images, self.stem.kernel, self.stem.stride)?;
        for &Block { stride, projects } in &self.blocks {
            let before = norm_act(pass, &values)?;
            let shortcut = if projects { convolution(pass, &before, 1, stride)? } else { values };
            let hidden = convolution(pass, &before, 3, stride)?;
            let hidden = norm_act(pass, &hidden)?;
            let hidden = convolution(pass, &hidden, 3, 1)?;
            values = add(&mut pass.tape, &shortcut, &hidden)?;
        }
        let values = norm_act(pass, &values)?;
        let pooled = spatial_mean(pass, &values)?;
        affine(pass, &[Nonlinearity::Identity], Norm::None, &pooled)
    }

    fn describe(&self) -> String {
        self.shape.clone()
    }
}
