//! Parts of complex networks: affine maps whose parameters are pairs, an activation, batch norm with its running
//! statistics.
//!
//! A part lists its parameters with one function and reads them from the pass, in that order, with another.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::Nonlinearity;
use crate::layers::complex::{
    ComplexActivation, ComplexConv2d, ComplexInit, ComplexTensor, Fans, Moments, Pair, RunningRule, Whitening,
    activate, batch_norm_eval, batch_norm_train, conv2d, linear, modrelu,
};
use crate::problem::{Initial, Mode, ParametersBuilder, Pass};

/// What follows a complex affine map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hidden {
    /// relu of each part.
    #[default]
    Crelu,
    /// Numbers of the first quadrant pass.
    Zrelu,
    /// The modulus is shifted by a learned threshold and cut at 0.
    Modrelu,
    /// Scaled by the cosine of the angle.
    Cardioid,
    /// tanh of each part.
    SplitTanh,
    /// The logistic function of each part.
    SplitSigmoid,
    /// tanh z, which has poles.
    HolomorphicTanh,
    /// 1 / (1 + exp(−z)), which has poles.
    HolomorphicSigmoid,
    /// tanh of the modulus.
    PolarTanh,
    /// z / (1 + |z|).
    Siglog,
}

/// Where thresholds of modReLU begin: below 0, where the function is continuous.
const THRESHOLD: f32 = -0.1;
const EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

impl Hidden {
    /// The layer, unless it has parameters.
    fn layer(self) -> Option<ComplexActivation> {
        Some(match self {
            Self::Modrelu => return None,
            Self::Crelu => ComplexActivation::Crelu,
            Self::Zrelu => ComplexActivation::Zrelu,
            Self::Cardioid => ComplexActivation::Cardioid,
            Self::SplitTanh => ComplexActivation::SplitTanh,
            Self::SplitSigmoid => ComplexActivation::SplitSigmoid,
            Self::HolomorphicTanh => ComplexActivation::HoloTanh,
            Self::HolomorphicSigmoid => ComplexActivation::HoloSigmoid,
            Self::PolarTanh => ComplexActivation::PolarTanh,
            Self::Siglog => ComplexActivation::Siglog,
        })
    }

    /// The same function of a real number, which a real network of the same shape has, if there is one. For modReLU it
    /// is relu: a threshold for both signs is no function that real networks use.
    pub(crate) fn real(self) -> Option<Nonlinearity> {
        match self {
            Self::Crelu | Self::Zrelu | Self::Modrelu | Self::Cardioid => Some(Nonlinearity::Relu),
            Self::SplitTanh | Self::HolomorphicTanh | Self::PolarTanh => Some(Nonlinearity::Tanh),
            Self::SplitSigmoid | Self::HolomorphicSigmoid => Some(Nonlinearity::Sigmoid),
            Self::Siglog => None,
        }
    }

    /// Lists its threshold `<name>/threshold`, one a channel, if it has one.
    pub(crate) fn list(self, name: &str, channels: usize, parameters: &mut ParametersBuilder) {
        if self == Self::Modrelu {
            parameters.tensor(format!("{name}/threshold"), [channels], Initial::Constant(THRESHOLD));
        }
    }

    /// Applies it.
    pub(crate) fn apply(self, pass: &mut Pass<'_>, input: &ComplexTensor) -> Result<ComplexTensor> {
        match self.layer() {
            Some(layer) => activate(&mut pass.tape, input, layer),
            None => {
                let threshold = pass.weight()?;
                modrelu(&mut pass.tape, input, threshold)
            }
        }
    }
}

/// How the parts of weights and biases begin. The modulus of a complex normal number is Rayleigh's and its phase uniform,
/// so `polar` and componentwise laws of one variance are one law. PyTorch's biases are the sum and the difference of two
/// uniform ones; here both parts have that law, but are independent.
fn initial(init: ComplexInit, fans: Fans) -> [Initial; 2] {
    let scale = init.scale(fans) as f32;
    match init {
        ComplexInit::TorchUniform => [Initial::Uniform { limit: scale }, Initial::Triangular { limit: 2.0 * scale }],
        ComplexInit::PolarGlorot | ComplexInit::PolarHe | ComplexInit::NormalGlorot | ComplexInit::NormalHe => {
            [Initial::Normal { deviation: scale }, Initial::ZEROS]
        }
    }
}

/// How weights and biases of a real layer begin, of the variance that the complex ones have.
pub(super) fn real_initial(init: ComplexInit, fans: Fans) -> [Initial; 2] {
    let scale = init.scale(fans) as f32;
    match init {
        ComplexInit::TorchUniform => [Initial::Uniform { limit: scale }, Initial::Uniform { limit: scale }],
        // Two parts of variance σ² each make one of 2σ².
        _ => [Initial::Normal { deviation: std::f32::consts::SQRT_2 * scale }, Initial::ZEROS],
    }
}

/// Lists `<name>/w` and `<name>/b` of a linear layer.
pub(super) fn list_linear(
    name: &str,
    [inputs, outputs]: [usize; 2],
    init: ComplexInit,
    parameters: &mut ParametersBuilder,
) {
    parameters.complex_affine(name, [inputs, outputs], initial(init, Fans::linear(inputs, outputs)));
}

/// Lists `<name>/w` and `<name>/b` of a convolution.
pub(super) fn list_conv(
    name: &str,
    [height, width]: [usize; 2],
    [inputs, outputs]: [usize; 2],
    init: ComplexInit,
    parameters: &mut ParametersBuilder,
) {
    let fans = Fans::conv2d([height, width], inputs, outputs, 1);
    parameters.complex_affine(name, [height, width, inputs, outputs], initial(init, fans));
}

fn pair(pass: &mut Pass<'_>) -> Result<Pair> {
    Ok(Pair { re: pass.weight()?.clone(), im: pass.weight()?.clone() })
}

/// A linear layer that [`list_linear`] listed.
pub(super) fn apply_linear(pass: &mut Pass<'_>, input: &ComplexTensor) -> Result<ComplexTensor> {
    let (weight, bias) = (pair(pass)?, pair(pass)?);
    linear(&mut pass.tape, input, &weight, Some(&bias))
}

/// A convolution without padding that [`list_conv`] listed.
pub(super) fn apply_conv(pass: &mut Pass<'_>, input: &ComplexTensor) -> Result<ComplexTensor> {
    let (weight, bias) = (pair(pass)?, pair(pass)?);
    conv2d(&mut pass.tape, input, &weight, Some(&bias), ComplexConv2d::default())
}

/// Lists Γ and β of batch norm, and its running statistics.
pub(super) fn list_norm(
    name: &str,
    channels: usize,
    parameters: &mut ParametersBuilder,
    state: &mut ParametersBuilder,
) {
    let unit = std::f32::consts::FRAC_1_SQRT_2;
    for (part, value) in [("rr", unit), ("ii", unit), ("ri", 0.0)] {
        parameters.tensor(format!("{name}/scale_{part}"), [channels], Initial::Constant(value));
    }
    parameters.complex(&format!("{name}/shift"), [channels], Initial::ZEROS);
    state.tensor(format!("{name}/mean"), [channels, 2], Initial::ZEROS);
    let covariance = [unit, unit, 0.0].repeat(channels);
    state.tensor(format!("{name}/covariance"), [channels, 3], Initial::Values(covariance));
}

/// Batch norm that [`list_norm`] listed: by the batch while training, by running statistics elsewhere.
pub(super) fn apply_norm(pass: &mut Pass<'_>, input: &ComplexTensor) -> Result<ComplexTensor> {
    let [rr, ii, ri] = [pass.weight()?, pass.weight()?, pass.weight()?].map(Tensor::clone);
    let params = Whitening { rr, ii, ri, beta: pair(pass)? };
    let (mean, covariance) = (pass.state()?, pass.state()?);
    let mut running = Moments::from_tensors(mean, covariance)?;
    match pass.mode {
        Mode::Evaluate => batch_norm_eval(&mut pass.tape, input, &params, &running, EPSILON),
        Mode::Train => {
            let (output, batch, count) = batch_norm_train(&mut pass.tape, input, &params, EPSILON)?;
            running.update(&batch, count, MOMENTUM, EPSILON, RunningRule::Unbiased)?;
            [*mean, *covariance] = running.to_tensors(params.rr.dim(0)?)?;
            Ok(output)
        }
    }
}
