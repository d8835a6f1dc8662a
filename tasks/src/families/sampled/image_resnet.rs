//! `sampled_image_resnet`: residual networks of random shapes on images (the reference's `sample_image_resnet`, whose stem stride never reached the
//! network).

use super::{DATA_SEEDS, Dice, SCALES, Sources, activations, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::image_resnet::ImageResNet;
use crate::problem::Normaliser;

/// How channels grow over the groups: not at all, doubling each time, doubling every other time. The first two shapes
/// are those of residual networks in use; the reference's own list is not in its public documents.
const WIDTH_PATTERNS: [[usize; 4]; 3] = [[1, 1, 1, 1], [1, 2, 4, 8], [1, 2, 2, 4]];

sampler! {
    /// Settings of `sampled_image_resnet`. Ranges are inclusive.
    SampledImageResNet draws ImageResNet as "sampled_image_resnet",
        "residual networks with batch norm on images, of random depth, width, stem, data and batch";
    settings {
        /// Where images come from: one source, or several of which each member draws one.
        data: Sources = Sources::One(ImageSource::Procedural), listed;
        /// Most blocks of a group, log-uniform; each of the four groups has 1 to that many.
        blocks: [u32; 2] = [1, 10], within([1, 16]);
        /// Channels, log-uniform, times a pattern over the groups.
        width: [u32; 2] = [8, 256], within([1, 1024]);
        /// Height and width of an image, log-uniform.
        image_size: [u32; 2] = [8, 64], within([1, 64]);
        /// Examples in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 256], within([1, 512]);
    }
    impl {
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

        image_base!(ImageResNet);
    }
}
