//! What one event asks of the surroundings, gathered while it is handled.

use std::collections::BTreeSet;

use paceline_proto::fault::Fault;

use super::event::{Answer, Effect, Ticket};
use super::fact::Fact;
use super::record::{Record, RunOrder};

/// How a run's state is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateAnswer {
    /// To the creation of a run; true if an unfinished one was continued.
    Created(bool),
    /// To pause, resume and stop.
    Plain,
}

/// Records and effects of one event.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    /// To be stored, in order.
    pub(super) records: Vec<Record>,
    /// To be done after the records were handed over.
    pub(super) effects: Vec<Effect>,
    /// Runs whose standing changed and must be stored.
    pub(super) touched: BTreeSet<RunOrder>,
    /// Runs whose state should be shown at once.
    pub(super) shown: BTreeSet<RunOrder>,
    /// Callers to be answered with the state of a run, as it is after the event.
    pub(super) state_answers: Vec<(Ticket, RunOrder, StateAnswer)>,
    /// What happened, to be counted.
    pub(super) facts: Vec<Fact>,
    /// Whether there may be a lease for somebody who waits.
    pub(super) opened: bool,
}

impl Outbox {
    /// Stores a record of a run, with its standing.
    pub(super) fn store(&mut self, run: RunOrder, record: Record) {
        self.records.push(record);
        self.touched.insert(run);
    }

    /// Shows the run's new state, and stores it.
    pub(super) fn show(&mut self, run: RunOrder) {
        self.touched.insert(run);
        self.shown.insert(run);
    }

    /// Answers a caller.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Fault>) {
        self.effects.push(Effect::Answer(ticket, answer));
    }
}
