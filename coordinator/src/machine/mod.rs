//! The coordinator's decisions, pure: events go in, effects come out. No runtime, store, network, clock or randomness.
//!
//! ```text
//!           Event, now, fresh bits                         Vec<Effect>
//!  actor ──────────────────────────► Fleet::handle ─────────────────────► actor: store, answer, fold, publish
//!                                      │
//!                                      ├─ Roster: who lives, what each can run and has cached
//!                                      └─ MetaRun (one a run) ── LeaseTable: who works on what
//!                                           slots of the current outer step: open, held or filled
//! ```
//!
//! # Durable before visible
//!
//! The machine changes at once and says what to store; whoever performs its effects must show an answer or a state only
//! when everything persisted before it is durable. As the store is written in order, a restart finds a prefix of the
//! machine's history that holds at least everything anybody has seen: an acknowledged result is never lost (CK-2), a
//! lease a worker holds is known after a restart, and a theta that a lease names can be rebuilt from the last checkpoint
//! and the results after it, bit by bit (CK-1).
//!
//! # A step
//!
//! The slots of an outer step are planned before dispatch from seeds alone. A step closes when every slot is filled;
//! the fold runs outside and its result opens the slots of the next step. So the next theta depends on nothing but the
//! theta before and the plan: not on who worked, in which order, or how often something was lost (RN-2).

mod choice;
mod evaluations;
mod event;
mod fact;
mod fleet;
mod lease_table;
mod meta_run;
mod outbox;
mod progress;
mod record;
mod restore;
mod roster;
mod samples;
mod step;
mod survey;
mod verdict;

pub use event::{Answer, Effect, Event, Grant, Moment, RunRequest, StepResult, Ticket};
pub use fact::{AttemptKind, DeviceClass, Fact, Outcome};
pub use fleet::{Fleet, Settings};
pub use progress::{Block, EntryCurve, MixtureProgress};
pub use record::{LeaseRecord, LeaseState, Record, RunOrder, RunRecord, Standing, StoredRun};
pub use restore::{Replay, replay};
pub use survey::{RunView, Survey, Tally, WorkerGroup};
