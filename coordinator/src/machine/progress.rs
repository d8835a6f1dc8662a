//! How far each entry of a run's mixture has come: its meta-loss over the outer steps, in few numbers.
//!
//! ```text
//!  outer steps   0 … steps/40 … 2 steps/40 …            … steps      40 blocks (one a step in shorter runs)
//!  entry 0      │Σ n│Σ n│Σ n│Σ n│   │Σ n│ … │Σ n│
//!               └── first ──┘               └ latest ┘              4 blocks each: a tenth of the run
//! ```
//!
//! Sums grow when a step folds, in slot order, so they are the same whatever the fleet; they are stored with the step,
//! so a restart finds them to the bit.
//!
//! The first steps of a run under a window estimator all stand near the beginning of their trajectories, where losses are
//! high whatever the optimizer does: where horizons last more than a tenth of a run, part of an entry's improvement is
//! that.

use std::sync::Arc;

use paceline_optimizer_core::outer::Contribution;
use paceline_proto::model::{EntryProgress, RunSpec, SpanLoss};

/// Blocks of a run.
const BLOCKS: u64 = 40;
/// Blocks that a comparison takes at either end: a tenth of the run.
const SPAN: usize = 4;

/// What the entries of a mixture have brought, up to the run's outer step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixtureProgress {
    /// One for each entry of the mixture, in order.
    pub entries: Vec<EntryCurve>,
}

/// One entry's sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryCurve {
    /// Contributions folded.
    pub contributions: u64,
    /// Inner steps trained, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u64,
    /// Blocks that hold a contribution, in order.
    pub blocks: Vec<Block>,
}

/// One entry's losses over one block of outer steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Number of the block in its run, from 0.
    pub index: u64,
    /// Contributions in it.
    pub contributions: u64,
    /// Sum of their mean normalised meta-losses.
    pub loss: f64,
}

/// Outer steps of one block of a run.
fn block_steps(outer_steps: u64) -> u64 {
    outer_steps.div_ceil(BLOCKS).max(1)
}

impl MixtureProgress {
    /// Takes in a folded step; contributions in slot order.
    pub(super) fn add<'a>(
        &mut self,
        spec: &RunSpec,
        outer_step: u64,
        contributions: impl Iterator<Item = &'a Arc<Contribution>>,
    ) {
        self.entries.resize(spec.tasks.len(), EntryCurve::default());
        let block = outer_step / block_steps(spec.outer.steps);
        for contribution in contributions {
            let family = contribution.window.family(spec.estimator.window());
            if let Some(entry) = self.entries.get_mut(family) {
                entry.add(block, contribution);
            }
        }
    }

    /// Where each entry of a run of `outer_steps` steps stands.
    pub(super) fn entries(&self, outer_steps: u64) -> Vec<EntryProgress> {
        self.entries.iter().map(|entry| entry.progress(outer_steps)).collect()
    }
}

/// The mean meta-loss of each entry in one folded step; `None` where it had no slot.
pub(super) fn entry_losses<'a>(
    spec: &RunSpec,
    contributions: impl Iterator<Item = &'a Arc<Contribution>>,
) -> Vec<Option<f64>> {
    let mut sums = vec![(0_u32, 0.0); spec.tasks.len()];
    for contribution in contributions {
        if let Some((count, sum)) = sums.get_mut(contribution.window.family(spec.estimator.window())) {
            *count += 1;
            *sum += contribution.result.loss();
        }
    }
    sums.into_iter().map(|(count, sum)| (count > 0).then(|| sum / f64::from(count))).collect()
}

impl EntryCurve {
    fn add(&mut self, block: u64, contribution: &Contribution) {
        self.contributions += 1;
        self.inner_steps = self.inner_steps.saturating_add(contribution.inner_steps);
        self.diverged_lanes += u64::from(contribution.diverged_lanes);
        if self.blocks.last().is_none_or(|last| last.index < block) {
            self.blocks.push(Block { index: block, contributions: 0, loss: 0.0 });
        }
        if let Some(last) = self.blocks.last_mut() {
            last.contributions += 1;
            last.loss += contribution.result.loss();
        }
    }

    /// Two spans that do not overlap: of its first blocks and of its latest.
    fn progress(&self, outer_steps: u64) -> EntryProgress {
        let length = (self.blocks.len() / 2).clamp(1, SPAN);
        let span = |blocks: &[Block]| {
            let steps = block_steps(outer_steps);
            let (first, last) = (blocks.first()?, blocks.last()?);
            let contributions = blocks.iter().map(|block| block.contributions).sum::<u64>();
            let loss: f64 = blocks.iter().map(|block| block.loss).sum();
            let to = ((last.index + 1) * steps).min(outer_steps);
            Some(SpanLoss { from: first.index * steps, to, contributions, meta_loss: loss / contributions as f64 })
        };
        EntryProgress {
            contributions: self.contributions,
            inner_steps: self.inner_steps,
            diverged_lanes: self.diverged_lanes,
            first: span(self.blocks.get(..length).unwrap_or_default()),
            latest: match self.blocks.len() {
                0 | 1 => None,
                blocks => span(&self.blocks[blocks - length..]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::outer::SlotResult;
    use paceline_optimizer_core::schedule::{Trajectory, Window};

    use super::*;

    fn contribution(family: usize, loss: f64) -> Arc<Contribution> {
        Arc::new(Contribution {
            slot: 0,
            window: Window { current: Trajectory { family, horizon: 30, ..Trajectory::default() }, next: None },
            result: SlotResult::Dense { gradient: Vec::new(), loss },
            inner_steps: 10,
            diverged_lanes: 1,
        })
    }

    fn spec(outer_steps: u64) -> RunSpec {
        serde_json::from_value(serde_json::json!({
            "name": "mix", "seed": 1, "optimizer": { "kind": "learnable_adam" },
            "estimator": { "kind": "pes", "window": 5, "sigma": 0.1, "horizon": { "kind": "constant", "steps": 30 } },
            "outer": { "steps": outer_steps, "slots": 2, "pairs_per_slot": 1, "optimizer": { "learning_rate": 0.01 } },
            "tasks": [{ "family": "a" }, { "family": "b" }]
        }))
        .unwrap()
    }

    /// Entry 0 in every step with loss 1000 − step, entry 1 in the second half with loss 1.
    fn after(steps: u64, outer_steps: u64) -> MixtureProgress {
        let mut progress = MixtureProgress::default();
        for step in 0..steps {
            let other = (step >= outer_steps / 2).then(|| contribution(1, 1.0));
            let both = [Some(contribution(0, 1000.0 - step as f64)), other];
            progress.add(&spec(outer_steps), step, both.iter().flatten());
        }
        progress
    }

    #[test]
    fn a_whole_run_compares_its_first_tenth_with_its_last() {
        let [first, second] = after(400, 400).entries(400)[..] else { panic!("two entries") };
        assert_eq!((first.contributions, first.inner_steps, first.diverged_lanes), (400, 4000, 400));
        let expected = SpanLoss { from: 0, to: 40, contributions: 40, meta_loss: 1000.0 - 19.5 };
        assert_eq!(first.first, Some(expected));
        let expected = SpanLoss { from: 360, to: 400, contributions: 40, meta_loss: 1000.0 - 379.5 };
        assert_eq!(first.latest, Some(expected));
        assert_eq!(second.contributions, 200);
        assert_eq!(second.first.map(|span| (span.from, span.to)), Some((200, 240)), "its own beginning");
    }

    #[test]
    fn the_losses_of_a_step_are_means_over_its_slots() {
        let step = [contribution(0, 1.0), contribution(0, 2.0)];
        assert_eq!(entry_losses(&spec(10), step.iter()), [Some(1.5), None]);
    }

    #[test]
    fn spans_never_overlap() {
        for steps in 0..=130 {
            let entry = after(steps, 100_000).entries(100_000).first().copied().unwrap_or_default();
            assert_eq!(entry.first.is_some(), steps > 0);
            assert_eq!(entry.latest, None, "one block says nothing about improvement");
        }
        for steps in 2..=12 {
            let entry = after(steps, 12).entries(12)[0];
            let (first, latest) = (entry.first.unwrap(), entry.latest.unwrap());
            assert!(first.to <= latest.from, "{steps}: {first:?} {latest:?}");
            assert_eq!(latest.to, steps);
            assert!(first.meta_loss > latest.meta_loss);
        }
    }

    #[test]
    fn a_run_of_any_length_has_few_blocks() {
        for outer_steps in [1, 39, 40, 41, 400, 401] {
            let progress = after(outer_steps, outer_steps);
            assert!(progress.entries[0].blocks.len() as u64 <= BLOCKS, "{outer_steps}");
        }
    }
}
