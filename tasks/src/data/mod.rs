//! Labelled images for classification tasks: read from files or drawn from a seed, resized, split, and shared.
//!
//! ```text
//!  IDX files (MNIST, Fashion-MNIST) ─┐
//!  CIFAR-10 binary files ────────────┼─► Pixels ─► resize, [0, 1] ─► shuffle, split ─► ImageData (shared by Arc)
//!  procedural, from a seed ──────────┘                                                  train · inner_valid ·
//!                                                                                       outer_valid · test
//! ```
//!
//! | data | train | inner_valid | outer_valid | test |
//! |---|---|---|---|---|
//! | with training files | 80 % of them | 10 % | 10 % | the test files |
//! | MNIST test set only | 8,000 | 500 | 500 | 1,000 |
//! | procedural | 8,000 | 1,000 | 1,000 | 2,000 |
//!
//! Real examples are shuffled by a fixed seed before they are split, so every host has the same splits. Values are
//! brightness in `[0, 1]`, not standardised, as in the JAX reference.

mod cifar;
mod idx;
mod procedural;
mod resize;
mod shared;
mod source;
mod splits;
mod utf8;

pub(crate) use shared::Shared;
pub(crate) use splits::{Splits, position};
pub(crate) use utf8::read_utf8;

pub use source::{DataSettings, ImageSource};

use std::fmt;
use std::path::{Path, PathBuf};

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};

use crate::Error;

/// Decoded images as files hold them: `count × height × width × channels` bytes, and a label each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) values: Vec<u8>,
    pub(crate) labels: Vec<u8>,
}

/// Images of one split, ready to be gathered into batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// `count × size × size × channels` values in `[0, 1]`.
    pub(crate) images: Vec<f32>,
    /// The class of each image.
    pub(crate) labels: Vec<u32>,
}

impl Examples {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each example.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// All images, one after the other.
    pub fn images(&self) -> &[f32] {
        &self.images
    }
}

/// A data set of square images in four splits.
#[derive(Clone, PartialEq)]
pub struct ImageData {
    /// What it is and where it came from, for people: two data sets are different problems.
    pub(crate) origin: String,
    /// Height and width.
    pub(crate) size: usize,
    pub(crate) channels: usize,
    pub(crate) classes: usize,
    pub(crate) train: Examples,
    pub(crate) inner_valid: Examples,
    pub(crate) outer_valid: Examples,
    pub(crate) test: Examples,
}

impl ImageData {
    /// The examples of a split.
    pub fn split(&self, split: Split) -> &Examples {
        match split {
            Split::Train => &self.train,
            Split::InnerValid => &self.inner_valid,
            Split::OuterValid => &self.outer_valid,
            Split::Test => &self.test,
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Height, width and channels of an image.
    pub fn shape(&self) -> [usize; 3] {
        [self.size, self.size, self.channels]
    }
}

impl fmt::Debug for ImageData {
    /// What it is and how large, without the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, inner, outer, test] =
            [&self.train, &self.inner_valid, &self.outer_valid, &self.test].map(Examples::len);
        let Self { origin, size, channels, classes, .. } = self;
        write!(f, "{origin}, {size}×{size}×{channels}, {classes} classes, {train}/{inner}/{outer}/{test} examples")
    }
}

/// Numbers below `count` in an order that only `seed` decides (Fisher and Yates).
pub(crate) fn shuffled(count: usize, seed: Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut draws = Draws::new(seed);
    for last in (1..count).rev() {
        let other = draws.below(u32::try_from(last + 1).expect("readers bound the number of examples"));
        order.swap(last, other as usize);
    }
    order
}

/// An error about this file or folder.
pub(crate) fn data_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data { path: path.to_owned(), reason: reason.into() }
}

/// The folder of one real data set.
///
/// # Errors
/// [`Error::Data`] if there is no data folder, or none of this name in it.
pub(crate) fn data_folder(data_dir: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let cure = "give a data folder that holds one of that name, or set data = \"procedural\"";
    let Some(data_dir) = data_dir else {
        return Err(data_error(Path::new(name), format!("no data folder was given to find this in: {cure}")));
    };
    let folder = data_dir.join(name);
    if folder.is_dir() { Ok(folder) } else { Err(data_error(&folder, format!("no such folder: {cure}"))) }
}

/// The seed that every shuffle of real data uses.
const SPLIT_SEED: Seed = Seed::new(0).purpose(Purpose::Data);

/// Cuts `all` into consecutive parts of these lengths, after shuffling.
fn split_shuffled<const PARTS: usize>(all: &Examples, lengths: [usize; PARTS]) -> [Examples; PARTS] {
    let order = shuffled(all.len(), SPLIT_SEED);
    let values = if all.is_empty() { 0 } else { all.images.len() / all.len() };
    let mut start = 0;
    lengths.map(|length| {
        let part = &order[start..start + length];
        start += length;
        Examples {
            images: part.iter().flat_map(|&i| &all.images[i * values..(i + 1) * values]).copied().collect(),
            labels: part.iter().map(|&i| all.labels[i]).collect(),
        }
    })
}

/// The folder of real data, if this machine has one with this data set; else says that the test of it was skipped.
#[cfg(test)]
pub(crate) fn real_data(name: &str) -> Option<PathBuf> {
    use std::io::Write;
    let folder = std::env::var_os("PACELINE_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    if folder.join(name).is_dir() {
        return Some(folder);
    }
    // Past the test harness, which shows what passing tests print only when asked. If stderr is closed, nobody listens.
    let line =
        format!("SKIPPED real_{name}: no ../shared/data/{name} beside the project, and PACELINE_DATA names none");
    let _ = writeln!(std::io::stderr(), "{line}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_disjoint_and_lose_nothing() {
        let all = Examples { images: (0..200_u16).map(f32::from).collect(), labels: (0..100).collect() };
        let parts = split_shuffled(&all, [80, 5, 5, 10]);
        assert_eq!(parts.each_ref().map(Examples::len), [80, 5, 5, 10]);
        let mut seen: Vec<u32> = parts.iter().flat_map(|part| part.labels.clone()).collect();
        assert_ne!(seen, all.labels, "shuffled");
        seen.sort_unstable();
        assert_eq!(seen, all.labels);
        for part in &parts {
            for (image, &label) in part.images.chunks(2).zip(&part.labels) {
                assert_eq!(image, [2.0 * label as f32, 2.0 * label as f32 + 1.0], "an image keeps its label");
            }
        }
    }
}
