//! Bytes to brightness: area-average resizing, optional greyscale, `[0, 1]`.

use super::{Examples, Pixels};

/// ITU-R BT.601 luma, the usual greyscale of CIFAR-10.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Shrinks every image to `size × size` by averaging the area each new pixel covers. Callers check that `size` is at
/// least 1 and no larger than the image.
pub(super) fn resize(pixels: &Pixels, size: usize, greyscale: bool) -> Examples {
    let channels = if greyscale { 1 } else { pixels.channels };
    let rows = coverage(pixels.height, size);
    let columns = coverage(pixels.width, size);
    let mut images = Vec::with_capacity(pixels.labels.len() * size * size * channels);
    for image in pixels.values.chunks_exact(pixels.height * pixels.width * pixels.channels) {
        for row in &rows {
            for column in &columns {
                let sums = average(pixels, image, row, column);
                if greyscale && pixels.channels == 3 {
                    images.push(LUMA.iter().zip(&sums).map(|(weight, value)| weight * value).sum());
                } else {
                    images.extend_from_slice(&sums[..channels]);
                }
            }
        }
    }
    Examples { images, labels: pixels.labels.iter().map(|&label| u32::from(label)).collect() }
}

/// The old pixels a new one covers along one axis: the first, and the share of each.
struct Cover {
    first: usize,
    shares: Vec<f32>,
}

fn coverage(old: usize, new: usize) -> Vec<Cover> {
    // In units of 1/new old pixels everything is a whole number: new pixel i covers [i · old, (i + 1) · old).
    (0..new)
        .map(|i| {
            let (start, end) = (i * old, (i + 1) * old);
            let (first, last) = (start / new, (end - 1) / new);
            let overlap = |pixel: usize| end.min((pixel + 1) * new) - start.max(pixel * new);
            Cover { first, shares: (first..=last).map(|pixel| overlap(pixel) as f32 / old as f32).collect() }
        })
        .collect()
}

fn average(pixels: &Pixels, image: &[u8], row: &Cover, column: &Cover) -> [f32; 3] {
    let mut sums = [0.0; 3];
    for (y, row_share) in row.shares.iter().enumerate() {
        for (x, column_share) in column.shares.iter().enumerate() {
            let start = ((row.first + y) * pixels.width + column.first + x) * pixels.channels;
            let share = row_share * column_share / 255.0;
            for (sum, &value) in sums.iter_mut().zip(&image[start..start + pixels.channels]) {
                *sum += share * f32::from(value);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(side: usize, channels: usize, values: Vec<u8>) -> Pixels {
        Pixels { height: side, width: side, channels, values, labels: vec![7] }
    }

    #[test]
    fn a_new_pixel_is_the_mean_of_the_area_it_covers() {
        let square = pixels(4, 1, vec![0, 51, 0, 0, 102, 255, 0, 0, 0, 0, 255, 255, 0, 0, 255, 255]);
        let half = resize(&square, 2, false);
        let expected = [0.4, 0.0, 0.0, 1.0];
        assert!(half.images.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{half:?}");
        assert_eq!(half.labels, [7]);

        // 3 → 2: the middle row and column are shared half and half.
        let third = resize(&pixels(3, 1, vec![255, 0, 0, 0, 0, 0, 0, 0, 255]), 2, false);
        let corner = 1.0 / 2.25;
        let expected = [corner, 0.0, 0.0, corner];
        assert!(third.images.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{third:?}");
    }

    #[test]
    fn a_constant_image_stays_constant_at_any_size() {
        for size in 1..=7 {
            let image = resize(&pixels(7, 3, vec![255; 147]), size, size % 2 == 0);
            assert_eq!(image.images.len(), size * size * if size % 2 == 0 { 1 } else { 3 });
            assert!(image.images.iter().all(|value| (value - 1.0).abs() < 1e-5));
        }
    }

    #[test]
    fn greyscale_weighs_the_colours() {
        let grey = resize(&pixels(1, 3, vec![255, 0, 0]), 1, true);
        assert!((grey.images[0] - 0.299).abs() < 1e-6);
        let already_grey = resize(&pixels(1, 1, vec![51]), 1, true);
        assert!((already_grey.images[0] - 0.2).abs() < 1e-6);
    }
}
