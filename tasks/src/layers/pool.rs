//! Max and average pooling, channels last. Windows lie wholly inside the image, or inside the image and a border of
//! zeros around it: rows and columns that no window reaches are left out (and get no gradient), windows may overlap.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use paceline_optimizer_core::simd::{Kernel, Simd, dispatch};

use super::real::Real;
use super::slices::{block, block_mut};
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
/// If no window fits, an image has more than 2³² pixels, or the tensor is not contiguous f32 or f64.
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
    if u32::try_from(height.saturating_mul(width)).is_err() {
        bail!("pooling: images {:?} have more than 2^32 pixels", input.shape());
    }
    let op = Pool { kind, window, border, lanes, batch, image, channels, output: [rows, columns] };
    let dtype = input.dtype();
    let (output, winners) = by_type!("pooling", dtype, forward::<_>(&op, input))?;
    // A tensor, so that the count of memory sees it.
    let count = winners.len();
    let winners = Tensor::from_vec(winners, count, input.device())?;
    let kept = winners.clone();
    Ok(tape.record_keeping("pooling", &[input], output, &[&winners], move |grad, _| {
        by_type!("pooling", dtype, backward::<_>(&op, &kept, grad)).map(|gradient| vec![Some(gradient)])
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
    /// The part of a window inside the image, along one axis.
    #[inline(always)]
    fn inside(&self, axis: usize, place: usize) -> Range<usize> {
        let start = place * self.window.stride[axis];
        let end = (start + self.window.size[axis]).saturating_sub(self.border[axis]).min(self.image[axis]);
        start.saturating_sub(self.border[axis])..end
    }

    /// What a pixel of a window with so many pixels in the image adds to its mean.
    #[inline(always)]
    fn share<T: Real>(&self, pixels: usize) -> T {
        let counted = match self.kind {
            Kind::Average { border_counts: false } => pixels,
            _ => self.window.size[0] * self.window.size[1],
        };
        T::one() / T::from_f64(counted as f64)
    }

    fn images(&self) -> usize {
        self.lanes * self.batch
    }

    fn shape(&self, [height, width]: [usize; 2]) -> [usize; 5] {
        [self.lanes, self.batch, height, width, self.channels]
    }
}

/// The output and, of maxima, which pixel of its image each one is.
fn forward<T: Real>(op: &Pool, input: &Tensor) -> Result<(Tensor, Vec<u32>)> {
    let guard = input.storage_and_layout();
    let shape = op.shape(op.output);
    let start = if matches!(op.kind, Kind::Max) { T::from_f64(f64::NEG_INFINITY) } else { T::zero() };
    let mut output = vec![start; shape.iter().product()];
    let mut winners = vec![0; if matches!(op.kind, Kind::Max) { output.len() } else { 0 }];
    dispatch(Forward { op, images: host::<T>(&guard)?, output: &mut output, winners: &mut winners });
    Ok((tensor(output, &shape)?, winners))
}

/// Adds each pixel to its window's sum, or keeps it where it is the largest so far. These are plain loops over the
/// channels of a pixel, for f32 and f64; a kernel has them compiled for each instruction set.
struct Forward<'a, T> {
    op: &'a Pool,
    images: &'a [T],
    output: &'a mut [T],
    winners: &'a mut [u32],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { op, images, output, winners } = self;
        let ([height, width], [out_height, out_width], channels) = (op.image, op.output, op.channels);
        for index in 0..op.images() {
            let image = block(images, index, height * width * channels);
            for out_y in 0..out_height {
                for out_x in 0..out_width {
                    let place = (index * out_height + out_y) * out_width + out_x;
                    let output = block_mut(output, place, channels);
                    let (rows, columns) = (op.inside(0, out_y), op.inside(1, out_x));
                    match op.kind {
                        Kind::Max => {
                            let winners = block_mut(winners, place, channels);
                            winners.fill((rows.start * width + columns.start) as u32);
                            for y in rows {
                                for pixel in y * width + columns.start..y * width + columns.end {
                                    keep_larger(output, winners, block(image, pixel, channels), pixel as u32);
                                }
                            }
                        }
                        Kind::Average { .. } => {
                            let share = op.share::<T>(rows.len() * columns.len());
                            for y in rows {
                                for pixel in y * width + columns.start..y * width + columns.end {
                                    add(output, block(image, pixel, channels));
                                }
                            }
                            scale(output, share);
                        }
                    }
                }
            }
        }
    }
}

/// Keeps a pixel's values, and where they are, if they are larger than the best so far. The first NaN is the largest.
#[inline(always)]
fn keep_larger<T: Real>(best: &mut [T], winners: &mut [u32], values: &[T], pixel: u32) {
    for ((best, winner), &value) in best.iter_mut().zip(winners).zip(values) {
        // `|` and `&`, not `||` and `&&`: branches would keep the compiler from making vectors.
        let wins = (value > *best) | (value.is_nan() & !best.is_nan());
        *best = if wins { value } else { *best };
        *winner = if wins { pixel } else { *winner };
    }
}

#[inline(always)]
fn add<T: Real>(sum: &mut [T], values: &[T]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

#[inline(always)]
fn scale<T: Real>(values: &mut [T], factor: T) {
    for value in values {
        *value *= factor;
    }
}

fn backward<T: Real>(op: &Pool, winners: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (winners, grads) = (winners.storage_and_layout(), grad.storage_and_layout());
    let shape = op.shape(op.image);
    let mut grad_images = vec![T::zero(); shape.iter().product()];
    dispatch(Backward { op, winners: host(&winners)?, grads: host::<T>(&grads)?, grad_images: &mut grad_images });
    tensor(grad_images, &shape)
}

/// Adds an output's gradient to the pixels of its window: its share to each, or all of it to the winner. The loops are
/// as those of [`Forward`].
struct Backward<'a, T> {
    op: &'a Pool,
    winners: &'a [u32],
    grads: &'a [T],
    grad_images: &'a mut [T],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { op, winners, grads, grad_images } = self;
        let ([height, width], [out_height, out_width], channels) = (op.image, op.output, op.channels);
        for index in 0..op.images() {
            let image = block_mut(grad_images, index, height * width * channels);
            for out_y in 0..out_height {
                for out_x in 0..out_width {
                    let place = (index * out_height + out_y) * out_width + out_x;
                    let grad = block(grads, place, channels);
                    let (rows, columns) = (op.inside(0, out_y), op.inside(1, out_x));
                    match op.kind {
                        Kind::Max => {
                            let winners = block(winners, place, channels);
                            for y in rows {
                                for pixel in y * width + columns.start..y * width + columns.end {
                                    add_to_winners(block_mut(image, pixel, channels), grad, winners, pixel as u32);
                                }
                            }
                        }
                        Kind::Average { .. } => {
                            let share = op.share::<T>(rows.len() * columns.len());
                            for y in rows {
                                for pixel in y * width + columns.start..y * width + columns.end {
                                    add_scaled(block_mut(image, pixel, channels), grad, share);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds `grad` in the channels that this pixel won.
#[inline(always)]
fn add_to_winners<T: Real>(sum: &mut [T], grad: &[T], winners: &[u32], pixel: u32) {
    for ((sum, &grad), &winner) in sum.iter_mut().zip(grad).zip(winners) {
        *sum += if winner == pixel { grad } else { T::zero() };
    }
}

#[inline(always)]
fn add_scaled<T: Real>(sum: &mut [T], grad: &[T], factor: T) {
    for (sum, &grad) in sum.iter_mut().zip(grad) {
        *sum += grad * factor;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Output and gradient of 3 × 2 windows two rows and one column apart, by a search for each window and channel.
    fn searched(image: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut output, mut gradient) = (vec![], vec![0.0; image.len()]);
        for (out_y, out_x, channel) in
            (0..2).flat_map(|y| (0..4).flat_map(move |x| (0..channels).map(move |channel| (y, x, channel))))
        {
            let places = (0..3).flat_map(|y| (0..2).map(move |x| (2 * out_y + y) * 5 + out_x + x));
            let places: Vec<usize> = places.map(|pixel| pixel * channels + channel).collect();
            let mut best = places[0];
            for &place in &places {
                if image[place] > image[best] || image[place].is_nan() && !image[best].is_nan() {
                    best = place;
                }
            }
            gradient[best] += (output.len() + 1) as f32;
            output.push(image[best]);
        }
        (output, gradient)
    }

    #[test]
    fn the_first_largest_of_each_window_gets_its_gradient() {
        for channels in [1, 10, 16, 33] {
            // Many ties, some windows of −∞ only, some NaN.
            let value = |i: usize| match i * 37 % 11 {
                0 => f32::NAN,
                value @ 1..4 => value as f32,
                _ => f32::NEG_INFINITY,
            };
            let values: Vec<f32> = (0..5 * 5 * channels).map(value).collect();
            let (expected, expected_gradient) = searched(&values, channels);
            let images = Tensor::from_vec(values, (1, 1, 5, 5, channels), &Device::Cpu).unwrap();
            let mut tape = Tape::default();
            tape.variable(&images);
            let output = max_pool2d(&mut tape, &images, Window { size: [3, 2], stride: [2, 1] }).unwrap();
            let weights: Vec<f32> = (0..expected.len()).map(|i| (i + 1) as f32).collect();
            let weights = Tensor::from_vec(weights, output.dims(), &Device::Cpu).unwrap();
            let weighted = super::super::multiply(&mut tape, &output, &weights).unwrap();
            let gradient = tape.backward(&weighted).unwrap().take(&images).unwrap();
            let bits = |tensor: &Tensor| -> Vec<u32> {
                let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                values.into_iter().map(f32::to_bits).collect()
            };
            let bits_of = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
            assert_eq!(bits(&output), bits_of(expected), "{channels} channels");
            assert_eq!(bits(&gradient), bits_of(expected_gradient), "{channels} channels");
        }
    }
}
