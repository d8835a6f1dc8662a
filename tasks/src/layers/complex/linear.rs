//! The complex linear layer: y = x W + b.

use candle_core::{Result, Tensor, bail};

use super::{ComplexTensor, Pair};
use crate::layers::{Activation, Tape, linear as real_linear, reshape};

/// `input · weight + bias`, no conjugation: `input` is `[lanes | 1, batch axes…, in]`, `weight` `[lanes, in, out]`,
/// `bias` `[lanes, out]`, the result `[lanes, batch axes…, out]`. There is at least one batch axis.
///
/// # Errors
/// If shapes or types do not fit.
pub fn linear(tape: &mut Tape, input: &ComplexTensor, weight: &Pair, bias: Option<&Pair>) -> Result<ComplexTensor> {
    let kernel = weight.kernel(tape)?;
    let (lanes, inputs, outputs) = kernel.dims3()?;
    let dims = input.stacked().dims().to_vec();
    let [input_lanes, batch @ .., last] = &dims[..] else {
        bail!("complex linear: {dims:?} has no lanes and inputs");
    };
    if batch.is_empty() || *last != inputs {
        bail!("complex linear: weights {:?} do not fit {dims:?} (parts stacked)", kernel.shape());
    }
    let bias = stacked_bias(tape, bias, &kernel)?;
    let rows = reshape(tape, input.stacked(), &[*input_lanes, batch.iter().product(), inputs])?;
    let output = real_linear(tape, &rows, &kernel, &bias, Activation::Identity)?;
    let dims = [&[lanes], batch, &[outputs]].concat();
    reshape(tape, &output, &dims).and_then(ComplexTensor::from_stacked)
}

/// The bias of the real layer with this kernel, zeros if there is none.
pub(super) fn stacked_bias(tape: &mut Tape, bias: Option<&Pair>, kernel: &Tensor) -> Result<Tensor> {
    match bias {
        Some(bias) => bias.stack(tape),
        None => Tensor::zeros((kernel.dim(0)?, kernel.dim(kernel.rank() - 1)?), kernel.dtype(), kernel.device()),
    }
}
