//! An affine map of the last axis, the same at every other place: per token, per patch, per pixel.
//!
//! Where [`super::linear()`] flattens each example to one vector, this keeps the axes between batch and channels.

use candle_core::{Result, Tensor, bail};

use super::{Activation, Tape, linear, reshape};

/// `activation(input · weight + bias)` over the last axis: `input` is `[lanes | 1, batch, …, in]`, `weight`
/// `[lanes, in, out]`, `bias` `[lanes, out]`, the result `[lanes, batch, …, out]`.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn dense(
    tape: &mut Tape,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let [input_lanes, places @ .., inputs] = input.dims() else {
        bail!("dense: an input {:?} has no channels", input.shape());
    };
    let (lanes, _, outputs) = weight.dims3()?;
    let count: usize = places.iter().product();
    let rows = reshape(tape, input, &[*input_lanes, count, *inputs])?;
    let output = linear(tape, &rows, weight, bias, activation)?;
    reshape(tape, &output, &[&[lanes], places, &[outputs]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences() {
        let arguments = [values(&[2, 3, 2, 4], 0), values(&[2, 4, 5], 1), values(&[2, 5], 2)];
        for activation in [Activation::Identity, Activation::Relu] {
            check("dense", &arguments, |tape, x| dense(tape, &x[0], &x[1], &x[2], activation));
            lanes_are_independent(&arguments, |tape, x| dense(tape, &x[0], &x[1], &x[2], activation));
        }
        let data = values(&[1, 3, 2, 4], 0);
        check("dense on shared data", &arguments[1..], |tape, x| {
            dense(tape, &data, &x[0], &x[1], Activation::Identity)
        });
    }

    #[test]
    fn values_are_those_of_candle() {
        let (input, weight, bias) = (values(&[1, 3, 2, 4], 0), values(&[1, 4, 5], 1), values(&[1, 5], 2));
        let got = dense(&mut Tape::default(), &input, &weight, &bias, Activation::Identity).unwrap();
        let layer = candle_nn::Linear::new(weight.get(0).unwrap().t().unwrap(), Some(bias.get(0).unwrap()));
        close(
            "dense",
            &got.get(0).unwrap(),
            &candle_nn::Module::forward(&layer, &input.get(0).unwrap()).unwrap(),
            1e-12,
        );
    }
}
