//! Complex convolution: one real convolution on stacked channels.

use candle_core::{Result, Tensor, bail};

use super::linear::stacked_bias;
use super::{ComplexTensor, Pair};
use crate::layers::{Activation, Conv2d, Tape, grouped_conv2d, permute, reshape};

/// How a complex kernel walks over an image. Arrays are `[vertical, horizontal]`. The default is a dense kernel without
/// padding, one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComplexConv2d {
    /// Pixels between two windows.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// From one pixel of a window to the next.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ComplexConv2d {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// `input * weight + bias`, a cross-correlation without conjugation: `input` is `[lanes | 1, batch, height, width,
/// in]`, `weight` `[lanes, kernel_h, kernel_w, in / groups, out]`, `bias` `[lanes, out]`, the result
/// `[lanes, batch, out_h, out_w, out]`.
///
/// # Errors
/// If shapes or types do not fit, or no window does.
pub fn conv2d(
    tape: &mut Tape,
    input: &ComplexTensor,
    weight: &Pair,
    bias: Option<&Pair>,
    settings: ComplexConv2d,
) -> Result<ComplexTensor> {
    let ComplexConv2d { stride, padding, dilation, groups } = settings;
    let (.., inputs, outputs) = weight.re.dims5()?;
    if groups == 0 || inputs.checked_mul(groups) != Some(input.channels()) || outputs % groups != 0 {
        bail!(
            "complex conv2d: weights {:?} in {groups} groups do not fit {} channels",
            weight.re.shape(),
            input.channels()
        );
    }
    // The real layer wants the channels of a group side by side: (part, group, channel) becomes (group, part, channel).
    let kernel = weight.kernel(tape)?;
    let bias = stacked_bias(tape, bias, &kernel)?;
    let input = swap(tape, input.stacked(), 2, groups)?;
    let (kernel, bias) = (swap(tape, &kernel, 2, groups)?, swap(tape, &bias, 2, groups)?);
    let real = Conv2d { stride, padding, dilation, activation: Activation::Identity };
    let output = grouped_conv2d(tape, &input, &kernel, &bias, real, groups)?;
    swap(tape, &output, groups, 2).and_then(ComplexTensor::from_stacked)
}

/// The last axis is `outer · inner · rest` long; swaps the first two factors.
fn swap(tape: &mut Tape, tensor: &Tensor, outer: usize, inner: usize) -> Result<Tensor> {
    if outer == 1 || inner == 1 {
        return Ok(tensor.clone());
    }
    let dims = tensor.dims().to_vec();
    let Some((&last, batch)) = dims.split_last().filter(|&(last, _)| last % (outer * inner) == 0) else {
        bail!("complex conv2d: {outer} · {inner} groups do not divide the channels of {dims:?}");
    };
    let split = reshape(tape, tensor, &[batch.iter().product(), outer, inner, last / (outer * inner)])?;
    let swapped = permute(tape, &split, &[0, 2, 1, 3])?;
    reshape(tape, &swapped, &dims)
}
