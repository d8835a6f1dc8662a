//! The domain mirror of the wire: what the rest of Paceline talks about.
//!
//! ```text
//!  pb::Lease ── TryFrom: checks every field, names the one that fails ──► model::Lease
//!  model::Lease ── From: cannot fail ──► pb::Lease
//! ```
//!
//! Required things are not `Option`, counts have exact widths, ids are types. Whoever holds a model value need not check
//! it again.

mod checkpoint;
mod evaluation;
mod ids;
mod lease;
mod mixture;
mod run;
mod spec;
mod token;
mod trace;
mod validate;
mod worker;

pub use checkpoint::{CheckpointInfo, Piece};
pub use evaluation::{ContenderCurve, Evaluation, EvaluationReport, FamilyCurves, Quartiles};
pub use ids::{InvalidId, RunId, Token, WorkerId};
pub use lease::{Holdings, Lease, LeaseKey, ResultBody, SeedCoded, Submission, SubmissionOutcome, Verdict};
pub use mixture::{EntryProgress, SpanLoss, TaskCost};
pub use run::{CreateRequest, FoldedStep, Ledger, RunState, RunStatus};
pub use spec::{CheckpointPolicy, EvaluationSpec, MixtureLimits, RunSpec, TaskSpec};
pub use token::{NewToken, Revocation, TokenInfo};
pub use trace::TraceParent;
pub use worker::{Directive, HeartbeatAnswer, HeartbeatReport, LeaseRequest, Registered, Registration, ReleaseRequest};
