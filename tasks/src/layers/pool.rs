//! Max and average pooling, channels last. Windows lie wholly inside the image, or inside the image and a border of
//! zeros around it: rows and columns that no window reaches are left out (and get no gradient), windows may overlap.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::{Tape, by_type, host, tensor};

/// The size of a pooling window and the pixels between two. Arrays are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width of a window.
    pub size: [usize; 2],
    /// Pixels between two windows.
    pub stride: [usize; 2],
}

/// Zeros around the images of an average pooling. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Border {
    /// How many on each side, `[vertical, horizontal]`; less than the size of a window.
    pub pixels: [usize; 2],
    /// Whether they count: the mean is over the whole window, not over its part in the image.
    pub counted: bool,
}

/// Largest value of each window: `[lanes, batch, height, width, channels]` to `[lanes, batch, out_h, out_w, channels]`.
///
/// Of equal largest values the first of the window, in row-major order, gets the whole gradient, as in XLA. A NaN in a
/// window is its maximum.
///
/// # Errors
/// If no window fits, or the tensor is not contiguous f32 or f64.
pub fn max_pool2d(tape: &mut Tape, input: &Tensor, window: Window) -> Result<Tensor> {
    pool2d(tape, input, window, [0, 0], Kind::Max)
}

/// Mean of each window, shapes as [`max_pool2d`]. The mean over a whole image is a window of its size.
///
/// # Errors
/// As [`max_pool2d`].
pub fn avg_pool2d(tape: &mut Tape, input: &Tensor, window: Window) -> Result<Tensor> {
    avg_pool2d_bordered(tape, input, window, Border::default())
}

/// Mean of each window of the images with a border of zeros, shapes as [`max_pool2d`].
///
/// # Errors
/// As [`max_pool2d`], and if a window could lie wholly in the border.
pub fn avg_pool2d_bordered(tape: &mut Tape, input: &Tensor, window: Window, border: Border) -> Result<Tensor> {
    pool2d(tape, input, window, border.pixels, Kind::Average { border_counts: border.counted })
}

fn pool2d(tape: &mut Tape, input: &Tensor, window: Window, border: [usize; 2], kind: Kind) -> Result<Tensor> {
    let (lanes, batch, height, width, channels) = input.dims5()?;
    let image = [height, width];
    // A window that is larger than its border holds a pixel wherever it lies.
    let along = |axis: usize| {
        let room = border[axis].checked_mul(2)?.checked_add(image[axis])?.checked_sub(window.size[axis])?;
        (window.stride[axis] > 0).then(|| room / window.stride[axis] + 1)
    };
    let borders_fit = (0..2).all(|axis| border[axis] < window.size[axis]);
    let (true, Some(rows), Some(columns)) = (borders_fit, along(0), along(1)) else {
        bail!("pooling: no {window:?} in images {:?} with a border of {border:?}", input.shape());
    };
    let op = Pool { kind, window, border, lanes, batch, image, channels, output: [rows, columns] };
    let output = by_type!("pooling", input.dtype(), forward::<_>(&op, input))?;
    let (x, y) = (input.clone(), output.clone());
    Ok(tape.record("pooling", &[input], output, move |grad, _| {
        by_type!("pooling", x.dtype(), backward::<_>(&op, &x, &y, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Max,
    Average { border_counts: bool },
}

#[derive(Clone, Copy, Debug)]
struct Pool {
    kind: Kind,
    window: Window,
    border: [usize; 2],
    lanes: usize,
    batch: usize,
    image: [usize; 2],
    channels: usize,
    output: [usize; 2],
}

impl Pool {
    /// Where in an image each pixel of each output pixel's window starts; windows in row-major order.
    fn windows(&self) -> impl Iterator<Item = (impl Iterator<Item = usize> + '_, usize)> + '_ {
        let (row_length, channels) = (self.image[1] * self.channels, self.channels);
        (0..self.output[0]).flat_map(move |out_y| {
            let rows = self.inside(0, out_y);
            (0..self.output[1]).map(move |out_x| {
                let (rows, columns) = (rows.clone(), self.inside(1, out_x));
                let pixels = rows.len() * columns.len();
                let starts = rows.flat_map(move |y| columns.clone().map(move |x| y * row_length + x * channels));
                (starts, pixels)
            })
        })
    }

    /// The part of a window inside the image, along one axis.
    fn inside(&self, axis: usize, place: usize) -> Range<usize> {
        let start = place * self.window.stride[axis];
        let end = (start + self.window.size[axis]).saturating_sub(self.border[axis]).min(self.image[axis]);
        start.saturating_sub(self.border[axis])..end
    }

    /// What a pixel of a window with so many pixels in the image adds to its mean.
    fn share<T: Real>(&self, pixels: usize) -> T {
        let counted = match self.kind {
            Kind::Average { border_counts: false } => pixels,
            _ => self.window.size[0] * self.window.size[1],
        };
        T::one() / T::from_f64(counted as f64)
    }
}

fn forward<T: Real>(op: &Pool, input: &Tensor) -> Result<Tensor> {
    let input = input.storage_and_layout();
    let input = host::<T>(&input)?;
    let image_size = op.image[0] * op.image[1] * op.channels;
    let [height, width] = op.output;
    let mut output = vec![T::zero(); op.lanes * op.batch * height * width * op.channels];
    let images = input.chunks_exact(image_size).zip(output.chunks_exact_mut(height * width * op.channels));
    for (image, output) in images {
        for ((window, pixels), output) in op.windows().zip(output.chunks_exact_mut(op.channels)) {
            match op.kind {
                Kind::Max => max(image, window, output),
                Kind::Average { .. } => {
                    for start in window {
                        let pixel = &image[start..start + op.channels];
                        output.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += value);
                    }
                    let share = op.share::<T>(pixels);
                    output.iter_mut().for_each(|value| *value *= share);
                }
            }
        }
    }
    tensor(output, &[op.lanes, op.batch, height, width, op.channels])
}

fn max<T: Real>(image: &[T], mut window: impl Iterator<Item = usize>, output: &mut [T]) {
    let channels = output.len();
    let first = window.next().expect("a window has at least one pixel");
    output.copy_from_slice(&image[first..first + channels]);
    for start in window {
        for (best, &value) in output.iter_mut().zip(&image[start..start + channels]) {
            if value > *best || value.is_nan() {
                *best = value;
            }
        }
    }
}

fn backward<T: Real>(op: &Pool, input: &Tensor, output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (input_guard, output_guard) = (input.storage_and_layout(), output.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (inputs, outputs, grads) = (host::<T>(&input_guard)?, host::<T>(&output_guard)?, host::<T>(&grad_guard)?);
    let image_size = op.image[0] * op.image[1] * op.channels;
    let output_size = op.output[0] * op.output[1] * op.channels;
    let mut grad_input = vec![T::zero(); inputs.len()];
    let mut left = vec![T::zero(); op.channels];
    for (index, grad_image) in grad_input.chunks_exact_mut(image_size).enumerate() {
        let image = &inputs[index * image_size..(index + 1) * image_size];
        let output = &outputs[index * output_size..(index + 1) * output_size];
        let grads = &grads[index * output_size..(index + 1) * output_size];
        let pixels = output.chunks_exact(op.channels).zip(grads.chunks_exact(op.channels));
        for ((window, inside), (output, grad)) in op.windows().zip(pixels) {
            match op.kind {
                Kind::Max => {
                    // All channels of a window at once: what the first place with the maximum takes, later ones don't.
                    left.copy_from_slice(grad);
                    for start in window {
                        let place = start..start + op.channels;
                        let values = image[place.clone()].iter().zip(output).zip(&mut left);
                        for (sum, ((&value, &best), left)) in grad_image[place].iter_mut().zip(values) {
                            let taken = if value == best || value.is_nan() { *left } else { T::zero() };
                            *sum += taken;
                            *left = if value == best || value.is_nan() { T::zero() } else { *left };
                        }
                    }
                }
                Kind::Average { .. } => {
                    let share = op.share::<T>(inside);
                    for start in window {
                        let pixel = &mut grad_image[start..start + op.channels];
                        pixel.iter_mut().zip(grad).for_each(|(sum, &value)| *sum += value * share);
                    }
                }
            }
        }
    }
    tensor(grad_input, input.dims())
}
