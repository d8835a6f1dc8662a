//! What all runs and workers look like at one moment, for people and their tools.

use std::collections::BTreeMap;
use std::time::Duration;

use paceline_proto::model::RunState;

use super::fact::{DeviceClass, Fact};
use super::fleet::Fleet;

/// Ended runs shown beside all that go on.
const ENDED_SHOWN: usize = 20;

/// A moment of a coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Live workers by class of device, in order of the class.
    pub workers: Vec<WorkerGroup>,
    /// Workers in a long poll.
    pub waiting: usize,
    /// Runs that go on, and the last of those that ended; newest first.
    pub runs: Vec<RunView>,
    /// Ended runs left out.
    pub more_ended: usize,
}

/// Live workers of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerGroup {
    /// The class.
    pub device: DeviceClass,
    /// Heard of within the time a lease lives.
    pub active: usize,
    /// Silent for longer, not yet forgotten.
    pub suspect: usize,
    /// Threads they compute with.
    pub threads: u64,
    /// Inner steps a second of those that are active, each between its last two heartbeats.
    pub inner_steps_per_second: f64,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// Where it stands.
    pub state: RunState,
    /// Meta-loss of the last folded step for each entry of the mixture; `None` where it had no slot in that step.
    pub entry_losses: Vec<Option<f64>>,
    /// Distance that theta moved in the last step folded since this start.
    pub update_norm: Option<f64>,
    /// Pairs that carried its meta-gradient; `None` too where results are sums already.
    pub effective_samples: Option<f64>,
    /// Leases held.
    pub held: usize,
    /// Slots of the current step without a result.
    pub pending_slots: usize,
    /// Time since the oldest lease that is held was given.
    pub oldest_lease: Option<Duration>,
    /// Mean place of the step's windows in their trajectories, from 0 to 1; `None` without slots.
    pub unroll_position: Option<f64>,
    /// How results were judged since this start of the coordinator.
    pub tally: Tally,
    /// What the newest failure or refusal was, in words; empty if there was none since this start.
    pub trouble: String,
}

impl RunView {
    /// A run of which nothing moves any more.
    pub(crate) fn of_ended(state: RunState) -> Self {
        Self {
            state,
            entry_losses: Vec::new(),
            update_norm: None,
            effective_samples: None,
            held: 0,
            pending_slots: 0,
            oldest_lease: None,
            unroll_position: None,
            tally: Tally::default(),
            trouble: String::new(),
        }
    }
}

/// Judgements of one run's results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Results that were sound.
    pub judged: u64,
    /// Those of them whose lease was over or whose slot was filled.
    pub late: u64,
    /// Outer steps the run was ahead of them, in all.
    pub stale_steps: u64,
    /// Results refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Takes in a fact about a result.
    pub(super) fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::ResultJudged { staleness, late, .. } => {
                self.judged += 1;
                self.late += u64::from(*late);
                self.stale_steps = self.stale_steps.saturating_add(*staleness);
            }
            Fact::ResultRejected { reason, .. } => *self.refused.entry(reason).or_default() += 1,
            Fact::WorkerJoined(_)
            | Fact::WorkerLost(_)
            | Fact::HeartbeatLate(_)
            | Fact::LeaseIssued { .. }
            | Fact::LeaseEnded { .. }
            | Fact::SlotFilled { .. } => {}
        }
    }

    /// Mean steps the run was ahead of a sound result; 0 before the first.
    pub fn staleness(&self) -> f64 {
        self.stale_steps as f64 / self.judged.max(1) as f64
    }
}

impl Fleet {
    /// The moment `now`.
    pub fn survey(&self, now: Duration) -> Survey {
        let ended = self.runs.iter().filter(|run| run.status.is_final()).count();
        let mut room = ENDED_SHOWN;
        let mut shown = |ended: bool| {
            let fits = !ended || room > 0;
            room -= usize::from(ended && fits);
            fits
        };
        let runs = self.runs.iter().rev().filter(|run| shown(run.status.is_final()));
        Survey {
            workers: self.roster.groups(now, self.settings.lease_ttl),
            waiting: self.waiters.len(),
            runs: runs.map(|run| run.view(&self.roster, now)).collect(),
            more_ended: ended.saturating_sub(ENDED_SHOWN),
        }
    }
}
