//! `sampled_image_ae`: auto-encoders of random shapes on images (the reference's `sample_image_mlp_ae`). What it leaves to
//! a task - the loss, the centring, the squashing - each member draws here, since the normaliser follows the loss.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, Sources, activations, initialisers, range_fault};
use crate::data::ImageSource;
use crate::families::image_ae::{ImageAe, Reconstruction};

/// Settings of `sampled_image_ae`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledImageAe {
    /// Where images come from: one source, or several of which each member draws one.
    data: Sources,
    /// Width of the hidden layers, log-uniform.
    width: [u32; 2],
    /// Hidden layers, uniform.
    layers: [u32; 2],
    /// Height and width of an image, log-uniform.
    image_size: [u32; 2],
    /// Examples in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledImageAe {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: Sources::One(ImageSource::Procedural),
            width: [8, 128],
            layers: [0, 4],
            image_size: [4, 32],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledImageAe {
    type Base = ImageAe;
    const NAME: &'static str = "sampled_image_ae";
    const SUMMARY: &'static str = "auto-encoders of images, of random width, depth, loss, data and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("width", self.width, [1, 4096]),
            range_fault("layers", self.layers, [0, 16]),
            range_fault("image_size", self.image_size, [1, 64]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        self.data.fault().or(ranges.into_iter().flatten().next())
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

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

    fn examples(base: &ImageAe) -> usize {
        base.batch_size
    }

    fn blank(base: ImageAe) -> ImageAe {
        ImageAe { data: ImageSource::Blank(base.data.most().1), ..base }
    }
}
