//! `sampled_image_conv`: convolutional networks of random shapes on images (the reference's `sample_image_conv`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, Sources, activations, initialisers, range_fault};
use crate::data::ImageSource;
use crate::families::image_conv::ImageConv;
use crate::problem::Normaliser;

/// Settings of `sampled_image_conv`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledImageConv {
    /// Where images come from: one source, or several of which each member draws one.
    data: Sources,
    /// Channels of all convolutions, log-uniform.
    width: [u32; 2],
    /// Convolutions, uniform.
    layers: [u32; 2],
    /// Leading convolutions with a stride of 2, uniform.
    strides: [u32; 2],
    /// Height and width of an image, log-uniform.
    image_size: [u32; 2],
    /// Examples in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledImageConv {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: Sources::One(ImageSource::Procedural),
            width: [4, 64],
            layers: [0, 3],
            strides: [0, 2],
            image_size: [4, 32],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledImageConv {
    type Base = ImageConv;
    const NAME: &'static str = "sampled_image_conv";
    const SUMMARY: &'static str = "3x3 convolutions on images, of random width, depth, strides, data and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("width", self.width, [1, 4096]),
            range_fault("layers", self.layers, [0, 16]),
            range_fault("strides", self.strides, [0, 16]),
            range_fault("image_size", self.image_size, [1, 64]),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        self.data.fault().or(ranges.into_iter().flatten().next())
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

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

    fn examples(base: &ImageConv) -> usize {
        base.batch_size
    }

    fn blank(base: ImageConv) -> ImageConv {
        ImageConv { data: ImageSource::Blank(base.data.most().1), ..base }
    }
}
