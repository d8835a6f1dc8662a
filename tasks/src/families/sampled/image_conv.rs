//! `sampled_image_conv`: convolutional networks of random shapes on images (the reference's `sample_image_conv`).

use super::{DATA_SEEDS, Dice, SCALES, Sources, activations, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::image_conv::ImageConv;
use crate::problem::Normaliser;

sampler! {
    /// Settings of `sampled_image_conv`. Ranges are inclusive.
    SampledImageConv draws ImageConv as "sampled_image_conv",
        "3x3 convolutions on images, of random width, depth, strides, data and batch";
    settings {
        /// Where images come from: one source, or several of which each member draws one.
        data: Sources = Sources::One(ImageSource::Procedural), listed;
        /// Channels of all convolutions, log-uniform.
        width: [u32; 2] = [4, 64], within([1, 4096]);
        /// Convolutions, uniform.
        layers: [u32; 2] = [0, 3], within([0, 16]);
        /// Leading convolutions with a stride of 2, uniform.
        strides: [u32; 2] = [0, 2], within([0, 16]);
        /// Height and width of an image, log-uniform.
        image_size: [u32; 2] = [4, 32], within([1, 64]);
        /// Examples in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
        fn draw(&self, dice: &mut Dice) -> ImageConv {
            let data = self.data.draw(dice);
            let (most, _) = data.most();
            let image_size = dice.log_int(self.image_size).min(most);
            let (width, layers) = (dice.log_int(self.width), dice.int(self.layers));
            ImageConv {
                data,
                data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
                image_size,
                activation: activations(),
                initialiser: initialisers(),
                initial_scale: SCALES,
                batch_size: dice.log_int(self.batch_size),
                channels: vec![width; layers],
                leading_strides: Some(dice.int(self.strides)),
                normaliser: Some(Normaliser::Parametric),
                ..ImageConv::default()
            }
        }

        image_base!(ImageConv);
    }
}
