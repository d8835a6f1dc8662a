//! Image classification as a task family: a model, a data set, and task instances drawn by seed.
//!
//! ```text
//!  task seed ─┬─ init  ─► initial weights        (truncated normal / √fan-in, biases 0)
//!             └─ batch ─► examples of (split, batch number), drawn with replacement
//! ```
//!
//! Instances of a family differ by these two. Labels are not permuted: initial heads are exchangeable, so that would
//! change nothing.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Error, Layout, Params, Purpose, Result, Seed};

use crate::data::ImageData;
use crate::layers::{Tape, correct, cross_entropy};
use crate::models::Model;

/// Softmax cross-entropy of a model on images.
pub(crate) struct Classifier {
    name: &'static str,
    model: Box<dyn Model>,
    data: Arc<ImageData>,
    batch_size: usize,
}

impl Classifier {
    /// A family of this name. The batch is not larger than the training set, and the model fits the data.
    pub(crate) fn new(name: &'static str, model: Box<dyn Model>, data: Arc<ImageData>, batch_size: usize) -> Self {
        Self { name, model, data, batch_size }
    }

    fn error(&self, reason: impl ToString) -> Error {
        Error::Task { family: self.name.into(), reason: reason.to_string() }
    }

    /// The loss that counts as diverged: half as bad again as knowing nothing.
    fn ceiling(&self) -> f64 {
        1.5 * (self.data.classes() as f64).ln()
    }

    /// The examples of a batch. Test batches walk through the split in order, so that batches 0, 1, … cover it, and
    /// begin again at its end; the other splits are drawn from the task's seed.
    fn indices(&self, seed: Seed, split: Split, batch: u64) -> Vec<usize> {
        let count = self.data.split(split).len();
        let key = match split {
            Split::Train => 0,
            Split::InnerValid => 1,
            Split::OuterValid => 2,
            Split::Test => {
                let start = u128::from(batch) * self.batch_size as u128;
                return (0..self.batch_size).map(|i| ((start + i as u128) % count as u128) as usize).collect();
            }
        };
        let mut draws = Draws::new(seed.purpose(Purpose::Batch).fold_in(key).fold_in(batch));
        let count = u32::try_from(count).expect("readers bound the number of examples");
        (0..self.batch_size).map(|_| draws.below(count) as usize).collect()
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, parameters) = (self.model.describe(), self.model.layout().size());
        write!(f, "{}: {model}, {parameters} parameters, batch {}, data {:?}", self.name, self.batch_size, self.data)
    }
}

impl TaskFamily for Classifier {
    fn name(&self) -> &'static str {
        self.name
    }

    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        let Some(first) = seeds.first() else { return Err(self.error("no lanes to bind")) };
        let shared = seeds.iter().all(|seed| seed == first);
        Ok(Box::new(ClassifierLanes { family: self, seeds: seeds.to_vec(), shared }))
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    /// `clip(loss, 0, 1.5 ln classes)`, the reference's rule for fixed image tasks; not a number is the ceiling.
    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss.clamp(0.0, self.ceiling()) } else { self.ceiling() }
    }
}

struct ClassifierLanes<'a> {
    family: &'a Classifier,
    seeds: Vec<Seed>,
    /// Whether all lanes are the same instance, so that one batch serves all.
    shared: bool,
}

impl ClassifierLanes<'_> {
    /// Images `[lanes | 1, batch, height, width, channels]` and labels of a batch.
    fn gather(&self, split: Split, batch: u64) -> candle_core::Result<(Tensor, Arc<Vec<u32>>)> {
        let family = self.family;
        let [height, width, channels] = family.data.shape();
        let (examples, size) = (family.data.split(split), height * width * channels);
        let instances = if self.shared { &self.seeds[..1] } else { &self.seeds[..] };
        let mut images = Vec::with_capacity(instances.len() * family.batch_size * size);
        let mut labels = Vec::with_capacity(instances.len() * family.batch_size);
        for &seed in instances {
            for index in family.indices(seed, split, batch) {
                images.extend_from_slice(&examples.images[index * size..(index + 1) * size]);
                labels.push(examples.labels[index]);
            }
        }
        let shape = (instances.len(), family.batch_size, height, width, channels);
        Ok((Tensor::from_vec(images, shape, &Device::Cpu)?, Arc::new(labels)))
    }

    /// One tensor of a layout with its lanes, as candle shapes it.
    fn shape(&self, index: usize) -> Vec<usize> {
        [&[self.seeds.len()], self.family.layout().tensors()[index].shape()].concat()
    }

    fn check(&self, params: &Params) -> Result<()> {
        if params.layout() != self.family.layout() {
            return Err(Error::LayoutMismatch {
                what: format!("parameters of {}", self.family.name),
                expected: Arc::clone(self.family.layout()),
                got: Arc::clone(params.layout()),
            });
        }
        if params.lanes() != self.seeds.len() {
            let what = format!("parameters of {}", self.family.name);
            return Err(Error::Lanes { what, expected: self.seeds.len(), got: params.lanes() });
        }
        Ok(())
    }

    fn losses_and_gradients(&self, params: &Params, batch: u64) -> candle_core::Result<(Vec<f32>, Vec<Vec<f32>>)> {
        let (images, labels) = self.gather(Split::Train, batch)?;
        let weights = (0..params.layout().len())
            .map(|index| Tensor::from_slice(params.tensor(index), self.shape(index), &Device::Cpu))
            .collect::<candle_core::Result<Vec<Tensor>>>()?;
        let mut tape = Tape::default();
        weights.iter().for_each(|weight| tape.variable(weight));
        let logits = self.family.model.logits(&mut tape, &weights, &images)?;
        let losses = cross_entropy(&mut tape, &logits, &labels)?;
        // Lanes do not meet, so one backward pass from all losses gives each lane its own gradient.
        let mut gradients = tape.backward(&losses)?;
        let gradients = weights.iter().enumerate().map(|(index, weight)| {
            let name = params.layout().tensors()[index].name();
            let Some(gradient) = gradients.take(weight) else {
                candle_core::bail!("no gradient reached {name}: a layer lost it")
            };
            if gradient.dims() != weight.dims() {
                candle_core::bail!("the gradient of {name} is {:?}, not {:?}", gradient.shape(), weight.shape())
            }
            gradient.flatten_all()?.to_vec1()
        });
        let gradients = gradients.collect::<candle_core::Result<_>>()?;
        Ok((losses.to_vec1()?, gradients))
    }

    fn score(&self, params: &Params, split: Split, batch: u64) -> candle_core::Result<Vec<Evaluation>> {
        let (images, labels) = self.gather(split, batch)?;
        let weights = (0..params.layout().len())
            .map(|index| Tensor::from_slice(params.tensor(index), self.shape(index), &Device::Cpu))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let logits = self.family.model.logits(&mut Tape::default(), &weights, &images)?;
        let losses: Vec<f32> = cross_entropy(&mut Tape::default(), &logits, &labels)?.to_vec1()?;
        let scores = losses.into_iter().zip(correct(&logits, &labels)?);
        let size = self.family.batch_size as f32;
        Ok(scores.map(|(loss, correct)| Evaluation { loss, accuracy: Some(correct as f32 / size) }).collect())
    }
}

/// Initial values of one tensor of one instance: weights truncated normal within two deviations, of deviation
/// 1/√fan-in before truncation, and biases zero (the defaults of Haiku, which the JAX reference trains with).
fn initial(seed: Seed, tensor: usize, shape: &[usize], values: &mut [f32]) {
    let [fan_in @ .., _] = shape else { return };
    if fan_in.is_empty() {
        return;
    }
    let scale = 1.0 / (fan_in.iter().product::<usize>() as f32).sqrt();
    let mut draws = Draws::new(seed.purpose(Purpose::Init).fold_in(tensor as u64));
    for value in values {
        *value = loop {
            let normal = draws.normal();
            if normal.abs() <= 2.0 {
                break normal * scale;
            }
        };
    }
}

impl TaskLanes for ClassifierLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        let layout = self.family.layout();
        let mut params = Params::zeros(layout, self.seeds.len());
        for (index, spec) in layout.tensors().iter().enumerate() {
            for (lane, &seed) in self.seeds.iter().enumerate() {
                initial(seed, index, spec.shape(), params.lane_mut(index, lane));
            }
        }
        Ok(params)
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        self.check(params)?;
        let result = self.losses_and_gradients(params, batch);
        let (losses, gradients) = result.map_err(|error| self.family.error(error))?;
        Ok((losses, Params::from_tensors(self.family.layout(), self.seeds.len(), gradients)?))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.check(params)?;
        self.score(params, split, batch).map_err(|error| self.family.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSettings, ImageSource};
    use crate::layers::{Activation, linear};
    use crate::models::Mlp;

    /// A model that forgets its last bias.
    #[derive(Debug)]
    struct Forgetful(Mlp);

    impl Model for Forgetful {
        fn layout(&self) -> &Arc<Layout> {
            self.0.layout()
        }

        fn logits(&self, tape: &mut Tape, weights: &[Tensor], images: &Tensor) -> candle_core::Result<Tensor> {
            linear(tape, images, &weights[0], &weights[1].zeros_like()?, Activation::Identity)
        }

        fn describe(&self) -> String {
            "forgetful".into()
        }
    }

    fn family(model: impl Fn(Mlp) -> Box<dyn Model>) -> Classifier {
        let settings = DataSettings { source: ImageSource::Procedural, image_size: 3, greyscale: false, data_seed: 0 };
        let data = settings.load("test", None).unwrap();
        Classifier::new("test", model(Mlp::new(vec![9, 10])), data, 30)
    }

    #[test]
    fn a_missing_gradient_is_an_error_that_names_the_tensor() {
        let family = family(|mlp| Box::new(Forgetful(mlp)));
        let mut lanes = family.bind(&[Seed::new(1)]).unwrap();
        let params = lanes.init_params().unwrap();
        let error = lanes.loss_and_grads(&params, 0).unwrap_err();
        assert!(matches!(&error, Error::Task { reason, .. } if reason.contains("layer_0/b")), "{error}");
    }

    #[test]
    fn test_batches_cover_the_split_in_order() {
        let family = family(|mlp| Box::new(mlp));
        let all: Vec<usize> = (0..67).flat_map(|batch| family.indices(Seed::new(5), Split::Test, batch)).collect();
        let count = family.data.test.len();
        assert!(all.iter().enumerate().all(|(i, &index)| index == i % count));
        assert!(all.len() > count);
    }

    #[test]
    fn other_splits_draw_from_the_seed_the_split_and_the_batch() {
        let family = family(|mlp| Box::new(mlp));
        let of = |seed, split, batch| family.indices(Seed::new(seed), split, batch);
        let base = of(1, Split::InnerValid, 0);
        assert_eq!(base, of(1, Split::InnerValid, 0));
        for other in [of(2, Split::InnerValid, 0), of(1, Split::OuterValid, 0), of(1, Split::InnerValid, 1)] {
            assert_ne!(base, other);
        }
    }
}
