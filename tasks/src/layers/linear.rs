//! The linear layer: `activation(x W + b)` for each lane, fused.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::matrix::{Into, Matrix, multiply};
use super::real::Real;
use super::{Activation, by_type, check_lanes, host, operand, tensor};

/// `activation(input · weight + bias)`: `input` is `[lanes | 1, batch, …]` with `in` values an example, `weight`
/// `[lanes, in, out]`, `bias` `[lanes, out]`, the result `[lanes, batch, out]`.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn linear(input: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    input.apply_op3(weight, bias, affine(input, weight, bias, activation)?)
}

/// The op of [`linear`], for operands that were checked.
pub(super) fn affine(input: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Linear> {
    check_lanes("linear", input, weight)?;
    let (lanes, inputs, outputs) = weight.dims3()?;
    if input.rank() < 3 || input.dims()[2..].iter().product::<usize>() != inputs {
        bail!("linear: weights {:?} need {inputs} values an example, got {:?}", weight.shape(), input.shape());
    }
    if bias.dims() != [lanes, outputs] {
        bail!("linear: expected a bias [{lanes}, {outputs}], got {:?}", bias.shape());
    }
    let sizes = Sizes { input_lanes: input.dim(0)?, lanes, batch: input.dim(1)?, inputs, outputs };
    Ok(Linear { sizes, activation })
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

pub(super) struct Linear {
    sizes: Sizes,
    activation: Activation,
}

fn forward<T: Real>(
    &Linear { sizes, activation }: &Linear,
    input: (&CpuStorage, &Layout),
    weight: (&CpuStorage, &Layout),
    bias: (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let (input, weight, bias) = (operand(input.0, input.1)?, operand(weight.0, weight.1)?, operand(bias.0, bias.1)?);
    let mut output = vec![T::zero(); sizes.lanes * sizes.batch * sizes.outputs];
    for (lane, output) in output.chunks_exact_mut(sizes.batch * sizes.outputs).enumerate() {
        let weight = Matrix::new(at(weight, lane, sizes.inputs * sizes.outputs), sizes.inputs, sizes.outputs);
        multiply(output, sizes.input(input, lane), weight, Into::Overwrite);
        activation.finish(output, at(bias, lane, sizes.outputs));
    }
    Ok((T::to_cpu_storage_owned(output), Shape::from((sizes.lanes, sizes.batch, sizes.outputs))))
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

fn backward<T: Real>(
    &Linear { sizes, activation }: &Linear,
    (input, weight, bias): (&Tensor, &Tensor, &Tensor),
    output: &Tensor,
    grad: &Tensor,
) -> Result<Gradients> {
    let grad = grad.contiguous()?;
    let (input_guard, weight_guard) = (input.storage_and_layout(), weight.storage_and_layout());
    let (output_guard, grad_guard) = (output.storage_and_layout(), grad.storage_and_layout());
    let (inputs, weights) = (host::<T>(&input_guard)?, host::<T>(&weight_guard)?);
    let (outputs, grads) = (host::<T>(&output_guard)?, host::<T>(&grad_guard)?);

    let block = sizes.batch * sizes.outputs;
    let mut grad_weight = vec![T::zero(); weights.len()];
    let mut grad_bias = vec![T::zero(); sizes.lanes * sizes.outputs];
    let mut grad_input = input.track_op().then(|| vec![T::zero(); inputs.len()]);
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
    Ok((grad_input, Some(tensor(grad_weight, weight.dims())?), Some(tensor(grad_bias, bias.dims())?)))
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "lane-linear"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let operands = ((input, input_layout), (weight, weight_layout), (bias, bias_layout));
        by_type!("linear", input.dtype(), forward::<_>(self, operands.0, operands.1, operands.2))
    }

    fn bwd(&self, input: &Tensor, weight: &Tensor, bias: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Gradients> {
        by_type!("linear", input.dtype(), backward::<_>(self, (input, weight, bias), output, grad))
    }
}
