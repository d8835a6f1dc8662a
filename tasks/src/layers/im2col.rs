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
//! With channels last, a kernel row inside the image is one contiguous run of `kernel_w · channels` values in both. Where
//! dilation pulls its pixels apart, each pixel is a run of its own.

use super::real::Real;

/// Sizes of a convolution over one image. Arrays are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) image: [usize; 2],
    pub(super) channels: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
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

    /// Kernel columns of one run.
    fn run_columns(&self) -> usize {
        if self.dilation[1] == 1 { self.kernel[1] } else { 1 }
    }

    /// Calls `run` for every run of every output pixel with where it starts in the patches, and, if it meets the image,
    /// where it starts there, how many of its leading values lie outside, and how many inside.
    #[inline(always)]
    fn for_each_run(&self, mut run: impl FnMut(usize, Option<Run>)) {
        let columns = self.run_columns();
        let mut patch_start = 0;
        for out_y in 0..self.output[0] {
            for out_x in 0..self.output[1] {
                let corner = [out_y * self.stride[0], out_x * self.stride[1]];
                // A kernel row is one run as a rule: what it can see is worked out once for all rows.
                let of_row = self.visible(corner[1], columns);
                for kernel_y in 0..self.kernel[0] {
                    let y = corner[0] + kernel_y * self.dilation[0];
                    let line = y.checked_sub(self.padding[0]).filter(|&y| y < self.image[0]);
                    for column in (0..self.kernel[1]).step_by(columns) {
                        let visible = if column == 0 {
                            of_row
                        } else {
                            self.visible(corner[1] + column * self.dilation[1], columns)
                        };
                        let inside = line.zip(visible).map(|(line, (skipped, x, length))| Run {
                            image_start: (line * self.image[1] + x) * self.channels,
                            skipped: skipped * self.channels,
                            length: length * self.channels,
                        });
                        run(patch_start, inside);
                        patch_start += columns * self.channels;
                    }
                }
            }
        }
    }

    /// Of `columns` pixels from `left` on, in the padded image: how many lie left of the image, at which of its columns
    /// the others start, and how many those are; `None` if none is.
    #[inline(always)]
    fn visible(&self, left: usize, columns: usize) -> Option<(usize, usize, usize)> {
        let padding = self.padding[1];
        let first = padding.saturating_sub(left).min(columns);
        let end = (self.image[1] + padding).saturating_sub(left).min(columns);
        (first < end).then(|| (first, left + first - padding, end - first))
    }

    /// Writes the patches of one image.
    pub(super) fn unfold<T: Real>(&self, image: &[T], patches: &mut [T]) {
        let row_length = self.run_columns() * self.channels;
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

/// The part of a run that lies inside the image, in values.
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
        let geometry = Geometry {
            image: [2, 3],
            channels: 1,
            kernel: [2, 2],
            stride: [1, 2],
            padding: [1, 1],
            dilation: [1, 1],
            output: [3, 2],
        };
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
