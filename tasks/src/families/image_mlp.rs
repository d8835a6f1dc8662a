//! `image_mlp`: a multilayer perceptron on small images, the reference's fixed image-MLP tasks.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::classifier::Classifier;
use super::settings::{FamilySettings, check_batch, check_widths, family};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::models::Mlp;

/// Settings of `image_mlp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageMlp {
    /// Where images come from.
    data: ImageSource,
    /// Seed of procedural data.
    data_seed: u64,
    /// Height and width of an image.
    image_size: usize,
    /// Whether colours become grey.
    greyscale: bool,
    /// Widths of the hidden layers; none is softmax regression.
    hidden: Vec<usize>,
    /// Examples in a batch.
    batch_size: usize,
}

impl Default for ImageMlp {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            hidden: vec![32],
            batch_size: 128,
        }
    }
}

impl FamilySettings for ImageMlp {
    const NAME: &'static str = "image_mlp";
    const SUMMARY: &'static str = "classify small images with a relu multilayer perceptron";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("hidden", &self.hidden)?;
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let mut widths = vec![data.shape().iter().product()];
        widths.extend(self.hidden);
        widths.push(data.classes());
        let model = Mlp::new(widths);
        family::<Self>("hidden", Classifier::new(Self::NAME, Box::new(model), data, self.batch_size))
    }
}
