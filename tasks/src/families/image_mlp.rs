//! `image_mlp`: a multilayer perceptron on images, the reference's fixed MLP tasks.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::classifier::{ClassLoss, Classifier};
use super::settings::{FamilySettings, check_batch, check_choices, check_dropout, check_widths, family};
use crate::Error;
use crate::data::{DataSettings, ImageSource};
use crate::layers::Nonlinearity;
use crate::models::{Mlp, Norm};
use crate::problem::Normaliser;

/// Settings of `image_mlp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageMlp {
    /// Where images come from.
    pub(super) data: ImageSource,
    /// Seed of procedural data.
    pub(super) data_seed: u64,
    /// Height and width of an image.
    pub(super) image_size: usize,
    /// Whether colours become grey.
    pub(super) greyscale: bool,
    /// Widths of the hidden layers.
    pub(super) hidden: Vec<usize>,
    /// What follows hidden linear layers: `none`, `layer` or `batch` norm.
    pub(super) norm: Norm,
    /// Share of hidden units dropped while training.
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

impl Default for ImageMlp {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            hidden: vec![32],
            norm: Norm::None,
            dropout: 0.0,
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 128,
            loss: ClassLoss::default(),
            normaliser: None,
        }
    }
}

impl FamilySettings for ImageMlp {
    const NAME: &'static str = "image_mlp";
    const SUMMARY: &'static str = "classify small images with a multilayer perceptron";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("hidden", &self.hidden)?;
        check_dropout::<Self>(self.dropout)?;
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let mut widths = vec![data.shape().iter().product()];
        widths.extend(self.hidden);
        widths.push(data.classes());
        let model = Mlp::new(widths, self.norm, self.dropout);
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let problem = Classifier::new(Self::NAME, Box::new(model), data, choices, self.batch_size);
        family::<Self>("hidden", problem.scored(self.loss, self.normaliser))
    }
}
