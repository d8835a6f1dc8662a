//! `image_vit`: a vision transformer on images.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::classifier::{ClassLoss, Classifier};
use super::settings::{FamilySettings, check_batch, check_choices, check_dropout, check_patch, check_tokens, family};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::layers::{Mask, Nonlinearity};
use crate::models::{Tokens, Vit};
use crate::problem::Normaliser;

/// Settings of `image_vit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageVit {
    /// Where images come from.
    pub(super) data: ImageSource,
    /// Seed of procedural data.
    pub(super) data_seed: u64,
    /// Height and width of an image.
    pub(super) image_size: usize,
    /// Whether colours become grey.
    pub(super) greyscale: bool,
    /// Height and width of a patch; divides the image size.
    pub(super) patch: usize,
    /// Transformer blocks.
    pub(super) layers: usize,
    /// Attention heads; divides the width.
    pub(super) heads: usize,
    /// Channels of a token.
    pub(super) width: usize,
    /// Hidden units of a block's MLP.
    pub(super) mlp: usize,
    /// Share of values dropped while training.
    pub(super) dropout: f64,
    /// Hidden activation: one, or several of which each task draws one.
    pub(super) activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    pub(super) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    pub(super) initial_scale: Scale,
    /// Examples in a batch.
    pub(super) batch_size: usize,
    /// What is minimised: `cross_entropy`, or `mse` against one-hot targets.
    pub(super) loss: ClassLoss,
    /// How losses are normalised; if not given, as the reference's fixed tasks with this loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) normaliser: Option<Normaliser>,
}

impl Default for ImageVit {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            patch: 4,
            layers: 2,
            heads: 2,
            width: 16,
            mlp: 32,
            dropout: 0.0,
            activation: OneOf::One(Nonlinearity::Gelu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 64,
            loss: ClassLoss::default(),
            normaliser: None,
        }
    }
}

impl FamilySettings for ImageVit {
    const NAME: &'static str = "image_vit";
    const SUMMARY: &'static str = "classify images with a vision transformer";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_patch::<Self>(self.patch, self.image_size)?;
        let mask = Mask::None;
        let tokens = Tokens { heads: self.heads, width: self.width, hidden: self.mlp, mask, dropout: self.dropout };
        check_tokens::<Self>(self.layers, &tokens)?;
        check_dropout::<Self>(self.dropout)?;
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let model = Vit::new(data.shape(), self.patch, self.layers, tokens, data.classes());
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let problem = Classifier::new(Self::NAME, Box::new(model), data, choices, self.batch_size);
        family::<Self>("width", problem.scored(self.loss, self.normaliser))
    }
}
