//! How a run moves from step to step, and how it ends.
//!
//! ```text
//!              ┌────────────── checkpoint not due ◄── step + 1 ◄──────────────┐
//!              ▼                                                              │
//!  slots open ──► all filled ──► (no checkpoint under way) ──► fold ──► StepFolded
//!                                        ▲                                    │ due, or ending
//!                                        └───── CheckpointMade ◄── encode ◄───┘
//! ```
//!
//! [`MetaRun::proceed`] alone decides what comes next. At most one checkpoint of a run is under way: a fold waits for
//! it, so that checkpoints come in order and cannot pile up. Leases are given meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use paceline_proto::model::{CheckpointInfo, RunStatus};

use super::event::{Effect, StepResult};
use super::meta_run::{MetaRun, Slot};
use super::outbox::{Outbox, StateAnswer};
use super::progress::entry_losses;
use super::record::Record;
use super::samples::effective_samples;

/// Steps before the current one whose leases are remembered at least, to answer repeats and late results by name.
const LATE_STEPS: u64 = 16;

impl MetaRun {
    /// Does what is due next.
    pub(super) fn proceed(&mut self, out: &mut Outbox) {
        if self.folding || self.encoding || self.status.is_final() {
            return;
        }
        let newest = self.checkpoints.last().map(|newest| newest.outer_step);
        let missing = newest != Some(self.outer_step);
        let due = newest.is_none()
            || self.shutting_down
            || self.ending.is_some()
            || self.outer_step.is_multiple_of(u64::from(self.spec().checkpoint.every));
        if missing && due {
            self.encoding = true;
            let parent = self.checkpoints.last().map(|newest| newest.sha256);
            out.effects.push(Effect::Checkpoint { run: self.id().clone(), parent });
        } else if let Some(status) = self.ending.take() {
            self.finish(status, out);
        } else if !self.shutting_down && self.slots.iter().all(|slot| slot.result.is_some()) {
            self.folding = true;
            let contributions = self.slots.iter().filter_map(|slot| slot.result.clone()).collect();
            out.effects.push(Effect::Fold { run: self.id().clone(), outer_step: self.outer_step, contributions });
        }
    }

    /// Takes the result of a fold and opens the next step.
    pub(super) fn folded(&mut self, result: Result<StepResult, String>, out: &mut Outbox) {
        debug_assert!(self.folding, "a fold comes back only once");
        self.folding = false;
        match result {
            Err(reason) => {
                let reason = format!("step {} could not be folded: {reason}", self.outer_step);
                self.end(RunStatus::Failed { reason }, out);
            }
            Ok(step) => {
                let record = Arc::clone(&self.record);
                let contributions = || self.slots.iter().filter_map(|slot| slot.result.as_ref());
                self.progress.add(&record.spec, self.outer_step, contributions());
                self.entry_losses = entry_losses(&record.spec, contributions());
                self.effective_samples = effective_samples(contributions());
                self.update_norm = Some(step.update_norm);
                out.store(self.order(), Record::Progress(self.order(), self.progress.clone()));
                self.outer_step += 1; // CK-3
                let folded = step.folded(self.outer_step, self.entry_losses.clone());
                out.store(self.order(), Record::Step(self.order(), folded));
                self.theta_hash = step.theta_hash;
                self.last = Some(step.summary);
                self.inner_steps = step.inner_steps;
                self.diverged_lanes = step.diverged_lanes;
                self.sequences.iter_mut().for_each(|sequence| sequence.advance());
                self.open_slots();
                out.effects.push(Effect::ForgetThetas { run: self.id().clone(), before: self.oldest_theta_needed() });
                out.opened = true;
                out.show(self.order());
                if self.outer_step >= self.spec().outer.steps {
                    self.ending = Some(RunStatus::Completed);
                }
                self.proceed(out);
            }
        }
    }

    /// Empty slots for the current outer step.
    pub(super) fn open_slots(&mut self) {
        self.slots = self.sequences.iter().map(|sequence| Slot { window: sequence.window(), result: None }).collect();
    }

    /// The oldest version of theta from which a trajectory of the current step may have to be replayed.
    pub(super) fn oldest_theta_needed(&self) -> u64 {
        self.slots.iter().map(|slot| slot.window.current.began).min().unwrap_or(self.outer_step)
    }

    /// Takes an encoded checkpoint.
    pub(super) fn checkpointed(&mut self, result: Result<(CheckpointInfo, Bytes), String>, out: &mut Outbox) {
        debug_assert!(self.encoding, "a checkpoint comes back only once");
        self.encoding = false;
        match result {
            Ok((info, bytes)) => {
                self.checkpoints.push(info.clone());
                out.store(self.order(), Record::Checkpoint { run: self.order(), info, bytes });
                self.retain(out);
                out.show(self.order());
                self.proceed(out);
            }
            Err(reason) => {
                let reason = format!("the checkpoint of step {} could not be made: {reason}", self.outer_step);
                self.finish(RunStatus::Failed { reason }, out);
            }
        }
    }

    /// Drops what a restart will not need: all but the newest checkpoints, and the journal before the one from which the
    /// oldest live trajectory can be replayed. If more than one checkpoint is kept, the journal reaches back to the one
    /// before the newest, so that damage to one file loses nothing.
    fn retain(&mut self, out: &mut Outbox) {
        let run = self.order();
        let keep = self.spec().checkpoint.keep as usize;
        let spare = self.checkpoints[self.checkpoints.len().saturating_sub(keep.min(2))..].first();
        let needed = self.oldest_theta_needed().min(spare.map_or(0, |spare| spare.outer_step));
        let base = self.checkpoints.iter().rev().map(|info| info.outer_step).find(|step| *step <= needed).unwrap_or(0);
        let newest_from = self.checkpoints.len().saturating_sub(keep);
        let mut index = 0;
        self.checkpoints.retain(|info| {
            let kept = index >= newest_from || info.outer_step == base;
            index += 1;
            if !kept {
                out.records.push(Record::DropCheckpoint { run, outer_step: info.outer_step });
            }
            kept
        });
        if base > self.journal_from {
            self.journal_from = base;
            out.store(run, Record::DropResults { run, before: base });
            let before = base.min(self.outer_step.saturating_sub(LATE_STEPS));
            self.leases.forget_before(before);
            out.store(run, Record::DropLeases { run, before });
        }
    }

    /// Ends the run after a last checkpoint.
    pub(super) fn end(&mut self, status: RunStatus, out: &mut Outbox) {
        debug_assert!(status.is_final(), "a run ends in a final status");
        if self.status.is_final() {
            return;
        }
        self.ending.get_or_insert(status);
        out.show(self.order());
        self.proceed(out);
    }

    fn finish(&mut self, status: RunStatus, out: &mut Outbox) {
        self.status = status;
        self.ending = None;
        self.slots.clear();
        self.sequences.clear();
        out.show(self.order());
        out.effects.push(Effect::ForgetThetas { run: self.id().clone(), before: self.outer_step });
        let waiters = std::mem::take(&mut self.end_waiters);
        out.state_answers.extend(waiters.into_iter().map(|ticket| (ticket, self.order(), StateAnswer::Plain)));
    }

    /// Whether nothing of this run is under way outside.
    pub(super) fn is_quiet(&self) -> bool {
        !self.folding && !self.encoding
    }
}
