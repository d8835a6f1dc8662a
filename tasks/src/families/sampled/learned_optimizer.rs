//! `sampled_learned_optimizer`: small learned optimizers of random kind, trained on short trainings of a small network (the
//! reference's `sample_lopt`).

use std::path::Path;

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use serde_json::json;

use super::{Dice, within};
use crate::families::learned_optimizer::LearnedOptimizerSettings;

/// An optimizer of this kind with its default sizes.
fn small(kind: &str) -> LearnedOptimizerConfig {
    serde_json::from_value(json!({ "kind": kind })).expect("every kind has defaults")
}

sampler! {
    /// Settings of `sampled_learned_optimizer`. Ranges are inclusive.
    SampledLearnedOptimizer draws LearnedOptimizerSettings as "sampled_learned_optimizer",
        "train small learned optimizers of random kind, unroll and batch";
    settings {
        /// Inner steps of an unroll, log-uniform; 2 at least (the reference has 1), since the loss before the first update
        /// does not see the optimizer.
        steps: [u32; 2] = [2, 100], within([2, 1000]);
        /// Inner tasks of a batch, log-uniform.
        tasks: [u32; 2] = [1, 8], within([1, 64]);
    }
    impl {
        fn resolve(self, data_dir: Option<&Path>) -> Self {
            let _ = data_dir;
            self
        }

        fn draw(&self, dice: &mut Dice) -> LearnedOptimizerSettings {
            let optimizer = match dice.int([0, 4]) {
                0 => LearnedOptimizerConfig::LearnableAdam,
                1 => LearnedOptimizerConfig::LearnableSgdm,
                2 => LearnedOptimizerConfig::LearnableSgd,
                3 => small("mlp"),
                _ => small("adafac_mlp"),
            };
            LearnedOptimizerSettings {
                optimizer,
                steps: dice.log_int(self.steps) as u32,
                tasks: dice.log_int(self.tasks) as u32,
                ..LearnedOptimizerSettings::default()
            }
        }

        /// Theta acts on whole trainings.
        fn examples(_: &LearnedOptimizerSettings) -> usize {
            1
        }

        /// The problem inside is small and its data are shared.
        fn blank(base: LearnedOptimizerSettings) -> LearnedOptimizerSettings {
            base
        }
    }
}
