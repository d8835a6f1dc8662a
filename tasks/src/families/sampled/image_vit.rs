//! `sampled_image_vit`: vision transformers of random shapes on images (the reference's `sample_vit`).

use super::{DATA_SEEDS, Dice, SCALES, Sources, activations, each_within, initialisers, listed, within};
use crate::data::ImageSource;
use crate::families::image_vit::ImageVit;
use crate::problem::Normaliser;

sampler! {
    /// Settings of `sampled_image_vit`. Ranges are inclusive.
    SampledImageVit draws ImageVit as "sampled_image_vit",
        "vision transformers on images, of random depth, heads, widths, patch, data and batch";
    settings {
        /// Where images come from: one source, or several of which each member draws one.
        data: Sources = Sources::One(ImageSource::Procedural), listed;
        /// Transformer blocks, log-uniform.
        layers: [u32; 2] = [1, 16], within([1, 16]);
        /// Attention heads, log-uniform.
        heads: [u32; 2] = [1, 16], within([1, 64]);
        /// Channels of a head, log-uniform.
        head_width: [u32; 2] = [8, 64], within([1, 256]);
        /// Hidden units of a block's MLP, log-uniform.
        mlp: [u32; 2] = [32, 512], within([1, 4096]);
        /// Height and width of a patch, one of these.
        patch: Vec<u32> = vec![2, 4, 8, 12, 16], each_within([1, 64]);
        /// Height and width of an image, log-uniform, rounded down to whole patches.
        image_size: [u32; 2] = [8, 64], within([1, 64]);
        /// Examples in a batch, log-uniform.
        batch_size: [u32; 2] = [4, 512], within([1, 512]);
    }
    impl {
        fn draw(&self, dice: &mut Dice) -> ImageVit {
            let data = self.data.draw(dice);
            let (most, _) = data.most();
            // Two patches a side at least: where there is one token, attention has nothing to choose from.
            let patch = (*dice.pick(&self.patch) as usize).min(most / 2);
            let image_size = (dice.log_int(self.image_size).min(most) / patch).max(2) * patch;
            let heads = dice.log_int(self.heads);
            // In seven of ten members, as in the reference.
            let dropout = if dice.uniform([0.0, 1.0]) < 0.7 { dice.uniform([0.0, 0.8]) } else { 0.0 };
            ImageVit {
                data,
                data_seed: dice.int([0, DATA_SEEDS - 1]) as u64,
                image_size,
                activation: activations(),
                initialiser: initialisers(),
                initial_scale: SCALES,
                batch_size: dice.log_int(self.batch_size),
                patch,
                layers: dice.log_int(self.layers),
                heads,
                width: heads * dice.log_int(self.head_width),
                mlp: dice.log_int(self.mlp),
                dropout,
                normaliser: Some(Normaliser::ParametricDeep),
                ..ImageVit::default()
            }
        }

        image_base!(ImageVit);
    }
}
