//! Two-dimensional convolution, channels last: put a border of zeros round a few images, multiply their
//! [windows](super::windows) by the weights, add bias, activate.
//!
//! A few images at a time stay in a core's cache, with their outputs, from their border to the activation.

use candle_core::{Result, Tensor, bail};

use super::matrix::{Even, Into, Listed, Matrix, multiply, multiply_to};
use super::real::Real;
use super::windows::{Geometry, Padded, Windows};
use super::{Activation, Tape, by_type, check_lanes, host, tensor};

/// Values of padded images and outputs at a time, in 128 KiB of f32.
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
    if height * width * channels * outputs == 0 {
        bail!("conv2d: images {:?} and weights {:?} must have values", input.shape(), weight.shape());
    }
    let Conv2d { stride, padding, dilation, activation } = settings;
    let geometry = Geometry { image, channels, kernel, stride, padding, dilation, output, outputs };
    let op = Convolution { geometry, input_lanes, lanes, batch, activation };
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
        let values = self.geometry.padded().size() + self.geometry.output_size();
        (CHUNK_VALUES / values).clamp(1, self.batch.max(1))
    }

    /// The chunks in order.
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
        let start = (lane * self.batch + chunk.first) * self.geometry.output_size();
        start..start + chunk.images * self.geometry.output_size()
    }

    fn weight_range(&self, lane: usize) -> std::ops::Range<usize> {
        let size = self.geometry.taps() * self.geometry.outputs;
        lane * size..(lane + 1) * size
    }

    fn bias_range(&self, lane: usize) -> std::ops::Range<usize> {
        lane * self.geometry.outputs..(lane + 1) * self.geometry.outputs
    }
}

/// The images inside their border, copied to `space`, zeros so far, if they need one.
fn inside<'a, T: Real>(border: Padded, images: &'a [T], space: &'a mut [T]) -> &'a [T] {
    if border.is_bare() {
        return images;
    }
    let line = border.line();
    border.lines(space).zip(images.chunks_exact(line)).for_each(|(to, from)| to.copy_from_slice(from));
    space
}

fn forward<T: Real>(op: &Convolution, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (input, weight, bias) = (input.storage_and_layout(), weight.storage_and_layout(), bias.storage_and_layout());
    let (input, weight, bias) = (host::<T>(&input)?, host::<T>(&weight)?, host::<T>(&bias)?);
    let Geometry { outputs, output: [height, width], .. } = op.geometry;
    let (border, images) = (op.geometry.padded(), op.images_at_a_time());
    let places = Windows::of(&op.geometry, images);
    let mut output = vec![T::zero(); op.lanes * op.batch * op.geometry.output_size()];
    T::with_scratch(images * border.size(), |space| {
        space.fill(T::zero());
        for chunk in op.chunks() {
            let images = inside(border, &input[op.input_range(&chunk)], &mut space[..chunk.images * border.size()]);
            let windows = Listed::new(&places.corners[..chunk.images * op.geometry.pixels()]);
            let windows = Matrix::at(images, windows, Listed::new(&places.taps));
            for lane in op.lanes_of(chunk.input_lane) {
                let weight = Matrix::new(&weight[op.weight_range(lane)], places.taps.len(), outputs);
                let into = Into::Finish { bias: &bias[op.bias_range(lane)], activation: op.activation };
                multiply(&mut output[op.output_range(&chunk, lane)], windows, weight, into);
            }
        }
    });
    tensor(output, &[op.lanes, op.batch, height, width, outputs])
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

    let (border, images) = (op.geometry.padded(), op.images_at_a_time());
    let before_border = op.geometry.padded_output();
    let places = Windows::of(&op.geometry, images);
    let mut grad_weight = vec![T::zero(); weights.len()];
    let mut grad_bias = vec![T::zero(); op.lanes * op.geometry.outputs];
    let mut grad_input = wanted[0].then(|| vec![T::zero(); inputs.len()]);
    // The weights of one lane, turned for each phase.
    let mut turned = vec![];
    T::with_scratch(images * (border.size() + before_border.size()), |space| {
        space.fill(T::zero());
        let (space, before) = space.split_at_mut(images * border.size());
        for chunk in op.chunks() {
            let images = inside(border, &inputs[op.input_range(&chunk)], &mut space[..chunk.images * border.size()]);
            let before = &mut before[..chunk.images * before_border.size()];
            let count = chunk.images * op.geometry.pixels();
            let windows = Matrix::at(images, Listed::new(&places.corners[..count]), Listed::new(&places.taps));
            for lane in op.lanes_of(chunk.input_lane) {
                let range = op.output_range(&chunk, lane);
                let grad_bias = &mut grad_bias[op.bias_range(lane)];
                let (outputs, grads) = (outputs[range.clone()].chunks_exact(before_border.line()), &grads[range]);
                let lines = before_border.lines(before).zip(outputs).zip(grads.chunks_exact(before_border.line()));
                lines.for_each(|((before, output), grad)| op.activation.gradient(before, output, grad, grad_bias));
                let columns = Even { count: op.geometry.outputs, stride: 1 };
                let before = Matrix::at(before, Listed::new(&places.outputs[..count]), columns);
                multiply(&mut grad_weight[op.weight_range(lane)], windows.transposed(), before, Into::Add);
            }
            if let Some(grad_input) = &mut grad_input {
                // A tracked input has as many lanes as the weights (`check_lanes`), so `before` is this lane's.
                if chunk.first == 0 {
                    let weights = &weights[op.weight_range(chunk.input_lane)];
                    turned = places.phases.iter().map(|phase| op.geometry.turn(phase, weights)).collect();
                }
                of_images(&op.geometry, &places, &turned, before, &mut grad_input[op.input_range(&chunk)]);
            }
        }
    });
    let grad_input = grad_input.map(|values| tensor(values, input.dims())).transpose()?;
    Ok(vec![grad_input, Some(tensor(grad_weight, weight.dims())?), Some(tensor(grad_bias, bias.dims())?)])
}

/// Overwrites the gradients of a few images, given that of their outputs `before` the activation, inside its border: the
/// product by the kernel turned round, phase by phase.
fn of_images<T: Real>(geometry: &Geometry, places: &Windows, turned: &[Vec<T>], before: &[T], grad_input: &mut [T]) {
    let images = grad_input.len() / geometry.image_size();
    for (phase, turned) in places.phases.iter().zip(turned) {
        let count = phase.pixels_of(images);
        let pixels = Listed::new(&phase.pixels[..count]);
        let windows = Matrix::at(before, Listed::new(&phase.windows[..count]), Listed::new(&phase.taps));
        let turned = Matrix::new(turned, phase.taps.len(), geometry.channels);
        multiply_to(grad_input, pixels, windows, turned, Into::Overwrite);
    }
}
