//! `image_mixer`: an MLP-mixer on images.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::classifier::{ClassLoss, Classifier};
use super::settings::{FamilySettings, check_batch, check_choices, check_patch, check_widths, family};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::layers::Nonlinearity;
use crate::models::{Mixer, MixerSizes};
use crate::problem::Normaliser;

/// Settings of `image_mixer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageMixer {
    /// Where images come from.
    data: ImageSource,
    /// Seed of procedural data.
    data_seed: u64,
    /// Height and width of an image.
    image_size: usize,
    /// Whether colours become grey.
    greyscale: bool,
    /// Height and width of a patch; divides the image size.
    patch: usize,
    /// Blocks.
    layers: usize,
    /// Channels of a token.
    width: usize,
    /// Hidden units of the MLP over tokens.
    token_mlp: usize,
    /// Hidden units of the MLP over channels.
    channel_mlp: usize,
    /// Hidden activation: one, or several of which each task draws one.
    activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    initial_scale: Scale,
    /// Examples in a batch.
    batch_size: usize,
    /// What is minimised: `cross_entropy`, or `mse` against one-hot targets.
    loss: ClassLoss,
    /// How losses are normalised; if not given, as the reference's fixed tasks with this loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    normaliser: Option<Normaliser>,
}

impl Default for ImageMixer {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            patch: 4,
            layers: 2,
            width: 16,
            token_mlp: 16,
            channel_mlp: 32,
            activation: OneOf::One(Nonlinearity::Gelu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 64,
            loss: ClassLoss::default(),
            normaliser: None,
        }
    }
}

impl FamilySettings for ImageMixer {
    const NAME: &'static str = "image_mixer";
    const SUMMARY: &'static str = "classify images with an MLP-mixer";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_patch::<Self>(self.patch, self.image_size)?;
        check_widths::<Self>("width, token_mlp, channel_mlp", &[self.width, self.token_mlp, self.channel_mlp])?;
        check_widths::<Self>("layers", &vec![1; self.layers])?;
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let sizes = MixerSizes {
            patch: self.patch,
            layers: self.layers,
            width: self.width,
            token_hidden: self.token_mlp,
            channel_hidden: self.channel_mlp,
        };
        let model = Mixer::new(data.shape(), sizes, data.classes());
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let problem = Classifier::new(Self::NAME, Box::new(model), data, choices, self.batch_size);
        family::<Self>("width", problem.scored(self.loss, self.normaliser))
    }
}
