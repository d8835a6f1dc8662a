//! `image_ae`: a multilayer perceptron that gives back the image it is shown, the reference's MLP auto-encoders.
//!
//! ```text
//!  image in [0, 1], or centred to [−1, 1] ─► hidden ─► … ─► linear ─► squashed to that range, or not ─► (ln) mean square
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Result as LayerResult, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choice, Choices, Initialiser, OneOf, Scale};
use super::images::{Which, gather, pictures};
use super::settings::{FamilySettings, check_batch, check_choices, check_widths, family};
use crate::Error;
use crate::data::{DataSettings, ImageData, ImageSource};
use crate::layers::{Nonlinearity, log_mean_squared_error, mean_squared_error, nonlinearity};
use crate::models::{Mlp, Model, Norm};
use crate::problem::{Initial, Normaliser, Parameters, Pass, Problem, Scores};
use crate::sample::Panel;

/// What an auto-encoder minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reconstruction {
    /// Mean over examples and pixels of the squared difference.
    Mse,
    /// Its logarithm.
    LogMse,
}

impl Reconstruction {
    /// The reference's rule for this loss: that of its fixed tasks, or of the parametric ones.
    fn normaliser(self) -> Normaliser {
        match self {
            Self::Mse => Normaliser::FixedAutoEncoder,
            Self::LogMse => Normaliser::ParametricAutoEncoder,
        }
    }
}

/// Settings of `image_ae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ImageAe {
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
    /// Whether values are in `[−1, 1]` instead of `[0, 1]`.
    pub(super) centred: bool,
    /// Whether outputs are squashed to the range of the values: by a sigmoid, or by tanh where they are centred.
    pub(super) squashed: bool,
    /// What is minimised: `mse` or `log_mse`.
    pub(super) loss: Reconstruction,
    /// How losses are normalised; if not given, as the reference does for the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) normaliser: Option<Normaliser>,
    /// Hidden activation: one, or several of which each task draws one.
    pub(super) activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    pub(super) initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    pub(super) initial_scale: Scale,
    /// Examples in a batch.
    pub(super) batch_size: usize,
}

impl Default for ImageAe {
    fn default() -> Self {
        Self {
            data: ImageSource::default(),
            data_seed: 0,
            image_size: 8,
            greyscale: false,
            hidden: vec![32],
            centred: false,
            squashed: true,
            loss: Reconstruction::Mse,
            normaliser: None,
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 64,
        }
    }
}

impl FamilySettings for ImageAe {
    const NAME: &'static str = "image_ae";
    const SUMMARY: &'static str = "compress small images with a multilayer perceptron";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("hidden", &self.hidden)?;
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let Self { data: source, data_seed, image_size, greyscale, .. } = self;
        let data = DataSettings { source, image_size, greyscale, data_seed }.load(Self::NAME, data_dir)?;
        check_batch::<Self>(self.batch_size, data.train.len())?;
        let pixels = data.shape().iter().product();
        let model = Mlp::new([&[pixels], self.hidden.as_slice(), &[pixels]].concat(), Norm::None, 0.0);
        let Self { centred, squashed, loss, batch_size, .. } = self;
        let normaliser = self.normaliser.unwrap_or(loss.normaliser());
        family::<Self>("hidden", AutoEncoder { model, data, choices, batch_size, centred, squashed, loss, normaliser })
    }
}

/// The reconstruction error of a perceptron on images.
struct AutoEncoder {
    model: Mlp,
    data: Arc<ImageData>,
    choices: Choices,
    batch_size: usize,
    centred: bool,
    squashed: bool,
    loss: Reconstruction,
    normaliser: Normaliser,
}

impl fmt::Debug for AutoEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { choices, batch_size, data, loss, .. } = self;
        let centred = if self.centred { ", centred" } else { "" };
        let squashed = if self.squashed { ", squashed" } else { "" };
        let (model, parameters) = (self.model.describe(), self.parameters().layout().size());
        write!(f, "auto-encoding {model}, {choices}{centred}{squashed}, {loss:?}, {parameters} parameters, ")?;
        write!(f, "batch {batch_size}, data {data:?}")
    }
}

impl Problem for AutoEncoder {
    type Instance = Choice;
    /// Images `[lanes | 1, batch, pixels]`.
    type Batch = Tensor;

    fn name(&self) -> &'static str {
        ImageAe::NAME
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
        let images = images.flatten(2, 4)?;
        if self.centred { images.affine(2.0, -1.0) } else { Ok(images) }
    }

    fn tensors(images: &Tensor) -> Vec<&Tensor> {
        vec![images]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], images: &Tensor) -> LayerResult<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let output = self.model.logits(pass, &activations, images)?;
        let range = match (self.squashed, self.centred) {
            (false, _) => Nonlinearity::Identity,
            (true, false) => Nonlinearity::Sigmoid,
            (true, true) => Nonlinearity::Tanh,
        };
        let output = nonlinearity(&mut pass.tape, &output, &[range])?;
        let losses = match self.loss {
            Reconstruction::Mse => mean_squared_error(&mut pass.tape, &output, images)?,
            Reconstruction::LogMse => log_mean_squared_error(&mut pass.tape, &output, images)?,
        };
        Ok(Scores { losses, classified: None })
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.normaliser.apply(loss, self.data.classes())
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        pictures(&self.data, seed)
    }
}
