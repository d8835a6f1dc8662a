//! `sampled_image_ae`: auto-encoders of random shapes on images (the reference's `sample_image_mlp_ae`). What it leaves to
//! a task - the loss, the centring, the squashing - each member draws here, since the normaliser follows the loss.

use super::{DATA_SEEDS, Dice, SCALES, Sources, activations, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::image_ae::{ImageAe, Reconstruction};

sampler! {
    /// Settings of `sampled_image_ae`. Ranges are inclusive.
    SampledImageAe draws ImageAe as "sampled_image_ae",
        "auto-encoders of images, of random width, depth, loss, data and batch";
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
        fn draw(&self, dice: &mut Dice) -> ImageAe {
            let data = self.data.draw(dice);
            let (most, _) = data.most();
            let image_size = dice.log_int(self.image_size).min(most);
            let (width, layers) = (dice.log_int(self.width), dice.int(self.layers));
            ImageAe {
                data,
                data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
                image_size,
                activation: activations(),
                initialiser: initialisers(),
                initial_scale: SCALES,
                batch_size: dice.log_int(self.batch_size),
                hidden: vec![width; layers],
                centred: *dice.pick(&[false, true]),
                squashed: *dice.pick(&[false, true]),
                loss: *dice.pick(&[Reconstruction::Mse, Reconstruction::LogMse]),
                ..ImageAe::default()
            }
        }

        image_base!(ImageAe);
    }
}
