//! The end of a graph layer: a bias and an activation.

use candle_core::{Result, Tensor, bail};

use super::super::real::Real;
use super::super::{Activation, Tape, by_type, host, tensor};
use super::{row, row_mut};

/// `activation(input + bias)`: `input` is `[lanes, …, features]`, `bias` `[lanes, features]`.
///
/// # Errors
/// If shapes or types do not fit.
pub(crate) fn finish(tape: &mut Tape, input: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    const LAYER: &str = "bias";
    let (lanes, features) = bias.dims2()?;
    if input.rank() < 2 || input.dims()[0] != lanes || input.dims()[input.rank() - 1] != features || features == 0 {
        bail!("{LAYER}: a bias {:?} does not fit {:?}", bias.shape(), input.shape());
    }
    if input.dtype() != bias.dtype() {
        bail!("{LAYER}: the input is {:?} and the bias {:?}", input.dtype(), bias.dtype());
    }
    let output = by_type!(LAYER, input.dtype(), forward::<_>(input, bias, activation))?;
    let (y, b) = (output.clone(), bias.clone());
    Ok(tape.record_keeping(LAYER, &[input, bias], output, &[&y.clone(), bias], move |grad, _| {
        by_type!(LAYER, y.dtype(), backward::<_>(&y, &b, activation, grad))
    }))
}

fn forward<T: Real>(input: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let guards = (input.storage_and_layout(), bias.storage_and_layout());
    let (mut output, bias_values) = (host::<T>(&guards.0)?.to_vec(), host::<T>(&guards.1)?);
    let (lanes, features) = bias.dims2()?;
    let block = output.len() / lanes.max(1);
    for lane in 0..lanes {
        activation.finish(row_mut(&mut output, lane, block), row(bias_values, lane, features));
    }
    tensor(output, input.dims())
}

fn backward<T: Real>(
    output: &Tensor,
    bias: &Tensor,
    activation: Activation,
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let guards = (output.storage_and_layout(), grad.storage_and_layout());
    let (outputs, grads) = (host::<T>(&guards.0)?, host::<T>(&guards.1)?);
    let (lanes, features) = bias.dims2()?;
    let block = outputs.len() / lanes.max(1);
    let mut before = vec![T::zero(); outputs.len()];
    let mut grad_bias = vec![T::zero(); lanes * features];
    for lane in 0..lanes {
        activation.gradient(
            row_mut(&mut before, lane, block),
            row(outputs, lane, block),
            row(grads, lane, block),
            row_mut(&mut grad_bias, lane, features),
        );
    }
    Ok(vec![Some(tensor(before, output.dims())?), Some(tensor(grad_bias, bias.dims())?)])
}
