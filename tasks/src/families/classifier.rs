//! Image classification: a model and a data set.
//!
//! ```text
//!  task seed ─┬─ init  ─► initial weights
//!             └─ batch ─► examples of (split, batch number), drawn with replacement ─► model ─► cross-entropy
//! ```
//!
//! Instances of a family differ by these two, and by what [`super::choices`] lets them draw. Labels are not permuted: initial heads are exchangeable, so that would
//! change nothing.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;

use super::choices::{Choice, Choices};
use crate::data::ImageData;
use crate::layers::{Nonlinearity, correct, cross_entropy};
use crate::models::Model;
use crate::problem::{Initial, Parameters, Pass, Problem, Scores, indices};
use crate::sample::Panel;

/// Softmax cross-entropy of a model on images.
pub(crate) struct Classifier {
    name: &'static str,
    model: Box<dyn Model>,
    data: Arc<ImageData>,
    choices: Choices,
    batch_size: usize,
}

impl Classifier {
    /// A problem of this name. The batch is not larger than the training set, and the model fits the data.
    pub(crate) fn new(
        name: &'static str,
        model: Box<dyn Model>,
        data: Arc<ImageData>,
        choices: Choices,
        batch_size: usize,
    ) -> Self {
        Self { name, model, data, choices, batch_size }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, parameters) = (self.model.describe(), self.parameters().layout().size());
        write!(f, "{model}, {}, {parameters} parameters, batch {}, data {:?}", self.choices, self.batch_size, self.data)
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

    fn batch(&self, tasks: &[(Seed, Choice)], split: Split, number: u64, size: usize) -> Result<Labelled> {
        let [height, width, channels] = self.data.shape();
        let (examples, pixels) = (self.data.split(split), height * width * channels);
        let mut images = Vec::with_capacity(tasks.len() * size * pixels);
        let mut labels = Vec::with_capacity(tasks.len() * size);
        for &(seed, _) in tasks {
            for index in indices(seed, split, number, examples.len(), self.batch_size, size) {
                images.extend_from_slice(&examples.images[index * pixels..(index + 1) * pixels]);
                labels.push(examples.labels[index]);
            }
        }
        let images = Tensor::from_vec(images, (tasks.len(), size, height, width, channels), &Device::Cpu)?;
        Ok(Labelled { images, labels: Arc::new(labels) })
    }

    fn tensors(batch: &Labelled) -> Vec<&Tensor> {
        vec![&batch.images]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], batch: &Labelled) -> Result<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let logits = self.model.logits(pass, &activations, &batch.images)?;
        let losses = cross_entropy(&mut pass.tape, &logits, &batch.labels)?;
        let size = batch.images.dim(1)? as f32;
        let accuracy = correct(&logits, &batch.labels)?.into_iter().map(|right| right as f32 / size).collect();
        Ok(Scores { losses, accuracy: Some(accuracy) })
    }

    /// `clip(loss, 0, 1.5 ln classes)`, the reference's rule for fixed image tasks; not a number is the ceiling.
    fn normalise(&self, loss: f64) -> f64 {
        let ceiling = 1.5 * (self.data.classes() as f64).ln();
        if loss.is_finite() { loss.clamp(0.0, ceiling) } else { ceiling }
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let [height, width, channels] = self.data.shape();
        let (examples, pixels) = (&self.data.train, height * width * channels);
        let picked = indices(seed, Split::Train, 0, examples.len(), 12, 12);
        let picture = |index: usize| Panel::Picture {
            title: format!("class {}", examples.labels[index]),
            height,
            width,
            channels,
            values: examples.images[index * pixels..(index + 1) * pixels].to_vec(),
        };
        picked.into_iter().map(picture).collect()
    }
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
