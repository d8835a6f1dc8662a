//! A small convolutional network: 3×3 convolutions, the mean over space, a linear head.
//!
//! ```text
//!  image ─► conv 3×3 relu ─► conv 3×3 relu, half size ─► … ─► mean over space ─► linear ─► logits
//! ```
//!
//! The first convolution keeps the size; each later one halves it, by a stride of 2 or by a max pool behind it.

use candle_core::{Result, Tensor};

use super::Model;
use crate::layers::{Activation, Conv2d, Window, avg_pool2d, conv2d, linear, max_pool2d};
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// How later convolutions halve the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downsampling {
    /// A stride of 2.
    Stride,
    /// A stride of 1, then a 2×2 max pool.
    MaxPool,
}

/// 3×3 convolutions with relu, mean over space, linear head.
#[derive(Debug)]
pub(crate) struct ConvNet {
    channels: Vec<usize>,
    downsampling: Downsampling,
    parameters: Parameters,
}

impl ConvNet {
    /// `image_channels` in, one convolution for each of `channels`, `classes` out.
    pub(crate) fn new(image_channels: usize, channels: &[usize], classes: usize, downsampling: Downsampling) -> Self {
        let mut parameters = ParametersBuilder::default();
        let mut inputs = image_channels;
        for (index, &outputs) in channels.iter().enumerate() {
            parameters.affine(&format!("conv_{index}"), [3, 3, inputs, outputs]);
            inputs = outputs;
        }
        parameters.affine("head", [inputs, classes]);
        Self { channels: channels.to_vec(), downsampling, parameters: parameters.build() }
    }
}

impl Model for ConvNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Tensor> {
        let mut activations = images.clone();
        for index in 0..self.channels.len() {
            let halve = index > 0;
            let stride = if halve && self.downsampling == Downsampling::Stride { 2 } else { 1 };
            let settings = Conv2d { stride: [stride; 2], padding: [1, 1], dilation: [1, 1], activation: Activation::Relu };
            let (weight, bias) = (pass.weight()?, pass.weight()?);
            activations = conv2d(&mut pass.tape, &activations, weight, bias, settings)?;
            if halve && self.downsampling == Downsampling::MaxPool {
                activations = max_pool2d(&mut pass.tape, &activations, Window { size: [2, 2], stride: [2, 2] })?;
            }
        }
        let (_, _, height, width, _) = activations.dims5()?;
        let window = Window { size: [height, width], stride: [height, width] };
        let pooled = avg_pool2d(&mut pass.tape, &activations, window)?;
        let (weight, bias) = (pass.weight()?, pass.weight()?);
        linear(&mut pass.tape, &pooled, weight, bias, Activation::Identity)
    }

    fn describe(&self) -> String {
        let channels: Vec<String> = self.channels.iter().map(usize::to_string).collect();
        let halving = match self.downsampling {
            Downsampling::Stride => "stride 2",
            Downsampling::MaxPool => "max pool",
        };
        format!("conv {} relu, {halving}, mean pool", channels.join("-"))
    }
}
