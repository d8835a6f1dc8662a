//! A small convolutional network: 3×3 convolutions, the mean over space, a linear head.
//!
//! ```text
//!  image ─► conv 3×3 ─► conv 3×3, half size ─► … ─► mean over space ─► linear ─► logits
//! ```
//!
//! The first convolution keeps the size; each later one halves it, by a stride of 2 or by a max pool behind it. A number
//! of leading strides can be set instead, as the parametric convolutions of the JAX reference do.

use candle_core::{Result, Tensor};
use paceline_optimizer_core::feed_forward::Layer;

use super::Model;
use super::blocks::{Norm, act, affine, normalise};
use crate::layers::{Activation, Conv2d, Nonlinearity, Window, avg_pool2d, conv2d, max_pool2d};
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// How convolutions halve the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downsampling {
    /// All but the first have a stride of 2.
    Stride,
    /// All but the first are followed by a 2×2 max pool.
    MaxPool,
    /// The first ones, as many as said, have a stride of 2.
    Leading(usize),
}

/// 3×3 convolutions, mean over space, linear head.
#[derive(Debug)]
pub(crate) struct ConvNet {
    channels: Vec<usize>,
    downsampling: Downsampling,
    norm: Norm,
    parameters: Parameters,
    state: Parameters,
}

impl ConvNet {
    /// `image_channels` in, one convolution for each of `channels`, `classes` out.
    pub(crate) fn new(
        image_channels: usize,
        channels: &[usize],
        classes: usize,
        downsampling: Downsampling,
        norm: Norm,
    ) -> Self {
        let (mut parameters, mut state) = (ParametersBuilder::default(), ParametersBuilder::default());
        let mut inputs = image_channels;
        for (index, &outputs) in channels.iter().enumerate() {
            let names = [format!("conv_{index}"), format!("norm_{index}")];
            norm.list_affine([&names[0], &names[1]], [3, 3, inputs, outputs], &mut parameters, &mut state);
            inputs = outputs;
        }
        parameters.affine("head", [inputs, classes]);
        Self { channels: channels.to_vec(), downsampling, norm, parameters: parameters.build(), state: state.build() }
    }

    fn stride(&self, index: usize) -> usize {
        match self.downsampling {
            Downsampling::Stride if index > 0 => 2,
            Downsampling::Leading(count) if index < count => 2,
            _ => 1,
        }
    }

    fn is_pooled(&self, index: usize) -> bool {
        index > 0 && self.downsampling == Downsampling::MaxPool
    }
}

impl Model for ConvNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
        let fused = self.norm == Norm::None && activations.iter().all(|choice| *choice == Nonlinearity::Relu);
        let activation = if fused { Activation::Relu } else { Activation::Identity };
        let mut values = images.clone();
        for index in 0..self.channels.len() {
            let settings = Conv2d { padding: [1, 1], stride: [self.stride(index); 2], activation, dilation: [1, 1] };
            let (weight, bias) = self.norm.weight_and_bias(pass)?;
            values = conv2d(&mut pass.tape, &values, &weight, &bias, settings)?;
            if !fused {
                values = normalise(pass, self.norm, &values)?;
                values = act(pass, activations, &values)?;
            }
            if self.is_pooled(index) {
                values = max_pool2d(&mut pass.tape, &values, Window { size: [2, 2], stride: [2, 2] })?;
            }
        }
        let pooled = spatial_mean(pass, &values)?;
        affine(pass, &[Nonlinearity::Identity], Norm::None, &pooled)
    }

    fn plain_layers(&self) -> Option<Vec<Layer>> {
        if self.norm != Norm::None {
            return None;
        }
        let mut layers = Vec::new();
        for (index, &outputs) in self.channels.iter().enumerate() {
            let [weight, bias] = self.parameters.affine(&format!("conv_{index}"))?;
            layers.push(Layer::Convolution {
                weight,
                bias,
                outputs,
                window: 3,
                stride: self.stride(index),
                padding: 1,
            });
            if self.is_pooled(index) {
                layers.push(Layer::MaxPool { window: 2 });
            }
        }
        let [weight, bias] = self.parameters.affine("head")?;
        let outputs = *self.parameters.layout().tensors()[bias].shape().first()?;
        layers.extend([Layer::SpatialMean, Layer::Linear { weight, bias, outputs }]);
        Some(layers)
    }

    fn describe(&self) -> String {
        let channels: Vec<String> = self.channels.iter().map(usize::to_string).collect();
        let halving = match self.downsampling {
            Downsampling::Stride => "stride 2".to_owned(),
            Downsampling::MaxPool => "max pool".to_owned(),
            Downsampling::Leading(count) => format!("{count} with stride 2"),
        };
        let norm = match self.norm {
            Norm::None => "",
            Norm::Layer => ", layer norm",
            Norm::Batch => ", batch norm",
        };
        format!("conv {}, {halving}{norm}, mean pool", channels.join("-"))
    }
}

/// The mean over height and width.
pub(super) fn spatial_mean(pass: &mut Pass<'_>, images: &Tensor) -> Result<Tensor> {
    let (_, _, height, width, _) = images.dims5()?;
    avg_pool2d(&mut pass.tape, images, Window { size: [height, width], stride: [height, width] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_in_order_with_their_tensors() {
        let net = ConvNet::new(3, &[4, 8], 10, Downsampling::MaxPool, Norm::None);
        let convolution = |weight, outputs| {
            let bias = weight + 1;
            Layer::Convolution { weight, bias, outputs, window: 3, stride: 1, padding: 1 }
        };
        let head = Layer::Linear { weight: 4, bias: 5, outputs: 10 };
        let expected = [convolution(0, 4), convolution(2, 8), Layer::MaxPool { window: 2 }, Layer::SpatialMean, head];
        assert_eq!(net.plain_layers().unwrap(), expected);
        let image = expected.iter().try_fold([9, 9, 3], |image, layer| layer.output(image));
        assert_eq!(image, Some([1, 1, 10]));
    }

    #[test]
    fn a_network_with_a_norm_is_not_plain() {
        assert_eq!(ConvNet::new(3, &[4, 8], 10, Downsampling::Stride, Norm::Batch).plain_layers(), None);
    }
}
