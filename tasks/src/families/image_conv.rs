//! `image_conv`: a small convolutional network on images, the reference's fixed convolution tasks.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::classifier::Classifier;
use super::settings::{FamilySettings, check_batch, check_widths, family, refuse};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::models::{ConvNet, Downsampling};

/// Settings of `image_conv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageConv {
    /// Where images come from.
    data: ImageSource,
    /// Seed of procedural data.
    data_seed: u64,
    /// Height and width of an image.
    image_size: usize,
    /// Whether colours become grey.
    greyscale: bool,
    /// Output channels of the 3×3 convolutions.
    channels: Vec<usize>,
    /// Whether convolutions after the first halve the image by a 2×2 max pool instead of a stride of 2.
    max_pool: bool,
    /// Examples in a batch.
    batch_size: usize,
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
            batch_size: 64,
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
        if self.channels.is_empty() {
            return Err(refuse::<Self>("channels must list at least one convolution"));
        }
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        // A pool needs two pixels; a strided convolution with padding makes one of one.
        let pools = self.channels.len() - 1;
        if self.max_pool && image_size >> pools == 0 {
            let reason = format!("image_size must be at least {} for {pools} max pools (got {image_size})", 1 << pools);
            return Err(refuse::<Self>(reason));
        }
        let downsampling = if self.max_pool { Downsampling::MaxPool } else { Downsampling::Stride };
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let [_, _, image_channels] = data.shape();
        let model = ConvNet::new(image_channels, &self.channels, data.classes(), downsampling);
        family::<Self>("channels", Classifier::new(Self::NAME, Box::new(model), data, self.batch_size))
    }
}
