//! `sampled_image_mlp`: multilayer perceptrons of random shapes on images (the reference's `sample_image_mlp`).

use super::{DATA_SEEDS, Dice, SCALES, Sources, activations, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::image_mlp::ImageMlp;
use crate::problem::Normaliser;

sampler! {
    /// Settings of `sampled_image_mlp`. Ranges are inclusive.
    SampledImageMlp draws ImageMlp as "sampled_image_mlp",
        "multilayer perceptrons on images, of random width, depth, data and batch";
    settings {
        /// Where images come from: one source, or several of which each member draws one.
        data: Sources = Sources::One(ImageSource::Procedural), listed;
        /// Width of the hidden layers, log-uniform.
        width: [u32; 2] = [8, 128], within([1, 4096]);
        /// Hidden layers, uniform.
        layers: [u32; 2] = [0, 4], within([0, 16]);
        /// Height and width of an image, log-uniform.
        image_size: [u32; 2] = [4, 32], within([1, 64]);
        /// Examples in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
        fn draw(&self, dice: &mut Dice) -> ImageMlp {
            let data = self.data.draw(dice);
            let (most, _) = data.most();
            let image_size = dice.log_int(self.image_size).min(most);
            let (width, layers) = (dice.log_int(self.width), dice.int(self.layers));
            ImageMlp {
                data,
                data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
                image_size,
                activation: activations(),
                initialiser: initialisers(),
                initial_scale: SCALES,
                batch_size: dice.log_int(self.batch_size),
                hidden: vec![width; layers],
                normaliser: Some(Normaliser::Parametric),
                ..ImageMlp::default()
            }
        }

        image_base!(ImageMlp);
    }
}
