//! `sampled_learned_optimizer`: small learned optimizers of random kind, trained on short trainings of a small network (the
//! reference's `sample_lopt`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use serde_json::json;

use super::{Caps, Dice, Sampler, range_fault};
use crate::families::learned_optimizer::LearnedOptimizerSettings;

/// An optimizer of this kind with its default sizes.
fn small(kind: &str) -> LearnedOptimizerConfig {
    serde_json::from_value(json!({ "kind": kind })).expect("every kind has defaults")
}

/// Settings of `sampled_learned_optimizer`. Ranges are inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SampledLearnedOptimizer {
    /// Inner steps of an unroll, log-uniform; 2 at least (the reference has 1), since the loss before the first update
    /// does not see the optimizer.
    steps: [u32; 2],
    /// Inner tasks of a batch, log-uniform.
    tasks: [u32; 2],
    /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
    max_flop: f64,
    /// Most bytes of a member, a lane.
    max_bytes: f64,
}

impl Default for SampledLearnedOptimizer {
    fn default() -> Self {
        let Caps { max_flop, max_bytes } = Caps::default();
        Self { steps: [2, 100], tasks: [1, 8], max_flop, max_bytes }
    }
}

impl Sampler for SampledLearnedOptimizer {
    type Base = LearnedOptimizerSettings;
    const NAME: &'static str = "sampled_learned_optimizer";
    const SUMMARY: &'static str = "train small learned optimizers of random kind, unroll and batch";

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        let _ = data_dir;
        self
    }

    fn fault(&self) -> Option<String> {
        let ranges = [range_fault("steps", self.steps, [2, 1000]), range_fault("tasks", self.tasks, [1, 64])];
        ranges.into_iter().flatten().next()
    }

    fn caps(&self) -> Caps {
        Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
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
