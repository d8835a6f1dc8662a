//! Image classification: a model, a data set, and a loss.
//!
//! ```text
//!  task seed ─┬─ init  ─► initial weights
//!             └─ batch ─► examples of (split, batch number), drawn with replacement ─► model ─► loss
//! ```
//!
//! Instances of a family differ by these two, and by what [`super::choices`] lets them draw. Labels are not permuted:
//! initial heads are exchangeable, so that would change nothing.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::feed_forward::FeedForward;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::choices::{Choice, Choices, OneOf};
use super::images::{Which, gather, pictures};
use crate::data::ImageData;
use crate::layers::{Nonlinearity, cross_entropy, mean_squared_error};
use crate::models::Model;
use crate::problem::{Classified, Initial, Normaliser, Parameters, Pass, Problem, Scores, TestSplit, indices};
use crate::sample::Panel;

/// What a classifier minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClassLoss {
    /// Softmax cross-entropy.
    #[default]
    CrossEntropy,
    /// Mean over examples and classes of the squared difference between the outputs and 1 for the class, 0 elsewhere.
    Mse,
}

impl ClassLoss {
    /// The rule of the reference's fixed tasks with this loss.
    pub(crate) fn normaliser(self) -> Normaliser {
        match self {
            Self::CrossEntropy => Normaliser::FixedCrossEntropy,
            Self::Mse => Normaliser::FixedMse,
        }
    }
}

/// The loss of a model on images.
pub(crate) struct Classifier {
    name: &'static str,
    model: Box<dyn Model>,
    data: Arc<ImageData>,
    choices: Choices,
    batch_size: usize,
    loss: ClassLoss,
    normaliser: Normaliser,
}

impl Classifier {
    /// A problem of this name, with a cross-entropy. The batch is not larger than the training set, and the model fits the data.
    pub(crate) fn new(
        name: &'static str,
        model: Box<dyn Model>,
        data: Arc<ImageData>,
        choices: Choices,
        batch_size: usize,
    ) -> Self {
        let loss = ClassLoss::default();
        Self { name, model, data, choices, batch_size, loss, normaliser: loss.normaliser() }
    }

    /// The same problem with this loss, normalised by this rule, or by that of the loss.
    #[must_use]
    pub(crate) fn scored(self, loss: ClassLoss, normaliser: Option<Normaliser>) -> Self {
        Self { loss, normaliser: normaliser.unwrap_or(loss.normaliser()), ..self }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, parameters) = (self.model.describe(), self.parameters().layout().size());
        let Self { choices, batch_size, data, .. } = self;
        let loss = if self.loss == ClassLoss::Mse { ", mean squared error" } else { "" };
        write!(f, "{model}, {choices}{loss}, {parameters} parameters, batch {batch_size}, data {data:?}")
    }
}

/// Images `[lanes | 1, batch, height, width, channels]` and their labels, row by row.
pub(crate) struct Labelled {
    pub(crate) images: Tensor,
    pub(crate) labels: Arc<Vec<u32>>,
}

impl Problem for Classifier {
    type Instance = Choice;
    type Batch = Labelled;

    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn state(&self) -> Option<&Parameters> {
        self.model.state()
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

    fn test_split(&self) -> Option<TestSplit> {
        TestSplit::new(self.data.test.len(), self.batch_size)
    }

    fn batch(&self, tasks: &[(Seed, Choice)], split: Split, number: u64, size: usize) -> Result<Labelled> {
        let (images, labels) = gather(&self.data, tasks, Which { split, number, size, batch_size: self.batch_size })?;
        Ok(Labelled { images, labels: Arc::new(labels) })
    }

    fn tensors(batch: &Labelled) -> Vec<&Tensor> {
        vec![&batch.images]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], batch: &Labelled) -> Result<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let logits = self.model.logits(pass, &activations, &batch.images)?;
        let losses = match self.loss {
            ClassLoss::CrossEntropy => cross_entropy(&mut pass.tape, &logits, &batch.labels)?,
            ClassLoss::Mse => {
                let targets = one_hot(&batch.labels, batch.images.dim(0)?, self.data.classes())?;
                pass.tape.constant(&targets);
                mean_squared_error(&mut pass.tape, &logits, &targets)?
            }
        };
        let classified = Classified { logits, labels: Arc::clone(&batch.labels), padding: None };
        Ok(Scores { losses, classified: Some(classified) })
    }

    fn feed_forward(&self) -> Option<FeedForward<'_>> {
        let plain = self.loss == ClassLoss::CrossEntropy && self.choices.activation == OneOf::One(Nonlinearity::Relu);
        let layers = self.model.plain_layers().filter(|_| plain)?;
        let (train, size) = (&self.data.train, self.batch_size);
        let batch = move |seed, number| {
            let numbers = indices(seed, Split::Train, number, train.len(), size, size);
            // `indices` drew them as u32.
            numbers.into_iter().map(|number| number as u32).collect()
        };
        Some(FeedForward {
            input: self.data.shape(),
            layers,
            batch_size: size,
            images: &train.images,
            labels: &train.labels,
            batch: Box::new(batch),
        })
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.normaliser.apply(loss, self.data.classes())
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        pictures(&self.data, seed)
    }
}

/// Labels below `classes` of `tasks` batches as `[tasks, batch, classes]`: 1 at the label, 0 elsewhere.
fn one_hot(labels: &[u32], tasks: usize, classes: usize) -> Result<Tensor> {
    let mut values = vec![0.0_f32; labels.len() * classes];
    for (row, &label) in values.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = 1.0;
    }
    Tensor::from_vec(values, (tasks, labels.len() / tasks, classes), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Error;
    use paceline_optimizer_core::task::TaskFamily;

    use super::*;
    use crate::data::{DataSettings, ImageSource};
    use crate::layers::{Activation, linear};
    use crate::models::{Mlp, Norm};
    use crate::problem::ProblemFamily;

    /// A model that forgets its last bias.
    #[derive(Debug)]
    struct Forgetful(Mlp);

    impl Model for Forgetful {
        fn parameters(&self) -> &Parameters {
            self.0.parameters()
        }

        fn logits(&self, pass: &mut Pass<'_>, _: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
            let (weight, bias) = (pass.weight()?, pass.weight()?);
            linear(&mut pass.tape, images, weight, &bias.zeros_like()?, Activation::Identity)
        }

        fn describe(&self) -> String {
            "forgetful".into()
        }
    }

    #[test]
    fn a_missing_gradient_is_an_error_that_names_the_tensor() {
        let settings = DataSettings { source: ImageSource::Procedural, image_size: 3, greyscale: false, data_seed: 0 };
        let data = settings.load("test", None).unwrap();
        let model = Box::new(Forgetful(Mlp::new(vec![9, 10], Norm::None, 0.0)));
        let family = ProblemFamily::new(Classifier::new("test", model, data, Choices::default(), 30));
        let mut lanes = family.bind(&[Seed::new(1)]).unwrap();
        let params = lanes.init_params().unwrap();
        let error = lanes.loss_and_grads(&params, 0).unwrap_err();
        assert!(matches!(&error, Error::Task { reason, .. } if reason.contains("layer_0/b")), "{error}");
    }
}
