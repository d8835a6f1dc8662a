//! A small convolutional network: 3×3 convolutions, the mean over space, a linear head.
//!
//! ```text
//!  image ─► conv 3×3 relu ─► conv 3×3 relu, half size ─► … ─► mean over space ─► linear ─► logits
//! ```
//!
//! The first convolution keeps the size; each later one halves it, by a stride of 2 or by a max pool behind it.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::Layout;

use super::{Model, weights_and_biases};
use crate::layers::{Activation, Conv2d, Tape, Window, avg_pool2d, conv2d, linear, max_pool2d};

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
    layout: Arc<Layout>,
}

impl ConvNet {
    /// `image_channels` in, one convolution for each of `channels`, `classes` out.
    pub(crate) fn new(image_channels: usize, channels: &[usize], classes: usize, downsampling: Downsampling) -> Self {
        let mut layers = Vec::with_capacity(channels.len() + 1);
        let mut inputs = image_channels;
        for (index, &outputs) in channels.iter().enumerate() {
            layers.push((format!("conv_{index}"), vec![3, 3, inputs, outputs]));
            inputs = outputs;
        }
        layers.push(("head".into(), vec![inputs, classes]));
        Self { channels: channels.to_vec(), downsampling, layout: weights_and_biases(layers.into_iter()) }
    }
}

impl Model for ConvNet {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn logits(&self, tape: &mut Tape, weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let (convolutions, head) = weights.split_at(2 * self.channels.len());
        let mut activations = images.clone();
        for (index, layer) in convolutions.chunks_exact(2).enumerate() {
            let halve = index > 0;
            let stride = if halve && self.downsampling == Downsampling::Stride { 2 } else { 1 };
            let settings = Conv2d { stride: [stride; 2], padding: [1, 1], activation: Activation::Relu };
            activations = conv2d(tape, &activations, &layer[0], &layer[1], settings)?;
            if halve && self.downsampling == Downsampling::MaxPool {
                activations = max_pool2d(tape, &activations, Window { size: [2, 2], stride: [2, 2] })?;
            }
        }
        let (_, _, height, width, _) = activations.dims5()?;
        let pooled = avg_pool2d(tape, &activations, Window { size: [height, width], stride: [height, width] })?;
        linear(tape, &pooled, &head[0], &head[1], Activation::Identity)
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
