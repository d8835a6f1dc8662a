//! The windows of a convolution as rows of a matrix that is never made.
//!
//! ```text
//!  image, padded with zeros                window of an output pixel = a row
//!   0 0 0 0 0 0                              its value for tap t is the one at
//!   0 ┌─────┐ 0      windows[pixel] ─► ●
//!   0 │     │ 0      taps[t]        ─► ●─►     windows[pixel] + taps[t]
//!   0 └─────┘ 0                              t counts kernel rows, columns, channels
//!   0 0 0 0 0 0
//! ```
//!
//! Multiplied by the weights, these rows are the output; their transpose times the gradient of the output is that of the
//! weights. The gradient of the input is such a product too, over the gradient of the output, padded: an input pixel has
//! been seen by the windows around it, through the kernel turned round. With a stride, which of the kernel's taps those are
//! depends on where the pixel lies between strides; pixels that have them in common are a [`Phase`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

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
    pub(super) outputs: usize,
}

/// An image of pixels with `channels` values each, inside a border of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Padded {
    image: [usize; 2],
    before: [usize; 2],
    after: [usize; 2],
    channels: usize,
}

impl Padded {
    fn side(&self, axis: usize) -> usize {
        self.before[axis] + self.image[axis] + self.after[axis]
    }

    /// Values with the border.
    pub(super) fn size(&self) -> usize {
        self.side(0) * self.side(1) * self.channels
    }

    /// Values of a line without the border.
    pub(super) fn line(&self) -> usize {
        self.image[1] * self.channels
    }

    /// Whether there is no border: the image itself will do.
    pub(super) fn is_bare(&self) -> bool {
        [self.before, self.after] == [[0; 2]; 2]
    }

    /// The lines of the images, without their borders, in order.
    pub(super) fn lines<'a, T>(&self, padded: &'a mut [T]) -> impl Iterator<Item = &'a mut [T]> {
        let (line, before) = (self.side(1) * self.channels, self.before);
        let (first, count) = (before[1] * self.channels, self.line());
        let height = self.image[0];
        padded
            .chunks_exact_mut(self.size())
            .flat_map(move |image| image.chunks_exact_mut(line).skip(before[0]).take(height))
            .map(move |line| &mut line[first..first + count])
    }

    /// Where the pixels of `images` images lie.
    fn pixel_places(&self, images: usize) -> Vec<u32> {
        let pixels = grid(self.image, |y, x| self.place(y + self.before[0], x + self.before[1]));
        repeat(images, self.size(), &pixels)
    }

    /// Where a pixel lies, counted with the border.
    fn place(&self, y: usize, x: usize) -> usize {
        (y * self.side(1) + x) * self.channels
    }
}

/// All places of a convolution, for some images one behind the other.
pub(super) struct Windows {
    /// Where the window of each output pixel begins, in the padded images.
    pub(super) corners: Vec<u32>,
    /// Where each value of a window lies, from its beginning.
    pub(super) taps: Vec<u32>,
    /// Where each output pixel lies in the padded gradient of the output.
    pub(super) outputs: Vec<u32>,
    /// How the gradient of the input is made.
    pub(super) phases: Vec<Phase>,
}

thread_local! {
    /// Those of the last convolutions: the layers of a task come again every step.
    static LAST: RefCell<VecDeque<(Geometry, usize, Rc<Windows>)>> = const { RefCell::new(VecDeque::new()) };
}

/// Convolutions remembered; more than any task has of different sizes.
const REMEMBERED: usize = 64;

impl Windows {
    /// Of this geometry, for `images` images.
    pub(super) fn of(geometry: &Geometry, images: usize) -> Rc<Self> {
        LAST.with_borrow_mut(|last| {
            if let Some((.., places)) = last.iter().find(|(known, count, _)| (known, *count) == (geometry, images)) {
                return Rc::clone(places);
            }
            let places = Rc::new(Self {
                corners: geometry.corners(images),
                taps: geometry.tap_places(),
                outputs: geometry.padded_output().pixel_places(images),
                phases: geometry.phases(images),
            });
            last.truncate(REMEMBERED - 1);
            last.push_front((*geometry, images, Rc::clone(&places)));
            places
        })
    }
}

/// Input pixels that the same taps of the kernel have seen.
pub(super) struct Phase {
    /// The pixels, in an image without border.
    pub(super) pixels: Vec<u32>,
    /// Where the windows begin that saw each of them, in the padded gradient of the output.
    pub(super) windows: Vec<u32>,
    /// Where, from there, the gradient of each tap and output lies.
    pub(super) taps: Vec<u32>,
    /// The taps' numbers in the kernel.
    kernel: Vec<u32>,
    /// Images it was made for.
    images: usize,
}

impl Phase {
    /// How many pixels of so many images, at most those it was made for, it has.
    pub(super) fn pixels_of(&self, images: usize) -> usize {
        self.pixels.len() / self.images * images
    }
}

impl Geometry {
    /// Values of one image.
    pub(super) fn image_size(&self) -> usize {
        self.image[0] * self.image[1] * self.channels
    }

    /// Output pixels of one image.
    pub(super) fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of the output of one image.
    pub(super) fn output_size(&self) -> usize {
        self.pixels() * self.outputs
    }

    /// Values one output pixel looks at.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// The image inside its border.
    pub(super) fn padded(&self) -> Padded {
        Padded { image: self.image, before: self.padding, after: self.padding, channels: self.channels }
    }

    /// Where the window of each output pixel begins in `images` padded images, one behind the other.
    fn corners(&self, images: usize) -> Vec<u32> {
        let padded = self.padded();
        let pixel = |y, x| padded.place(y * self.stride[0], x * self.stride[1]);
        repeat(images, padded.size(), &grid(self.output, pixel))
    }

    /// Where each value of a window lies, from its beginning.
    fn tap_places(&self) -> Vec<u32> {
        let padded = self.padded();
        let corners = grid(self.kernel, |y, x| padded.place(y * self.dilation[0], x * self.dilation[1]));
        with_channels(&corners, self.channels)
    }

    /// Strides that the last row or column of the kernel lies behind the first.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] / self.stride[axis]
    }

    /// The gradient of the output inside the border that [`Geometry::phases`] look at.
    pub(super) fn padded_output(&self) -> Padded {
        let before = [0, 1].map(|axis| self.reach(axis).saturating_sub(self.padding[axis] / self.stride[axis]));
        let after = [0, 1].map(|axis| {
            let last = (self.image[axis] + self.padding[axis]).saturating_sub(1) / self.stride[axis];
            last.saturating_sub(self.output[axis] - 1)
        });
        Padded { image: self.output, before, after, channels: self.outputs }
    }

    /// All phases, for `images` images one behind the other.
    fn phases(&self, images: usize) -> Vec<Phase> {
        let along = |axis: usize| 0..self.stride[axis];
        along(0).flat_map(|y| along(1).map(move |x| self.phase([y, x], images))).collect()
    }

    /// The pixels whose distance to the border's corner leaves this rest, divided by the stride. Along one axis, pixel
    /// `i` was seen by output `o` through tap `k` if `i + padding = o · stride + k · dilation`.
    fn phase(&self, rest: [usize; 2], images: usize) -> Phase {
        let padded = self.padded_output();
        let pixels_along = [0, 1].map(|axis| -> Vec<usize> {
            (0..self.image[axis]).filter(|i| (i + self.padding[axis]) % self.stride[axis] == rest[axis]).collect()
        });
        let taps_along = [0, 1].map(|axis| -> Vec<usize> {
            (0..self.kernel[axis]).filter(|k| k * self.dilation[axis] % self.stride[axis] == rest[axis]).collect()
        });
        let sizes = |along: &[Vec<usize>; 2]| [along[0].len(), along[1].len()];
        let output = |axis: usize, i: usize| {
            (pixels_along[axis][i] + self.padding[axis]) / self.stride[axis] + padded.before[axis] - self.reach(axis)
        };
        let back =
            |axis: usize, k: usize| self.reach(axis) - taps_along[axis][k] * self.dilation[axis] / self.stride[axis];
        let pixel = |y: usize, x: usize| (pixels_along[0][y] * self.image[1] + pixels_along[1][x]) * self.channels;
        let windows = grid(sizes(&pixels_along), |y, x| padded.place(output(0, y), output(1, x)));
        let corners = grid(sizes(&taps_along), |y, x| padded.place(back(0, y), back(1, x)));
        let kernel = grid(sizes(&taps_along), |y, x| taps_along[0][y] * self.kernel[1] + taps_along[1][x]);
        Phase {
            pixels: repeat(images, self.image_size(), &grid(sizes(&pixels_along), pixel)),
            windows: repeat(images, padded.size(), &windows),
            taps: with_channels(&corners, self.outputs),
            kernel,
            images,
        }
    }

    /// A lane's weights `[kernel_h, kernel_w, in, out]` as the rows that a phase multiplies: `[its taps, out, in]`.
    pub(super) fn turn<T: Copy>(&self, phase: &Phase, weights: &[T]) -> Vec<T> {
        let mut turned = Vec::with_capacity(phase.taps.len() * self.channels);
        for &tap in &phase.kernel {
            let of_tap = &weights[tap as usize * self.channels * self.outputs..][..self.channels * self.outputs];
            for output in 0..self.outputs {
                turned.extend((0..self.channels).map(|channel| of_tap[channel * self.outputs + output]));
            }
        }
        turned
    }
}

/// `place` of every cell, row by row.
fn grid([height, width]: [usize; 2], place: impl Fn(usize, usize) -> usize) -> Vec<u32> {
    (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| narrow(place(y, x))).collect()
}

/// The places of `count` images of `size` values, given those of the first.
fn repeat(count: usize, size: usize, places: &[u32]) -> Vec<u32> {
    (0..count).flat_map(|image| places.iter().map(move |place| narrow(image * size) + place)).collect()
}

/// The places of all values of pixels, given those of their first ones.
fn with_channels(places: &[u32], channels: usize) -> Vec<u32> {
    places.iter().flat_map(|place| (0..channels).map(move |channel| place + narrow(channel))).collect()
}

/// Few images are looked at at a time: a place beyond 2³² would need one of 16 GiB.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("an image has fewer than 2³² values")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: Geometry = Geometry {
        image: [2, 3],
        channels: 1,
        kernel: [2, 2],
        stride: [1, 2],
        padding: [1, 1],
        dilation: [1, 1],
        output: [3, 2],
        outputs: 1,
    };

    #[test]
    fn windows_that_leave_the_image_see_zeros() {
        let mut padded = vec![0.0; ODD.padded().size()];
        let image = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        ODD.padded().lines(&mut padded).zip(image.chunks(3)).for_each(|(to, from)| to.copy_from_slice(from));
        let seen: Vec<f32> = ODD
            .corners(1)
            .iter()
            .flat_map(|window| ODD.tap_places().into_iter().map(move |tap| window + tap))
            .map(|place| padded[place as usize])
            .collect();
        #[rustfmt::skip]
        let expected = [
            0.0, 0.0, 0.0, 1.0,   0.0, 0.0, 2.0, 3.0,
            0.0, 1.0, 0.0, 4.0,   2.0, 3.0, 5.0, 6.0,
            0.0, 4.0, 0.0, 0.0,   5.0, 6.0, 0.0, 0.0,
        ];
        assert_eq!(seen, expected);
    }

    /// For many geometries: the pairs of an input pixel and an output that phases list, each with its tap, are those that
    /// the definition of a convolution has.
    #[test]
    fn phases_list_who_saw_each_pixel() {
        let mut checked = 0;
        for code in 0..3_usize.pow(6) {
            let digit = |place: u32| code / 3_usize.pow(place) % 3;
            let (kernel, stride, padding, dilation) =
                ([1 + digit(0), 2], [1 + digit(1), 2], [digit(2), 1], [1 + digit(3), 1]);
            let image = [4 + digit(4), 3 + digit(5)];
            let settings =
                super::super::Conv2d { stride, padding, dilation, activation: super::super::Activation::Identity };
            let Some(output) = settings.output(image, kernel) else { continue };
            let geometry = Geometry { image, channels: 2, kernel, stride, padding, dilation, output, outputs: 3 };
            assert_eq!(listed(&geometry), defined(&geometry), "{geometry:?}");
            checked += 1;
        }
        assert!(checked > 500, "{checked}");
    }

    /// `(pixel of the second image, output pixel, tap)`, in order.
    fn listed(geometry: &Geometry) -> Vec<(usize, usize, usize)> {
        let border = geometry.padded_output();
        // Each output pixel holds its number, from 1.
        let numbers: Vec<f32> =
            (0..2 * geometry.output_size()).map(|place| (place / geometry.outputs + 1) as f32).collect();
        let mut padded = vec![0.0; 2 * border.size()];
        for (&place, number) in border.pixel_places(2).iter().zip(numbers.chunks(geometry.outputs)) {
            padded[place as usize..][..geometry.outputs].copy_from_slice(number);
        }
        let mut seen = vec![];
        for phase in geometry.phases(2) {
            let half = phase.pixels_of(1);
            for (pixel, window) in phase.pixels[half..].iter().zip(&phase.windows[half..]) {
                for (taps, &tap) in phase.taps.chunks(geometry.outputs).zip(&phase.kernel) {
                    let number = padded[(window + taps[0]) as usize] as usize;
                    if number > 0 {
                        seen.push((*pixel as usize / geometry.channels, number - 1, tap as usize));
                    }
                }
            }
        }
        seen.sort_unstable();
        seen
    }

    fn defined(geometry: &Geometry) -> Vec<(usize, usize, usize)> {
        let Geometry { image, kernel, stride, padding, dilation, output, .. } = *geometry;
        let mut seen = vec![];
        for (place, tap) in (0..geometry.pixels()).flat_map(|o| (0..kernel[0] * kernel[1]).map(move |k| (o, k))) {
            let along = |axis: usize, o: usize, k: usize| {
                (o * stride[axis] + k * dilation[axis]).checked_sub(padding[axis]).filter(|&i| i < image[axis])
            };
            let (y, x) = (along(0, place / output[1], tap / kernel[1]), along(1, place % output[1], tap % kernel[1]));
            if let (Some(y), Some(x)) = (y, x) {
                seen.push((image[0] * image[1] + y * image[1] + x, geometry.pixels() + place, tap));
            }
        }
        seen.sort_unstable();
        seen
    }
}
