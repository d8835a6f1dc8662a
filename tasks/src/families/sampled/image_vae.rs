//! `sampled_image_vae`: variational auto-encoders of random shapes on images (the reference's `sample_image_mlp_vae`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, Sampler, Sources, activations, initialisers, range_fault};
use crate::data::ImageSource;
use crate::families::choices::Scale;
use crate::families::image_vae::ImageVae;
use crate::problem::Normaliser;

/// Settings of `sampled_image_vae`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledImageVae {
    /// Where images come from: one source, or several of which each member draws one.
    data: Sources,
    /// Width of the hidden layers of encoder and decoder, each log-uniform.
    width: [u32; 2],
    /// Hidden layers of each, uniform.
    layers: [u32; 2],
    /// Entries of the latent normal, log-uniform.
    latent: [u32; 2],
    /// Height and width of an image, log-uniform.
    image_size: [u32; 2],
    /// Examples in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledImageVae {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: Sources::One(ImageSource::Procedural),
            width: [4, 128],
            layers: [0, 4],
            latent: [2, 128],
            image_size: [4, 32],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledImageVae {
    type Base = ImageVae;
    const NAME: &'static str = "sampled_image_vae";
    const SUMMARY: &'static str = "variational auto-encoders of images, of random widths, depths, data and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("width", self.width, [1, 4096]),
            range_fault("layers", self.layers, [0, 16]),
            range_fault("latent", self.latent, [1, 4096]),
            range_fault("image_size", self.image_size, [1, 64]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        self.data.fault().or(ranges.into_iter().flatten().next())
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

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

    fn examples(base: &ImageVae) -> usize {
        base.batch_size
    }

    fn blank(base: ImageVae) -> ImageVae {
        ImageVae { data: ImageSource::Blank(base.data.most().1), ..base }
    }
}
