//! Batches and panels of image families.

use candle_core::{Device, Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;

use crate::data::ImageData;
use crate::problem::indices;
use crate::sample::Panel;

/// Which examples: batch `number` of a split, where a batch has `batch_size`; the first `size` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which {
    pub(super) split: Split,
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) batch_size: usize,
}

/// The images of each task, `[tasks, size, height, width, channels]`, and their labels, row by row.
pub(super) fn gather<I>(data: &ImageData, tasks: &[(Seed, I)], which: Which) -> Result<(Tensor, Vec<u32>)> {
    let Which { split, number, size, batch_size } = which;
    let [height, width, channels] = data.shape();
    let (examples, pixels) = (data.split(split), height * width * channels);
    let mut images = Vec::with_capacity(tasks.len() * size * pixels);
    let mut labels = Vec::with_capacity(tasks.len() * size);
    for (seed, _) in tasks {
        for index in indices(*seed, split, number, examples.len(), batch_size, size) {
            images.extend_from_slice(&examples.images[index * pixels..(index + 1) * pixels]);
            labels.push(examples.labels[index]);
        }
    }
    Ok((Tensor::from_vec(images, (tasks.len(), size, height, width, channels), &Device::Cpu)?, labels))
}

/// A few training images of the task of this seed.
pub(super) fn pictures(data: &ImageData, seed: Seed) -> Vec<Panel> {
    let [height, width, channels] = data.shape();
    let (examples, pixels) = (&data.train, height * width * channels);
    let picked = indices(seed, Split::Train, 0, examples.len(), 12, 12);
    let picture = |index: usize| Panel::Picture {
        title: format!("class {}", examples.labels[index]),
        height,
        width,
        channels,
        values: examples.images[index * pixels..(index + 1) * pixels].to_vec(),
    };
    picked.into_iter().map(picture).collect()
}
