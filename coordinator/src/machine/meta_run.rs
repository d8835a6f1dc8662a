//! One run: the slots of its current outer step, its leases, and what becomes of results.
//!
//! ```text
//!  slot:  open ──offer──► held (one lease, or two when hedged) ──valid result──► filled
//!           ▲                 │
//!           └── expired, released, refused, failed
//! ```
//!
//! Whether a slot is open follows from the lease table; only its window and its result are kept beside it. What happens
//! when all slots are filled is told in [`super::step`].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::{Contribution, SlotResult, StepSummary};
use paceline_optimizer_core::schedule::{SlotSequence, Window};
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CheckpointInfo, Directive, Holdings, Lease, LeaseKey, ResultBody, RunId, RunSpec, RunState, RunStatus, Submission,
    Token, Verdict, WorkerId,
};

use super::choice::{OpenSlot, choose_open, expected_cost, hedge_after};
use super::event::{Grant, Moment, Ticket};
use super::fact::{AttemptKind, DeviceClass, Fact, Outcome};
use super::lease_table::LeaseTable;
use super::outbox::Outbox;
use super::progress::MixtureProgress;
use super::record::{LeaseRecord, LeaseState, Record, RunOrder, RunRecord, Standing};
use super::roster::Roster;
use super::survey::{RunView, Tally};
use super::verdict::{Decision, Expected, decide};

/// Failures of one slot after which a run cannot go on.
pub(super) const MAX_FAILURES: usize = 5;
/// Refused results of one slot after which the run's reason says so.
const REFUSALS_WORTH_A_WORD: usize = 3;
/// Completed leases whose durations decide when a slot is hedged.
const DURATIONS_KEPT: usize = 64;
/// Largest theta that travels inside a lease, in bytes; a larger one is pulled.
const INLINE_THETA: usize = 256 * 1024;

/// A place in the current outer step.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// What it runs.
    pub(super) window: Window,
    /// What came back.
    pub(super) result: Option<Arc<Contribution>>,
}

/// A worker that wants a lease.
#[derive(Clone, Debug)]
pub(super) struct Want {
    /// The worker.
    pub(super) worker: WorkerId,
    /// What it holds.
    pub(super) holdings: Vec<Holdings>,
    /// When it asked.
    pub(super) since: Duration,
}

/// What every lease of this coordinator has in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The coordinator's epoch.
    pub(super) epoch: u64,
    /// Time a lease lives without a heartbeat.
    pub(super) ttl: Duration,
}

/// A run and everything that changes in it.
#[derive(Clone, Debug)]
pub(super) struct MetaRun {
    pub(super) record: Arc<RunRecord>,
    /// What its results must look like.
    pub(super) expected: Expected,
    pub(super) status: RunStatus,
    /// The final status the run takes once its last checkpoint is made.
    pub(super) ending: Option<RunStatus>,
    /// Who waits for the end.
    pub(super) end_waiters: Vec<Ticket>,
    pub(super) shutting_down: bool,
    /// A fold is under way.
    pub(super) folding: bool,
    /// A checkpoint is being encoded.
    pub(super) encoding: bool,
    pub(super) outer_step: u64,
    pub(super) theta_hash: ThetaHash,
    pub(super) last: Option<StepSummary>,
    pub(super) inner_steps: u64,
    pub(super) diverged_lanes: u64,
    /// How far the entries of the mixture have come.
    pub(super) progress: MixtureProgress,
    /// Meta-loss of each entry in the last step folded in this life; `None` where it had no slot.
    pub(super) entry_losses: Vec<Option<f64>>,
    /// Distance that theta moved in that step.
    pub(super) update_norm: Option<f64>,
    /// Pairs that carried its meta-gradient.
    pub(super) effective_samples: Option<f64>,
    pub(super) sequences: Vec<SlotSequence>,
    /// Empty once the run has ended.
    pub(super) slots: Vec<Slot>,
    pub(super) leases: LeaseTable,
    /// Oldest first.
    pub(super) checkpoints: Vec<CheckpointInfo>,
    /// Outer steps of the checkpoints whose evaluations are kept.
    pub(super) evaluations: BTreeSet<u64>,
    pub(super) journal_from: u64,
    pub(super) durations: VecDeque<Duration>,
    /// Why the newest failure or refusal happened.
    pub(super) trouble: String,
    /// How results were judged in this life.
    pub(super) tally: Tally,
}

impl MetaRun {
    pub(super) fn id(&self) -> &RunId {
        &self.record.run
    }

    pub(super) fn order(&self) -> RunOrder {
        self.record.order
    }

    pub(super) fn spec(&self) -> &RunSpec {
        &self.record.spec
    }

    /// Whether leases may be given at all.
    pub(super) fn leases_open(&self) -> bool {
        self.status == RunStatus::Running && self.ending.is_none() && !self.shutting_down && !self.folding
    }

    /// Whether some worker could get a lease now: a slot is open, or a lease takes unusually long.
    pub(super) fn may_offer(&self, now: Duration) -> bool {
        let patience = hedge_after(self.durations.iter().copied()).unwrap_or(Duration::MAX);
        let slow = |slot: u32| {
            let mut held = self.leases.of_slot(self.outer_step, slot).filter(|e| e.record.state == LeaseState::Held);
            held.all(|entry| now.saturating_sub(entry.given_at) > patience)
        };
        self.leases_open() && self.unfilled().any(|(slot, _)| slow(slot))
    }

    fn is_held(&self, slot: u32) -> bool {
        self.leases.of_slot(self.outer_step, slot).any(|entry| entry.record.state == LeaseState::Held)
    }

    fn unfilled(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.result.is_none())
    }

    /// LG-1, and that nobody holds a slot that is filled.
    pub(super) fn is_consistent(&self) -> bool {
        let fits = |slot: u32| self.slots.get(slot as usize).is_none_or(|slot| slot.result.is_none());
        self.leases.is_consistent()
            && self.leases.held(0).all(|held| held.record.outer_step == self.outer_step && fits(held.record.slot))
    }

    fn families(&self, window: &Window) -> impl Iterator<Item = &str> {
        let next = window.next.map(|next| next.family);
        std::iter::once(window.current.family).chain(next).map(|family| self.spec().tasks[family].family.as_str())
    }

    /// The slot to lease to this worker, if any: an open one, else one whose lease takes unusually long.
    fn choose(&self, want: &Want, roster: &Roster, now: Duration) -> Option<u32> {
        let can_run = |slot: &Slot| self.families(&slot.window).all(|family| roster.can_run(&want.worker, family));
        let own = want.holdings.iter().find(|holding| holding.run == *self.id());
        let failed_here = |slot: u32| {
            self.leases
                .of_slot(self.outer_step, slot)
                .any(|entry| entry.record.state == LeaseState::Failed && entry.record.worker == want.worker)
        };
        let open =
            self.unfilled().filter(|(index, slot)| !self.is_held(*index) && can_run(slot)).map(|(slot, _)| OpenSlot {
                slot,
                cached_here: own.is_some_and(|own| own.slots.contains(&slot)),
                cached_elsewhere: roster.cached_elsewhere(self.id(), slot, &want.worker),
                failed_here: failed_here(slot),
                cost: expected_cost(
                    &self.slots[slot as usize].window,
                    self.spec().estimator.window(),
                    &self.record.costs,
                ),
            });
        choose_open(open).or_else(|| {
            let patience = hedge_after(self.durations.iter().copied())?;
            let slow = |slot: u32| {
                let mut held =
                    self.leases.of_slot(self.outer_step, slot).filter(|entry| entry.record.state == LeaseState::Held);
                let only = held.next()?;
                let alone = held.next().is_none() && only.record.worker != want.worker;
                (alone && now.saturating_sub(only.given_at) > patience).then_some(only.given_at)
            };
            self.unfilled()
                .filter(|(_, slot)| can_run(slot))
                .filter_map(|(index, _)| Some((slow(index)?, index)))
                .min()
                .map(|(_, index)| index)
        })
    }

    /// Gives the worker a lease, if there is one for it.
    pub(super) fn offer(
        &mut self,
        want: &Want,
        roster: &Roster,
        terms: &Terms,
        moment: &mut Moment<'_>,
        out: &mut Outbox,
    ) -> Option<Grant> {
        if !self.leases_open() {
            return None;
        }
        let slot = self.choose(want, roster, moment.now)?;
        let attempt = self.leases.of_slot(self.outer_step, slot).last().map_or(1, |entry| entry.record.attempt + 1);
        let kind = match attempt {
            _ if self.is_held(slot) => AttemptKind::Hedge,
            1 => AttemptKind::First,
            _ => AttemptKind::Retry,
        };
        let record = LeaseRecord {
            token: Token((moment.random)()),
            outer_step: self.outer_step,
            slot,
            attempt,
            worker: want.worker.clone(),
            theta_hash: self.theta_hash,
            state: LeaseState::Held,
        };
        let key = LeaseKey { run: self.id().clone(), outer_step: self.outer_step, slot, token: record.token };
        let device = roster.device(&want.worker);
        self.leases.give(record.clone(), device, moment.now, moment.now + terms.ttl);
        out.facts.push(Fact::LeaseIssued {
            run: self.id().clone(),
            kind,
            waited: moment.now.saturating_sub(want.since),
            open: self.unfilled().filter(|(slot, _)| !self.is_held(*slot)).count(),
        });
        out.store(self.order(), Record::Lease(self.order(), record));
        let own = want.holdings.iter().find(|holding| holding.run == *self.id());
        Some(Grant {
            lease: Lease {
                key,
                attempt,
                epoch: terms.epoch,
                ttl: terms.ttl,
                window: self.slots[slot as usize].window,
                theta_hash: self.theta_hash,
                theta: None,
                spec: own.is_none().then(|| Box::new(self.spec().clone())),
                traceparent: None,
            },
            attach_theta: self.record.theta_size * size_of::<f32>() <= INLINE_THETA
                && own.is_none_or(|own| own.theta_version != self.outer_step),
            worker: want.worker.clone(),
        })
    }

    /// Judges a submission and keeps what it brings.
    pub(super) fn submit(
        &mut self,
        submission: Submission,
        digest: [u8; 32],
        now: Duration,
        out: &mut Outbox,
    ) -> Result<Verdict, Fault> {
        let LeaseKey { run, outer_step, slot, token } = submission.lease.clone();
        let Some(lease) = self.leases.find(token) else {
            return Err(match self.leases.any_given(outer_step, slot) {
                true => Fault::LeaseTokenForeign { run, outer_step, slot },
                false => Fault::LeaseNotFound { run, outer_step, slot },
            });
        };
        let known = &lease.record;
        if (known.outer_step, known.slot) != (outer_step, slot) || known.worker != submission.worker {
            return Err(Fault::LeaseTokenForeign { run, outer_step, slot });
        }
        let undecided = matches!(known.state, LeaseState::Held | LeaseState::Expired | LeaseState::Released);
        let over = known.state != LeaseState::Held;
        let (took, device) = (now.saturating_sub(lease.given_at), lease.device);
        // Slots of earlier steps are all filled, or their step could not have closed.
        let slot_filled =
            outer_step < self.outer_step || self.slots.get(slot as usize).is_some_and(|slot| slot.result.is_some());
        let decision = decide(&self.expected, lease, slot_filled, &submission, digest);
        if let Some(fact) = self.judged(&decision, outer_step, over) {
            self.tally.note(&fact);
            out.facts.push(fact);
        }
        match decision {
            Ok(Decision::Repeat) => Ok(Verdict::AlreadyAccepted),
            Ok(Decision::TooLate) => Ok(Verdict::Superseded),
            Ok(Decision::Failed | Decision::Fill) if self.status.is_final() => Err(self.finished()),
            Ok(Decision::Failed) => {
                if undecided {
                    self.note_failure(&submission, out);
                }
                Ok(Verdict::FailureNoted)
            }
            Ok(Decision::Fill) => {
                self.fill(submission, digest, (took, device), out);
                Ok(Verdict::Accepted)
            }
            Err(fault) => {
                if undecided {
                    self.trouble = format!("slot {slot} of step {outer_step}, worker {}: {fault:?}", submission.worker);
                    self.change(token, LeaseState::Rejected, out);
                }
                Err(fault)
            }
        }
    }

    /// What is counted of a judgement.
    fn judged(&self, decision: &Result<Decision, Fault>, outer_step: u64, over: bool) -> Option<Fact> {
        let run = self.id().clone();
        let late = match decision {
            Ok(Decision::Repeat | Decision::Failed) => return None,
            Ok(Decision::Fill) => over,
            Ok(Decision::TooLate) => true,
            Err(fault) => return Some(Fact::ResultRejected { run, reason: fault.reason() }),
        };
        Some(Fact::ResultJudged { run, staleness: self.outer_step.saturating_sub(outer_step), late })
    }

    fn note_failure(&mut self, submission: &Submission, out: &mut Outbox) {
        let LeaseKey { outer_step, slot, token, .. } = submission.lease;
        self.change(token, LeaseState::Failed, out);
        let said = match &submission.body {
            ResultBody::Failure { reason } => reason.as_str(),
            ResultBody::SeedCoded(_) | ResultBody::Dense { .. } => "",
        };
        self.trouble = format!("slot {slot} of step {outer_step}, worker {}: {said}", submission.worker);
        let failures = self.leases.of_slot(outer_step, slot).filter(|entry| entry.record.state == LeaseState::Failed);
        if outer_step == self.outer_step && failures.count() >= MAX_FAILURES && self.ending.is_none() {
            let reason = format!("slot {slot} of step {outer_step} failed {MAX_FAILURES} times; the last time: {said}");
            self.end(RunStatus::Failed { reason }, out);
        }
    }

    fn fill(
        &mut self,
        submission: Submission,
        digest: [u8; 32],
        (took, device): (Duration, DeviceClass),
        out: &mut Outbox,
    ) {
        let LeaseKey { outer_step, slot, token, .. } = submission.lease;
        debug_assert_eq!(outer_step, self.outer_step, "LS-3: only the current step has unfilled slots");
        let result = match submission.body {
            ResultBody::SeedCoded(coded) => SlotResult::SeedCoded(coded.pairs),
            ResultBody::Dense { gradient, loss } => SlotResult::Dense { gradient, loss },
            ResultBody::Failure { .. } => return,
        };
        let place = &mut self.slots[slot as usize];
        debug_assert!(place.result.is_none(), "LS-2: a slot is filled once");
        let contribution = Arc::new(Contribution {
            slot,
            window: place.window,
            result,
            inner_steps: submission.inner_steps,
            diverged_lanes: submission.diverged_lanes,
        });
        place.result = Some(Arc::clone(&contribution));
        let family = self.spec().tasks[contribution.window.current.family].family.clone();
        out.facts.push(Fact::SlotFilled { family, device, took });
        let others: Vec<Token> = self
            .leases
            .of_slot(outer_step, slot)
            .filter(|entry| entry.record.state == LeaseState::Held && entry.record.token != token)
            .map(|entry| entry.record.token)
            .collect();
        out.store(self.order(), Record::Result { run: self.order(), outer_step, contribution });
        self.change(token, LeaseState::Accepted { digest }, out);
        for other in others {
            self.change(other, LeaseState::Superseded, out);
        }
        self.durations.push_back(took);
        if self.durations.len() > DURATIONS_KEPT {
            self.durations.pop_front();
        }
        self.proceed(out);
    }

    /// Moves a lease to another state and stores it; its slot may be open now.
    fn change(&mut self, token: Token, state: LeaseState, out: &mut Outbox) {
        if let Some(record) = self.leases.change(token, state) {
            out.store(self.order(), Record::Lease(self.order(), record));
            let (outcome, frees) = match state {
                LeaseState::Held => return,
                LeaseState::Accepted { .. } => (Outcome::Accepted, false),
                LeaseState::Superseded => (Outcome::Superseded, false),
                LeaseState::Expired => (Outcome::Expired, true),
                LeaseState::Released => (Outcome::Released, true),
                LeaseState::Rejected => (Outcome::Rejected, true),
                LeaseState::Failed => (Outcome::Failed, true),
            };
            out.facts.push(Fact::LeaseEnded { run: self.id().clone(), token, outcome });
            out.opened |= frees;
        }
    }

    /// What a worker should do with a lease it names; renews it if it is to go on.
    pub(super) fn directive(
        &mut self,
        worker: &WorkerId,
        key: &LeaseKey,
        deadline: Duration,
        out: &mut Outbox,
    ) -> Directive {
        let Some(known) = self.leases.find(key.token).map(|entry| &entry.record) else { return Directive::Cancel };
        let own = known.worker == *worker && (known.outer_step, known.slot) == (key.outer_step, key.slot);
        let unfilled = key.outer_step == self.outer_step
            && self.slots.get(key.slot as usize).is_some_and(|slot| slot.result.is_none());
        let state = known.state;
        if !own || !unfilled || self.status.is_final() || self.ending.is_some() {
            return Directive::Cancel;
        }
        match state {
            LeaseState::Held => {}
            // The worker was only slow, and nobody else is at it: its work goes on.
            LeaseState::Expired if !self.is_held(key.slot) => self.change(key.token, LeaseState::Held, out),
            LeaseState::Expired
            | LeaseState::Accepted { .. }
            | LeaseState::Superseded
            | LeaseState::Released
            | LeaseState::Rejected
            | LeaseState::Failed => return Directive::Cancel,
        }
        self.leases.renew(key.token, deadline);
        Directive::Continue
    }

    /// Takes a lease back from its worker; false if it does not hold it.
    pub(super) fn release(&mut self, worker: &WorkerId, key: &LeaseKey, out: &mut Outbox) -> bool {
        let held = self
            .leases
            .find(key.token)
            .is_some_and(|entry| entry.record.worker == *worker && entry.record.state == LeaseState::Held);
        if held {
            self.change(key.token, LeaseState::Released, out);
        }
        held
    }

    /// Lets overdue leases expire.
    pub(super) fn expire(&mut self, now: Duration, out: &mut Outbox) {
        for token in self.leases.overdue(self.outer_step, now) {
            self.change(token, LeaseState::Expired, out);
        }
    }

    pub(super) fn finished(&self) -> Fault {
        let status = match &self.status {
            RunStatus::Running => "running",
            RunStatus::Paused => "paused",
            RunStatus::Completed => "completed",
            RunStatus::Stopped => "stopped",
            RunStatus::Failed { .. } => "failed",
        };
        Fault::RunFinished { run: self.id().clone(), status: status.to_owned() }
    }

    /// Why the run waits, in words; empty when it just runs.
    fn reason(&self, roster: &Roster) -> String {
        match &self.status {
            RunStatus::Failed { reason } => return reason.clone(),
            RunStatus::Completed | RunStatus::Stopped => return String::new(),
            RunStatus::Paused => return "paused".to_owned(),
            RunStatus::Running => {}
        }
        if self.ending.is_some() {
            return "waiting for the last checkpoint".to_owned();
        }
        if roster.live() == 0 {
            return "waiting for workers".to_owned();
        }
        let unknown =
            self.unfilled().flat_map(|(_, slot)| self.families(&slot.window)).find(|f| !roster.any_can_run(f));
        if let Some(family) = unknown {
            return format!("no live worker can run the task family {family:?}");
        }
        let refused = |slot: u32| {
            let leases = self.leases.of_slot(self.outer_step, slot);
            leases.filter(|entry| matches!(entry.record.state, LeaseState::Rejected | LeaseState::Failed)).count()
        };
        match self.unfilled().find(|(slot, _)| refused(*slot) >= REFUSALS_WORTH_A_WORD) {
            Some((slot, _)) => format!("slot {slot} of step {} is tried again: {}", self.outer_step, self.trouble),
            None => String::new(),
        }
    }

    /// Where the run stands, for people.
    pub(super) fn state(&self, roster: &Roster) -> RunState {
        RunState {
            run: self.id().clone(),
            spec: self.spec().clone(),
            status: self.status.clone(),
            reason: self.reason(roster),
            outer_step: self.outer_step,
            meta_loss: self.last.map(|last| last.meta_loss),
            grad_norm: self.last.map(|last| last.grad_norm),
            variance: self.last.map(|last| last.variance).unwrap_or_default(),
            inner_steps: self.inner_steps,
            diverged_lanes: self.diverged_lanes,
            theta_hash: self.theta_hash,
            durable_checkpoint: self.checkpoints.last().map_or(0, |newest| newest.outer_step),
            workers: roster.live(),
            ledger: self.leases.ledger(),
            costs: self.record.costs.clone(),
            entries: self.progress.entries(self.spec().outer.steps),
        }
    }

    /// The run at one moment, for people and their tools.
    pub(super) fn view(&self, roster: &Roster, now: Duration) -> RunView {
        let position = |slot: &Slot| {
            let trajectory = slot.window.current;
            f64::from(trajectory.inner_step) / f64::from(trajectory.length().max(1))
        };
        let slots = self.slots.len();
        RunView {
            state: self.state(roster),
            entry_losses: self.entry_losses.clone(),
            update_norm: self.update_norm,
            effective_samples: self.effective_samples,
            held: self.leases.held(self.outer_step).count(),
            pending_slots: self.unfilled().count(),
            oldest_lease: self.leases.held(self.outer_step).map(|entry| now.saturating_sub(entry.given_at)).max(),
            unroll_position: (slots > 0).then(|| self.slots.iter().map(position).sum::<f64>() / slots as f64),
            tally: self.tally.clone(),
            trouble: self.trouble.clone(),
        }
    }

    /// Where the run stands, for the store.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            status: self.status.clone(),
            outer_step: self.outer_step,
            theta_hash: self.theta_hash,
            last: self.last,
            inner_steps: self.inner_steps,
            diverged_lanes: self.diverged_lanes,
            ledger: self.leases.ledger(),
            journal_from: self.journal_from,
        }
    }
}
