//! `sampled_image_vae`: variational auto-encoders of random shapes on images (the reference's `sample_image_mlp_vae`).

use super::{DATA_SEEDS, Dice, Sources, activations, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::choices::Scale;
use crate::families::image_vae::ImageVae;
use crate::problem::Normaliser;

sampler! {
    /// Settings of `sampled_image_vae`. Ranges are inclusive.
    SampledImageVae draws ImageVae as "sampled_image_vae",
        "variational auto-encoders of images, of random widths, depths, data and batch";
    settings {
        /// Where images come from: one source, or several of which each member draws one.
        data: Sources = Sources::One(ImageSource::Procedural), listed;
        /// Width of the hidden layers of encoder and decoder, each log-uniform.
        width: [u32; 2] = [4, 128], within([1, 4096]);
        /// Hidden layers of each, uniform.
        layers: [u32; 2] = [0, 4], within([0, 16]);
        /// Entries of the latent normal, log-uniform.
        latent: [u32; 2] = [2, 128], within([1, 4096]);
        /// Height and width of an image, log-uniform.
        image_size: [u32; 2] = [4, 32], within([1, 64]);
        /// Examples in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
        fn draw(&self, dice: &mut Dice) -> ImageVae {
            let data = self.data.draw(dice);
            let (most, _) = data.most();
            let image_size = dice.log_int(self.image_size).min(most);
            let mut part = || vec![dice.log_int(self.width); dice.int(self.layers)];
            let (encoder, decoder) = (part(), part());
            ImageVae {
                data,
                data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
                image_size,
                activation: activations(),
                initialiser: initialisers(),
                // Larger weights make log variances whose exponential is beyond f32, and a task that ends before it begins.
                initial_scale: Scale::Between([0.5, 1.0]),
                batch_size: dice.log_int(self.batch_size),
                encoder,
                decoder,
                latent: dice.log_int(self.latent),
                normaliser: Normaliser::ParametricVae,
                ..ImageVae::default()
            }
        }

        image_base!(ImageVae);
    }
}
