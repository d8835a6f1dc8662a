//! One training of one experiment, and its score on the whole test split.

use std::time::{Duration, Instant};

use paceline_optimizer_core::optimizer::Optimizer;
use paceline_optimizer_core::task::{Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Params, Seed};
use paceline_tasks::{Family, TestSplit};

use crate::failure::Failure;

/// What a training came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trained {
    /// Share of the test split classified right; 0 if the training diverged.
    pub(super) accuracy: f64,
    /// Mean test loss; NaN if the training diverged.
    pub(super) loss: f64,
    /// How long it took.
    pub(super) took: Duration,
}

/// Trains the task of this seed, in a lane of its own, and scores the whole test split.
pub(super) fn train(family: &dyn Family, optimizer: &dyn Optimizer, seed: u64, steps: u32) -> Result<Trained, Failure> {
    let begun = Instant::now();
    let test = family.test_split();
    let test = test.ok_or_else(|| Failure::bug(format!("{} does not tell its test split", family.name())))?;
    let mut lanes = family.bind(&[Seed::new(seed)])?;
    let params = lanes.init_params()?;
    let mut state = optimizer.init(params, &[steps])?;
    for step in 0..steps {
        let (losses, gradients) = lanes.loss_and_grads(&state.params, u64::from(step))?;
        state = optimizer.update(state, &gradients, &losses)?;
    }
    let (accuracy, loss) = score(&mut *lanes, &state.params, test)?;
    // Which class a NaN names says nothing.
    let (accuracy, loss) = if loss.is_finite() { (accuracy, loss) } else { (0.0, f64::NAN) };
    Ok(Trained { accuracy, loss, took: begun.elapsed() })
}

/// Accuracy and loss over the test split from those of its batches: each example counts once, so a short batch counts
/// less.
fn score(lanes: &mut dyn TaskLanes, params: &Params, test: TestSplit) -> Result<(f64, f64), Failure> {
    let (mut accuracy, mut loss) = (0.0, 0.0);
    for number in 0..test.batches() {
        let scores = lanes.evaluate(params, Split::Test, number)?;
        let [Evaluation { loss: lost, accuracy: Some(right) }] = scores[..] else {
            return Err(Failure::bug("the task of an experiment scores no accuracy of one lane"));
        };
        let size = test.size(number) as f64;
        accuracy += size * f64::from(right);
        loss += size * f64::from(lost);
    }
    let examples = test.examples() as f64;
    Ok((accuracy / examples, loss / examples))
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::optimizer::{Adam, OptimizerConfig, Sgd};
    use serde_json::json;

    use super::*;

    fn family(batch_size: usize) -> std::sync::Arc<dyn Family> {
        let settings = json!({"data": "procedural", "image_size": 8, "hidden": [16], "batch_size": batch_size});
        let settings = settings.as_object().expect("a table");
        paceline_tasks::build("image_mlp", settings, None).expect("a family")
    }

    fn sgd(learning_rate: f32) -> Box<dyn Optimizer> {
        OptimizerConfig::Sgd(Sgd { learning_rate: learning_rate.into() }).build().expect("an optimizer")
    }

    #[test]
    fn every_test_example_counts_once_whatever_the_batch() {
        // 2,000 examples: 20 batches of 100, but 20 of 96 and one of 80. Untrained, so that the weights are the same.
        let score = |batch_size| train(&*family(batch_size), &*sgd(0.1), 3, 0).expect("scores");
        let (even, uneven, whole) = (score(100), score(96), score(2000));
        let right = 2000.0 * even.accuracy;
        assert!((right - right.round()).abs() < 1e-3 && right > 0.0, "{right} of 2000 right");
        for other in [uneven, whole] {
            assert!((other.accuracy - even.accuracy).abs() < 1e-6, "{other:?} {even:?}");
            assert!((other.loss - even.loss).abs() < 1e-5, "{other:?} {even:?}");
        }
    }

    #[test]
    fn a_training_learns_and_a_diverged_one_has_no_accuracy() {
        let adam = OptimizerConfig::Adam(Adam::new(0.01)).build().expect("an optimizer");
        let trained = train(&*family(64), &*adam, 0, 400).expect("trains");
        assert!(trained.accuracy > 0.5, "{trained:?}");
        let lost = train(&*family(64), &*sgd(1e30), 0, 20).expect("trains");
        assert!(lost.accuracy == 0.0 && lost.loss.is_nan(), "{lost:?}");
    }
}
