//! The networks of the complex audio study, complex and real (shared spec, complex-and-audio.md §6.1, §6.2).
//!
//! ```text
//!  [rows, columns, c] ─► conv ─ act ─ maxpool 2 ─ batch norm ─► conv ─ act ─ maxpool 2 ─► flatten ─► fc ─ act ─► fc ─► |·|
//! ```
//!
//! Batch norm comes behind the first pool only, pools of complex numbers take the one of largest modulus, and rows and
//! columns that no window reaches are left out. Logits are moduli, those of the real network too, so they are never
//! negative.

use candle_core::{Result, Tensor};

use super::blocks::{Norm, affine, normalise};
use super::complex_parts::{
    Hidden, apply_conv, apply_linear, apply_norm, list_conv, list_linear, list_norm, real_initial,
};
use super::{SignalNet, Signals};
use crate::layers::complex::{self, ComplexInit, ComplexTensor, Fans};
use crate::layers::{Activation, Conv2d, Nonlinearity, Window, conv2d, max_pool2d, nonlinearity, reshape};
use crate::problem::{Parameters, ParametersBuilder, Pass};

const POOL: Window = Window { size: [2, 2], stride: [2, 2] };

/// Sizes of either network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetSizes {
    /// Rows and columns of an example.
    pub(crate) image: [usize; 2],
    /// Channels of an example: complex ones in a complex network.
    pub(crate) inputs: usize,
    /// Rows and columns of both kernels.
    pub(crate) kernel: [usize; 2],
    /// Output channels of the convolutions.
    pub(crate) channels: [usize; 2],
    /// Width of the hidden layer.
    pub(crate) hidden: usize,
    /// Classes.
    pub(crate) classes: usize,
}

impl NetSizes {
    /// What is left of rows and columns behind the second pool; nothing if they are too few.
    pub(crate) fn pooled(&self) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let block = |size: usize| Some((size + 1).checked_sub(self.kernel[axis])? / 2).filter(|&size| size > 0);
            block(self.image[axis]).and_then(block)
        };
        Some([along(0)?, along(1)?])
    }

    /// Values that go into the hidden layer.
    fn flat(&self) -> usize {
        self.pooled().map_or(0, |[rows, columns]| rows * columns * self.channels[1])
    }

    fn describe(&self) -> String {
        let Self { kernel: [height, width], channels: [first, second], hidden, .. } = self;
        format!("conv {height}×{width} {first}-{second}, hidden {hidden}")
    }
}

/// The complex network.
#[derive(Debug)]
pub(crate) struct ComplexNet {
    sizes: NetSizes,
    activation: Hidden,
    parameters: Parameters,
    state: Parameters,
}

impl ComplexNet {
    /// Sizes leave something behind the second pool; `lead` lists the parameters of what lies in front of the network.
    pub(crate) fn new(sizes: NetSizes, activation: Hidden, init: ComplexInit, lead: ParametersBuilder) -> Self {
        let (mut parameters, mut state) = (lead, ParametersBuilder::default());
        let NetSizes { inputs, kernel, channels: [first, second], hidden, classes, .. } = sizes;
        list_conv("conv_0", kernel, [inputs, first], init, &mut parameters);
        activation.list("conv_0", first, &mut parameters);
        list_norm("norm", first, &mut parameters, &mut state);
        list_conv("conv_1", kernel, [first, second], init, &mut parameters);
        activation.list("conv_1", second, &mut parameters);
        list_linear("hidden", [sizes.flat(), hidden], init, &mut parameters);
        activation.list("hidden", hidden, &mut parameters);
        list_linear("head", [hidden, classes], init, &mut parameters);
        Self { sizes, activation, parameters: parameters.build(), state: state.build() }
    }
}

impl SignalNet for ComplexNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor> {
        let values = apply_conv(pass, &signals.values)?;
        let values = self.activation.apply(pass, &values)?;
        let values = complex::max_pool2d(&mut pass.tape, &values, POOL)?;
        let values = apply_norm(pass, &values)?;
        let values = apply_conv(pass, &values)?;
        let values = self.activation.apply(pass, &values)?;
        let values = complex::max_pool2d(&mut pass.tape, &values, POOL)?;
        let values = values.flatten(&mut pass.tape)?;
        let values = apply_linear(pass, &values)?;
        let values = self.activation.apply(pass, &values)?;
        apply_linear(pass, &values)
    }

    fn describe(&self) -> String {
        format!("complex {}, {:?}", self.sizes.describe(), self.activation)
    }
}

/// The real network. Of complex signals it sees real and imaginary parts as channels.
#[derive(Debug)]
pub(crate) struct RealNet {
    sizes: NetSizes,
    activation: Nonlinearity,
    parameters: Parameters,
    state: Parameters,
}

impl RealNet {
    /// As [`ComplexNet::new`]. Of signals with fewer complex channels than `sizes.inputs` it takes both parts, of the
    /// others real parts only.
    pub(crate) fn new(sizes: NetSizes, activation: Nonlinearity, init: ComplexInit, lead: ParametersBuilder) -> Self {
        let (mut parameters, mut state) = (lead, ParametersBuilder::default());
        let NetSizes { inputs, kernel: [height, width], channels: [first, second], hidden, classes, .. } = sizes;
        let list = |name: &str, shape: Vec<usize>, parameters: &mut ParametersBuilder| {
            let outputs = shape.last().copied().unwrap_or(1);
            let places: usize = shape[..shape.len() - 2].iter().product();
            let fans = Fans { inputs: places * shape[shape.len() - 2], outputs: places * outputs };
            let [weight, bias] = real_initial(init, fans);
            parameters.tensor(format!("{name}/w"), shape, weight);
            parameters.tensor(format!("{name}/b"), [outputs], bias);
        };
        list("conv_0", vec![height, width, inputs, first], &mut parameters);
        Norm::Batch.list("norm", first, &mut parameters, &mut state);
        list("conv_1", vec![height, width, first, second], &mut parameters);
        list("hidden", vec![sizes.flat(), hidden], &mut parameters);
        list("head", vec![hidden, classes], &mut parameters);
        Self { sizes, activation, parameters: parameters.build(), state: state.build() }
    }

    fn block(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Tensor> {
        let fused = self.activation == Nonlinearity::Relu;
        let activation = if fused { Activation::Relu } else { Activation::Identity };
        let settings = Conv2d { padding: [0, 0], stride: [1, 1], dilation: [1, 1], activation };
        let (weight, bias) = (pass.weight()?, pass.weight()?);
        let values = conv2d(&mut pass.tape, images, weight, bias, settings)?;
        let values = if fused { values } else { nonlinearity(&mut pass.tape, &values, &[self.activation])? };
        max_pool2d(&mut pass.tape, &values, POOL)
    }
}

impl SignalNet for RealNet {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor> {
        let images = if self.sizes.inputs > signals.values.channels() {
            signals.values.stacked().clone()
        } else {
            signals.values.parts(&mut pass.tape)?.0
        };
        let values = self.block(pass, &images)?;
        let values = normalise(pass, Norm::Batch, &values)?;
        let values = self.block(pass, &values)?;
        let (lanes, batch) = (values.dim(0)?, values.dim(1)?);
        let values = reshape(&mut pass.tape, &values, &[lanes, batch, self.sizes.flat()])?;
        let values = affine(pass, &[self.activation], Norm::None, &values)?;
        let scores = affine(pass, &[Nonlinearity::Identity], Norm::None, &values)?;
        ComplexTensor::from_real(&mut pass.tape, &scores)
    }

    fn describe(&self) -> String {
        format!("real {}, {:?}", self.sizes.describe(), self.activation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(image: [usize; 2], kernel: [usize; 2], channels: [usize; 2], classes: usize) -> NetSizes {
        NetSizes { image, inputs: 1, kernel, channels, hidden: 500, classes }
    }

    #[test]
    fn networks_have_the_parameters_of_the_study() {
        let parameters = |sizes: NetSizes| {
            let lead = ParametersBuilder::default;
            let complex = ComplexNet::new(sizes, Hidden::Crelu, ComplexInit::TorchUniform, lead());
            let real = RealNet::new(sizes, Nonlinearity::Relu, ComplexInit::TorchUniform, lead());
            [real.parameters().layout().size(), complex.parameters().layout().size()]
        };
        let (images, sounds) = ([28, 28], [13, 126]);
        assert_eq!(parameters(sizes(images, [5, 5], [10, 20], 10)), [170_810, 341_630]);
        assert_eq!(parameters(sizes(images, [5, 5], [32, 64], 10)), [569_670, 1_139_372]);
        assert_eq!(parameters(sizes(sounds, [2, 2], [10, 20], 2)), [602_392, 1_204_794]);
        assert_eq!(parameters(sizes(sounds, [2, 2], [10, 20], 10)), [606_400, 1_212_810]);
        assert_eq!(sizes(sounds, [2, 2], [10, 20], 2).pooled(), Some([2, 30]));
    }

    #[test]
    fn images_that_are_too_small_leave_nothing() {
        for (image, expected) in [([16, 16], Some([1, 1])), ([15, 16], None), ([0, 0], None), ([3, 40], None)] {
            assert_eq!(sizes(image, [5, 5], [1, 1], 2).pooled(), expected, "{image:?}");
        }
    }
}
