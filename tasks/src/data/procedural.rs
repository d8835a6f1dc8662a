//! Images drawn from a seed, for machines without data files: easy enough to learn in hundreds of steps, hard enough to
//! tell optimizers apart.
//!
//! ```text
//!  class prototype (smooth field) ─ shift ─┐
//!  another class's prototype ─ shift, fade ─┼─ + ─ clip ─► image        label ─ sometimes wrong
//!  pixel noise ─────────────────────────────┘
//! ```
//!
//! Only additions, multiplications, divisions, square roots and [`noise`] take part, so the bits are the same on every
//! host. Difficulty is tuned so that a well-tuned Adam ends near, but not at, the best possible accuracy.

use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::{Purpose, Seed};

use super::{Examples, ImageData};

/// Classes.
const CLASSES: usize = 10;
/// Prototypes of each class: more than one, so that no linear rule suffices.
const MODES: usize = 2;
/// Prototypes are fields on a periodic grid of this many points a side, interpolated.
const GRID: usize = 4;
/// Largest shift, in grid cells (of which an image has [`GRID`]), to each side.
const SHIFT: f32 = 0.4;
/// Strongest distractor relative to the prototype.
const DISTRACTOR: f32 = 0.6;
/// Standard deviation of pixel noise, relative to the prototype's.
const PIXEL_NOISE: f32 = 0.3;
/// One label in this many is drawn anew.
const WRONG_LABEL: u32 = 25;
/// Examples of train, inner_valid, outer_valid, test.
const EXAMPLES: [usize; 4] = [8_000, 1_000, 1_000, 2_000];

/// A value at every point of a periodic grid: mean 0, variance 1.
struct Field([f32; GRID * GRID]);

impl Field {
    fn draw(seed: Seed) -> Self {
        let mut values = [0.0; GRID * GRID];
        noise::normals(seed, 0, &mut values);
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        values.iter_mut().for_each(|value| *value -= mean);
        let deviation = (values.iter().map(|value| value * value).sum::<f32>() / count).sqrt();
        values.iter_mut().for_each(|value| *value /= deviation);
        Self(values)
    }

    /// Adds `strength` times the field, moved by `shift` grid cells, to an image.
    fn add_to(&self, image: &mut [f32], size: usize, shift: [f32; 2], strength: f32) {
        let columns: Vec<Place> = (0..size).map(|x| Place::of(x, size, shift[1])).collect();
        for (y, row) in image.chunks_exact_mut(size).enumerate() {
            let vertical = Place::of(y, size, shift[0]);
            let point = |row: usize, column: usize| self.0[row * GRID + column];
            for (pixel, horizontal) in row.iter_mut().zip(&columns) {
                let along = |row| horizontal.blend(point(row, horizontal.before), point(row, horizontal.after));
                *pixel += strength * vertical.blend(along(vertical.before), along(vertical.after));
            }
        }
    }
}

/// Where a pixel lies between two grid points of one axis.
struct Place {
    before: usize,
    after: usize,
    share: f32,
}

impl Place {
    fn of(pixel: usize, size: usize, shift: f32) -> Self {
        // + GRID keeps the position positive, so that the cast rounds down.
        let position = (pixel as f32 + 0.5) / size as f32 * GRID as f32 + shift + GRID as f32;
        let cell = position as usize;
        Self { before: cell % GRID, after: (cell + 1) % GRID, share: position - cell as f32 }
    }

    fn blend(&self, before: f32, after: f32) -> f32 {
        before + self.share * (after - before)
    }
}

/// The data set of a seed: grey images of `size × size`.
pub(super) fn generate(seed: Seed, size: usize) -> ImageData {
    let seed = seed.purpose(Purpose::Data);
    let (prototype_seed, example_seed) = (seed.fold_in(0), seed.fold_in(1));
    let prototypes: Vec<Field> =
        (0..CLASSES * MODES).map(|index| Field::draw(prototype_seed.fold_in(index as u64))).collect();
    let mut next = 0_u64;
    let [train, inner_valid, outer_valid, test] = EXAMPLES.map(|count| {
        let mut examples = Examples { images: vec![0.0; count * size * size], labels: Vec::with_capacity(count) };
        for image in examples.images.chunks_exact_mut(size * size) {
            examples.labels.push(draw_example(&prototypes, example_seed.fold_in(next), size, image));
            next += 1;
        }
        examples
    });
    ImageData {
        origin: "procedural".into(),
        size,
        channels: 1,
        classes: CLASSES,
        train,
        inner_valid,
        outer_valid,
        test,
    }
}

fn draw_example(prototypes: &[Field], seed: Seed, size: usize, image: &mut [f32]) -> u32 {
    let mut draws = Draws::new(seed);
    let class = draws.below(CLASSES as u32);
    let other = (class + 1 + draws.below(CLASSES as u32 - 1)) % CLASSES as u32;
    let fade = draws.uniform() as f32 * DISTRACTOR;

    noise::normals(seed, 0, image);
    image.iter_mut().for_each(|pixel| *pixel *= PIXEL_NOISE);
    for (class, strength) in [(class, 1.0), (other, fade)] {
        let mode = draws.below(MODES as u32);
        let shift = [0, 1].map(|_| (draws.uniform() as f32 * 2.0 - 1.0) * SHIFT);
        prototypes[class as usize * MODES + mode as usize].add_to(image, size, shift, strength);
    }
    image.iter_mut().for_each(|pixel| *pixel = (0.25 + 0.25 * *pixel).clamp(0.0, 1.0));

    if draws.below(WRONG_LABEL) == 0 { draws.below(CLASSES as u32) } else { class }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_data_set() {
        let (one, again, other) = (generate(Seed::new(1), 8), generate(Seed::new(1), 8), generate(Seed::new(2), 8));
        assert!(one == again, "same seed, same bits");
        assert!(one.train.images != other.train.images && one.train.labels != other.train.labels);
        assert_eq!([&one.train, &one.inner_valid, &one.outer_valid, &one.test].map(Examples::len), EXAMPLES);
        assert!(one.train.images.iter().all(|value| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn the_bits_are_pinned() {
        // Recorded runs depend on them. A sum over f64 is exact enough to be the same everywhere and to see any change.
        let data = generate(Seed::new(0), 8);
        let sum: f64 = data.train.images.iter().map(|&value| f64::from(value)).sum();
        let labels: u64 = data.train.labels.iter().enumerate().map(|(i, &label)| i as u64 * u64::from(label)).sum();
        assert_eq!((sum, labels), (PINNED_SUM, PINNED_LABELS));
    }

    const PINNED_SUM: f64 = 132_264.922_869_086_27;
    const PINNED_LABELS: u64 = 143_923_325;

    #[test]
    fn classes_are_balanced_and_splits_differ() {
        let data = generate(Seed::new(3), 5);
        for class in 0..CLASSES as u32 {
            let count = data.train.labels.iter().filter(|&&label| label == class).count();
            assert!((650..950).contains(&count), "class {class}: {count} of 8000");
        }
        let image = 25;
        assert_ne!(data.train.images[..image], data.test.images[..image]);
        assert_ne!(data.inner_valid.images[..image], data.outer_valid.images[..image]);
    }
}
