//! Parts that networks share: affine maps with an activation, norms with their running statistics, transformer blocks.
//!
//! A part lists its parameters with one function and reads them from the pass, in that order, with another.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::{
    Activation, Affine, AttentionWeights, Mask, Moments, Nonlinearity, add, attention, batch_norm, batch_norm_by,
    dense, dropout, layer_norm, linear, nonlinearity,
};
use crate::problem::{Initial, Mode, ParametersBuilder, Pass};

/// What normalises activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Norm {
    /// Nothing.
    #[default]
    None,
    /// Layer norm over the channels (Ba, Kiros, Hinton, arXiv 1607.06450).
    Layer,
    /// Batch norm (Ioffe, Szegedy, arXiv 1502.03167): statistics of the batch while training, running ones elsewhere.
    Batch,
}

const LAYER_NORM_EPSILON: f64 = 1e-5;
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

impl Norm {
    /// Lists scale and shift, and the running statistics.
    pub(crate) fn list(
        self,
        name: &str,
        channels: usize,
        parameters: &mut ParametersBuilder,
        state: &mut ParametersBuilder,
    ) {
        if self == Self::None {
            return;
        }
        parameters.norm(name, channels);
        if self == Self::Batch {
            state.tensor(format!("{name}/mean"), [channels], Initial::ZEROS);
            state.tensor(format!("{name}/variance"), [channels], Initial::Constant(1.0));
        }
    }

    /// Lists an affine map and the norm behind it. Batch norm takes off the mean, so a bias before it would have no say.
    pub(crate) fn list_affine(
        self,
        [name, norm_name]: [&str; 2],
        shape: impl Into<Vec<usize>>,
        parameters: &mut ParametersBuilder,
        state: &mut ParametersBuilder,
    ) {
        let shape = shape.into();
        let outputs = shape.last().copied().unwrap_or(1);
        if self == Self::Batch {
            parameters.tensor(format!("{name}/w"), shape, Initial::FAN_IN);
        } else {
            parameters.affine(name, shape);
        }
        self.list(norm_name, outputs, parameters, state);
    }

    /// The weight and bias that [`Norm::list_affine`] listed, or zeros.
    pub(crate) fn weight_and_bias(self, pass: &mut Pass<'_>) -> Result<(Tensor, Tensor)> {
        let weight = pass.weight()?.clone();
        let bias = if self == Self::Batch { no_bias(&weight)? } else { pass.weight()?.clone() };
        Ok((weight, bias))
    }
}

/// Zeros, as the bias of a weight `[lanes, …, outputs]`.
pub(crate) fn no_bias(weight: &Tensor) -> Result<Tensor> {
    Tensor::zeros((weight.dim(0)?, weight.dim(weight.rank() - 1)?), weight.dtype(), weight.device())
}

/// Applies a norm that [`Norm::list`] listed.
pub(crate) fn normalise(pass: &mut Pass<'_>, norm: Norm, input: &Tensor) -> Result<Tensor> {
    if norm == Norm::None {
        return Ok(input.clone());
    }
    let (scale, shift) = (pass.weight()?, pass.weight()?);
    if norm == Norm::Layer {
        return layer_norm(&mut pass.tape, input, scale, shift, LAYER_NORM_EPSILON);
    }
    let (mean, variance) = (pass.state()?, pass.state()?);
    match pass.mode {
        Mode::Evaluate => {
            let running = Moments { mean: mean.clone(), variance: variance.clone() };
            batch_norm_by(&mut pass.tape, input, scale, shift, &running, BATCH_NORM_EPSILON)
        }
        Mode::Train => {
            let (output, batch) = batch_norm(&mut pass.tape, input, scale, shift, BATCH_NORM_EPSILON)?;
            for (running, batch) in [(mean, batch.mean), (variance, batch.variance)] {
                *running = (running.affine(1.0 - MOMENTUM, 0.0)? + batch.affine(MOMENTUM, 0.0)?)?;
            }
            Ok(output)
        }
    }
}

/// The activation of each lane.
pub(crate) fn act(pass: &mut Pass<'_>, activations: &[Nonlinearity], input: &Tensor) -> Result<Tensor> {
    nonlinearity(&mut pass.tape, input, activations)
}

/// An affine map of flattened examples, a norm, and the activation; where there is no norm and all lanes have relu, in one
/// layer.
pub(crate) fn affine(pass: &mut Pass<'_>, activations: &[Nonlinearity], norm: Norm, input: &Tensor) -> Result<Tensor> {
    let (weight, bias) = norm.weight_and_bias(pass)?;
    if norm == Norm::None && activations.iter().all(|choice| *choice == Nonlinearity::Relu) {
        return linear(&mut pass.tape, input, &weight, &bias, Activation::Relu);
    }
    let output = linear(&mut pass.tape, input, &weight, &bias, Activation::Identity)?;
    let output = normalise(pass, norm, &output)?;
    act(pass, activations, &output)
}

/// An affine map of the last axis of tokens.
pub(crate) fn map(pass: &mut Pass<'_>, input: &Tensor) -> Result<Tensor> {
    let (weight, bias) = (pass.weight()?, pass.weight()?);
    dense(&mut pass.tape, input, weight, bias, Activation::Identity)
}

/// Two affine maps with an activation between them, on tokens.
pub(crate) fn tokens_block(pass: &mut Pass<'_>, activations: &[Nonlinearity], input: &Tensor) -> Result<Tensor> {
    let hidden = map(pass, input)?;
    let hidden = act(pass, activations, &hidden)?;
    map(pass, &hidden)
}

/// As [`tokens_block`], the second map without a bias.
pub(crate) fn mixing_block(pass: &mut Pass<'_>, activations: &[Nonlinearity], input: &Tensor) -> Result<Tensor> {
    let hidden = map(pass, input)?;
    let hidden = act(pass, activations, &hidden)?;
    let weight = pass.weight()?;
    dense(&mut pass.tape, &hidden, weight, &no_bias(weight)?, Activation::Identity)
}

/// Sizes of a transformer block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tokens {
    /// Attention heads.
    pub(crate) heads: usize,
    /// Channels of a token, a multiple of the heads.
    pub(crate) width: usize,
    /// Hidden units of the block's MLP.
    pub(crate) hidden: usize,
    /// Which tokens see which.
    pub(crate) mask: Mask,
    /// Share of values dropped behind attention and MLP while training.
    pub(crate) dropout: f64,
}

impl Tokens {
    /// Lists a block's parameters.
    pub(crate) fn list(&self, name: &str, parameters: &mut ParametersBuilder) {
        parameters.norm(&format!("{name}/norm_0"), self.width);
        let square = [self.width, self.width];
        parameters.affine(&format!("{name}/query"), square);
        // Softmax does not see what all keys of a row have in common, so a bias of theirs would have no say.
        parameters.tensor(format!("{name}/key/w"), square, Initial::FAN_IN);
        parameters.affine(&format!("{name}/value"), square);
        parameters.affine(&format!("{name}/output"), square);
        parameters.norm(&format!("{name}/norm_1"), self.width);
        parameters.affine(&format!("{name}/mlp_0"), [self.width, self.hidden]);
        parameters.affine(&format!("{name}/mlp_1"), [self.hidden, self.width]);
    }
}

/// A pre-norm transformer block on `[lanes, batch, time, width]`: `x + attention(norm x)`, then `x + mlp(norm x)` (Vaswani
/// et al., arXiv 1706.03762; norms before instead of behind as in Xiong et al., arXiv 2002.04745).
pub(crate) fn transformer_block(
    pass: &mut Pass<'_>,
    activations: &[Nonlinearity],
    tokens: &Tokens,
    input: &Tensor,
) -> Result<Tensor> {
    let normed = normalise(pass, Norm::Layer, input)?;
    let query = Affine { weight: pass.weight()?, bias: pass.weight()? };
    let key = pass.weight()?;
    let key = Affine { weight: key, bias: &no_bias(key)? };
    let mut part = || Ok::<_, candle_core::Error>(Affine { weight: pass.weight()?, bias: pass.weight()? });
    let weights = AttentionWeights { query, key, value: part()?, output: part()? };
    let attended = attention(&mut pass.tape, &normed, &weights, tokens.heads, tokens.mask)?;
    let attended = drop(pass, tokens.dropout, &attended)?;
    let middle = add(&mut pass.tape, input, &attended)?;
    let normed = normalise(pass, Norm::Layer, &middle)?;
    let output = tokens_block(pass, activations, &normed)?;
    let output = drop(pass, tokens.dropout, &output)?;
    add(&mut pass.tape, &middle, &output)
}

/// Dropout while training. Every use of a step has its own mask.
pub(crate) fn drop(pass: &mut Pass<'_>, rate: f64, input: &Tensor) -> Result<Tensor> {
    if rate == 0.0 || pass.mode == Mode::Evaluate {
        return Ok(input.clone());
    }
    let seeds = pass.next_seeds();
    dropout(&mut pass.tape, input, rate, &seeds)
}
