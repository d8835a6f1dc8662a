//! `image_conv`: a small convolutional network on images, the reference's fixed convolution tasks.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::classifier::{ClassLoss, Classifier};
use super::settings::{FamilySettings, check_batch, check_choices, check_widths, family, refuse};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::layers::Nonlinearity;
use crate::models::{ConvNet, Downsampling, Norm};
use crate::problem::Normaliser;

/// Settings of `image_conv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageConv {
    /// Where images come from.
    pub(super) data: ImageSource,
    /// Seed of procedural data.
    pub(super) data_seed: u64,
    /// Height and width of an image.
    pub(super) image_size: usize,
    /// Whether colours become grey.
    pub(super) greyscale: bool,
    /// Output channels of the 3×3 convolutions.
    pub(super) channels: Vec<usize>,
    /// Whether convolutions after the first halve the image by a 2×2 max pool instead of a stride of 2.
    pub(super) max_pool: bool,
    /// How many leading convolutions have a stride of 2, instead of all but the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leading_strides: Option<usize>,
    /// What follows convolutions: `none`, `layer` or `batch` norm.
    pub(super) norm: Norm,
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

impl Default for ImageConv {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 16,
            greyscale: false,
            channels: vec![16, 32],
            max_pool: false,
            leading_strides: None,
            norm: Norm::None,
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 64,
            loss: ClassLoss::default(),
            normaliser: None,
        }
    }
}

impl FamilySettings for ImageConv {
    const NAME: &'static str = "image_conv";
    const SUMMARY: &'static str = "classify images with 3x3 convolutions, a mean over space and a linear head";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("channels", &self.channels)?;
        if self.channels.is_empty() && self.leading_strides.is_none() {
            return Err(refuse::<Self>("channels must list at least one convolution"));
        }
        // A pool needs two pixels; a strided convolution with padding makes one of one.
        let pools = self.channels.len().saturating_sub(1);
        let downsampling = match (self.max_pool, self.leading_strides) {
            (true, Some(_)) => return Err(refuse::<Self>("leading_strides and max_pool exclude each other")),
            (true, None) if self.image_size >> pools == 0 => {
                let least = 1_usize << pools;
                let size = self.image_size;
                let reason = format!("image_size must be at least {least} for {pools} max pools (got {size})");
                return Err(refuse::<Self>(reason));
            }
            (true, None) => Downsampling::MaxPool,
            (false, Some(count)) => Downsampling::Leading(count),
            (false, None) => Downsampling::Stride,
        };
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let [_, _, image_channels] = data.shape();
        let model = ConvNet::new(image_channels, &self.channels, data.classes(), downsampling, self.norm);
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let problem = Classifier::new(Self::NAME, Box::new(model), data, choices, self.batch_size);
        family::<Self>("channels", problem.scored(self.loss, self.normaliser))
    }
}
