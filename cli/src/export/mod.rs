//! The folded steps of a run as files of other programs.
//!
//! ```text
//!  coordinator ─ FoldedStep, a page at a time ─┬─► csv          one row a step
//!                                              ├─► jsonl        one object a line
//!                                              └─► tensorboard  a folder with one event file
//! ```

mod tensorboard;
mod text;

use clap::ValueEnum;
use paceline_proto::model::{FoldedStep, RunState};

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table with a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// A folder that TensorBoard reads.
    Tensorboard,
}

impl Form {
    /// What a file of a run is called unless somebody says; TensorBoard calls a run by its folder.
    pub(crate) fn default_name(self, run: &str) -> String {
        match self {
            Self::Csv => format!("{run}.csv"),
            Self::Jsonl => format!("{run}.jsonl"),
            Self::Tensorboard => run.to_owned(),
        }
    }

    /// The name of the file in the folder a person names, where the form is a folder.
    pub(crate) fn file_in_folder(self, run: &str) -> Option<String> {
        match self {
            Self::Csv | Self::Jsonl => None,
            // TensorBoard takes every file with this word in its name.
            Self::Tensorboard => Some(format!("events.out.tfevents.paceline.{run}")),
        }
    }

    /// The bytes of the file.
    pub(crate) fn bytes(self, state: &RunState, steps: &[FoldedStep]) -> Vec<u8> {
        match self {
            Self::Csv => text::csv(state, steps).into_bytes(),
            Self::Jsonl => text::jsonl(state, steps).into_bytes(),
            Self::Tensorboard => tensorboard::events(state, steps),
        }
    }
}

/// A name for each entry of the mixture: its family, with its place where a family stands there more than once.
fn entry_names(state: &RunState) -> Vec<String> {
    let tasks = &state.spec.tasks;
    let twice = |family: &str| tasks.iter().filter(|task| task.family == family).count() > 1;
    let name = |(index, family): (usize, &str)| {
        if twice(family) { format!("{family}_{index}") } else { family.to_owned() }
    };
    tasks.iter().map(|task| task.family.as_str()).enumerate().map(name).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use paceline_optimizer_core::outer::Variance;

    use super::*;

    /// A run of two entries and its first two steps.
    pub(crate) fn example() -> (RunState, Vec<FoldedStep>) {
        let mut state = crate::pace::tests::state(2, 2, None);
        let task = state.spec.tasks[0].clone();
        state.spec.tasks = vec![task.clone(), task];
        let step = |outer_step, entry_losses| FoldedStep {
            outer_step,
            folded_at_ms: 1_700_000_000_500 + outer_step,
            meta_loss: 2.5 / outer_step as f64,
            grad_norm: 0.1,
            variance: Variance { signal_to_noise: (outer_step > 1).then_some(-0.25), antithetic_correlation: None },
            update_norm: 1e-3,
            inner_steps: 400 * outer_step,
            diverged_lanes: 1,
            entry_losses,
        };
        (state, vec![step(1, vec![Some(2.5), None]), step(2, vec![Some(1.0), Some(1.5)])])
    }

    #[test]
    fn entries_of_one_family_are_told_apart() {
        let (mut state, _) = example();
        let family = state.spec.tasks[0].family.clone();
        assert_eq!(entry_names(&state), [format!("{family}_0"), format!("{family}_1")]);
        state.spec.tasks.pop();
        assert_eq!(entry_names(&state), [family]);
    }
}
