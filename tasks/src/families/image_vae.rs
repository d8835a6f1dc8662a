//! `image_vae`: a variational auto-encoder of images, the reference's Gaussian MLP VAEs.
//!
//! The loss is the negative evidence bound in nats a pixel value, with the exact likelihood of 8-bit pixels and one
//! sample of the latent normal an example. Evaluation samples too, as in the reference: the bound is defined by the
//! sample, and the mean alone would be scored better than the model is. Samples are drawn from the seed of the batch, so
//! that equal batches have equal losses.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result as LayerResult, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choice, Choices, Initialiser, OneOf, Scale};
use super::images::{Which, gather, pictures};
use super::settings::{FamilySettings, check_batch, check_choices, check_widths, family};
use crate::Error;
use crate::data::{DataSettings, ImageData, ImageSource};
use crate::layers::Nonlinearity;
use crate::models::Vae;
use crate::problem::{Initial, Normaliser, Parameters, Pass, Problem, Scores};
use crate::sample::Panel;

/// Settings of `image_vae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageVae {
    /// Where images come from.
    pub(super) data: ImageSource,
    /// Seed of procedural data.
    pub(super) data_seed: u64,
    /// Height and width of an image.
    pub(super) image_size: usize,
    /// Whether colours become grey.
    pub(super) greyscale: bool,
    /// Widths of the encoder's hidden layers.
    pub(super) encoder: Vec<usize>,
    /// Entries of the latent normal.
    pub(super) latent: usize,
    /// Widths of the decoder's hidden layers.
    pub(super) decoder: Vec<usize>,
    /// Hidden activation: one, or several of which each task draws one.
    pub(super) activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    pub(super) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    pub(super) initial_scale: Scale,
    /// Examples in a batch.
    pub(super) batch_size: usize,
    /// How losses are normalised.
    pub(super) normaliser: Normaliser,
}

impl Default for ImageVae {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            encoder: vec![32],
            latent: 8,
            decoder: vec![32],
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 32,
            normaliser: Normaliser::ParametricVae,
        }
    }
}

impl FamilySettings for ImageVae {
    const NAME: &'static str = "image_vae";
    const SUMMARY: &'static str = "model small images with a variational auto-encoder";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("encoder", &self.encoder)?;
        check_widths::<Self>("latent", &[self.latent])?;
        check_widths::<Self>("decoder", &self.decoder)?;
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let Self { data: source, data_seed, image_size, greyscale, batch_size, normaliser, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(batch_size, data.train.len())?;
        let model = Vae::new(data.shape().iter().product(), self.encoder, self.latent, self.decoder);
        family::<Self>("encoder, decoder", Variational { model, data, choices, batch_size, normaliser })
    }
}

/// The negative evidence bound of images.
struct Variational {
    model: Vae,
    data: Arc<ImageData>,
    choices: Choices,
    batch_size: usize,
    normaliser: Normaliser,
}

impl fmt::Debug for Variational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, data, choices, batch_size, .. } = self;
        let parameters = self.parameters().layout().size();
        write!(f, "{model:?}, {choices}, {parameters} parameters, batch {batch_size}, data {data:?}")
    }
}

impl Problem for Variational {
    type Instance = Choice;
    /// Images `[lanes | 1, batch, pixels]`.
    type Batch = Tensor;

    fn name(&self) -> &'static str {
        ImageVae::NAME
    }

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn instance(&self, seed: Seed) -> Choice {
        self.choices.draw(seed)
    }

    fn initial(&self, choice: &Choice, index: usize) -> Initial {
        choice.initial(self.parameters(), index)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn batch(&self, tasks: &[(Seed, Choice)], split: Split, number: u64, size: usize) -> LayerResult<Tensor> {
        let (images, _) = gather(&self.data, tasks, Which { split, number, size, batch_size: self.batch_size })?;
        images.flatten(2, 4)
    }

    fn tensors(images: &Tensor) -> Vec<&Tensor> {
        vec![images]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], images: &Tensor) -> LayerResult<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let (batch, latent) = (images.dim(1)?, self.model.latent());
        let mut epsilon = vec![0.0; tasks.len() * batch * latent];
        for (seed, values) in pass.next_seeds().into_iter().zip(epsilon.chunks_exact_mut(batch * latent)) {
            noise::normals(seed, 0, values);
        }
        let epsilon = Tensor::from_vec(epsilon, (tasks.len(), batch, latent), &Device::Cpu)?;
        let losses = self.model.negative_bound(pass, &activations, images, &epsilon)?;
        Ok(Scores { losses, classified: None })
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.normaliser.apply(loss, self.data.classes())
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        pictures(&self.data, seed)
    }
}
