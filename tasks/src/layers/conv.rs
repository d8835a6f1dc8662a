//! Two-dimensional convolution, channels last: unfold a few images, multiply, add bias, activate.
//!
//! The patch matrix of a whole batch is large (nine times the images for a 3×3 kernel) and would stream through
//! memory three times. It is therefore made for a few images at a time, so that it stays in a core's cache, and made
//! again in the backward pass. The size of such a chunk fixes the order in which the weight gradient is summed, so it
//! depends on shapes only, never on the machine.

use candle_core::{Result, Tensor, bail};

use super::im2col::Geometry;
use super::matrix::{Into, Matrix, multiply};
use super::real::Real;
use super::{Activation, Tape, by_type, check_lanes, host, tensor};

/// Values of the patch matrix made at a time: with its gradient, 256 KiB of f32.
const CHUNK_VALUES: usize = 32 * 1024;

/// How a kernel walks over an image. Arrays are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels between two windows.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// From one pixel of a window to the next: 1 for a dense window.
    pub dilation: [usize; 2],
    /// What follows.
    pub activation: Activation,
}

impl Conv2d {
    /// Height and width of the output, or `None` if no window fits or a stride or dilation is zero.
    pub fn output(&self, image: [usize; 2], kernel: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let reach = kernel[axis].checked_sub(1)?.checked_mul(self.dilation[axis])?.checked_add(1)?;
            let room = self.padding[axis].checked_mul(2)?.checked_add(image[axis])?.checked_sub(reach)?;
            (self.dilation[axis] > 0 && self.stride[axis] > 0).then(|| room / self.stride[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }
}

/// `activation(input * weight + bias)`: `input` is `[lanes | 1, batch, height, width, in]`, `weight`
/// `[lanes, kernel_h, kernel_w, in, out]`, `bias` `[lanes, out]`, the result `[lanes, batch, out_h, out_w, out]`.
/// As everywhere in machine learning, the kernel is not flipped.
///
/// # Errors
/// If shapes or types do not fit, or a tensor is not contiguous.
pub fn conv2d(tape: &mut Tape, input: &Tensor, weight: &Tensor, bias: &Tensor, settings: Conv2d) -> Result<Tensor> {
    check_lanes("conv2d", tape, input, weight)?;
    let (input_lanes, batch, height, width, channels) = input.dims5()?;
    let (lanes, kernel_h, kernel_w, weight_channels, outputs) = weight.dims5()?;
    if channels != weight_channels {
        bail!("conv2d: weights {:?} do not fit images {:?}", weight.shape(), input.shape());
    }
    if bias.dims() != [lanes, outputs] {
        bail!("conv2d: expected a bias [{lanes}, {outputs}], got {:?}", bias.shape());
    }
    let (image, kernel) = ([height, width], [kernel_h, kernel_w]);
    let Some(output) = settings.output(image, kernel) else {
        bail!("conv2d: no {kernel_h}×{kernel_w} window with {settings:?} in images {:?}", input.shape());
    };
    let Conv2d { stride, padding, dilation, activation } = settings;
    let geometry = Geometry { image, channels, kernel, stride, padding, dilation, output };
    let op = Convolution { geometry, input_lanes, lanes, batch, outputs, activation };
    let output = by_type!("conv2d", input.dtype(), forward::<_>(&op, input, weight, bias))?;
    let (x, w, b) = (input.clone(), weight.clone(), bias.clone());
    // Only what follows relu must be seen again.
    let y = (op.activation != Activation::Identity).then(|| output.clone());
    let seen = y.clone();
    let kept: Vec<&Tensor> = [input, weight].into_iter().chain(&seen).collect();
    Ok(tape.record_keeping("conv2d", &[input, weight, bias], output, &kept, move |grad, wanted| {
        by_type!("conv2d", x.dtype(), backward::<_>(&op, (&x, &w, &b), y.as_ref().unwrap_or(grad), grad, wanted))
    }))
}

#[derive(Clone, Copy, Debug)]
struct Convolution {
    geometry: Geometry,
    /// Lanes of the input: `lanes`, or 1 if all share it.
    input_lanes: usize,
    lanes: usize,
    batch: usize,
    outputs: usize,
    activation: Activation,
}

/// A few images of one input lane.
struct Chunk {
    input_lane: usize,
    first: usize,
    images: usize,
}

impl Convolution {
    fn images_at_a_time(&self) -> usize {
        (CHUNK_VALUES / (self.geometry.pixels() * self.geometry.patch()).max(1)).clamp(1, self.batch.max(1))
    }

    /// The chunks in order: a lane's weight gradient is summed in this order whether the input is shared or not.
    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let (size, batch) = (self.images_at_a_time(), self.batch);
        (0..self.input_lanes).flat_map(move |input_lane| {
            (0..batch).step_by(size).map(move |first| Chunk { input_lane, first, images: size.min(batch - first) })
        })
    }

    /// The lanes whose input a lane of the input is.
    fn lanes_of(&self, input_lane: usize) -> std::ops::Range<usize> {
        if self.input_lanes == self.lanes { input_lane..input_lane + 1 } else { 0..self.lanes }
    }

    /// Where a chunk's images lie in the input.
    fn input_range(&self, chunk: &Chunk) -> std::ops::Range<usize> {
        let start = (chunk.input_lane * self.batch + chunk.first) * self.geometry.image_size();
        start..start + chunk.images * self.geometry.image_size()
    }

    /// Where a chunk's pixels lie in the output of a lane.
    fn output_range(&self, chunk: &Chunk, lane: usize) -> std::ops::Range<usize> {
        let image = self.geometry.pixels() * self.outputs;
        let start = (lane * self.batch + chunk.first) * image;
        start..start + chunk.images * image
    }

    fn weight_range(&self, lane: usize) -> std::ops::Range<usize> {
        let size = self.geometry.patch() * self.outputs;
        lane * size..(lane + 1) * size
    }

    fn bias_range(&self, lane: usize) -> std::ops::Range<usize> {
        lane * self.outputs..(lane + 1) * self.outputs
    }

    fn unfold<T: Real>(&self, images: &[T], patches: &mut [T]) {
        let patches = patches.chunks_exact_mut(self.geometry.pixels() * self.geometry.patch());
        images
            .chunks_exact(self.geometry.image_size())
            .zip(patches)
            .for_each(|(image, patches)| self.geometry.unfold(image, patches));
    }

    fn fold_add<T: Real>(&self, patches: &[T], images: &mut [T]) {
        let patches = patches.chunks_exact(self.geometry.pixels() * self.geometry.patch());
        images
            .chunks_exact_mut(self.geometry.image_size())
            .zip(patches)
            .for_each(|(image, patches)| self.geometry.fold_add(patches, image));
    }
}

fn forward<T: Real>(op: &Convolution, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (input, weight, bias) = (input.storage_and_layout(), weight.storage_and_layout(), bias.storage_and_layout());
    let (input, weight, bias) = (host::<T>(&input)?, host::<T>(&weight)?, host::<T>(&bias)?);
    let (pixels, patch) = (op.geometry.pixels(), op.geometry.patch());
    let mut output = vec![T::zero(); op.lanes * op.batch * pixels * op.outputs];
    T::with_scratch(op.images_at_a_time() * pixels * patch, |patches| {
        for chunk in op.chunks() {
            let rows = chunk.images * pixels;
            let patches = &mut patches[..rows * patch];
            op.unfold(&input[op.input_range(&chunk)], patches);
            for lane in op.lanes_of(chunk.input_lane) {
                let output = &mut output[op.output_range(&chunk, lane)];
                let weight = Matrix::new(&weight[op.weight_range(lane)], patch, op.outputs);
                multiply(output, Matrix::new(patches, rows, patch), weight, Into::Overwrite);
                op.activation.finish(output, &bias[op.bias_range(lane)]);
            }
        }
    });
    let [height, width] = op.geometry.output;
    tensor(output, &[op.lanes, op.batch, height, width, op.outputs])
}

fn backward<T: Real>(
    op: &Convolution,
    (input, weight, bias): (&Tensor, &Tensor, &Tensor),
    output: &Tensor,
    grad: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let (input_guard, weight_guard) = (input.storage_and_layout(), weight.storage_and_layout());
    let (output_guard, grad_guard) = (output.storage_and_layout(), grad.storage_and_layout());
    let (inputs, weights) = (host::<T>(&input_guard)?, host::<T>(&weight_guard)?);
    let (outputs, grads) = (host::<T>(&output_guard)?, host::<T>(&grad_guard)?);

    let (pixels, patch) = (op.geometry.pixels(), op.geometry.patch());
    let mut grad_weight = vec![T::zero(); weights.len()];
    let mut grad_bias = vec![T::zero(); op.lanes * op.outputs];
    let mut grad_input = wanted[0].then(|| vec![T::zero(); inputs.len()]);
    let largest = op.images_at_a_time() * pixels;
    T::with_scratch(largest * (patch + op.outputs), |scratch| {
        let (all_patches, all_before) = scratch.split_at_mut(largest * patch);
        for chunk in op.chunks() {
            let rows = chunk.images * pixels;
            let (patches, before) = (&mut all_patches[..rows * patch], &mut all_before[..rows * op.outputs]);
            op.unfold(&inputs[op.input_range(&chunk)], patches);
            for lane in op.lanes_of(chunk.input_lane) {
                let range = op.output_range(&chunk, lane);
                let bias_lane = &mut grad_bias[op.bias_range(lane)];
                op.activation.gradient(before, &outputs[range.clone()], &grads[range], bias_lane);
                let patches = Matrix::new(patches, rows, patch).transposed();
                let before = Matrix::new(before, rows, op.outputs);
                multiply(&mut grad_weight[op.weight_range(lane)], patches, before, Into::Add);
            }
            if let Some(grad_input) = &mut grad_input {
                // A tracked input has as many lanes as the weights (`check_lanes`), so `before` is this lane's, and
                // its patches have been used: their place takes the gradient.
                let weight = Matrix::new(&weights[op.weight_range(chunk.input_lane)], patch, op.outputs);
                multiply(patches, Matrix::new(before, rows, op.outputs), weight.transposed(), Into::Overwrite);
                op.fold_add(patches, &mut grad_input[op.input_range(&chunk)]);
            }
        }
    });
    let grad_input = grad_input.map(|values| tensor(values, input.dims())).transpose()?;
    Ok(vec![grad_input, Some(tensor(grad_weight, weight.dims())?), Some(tensor(grad_bias, bias.dims())?)])
}
