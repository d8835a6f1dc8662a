//! Building a run: new, or from what was stored of it.
//!
//! ```text
//!  checkpoint c ──fold──► c+1 ──fold──► … ──fold──► current step v: filled slots from the journal, leases held again
//!     └── at or before the beginning of the oldest live trajectory
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use paceline_optimizer_core::outer::Contribution;
use paceline_optimizer_core::schedule::{Mixture, SlotSequence};
use paceline_proto::model::{Ledger, RunStatus};

use super::lease_table::LeaseTable;
use super::meta_run::MetaRun;
use super::progress::MixtureProgress;
use super::record::{RunRecord, Standing, StoredRun};
use super::survey::Tally;
use super::verdict::Expected;

/// What must be rebuilt before a stored run can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Oldest version of theta that live trajectories may need.
    pub from: u64,
    /// Version of theta to arrive at.
    pub to: u64,
}

impl Replay {
    /// What this run needs; `None` if it has ended.
    ///
    /// # Errors
    /// If the stored spec cannot be planned, in words.
    pub fn of(run: &StoredRun) -> Result<Option<Self>, String> {
        if run.standing.status.is_final() {
            return Ok(None);
        }
        let to = run.standing.outer_step;
        let sequences = sequences(&run.record, to)?;
        let from = sequences.iter().map(|sequence| sequence.window().current.began).min().unwrap_or(to);
        Ok(Some(Self { from, to }))
    }
}

/// Folds the stored steps `from..standing.outer_step` in order, starting from the state at `from`.
///
/// # Errors
/// If a step's results are incomplete, or what `fold` says.
pub fn replay<S>(
    run: &StoredRun,
    from: u64,
    start: S,
    mut fold: impl FnMut(S, u64, &[Arc<Contribution>]) -> Result<S, String>,
) -> Result<S, String> {
    let slots = run.record.spec.outer.slots as usize;
    let mut state = start;
    for outer_step in from..run.standing.outer_step {
        let first = run.results.partition_point(|(step, _)| *step < outer_step);
        let of_step = run.results[first..].iter().take_while(|(step, _)| *step == outer_step);
        let contributions: Vec<Arc<Contribution>> = of_step.map(|(_, contribution)| Arc::clone(contribution)).collect();
        if contributions.len() != slots {
            return Err(format!(
                "the journal holds {} of {slots} results of step {outer_step}; restore the data folder from a backup",
                contributions.len()
            ));
        }
        state = fold(state, outer_step, &contributions)?;
    }
    Ok(state)
}

/// What every slot of a run does, standing at `outer_step`.
fn sequences(record: &RunRecord, outer_step: u64) -> Result<Vec<SlotSequence>, String> {
    let spec = &record.spec;
    let weights = spec.tasks.iter().map(|task| task.weight.clone()).collect();
    let mixture = Mixture::new(weights, spec.outer.steps).map_err(|error| error.to_string())?;
    let mixture = Arc::new(mixture);
    (0..spec.outer.slots)
        .map(|slot| {
            let mut sequence = SlotSequence::of_mixture(spec.seed, slot, &spec.estimator, spec.outer.steps, &mixture)
                .map_err(|error| error.to_string())?;
            sequence.advance_to(outer_step);
            Ok(sequence)
        })
        .collect()
}

impl MetaRun {
    /// A run at step 0. Its spec was checked.
    pub(super) fn new(record: RunRecord, theta_hash: paceline_optimizer_core::ThetaHash) -> Result<Self, String> {
        let standing = Standing {
            status: RunStatus::Running,
            outer_step: 0,
            theta_hash,
            last: None,
            inner_steps: 0,
            diverged_lanes: 0,
            ledger: Ledger::default(),
            journal_from: 0,
        };
        let stored = StoredRun {
            record: Arc::new(record),
            standing,
            progress: MixtureProgress::default(),
            leases: Vec::new(),
            results: Vec::new(),
            checkpoints: Vec::new(),
            evaluations: BTreeSet::new(),
        };
        Self::restored(stored, Duration::ZERO, Duration::ZERO)
    }

    /// A run as it was stored. Leases that were held are held for another `ttl`.
    pub(super) fn restored(stored: StoredRun, now: Duration, ttl: Duration) -> Result<Self, String> {
        let StoredRun { record, standing, progress, leases, results, checkpoints, evaluations } = stored;
        let ended = standing.status.is_final();
        let sequences = if ended { Vec::new() } else { sequences(&record, standing.outer_step)? };
        let spec = &record.spec;
        let form = spec.result_form().map_err(|error| error.to_string())?;
        let expected = Expected::new(&spec.outer, &spec.estimator, record.theta_size, form);
        let ending = (!ended && standing.outer_step >= record.spec.outer.steps).then_some(RunStatus::Completed);
        let mut run = Self {
            expected,
            status: standing.status,
            ending,
            end_waiters: Vec::new(),
            shutting_down: false,
            folding: false,
            encoding: false,
            outer_step: standing.outer_step,
            theta_hash: standing.theta_hash,
            last: standing.last,
            inner_steps: standing.inner_steps,
            diverged_lanes: standing.diverged_lanes,
            progress,
            entry_losses: Vec::new(),
            update_norm: None,
            effective_samples: None,
            sequences,
            slots: Vec::new(),
            leases: LeaseTable::restored(leases, standing.ledger, now, ttl),
            checkpoints,
            evaluations,
            journal_from: standing.journal_from,
            durations: VecDeque::new(),
            trouble: String::new(),
            tally: Tally::default(),
            record,
        };
        run.open_slots();
        for (_, contribution) in results.into_iter().filter(|(step, _)| *step == run.outer_step) {
            if let Some(slot) = run.slots.get_mut(contribution.slot as usize) {
                slot.result = Some(contribution);
            }
        }
        Ok(run)
    }
}
