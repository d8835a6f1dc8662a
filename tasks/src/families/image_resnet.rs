//! `image_resnet`: a residual network with batch norm on images.

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
use crate::models::{ResNet, Stem};
use crate::problem::Normaliser;

/// Settings of `image_resnet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageResNet {
    /// Where images come from.
    pub(super) data: ImageSource,
    /// Seed of procedural data.
    pub(super) data_seed: u64,
    /// Height and width of an image.
    pub(super) image_size: usize,
    /// Whether colours become grey.
    pub(super) greyscale: bool,
    /// Residual blocks in each group.
    pub(super) blocks: Vec<usize>,
    /// Channels of each group; all groups but the first halve the image.
    pub(super) channels: Vec<usize>,
    /// Height and width of the first convolution's kernel: odd.
    pub(super) stem_kernel: usize,
    /// Stride of the first convolution.
    pub(super) stem_stride: usize,
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

impl Default for ImageResNet {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            blocks: vec![1, 1],
            channels: vec![8, 16],
            stem_kernel: 3,
            stem_stride: 1,
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 32,
            loss: ClassLoss::default(),
            normaliser: None,
        }
    }
}

impl FamilySettings for ImageResNet {
    const NAME: &'static str = "image_resnet";
    const SUMMARY: &'static str = "classify images with a residual network and batch norm";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("channels", &self.channels)?;
        check_widths::<Self>("blocks", &self.blocks)?;
        if self.channels.is_empty() || self.channels.len() != self.blocks.len() {
            let (blocks, channels) = (self.blocks.len(), self.channels.len());
            let reason = format!("blocks and channels must list one value a group each (got {blocks} and {channels})");
            return Err(refuse::<Self>(reason));
        }
        let (layers, most) = (self.blocks.iter().sum::<usize>(), 64);
        if layers > most {
            return Err(refuse::<Self>(format!("blocks may sum to {most} at most (got {layers})")));
        }
        if self.stem_kernel.is_multiple_of(2) || self.stem_kernel > 15 {
            return Err(refuse::<Self>(format!("stem_kernel must be odd and at most 15 (got {})", self.stem_kernel)));
        }
        if !(1..=8).contains(&self.stem_stride) {
            return Err(refuse::<Self>(format!("stem_stride must be 1 to 8 (got {})", self.stem_stride)));
        }
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let [_, _, image_channels] = data.shape();
        let stem = Stem { kernel: self.stem_kernel, stride: self.stem_stride };
        let model = ResNet::new(image_channels, stem, &self.blocks, &self.channels, data.classes());
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let problem = Classifier::new(Self::NAME, Box::new(model), data, choices, self.batch_size);
        family::<Self>("channels", problem.scored(self.loss, self.normaliser))
    }
}
