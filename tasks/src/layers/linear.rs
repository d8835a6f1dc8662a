//! The linear layer: `activation(x W + b)` for each lane, fused.

use candle_core::{Result, Tensor, bail};

use super::matrix::{Into, Matrix, multiply};
use super::real::Real;
use super::{Activation, Tape, by_type, check_lanes, host, tensor};

/// `activation(input · weight + bias)`: `input` is `[lanes | 1, batch, …]` with `in` values an example, `weight`
/// `[lanes, in, out]`, `bias` `[lanes, out]`, the result `[lanes, batch, out]`.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn linear(
    tape: &mut Tape,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    check_lanes("linear", tape, input, weight)?;
    let (lanes, inputs, outputs) = weight.dims3()?;
    if input.rank() < 3 || input.dims()[2..].iter().product::<usize>() != inputs {
        bail!("linear: weights {:?} need {inputs} values an example, got {:?}", weight.shape(), input.shape());
    }
    if bias.dims() != [lanes, outputs] {
        bail!("linear: expected a bias [{lanes}, {outputs}], got {:?}", bias.shape());
    }
    let sizes = Sizes { input_lanes: input.dim(0)?, lanes, batch: input.dim(1)?, inputs, outputs };
    let op = Linear { sizes, activation };
    let output = by_type!("linear", input.dtype(), forward::<_>(op, input, weight, bias))?;
    let (x, w, b) = (input.clone(), weight.clone(), bias.clone());
    // Only what follows relu must be seen again.
    let y = (activation != Activation::Identity).then(|| output.clone());
    let seen = y.clone();
    let kept: Vec<&Tensor> = [input, weight].into_iter().chain(&seen).collect();
    Ok(tape.record_keeping("linear", &[input, weight, bias], output, &kept, move |grad, wanted| {
        by_type!("linear", x.dtype(), backward::<_>(op, (&x, &w, &b), y.as_ref().unwrap_or(grad), grad, wanted))
    }))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Lanes of the input: `lanes`, or 1 if all share it.
    input_lanes: usize,
    lanes: usize,
    batch: usize,
    inputs: usize,
    outputs: usize,
}

impl Sizes {
    /// The input of one lane.
    fn input<'a, T>(&self, values: &'a [T], lane: usize) -> Matrix<'a, T> {
        let lane = if self.input_lanes == 1 { 0 } else { lane };
        Matrix::new(at(values, lane, self.batch * self.inputs), self.batch, self.inputs)
    }
}

/// The `index`-th block of `size` values.
fn at<T>(values: &[T], index: usize, size: usize) -> &[T] {
    &values[index * size..(index + 1) * size]
}

#[derive(Clone, Copy, Debug)]
struct Linear {
    sizes: Sizes,
    activation: Activation,
}

fn forward<T: Real>(
    Linear { sizes, activation }: Linear,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (input, weight, bias) = (input.storage_and_layout(), weight.storage_and_layout(), bias.storage_and_layout());
    let (input, weight, bias) = (host::<T>(&input)?, host::<T>(&weight)?, host::<T>(&bias)?);
    let mut output = vec![T::zero(); sizes.lanes * sizes.batch * sizes.outputs];
    for (lane, output) in output.chunks_exact_mut(sizes.batch * sizes.outputs).enumerate() {
        let weight = Matrix::new(at(weight, lane, sizes.inputs * sizes.outputs), sizes.inputs, sizes.outputs);
        let bias = at(bias, lane, sizes.outputs);
        multiply(output, sizes.input(input, lane), weight, Into::Finish { bias, activation });
    }
    tensor(output, &[sizes.lanes, sizes.batch, sizes.outputs])
}

fn backward<T: Real>(
    Linear { sizes, activation }: Linear,
    (input, weight, bias): (&Tensor, &Tensor, &Tensor),
    output: &Tensor,
    grad: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let (input_guard, weight_guard) = (input.storage_and_layout(), weight.storage_and_layout());
    let (output_guard, grad_guard) = (output.storage_and_layout(), grad.storage_and_layout());
    let (inputs, weights) = (host::<T>(&input_guard)?, host::<T>(&weight_guard)?);
    let (outputs, grads) = (host::<T>(&output_guard)?, host::<T>(&grad_guard)?);

    let block = sizes.batch * sizes.outputs;
    let mut grad_weight = vec![T::zero(); weights.len()];
    let mut grad_bias = vec![T::zero(); sizes.lanes * sizes.outputs];
    let mut grad_input = wanted[0].then(|| vec![T::zero(); inputs.len()]);
    T::with_scratch(block, |before| {
        for lane in 0..sizes.lanes {
            let bias_lane = &mut grad_bias[lane * sizes.outputs..(lane + 1) * sizes.outputs];
            activation.gradient(before, at(outputs, lane, block), at(grads, lane, block), bias_lane);
            let before = Matrix::new(before, sizes.batch, sizes.outputs);
            let size = sizes.inputs * sizes.outputs;
            let weight_lane = &mut grad_weight[lane * size..(lane + 1) * size];
            multiply(weight_lane, sizes.input(inputs, lane).transposed(), before, Into::Overwrite);
            if let Some(grad_input) = &mut grad_input {
                let weight = Matrix::new(at(weights, lane, size), sizes.inputs, sizes.outputs);
                let size = sizes.batch * sizes.inputs;
                let input_lane = &mut grad_input[lane * size..(lane + 1) * size];
                multiply(input_lane, before, weight.transposed(), Into::Overwrite);
            }
        }
    });
    let grad_input = grad_input.map(|values| tensor(values, input.dims())).transpose()?;
    Ok(vec![grad_input, Some(tensor(grad_weight, weight.dims())?), Some(tensor(grad_bias, bias.dims())?)])
}
