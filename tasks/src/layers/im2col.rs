//! Unfolding images into the rows of a matrix, and its adjoint.
//!
//! ```text
//!  image [height, width, channels]          patches [out_height · out_width, kernel_h · kernel_w · channels]
//!   · · · · ·                                row of output pixel (y, x): the window it looks at,
//!   · ┌───┐ ·                                kernel row after kernel row, zeros where the window
//!   · │   │ ·         ─── unfold ───►        leaves the image
//!   · └───┘ ·         ◄── fold_add ──
//!   · · · · ·
//! ```
//!
//! With channels last, a kernel row inside the image is one contiguous run of `kernel_w · channels` values in both.

use super::real::Real;

/// Sizes of a convolution over one image. Arrays are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) image: [usize; 2],
    pub(super) channels: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) output: [usize; 2],
}

impl Geometry {
    /// Values of one image.
    pub(super) fn image_size(&self) -> usize {
        self.image[0] * self.image[1] * self.channels
    }

    /// Output pixels of one image: rows of its patch matrix.
    pub(super) fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values one output pixel looks at: columns of the patch matrix.
    pub(super) fn patch(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Calls `run` for every kernel row of every output pixel with where it starts in the patches, and, if it meets the
    /// image, where it starts there, how many of its leading values lie outside, and how many inside.
    #[inline(always)]
    fn for_each_run(&self, mut run: impl FnMut(usize, Option<Run>)) {
        let [height, width] = self.image;
        let row_length = self.kernel[1] * self.channels;
        let mut patch_start = 0;
        for out_y in 0..self.output[0] {
            for out_x in 0..self.output[1] {
                let left = out_x * self.stride[1];
                // Kernel columns that lie left of, and up to the right edge of, the image.
                let first = self.padding[1].saturating_sub(left).min(self.kernel[1]);
                let end = (width + self.padding[1]).saturating_sub(left).min(self.kernel[1]);
                for kernel_y in 0..self.kernel[0] {
                    let y = out_y * self.stride[0] + kernel_y;
                    let inside = y >= self.padding[0] && y - self.padding[0] < height && first < end;
                    run(
                        patch_start,
                        inside.then(|| Run {
                            image_start: ((y - self.padding[0]) * width + left + first - self.padding[1])
                                * self.channels,
                            skipped: first * self.channels,
                            length: (end - first) * self.channels,
                        }),
                    );
                    patch_start += row_length;
                }
            }
        }
    }

    /// Writes the patches of one image.
    pub(super) fn unfold<T: Real>(&self, image: &[T], patches: &mut [T]) {
        let row_length = self.kernel[1] * self.channels;
        self.for_each_run(|patch_start, run| {
            let row = &mut patches[patch_start..patch_start + row_length];
            match run {
                Some(run) if run.length == row_length => {
                    // Short rows by a plain loop: a call to memcpy costs more than they do.
                    let image = &image[run.image_start..run.image_start + row_length];
                    if row_length <= 8 {
                        row.iter_mut().zip(image).for_each(|(to, &from)| *to = from);
                    } else {
                        row.copy_from_slice(image);
                    }
                }
                Some(run) => {
                    row.fill(T::zero());
                    row[run.skipped..run.skipped + run.length]
                        .copy_from_slice(&image[run.image_start..run.image_start + run.length]);
                }
                None => row.fill(T::zero()),
            }
        });
    }

    /// Adds patches to the image they were taken from: the adjoint of [`Self::unfold`].
    pub(super) fn fold_add<T: Real>(&self, patches: &[T], image: &mut [T]) {
        self.for_each_run(|patch_start, run| {
            if let Some(run) = run {
                let from = &patches[patch_start + run.skipped..][..run.length];
                let to = &mut image[run.image_start..][..run.length];
                to.iter_mut().zip(from).for_each(|(sum, &value)| *sum += value);
            }
        });
    }
}

/// The part of a kernel row that lies inside the image, in values.
struct Run {
    image_start: usize,
    skipped: usize,
    length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_leave_the_image_are_padded_with_zeros() {
        let geometry =
            Geometry { image: [2, 3], channels: 1, kernel: [2, 2], stride: [1, 2], padding: [1, 1], output: [3, 2] };
        let image = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut patches = vec![f32::NAN; geometry.pixels() * geometry.patch()];
        geometry.unfold(&image, &mut patches);
        #[rustfmt::skip]
        let expected = [
            0.0, 0.0, 0.0, 1.0,   0.0, 0.0, 2.0, 3.0,
            0.0, 1.0, 0.0, 4.0,   2.0, 3.0, 5.0, 6.0,
            0.0, 4.0, 0.0, 0.0,   5.0, 6.0, 0.0, 0.0,
        ];
        assert_eq!(patches, expected);

        let mut counts = [0.0_f32; 6];
        geometry.fold_add(&vec![1.0; patches.len()], &mut counts);
        assert_eq!(counts, [2.0; 6], "each pixel is seen by two windows vertically and one horizontally");
    }
}
