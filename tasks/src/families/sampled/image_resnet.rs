//! `sampled_image_resnet`: residual networks of random shapes on images (the reference's `sample_image_resnet`, whose stem stride never reached the
//! network).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, Sources, activations, initialisers, range_fault};
use crate::data::ImageSource;
use crate::families::image_resnet::ImageResNet;
use crate::problem::Normaliser;

/// How channels grow over the groups: not at all, doubling each time, doubling every other time. The first two shapes
/// are those of residual networks in use; the reference's own list is not in its public documents.
const WIDTH_PATTERNS: [[usize; 4]; 3] = [[1, 1, 1, 1], [1, 2, 4, 8], [1, 2, 2, 4]];

/// Settings of `sampled_image_resnet`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledImageResNet {
    /// Where images come from: one source, or several of which each member draws one.
    data: Sources,
    /// Most blocks of a group, log-uniform; each of the four groups has 1 to that many.
    blocks: [u32; 2],
    /// Channels, log-uniform, times a pattern over the groups.
    width: [u32; 2],
    /// Height and width of an image, log-uniform.
    image_size: [u32; 2],
    /// Examples in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledImageResNet {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: Sources::One(ImageSource::Procedural),
            blocks: [1, 10],
            width: [8, 256],
            image_size: [8, 64],
            batch_size: [4, 256],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledImageResNet {
    type Base = ImageResNet;
    const NAME: &'static str = "sampled_image_resnet";
    const SUMMARY: &'static str =
        "residual networks with batch norm on images, of random depth, width, stem, data and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("blocks", self.blocks, [1, 16]),
            range_fault("width", self.width, [1, 1024]),
            range_fault("image_size", self.image_size, [1, 64]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        self.data.fault().or(ranges.into_iter().flatten().next())
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

    fn draw(&self, dice: &mut Dice) -> ImageResNet {
        let data = self.data.draw(dice);
        let (most, _) = data.most();
        let image_size = dice.log_int(self.image_size).min(most);
        let (most_blocks, width) = (dice.log_int(self.blocks) as u32, dice.log_int(self.width));
        let pattern = dice.pick(&WIDTH_PATTERNS);
        ImageResNet {
            data,
            data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
            image_size,
            activation: activations(),
            initialiser: initialisers(),
            initial_scale: SCALES,
            batch_size: dice.log_int(self.batch_size),
            blocks: (0..pattern.len()).map(|_| dice.int([1, most_blocks])).collect(),
            channels: pattern.iter().map(|factor| factor * width).collect(),
            stem_kernel: *dice.pick(&[3, 5, 7]),
            stem_stride: *dice.pick(&[1, 2]),
            normaliser: Some(Normaliser::ParametricDeep),
            ..ImageResNet::default()
        }
    }

    fn examples(base: &ImageResNet) -> usize {
        base.batch_size
    }

    fn blank(base: ImageResNet) -> ImageResNet {
        ImageResNet { data: ImageSource::Blank(base.data.most().1), ..base }
    }
}
