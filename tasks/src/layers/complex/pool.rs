//! Pooling of complex images: by the largest modulus, and by the mean.
//!
//! ```text
//!   window   │3j  1+j│   |z|²  │9  2│        the number itself goes on, with its phase; so does its gradient,
//!            │ 0  -3 │ ─────►  │0  9│ ─► 3j  to the same place, the first of equals in row-major order
//! ```

use candle_core::{Result, Tensor, bail};
use paceline_optimizer_core::simd::{Kernel, Simd, dispatch};

use super::ComplexTensor;
use super::pair::number;
use crate::layers::real::Real;
use crate::layers::slices::{block, block_mut};
use crate::layers::{Border, Tape, Window, avg_pool2d_bordered, by_type, host, tensor};

/// Mean of each window: `[lanes, batch, height, width, channels]` to `[lanes, batch, out_h, out_w, channels]`. The mean
/// of complex numbers is that of their parts.
///
/// # Errors
/// As [`avg_pool2d_bordered`].
pub fn average_pool2d(tape: &mut Tape, input: &ComplexTensor, window: Window, border: Border) -> Result<ComplexTensor> {
    avg_pool2d_bordered(tape, input.stacked(), window, border).and_then(ComplexTensor::from_stacked)
}

/// The number of largest modulus in each window, shapes as [`average_pool2d`]. Windows lie wholly inside the image:
/// rows and columns that no window reaches are left out.
///
/// Of equal ones the first of the window, in row-major order, goes on and gets the whole gradient, summed where windows
/// overlap. A NaN in a window is its largest.
///
/// # Errors
/// If no window fits, or the tensor is not contiguous f32 or f64.
pub fn max_pool2d(tape: &mut Tape, input: &ComplexTensor, window: Window) -> Result<ComplexTensor> {
    let op = Pool::of(input, window)?;
    let dtype = input.dtype();
    let (output, winners) = by_type!("complex max pool", dtype, forward::<_>(op, input))?;
    // A tensor, so that the count of memory sees it.
    let winners = Tensor::from_vec(winners, output.elem_count() / 2, input.stacked().device())?;
    let (dims, kept) = (input.stacked().dims().to_vec(), winners.clone());
    let output = tape.record_keeping("complex max pool", &[input.stacked()], output, &[&winners], move |grad, _| {
        by_type!("complex max pool", dtype, backward::<_>(op, &kept, grad, &dims)).map(|gradient| vec![Some(gradient)])
    });
    ComplexTensor::from_stacked(output)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    window: Window,
    lanes: usize,
    batch: usize,
    image: [usize; 2],
    channels: usize,
    output: [usize; 2],
}

impl Pool {
    pub(super) fn of(input: &ComplexTensor, window: Window) -> Result<Self> {
        let (lanes, batch, height, width, _) = input.stacked().dims5()?;
        let image = [height, width];
        let along = |axis: usize| {
            let room = image[axis].checked_sub(window.size[axis])?;
            (window.size[axis] > 0 && window.stride[axis] > 0).then(|| room / window.stride[axis] + 1)
        };
        let (Some(rows), Some(columns)) = (along(0), along(1)) else {
            bail!("complex max pool: no {window:?} in images {:?}", input.stacked().shape());
        };
        if u32::try_from(height.saturating_mul(width)).is_err() {
            bail!("complex max pool: images {:?} have more than 2^32 pixels", input.stacked().shape());
        }
        Ok(Self { window, lanes, batch, image, channels: input.channels(), output: [rows, columns] })
    }

    /// Values of an image and of an output image, stacked parts.
    fn sizes(&self) -> [usize; 2] {
        [self.image, self.output].map(|[height, width]| height * width * 2 * self.channels)
    }
}

/// The winners' numbers, and which pixel of its image each is: `[lanes, batch, out_h, out_w, channels]`, row by row.
pub(super) fn forward<T: Real>(op: Pool, input: &ComplexTensor) -> Result<(Tensor, Vec<u32>)> {
    let guard = input.stacked().storage_and_layout();
    let [rows, columns] = op.output;
    let dims = [op.lanes, op.batch, rows, columns, 2 * op.channels];
    let mut output = vec![T::zero(); dims.iter().product()];
    let mut winners = vec![0; output.len() / 2];
    let mut largest = vec![0.0; op.channels];
    let (images, largest) = (host::<T>(&guard)?, &mut largest[..]);
    dispatch(Forward { op, images, output: &mut output, winners: &mut winners, largest });
    Ok((tensor(output, &dims)?, winners))
}

/// Plain loops over the channels of a pixel, compiled for each instruction set.
struct Forward<'a, T> {
    op: Pool,
    images: &'a [T],
    output: &'a mut [T],
    winners: &'a mut [u32],
    largest: &'a mut [f64],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { op, images, output, winners, largest } = self;
        let (Window { size, stride }, [_, width], [rows, columns]) = (op.window, op.image, op.output);
        let (channels, [image_size, _]) = (op.channels, op.sizes());
        for index in 0..op.lanes * op.batch {
            let image = block(images, index, image_size);
            for out_y in 0..rows {
                for out_x in 0..columns {
                    let place = (index * rows + out_y) * columns + out_x;
                    let (out_re, out_im) = block_mut(output, place, 2 * channels).split_at_mut(channels);
                    let winners = block_mut(winners, place, channels);
                    largest.fill(f64::NEG_INFINITY);
                    let corner = out_y * stride[0] * width + out_x * stride[1];
                    for y in 0..size[0] {
                        for pixel in corner + y * width..corner + y * width + size[1] {
                            let (re, im) = block(image, pixel, 2 * channels).split_at(channels);
                            keep_larger(largest, winners, out_re, out_im, re, im, pixel as u32);
                        }
                    }
                }
            }
        }
    }
}

/// Keeps a pixel's numbers, and where they are, if they are larger than the largest so far.
#[inline(always)]
fn keep_larger<T: Real>(
    largest: &mut [f64],
    winners: &mut [u32],
    out_re: &mut [T],
    out_im: &mut [T],
    re: &[T],
    im: &[T],
    pixel: u32,
) {
    let kept = largest.iter_mut().zip(winners).zip(out_re.iter_mut().zip(out_im));
    for (((largest, winner), (out_re, out_im)), (&re, &im)) in kept.zip(re.iter().zip(im)) {
        // Squares of f32 are exact in f64 and do not overflow: ties are ties, and no infinity wins by chance.
        let square = number(re, im).norm_sqr();
        // `|` and `&`, not `||` and `&&`: branches would keep the compiler from making vectors.
        let wins = (square > *largest) | (square.is_nan() & !largest.is_nan());
        *largest = if wins { square } else { *largest };
        *winner = if wins { pixel } else { *winner };
        (*out_re, *out_im) = if wins { (re, im) } else { (*out_re, *out_im) };
    }
}

fn backward<T: Real>(op: Pool, winners: &Tensor, grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let (guard, winners) = (grad.storage_and_layout(), winners.storage_and_layout());
    let (grads, winners) = (host::<T>(&guard)?, host::<u32>(&winners)?);
    let (channels, [image, output_size]) = (op.channels, op.sizes());
    let mut output = vec![T::zero(); op.lanes * op.batch * image];
    let of_images = grads.chunks_exact(output_size.max(1)).zip(winners.chunks_exact((output_size / 2).max(1)));
    for (image, (grads, winners)) in output.chunks_exact_mut(image.max(1)).zip(of_images) {
        let pixels = grads.chunks_exact(2 * channels).zip(winners.chunks_exact(channels));
        for (grad, winners) in pixels {
            for (channel, &pixel) in winners.iter().enumerate() {
                let start = pixel as usize * 2 * channels + channel;
                image[start] += grad[channel];
                image[start + channels] += grad[channels + channel];
            }
        }
    }
    tensor(output, dims)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use num_complex::Complex64;

    use super::*;

    const WHOLE: Window = Window { size: [2, 2], stride: [2, 2] };

    fn pooled(numbers: [(f64, f64); 4]) -> Complex64 {
        let numbers = numbers.map(|(re, im)| Complex64::new(re, im));
        let image = ComplexTensor::from_numbers(&numbers, &[1, 1, 2, 2, 1], DType::F32).unwrap();
        max_pool2d(&mut Tape::default(), &image, WHOLE).unwrap().to_numbers().unwrap()[0]
    }

    #[test]
    fn the_first_of_equals_wins_and_nan_is_never_hidden() {
        assert_eq!(pooled([(1.0, 1.0), (0.0, 3.0), (-3.0, 0.0), (3.0, 0.0)]), Complex64::new(0.0, 3.0));
        assert_eq!(pooled([(0.0, 0.0); 4]), Complex64::ZERO);
        assert!(pooled([(1.0, 1.0), (0.0, f64::NAN), (-3.0, 0.0), (9.0, 0.0)]).is_nan());
        let large = Complex64::new(f64::from(2e30_f32), f64::from(1e30_f32));
        assert_eq!(pooled([(1e30, 1e30), (large.re, large.im), (0.0, 0.0), (1.5e30, 0.0)]), large);
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let image = ComplexTensor::from_numbers(&[Complex64::ZERO; 4], &[1, 1, 2, 2, 1], DType::F32).unwrap();
        for (size, stride) in [([3, 1], [1, 1]), ([0, 1], [1, 1]), ([1, 1], [1, 0])] {
            let result = max_pool2d(&mut Tape::default(), &image, Window { size, stride });
            assert!(result.unwrap_err().to_string().contains("complex max pool"), "{size:?} {stride:?}");
        }
    }
}
