//! `sampled_image_vit`: vision transformers of random shapes on images (the reference's `sample_vit`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Caps, DATA_SEEDS, Dice, SCALES, Sampler, Sources, activations, initialisers, range_fault};
use crate::data::ImageSource;
use crate::families::image_vit::ImageVit;
use crate::problem::Normaliser;

/// Settings of `sampled_image_vit`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledImageVit {
    /// Where images come from: one source, or several of which each member draws one.
    data: Sources,
    /// Transformer blocks, log-uniform.
    layers: [u32; 2],
    /// Attention heads, log-uniform.
    heads: [u32; 2],
    /// Channels of a head, log-uniform.
    head_width: [u32; 2],
    /// Hidden units of a block's MLP, log-uniform.
    mlp: [u32; 2],
    /// Height and width of a patch, one of these.
    patch: Vec<u32>,
    /// Height and width of an image, log-uniform, rounded down to whole patches.
    image_size: [u32; 2],
    /// Examples in a batch, log-uniform.
    batch_size: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledImageVit {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self {
            data: Sources::One(ImageSource::Procedural),
            layers: [1, 16],
            heads: [1, 16],
            head_width: [8, 64],
            mlp: [32, 512],
            patch: vec![2, 4, 8, 12, 16],
            image_size: [8, 64],
            batch_size: [4, 512],
            max_flop,
            max_bytes,
        }
    }
}

impl Sampler for SampledImageVit {
    type Base = ImageVit;
    const NAME: &'static str = "sampled_image_vit";
    const SUMMARY: &'static str =
        "vision transformers on images, of random depth, heads, widths, patch, data and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn fault(&self) -> Option<String> {
        let ranges = [
            range_fault("layers", self.layers, [1, 16]),
            range_fault("heads", self.heads, [1, 64]),
            range_fault("head_width", self.head_width, [1, 256]),
            range_fault("mlp", self.mlp, [1, 4096]),
            range_fault("image_size", self.image_size, [1, 64]),
            self.patch.is_empty().then(|| "patch must list at least one".into()),
            self.patch.iter().find_map(|&patch| range_fault("patch", [patch, patch], [1, 64])),
            range_fault("batch_size", self.batch_size, [1, 512]),
        ];
        self.data.fault().or(ranges.into_iter().flatten().next())
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
    }

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

    fn examples(base: &ImageVit) -> usize {
        base.batch_size
    }

    fn blank(base: ImageVit) -> ImageVit {
        ImageVit { data: ImageSource::Blank(base.data.most().1), ..base }
    }
}
