//! All that can happen to a coordinator, and all it can ask of its surroundings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::{Contribution, StepSummary};
use paceline_proto::client::Created;
use paceline_proto::fault::Fault;
use paceline_proto::model::{
    CheckpointInfo, Evaluation, FoldedStep, Holdings, Lease, LeaseKey, Registered, Registration, RunId, RunSpec,
    RunState, Submission, TaskCost, Verdict, WorkerId,
};

use super::fact::Fact;
use super::record::Record;

/// Names one caller who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// When an event happens, and fresh randomness for what it may create: both come from outside.
#[expect(missing_debug_implementations, reason = "it borrows a closure")]
pub struct Moment<'a> {
    /// Time since the coordinator started.
    pub now: Duration,
    /// Draws 128 unpredictable bits.
    pub random: &'a mut dyn FnMut() -> [u8; 16],
}

/// What a person asks for when creating a run. The spec was checked with [`RunSpec::validate`].
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// What to run.
    pub spec: RunSpec,
    /// What each entry of the mixture costs; empty if that is not known.
    pub costs: Vec<TaskCost>,
    /// Makes the request safe to repeat; empty for no such promise.
    pub request_id: String,
    /// Continue the newest unfinished run with an equal spec instead.
    pub resume_unfinished: bool,
    /// Create nothing, only answer what would be.
    pub validate_only: bool,
    /// Values in theta (D).
    pub theta_size: usize,
    /// Names the initial theta.
    pub theta_hash: ThetaHash,
}

/// A folded outer step, without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Names the new theta.
    pub theta_hash: ThetaHash,
    /// Meta-loss and gradient norm.
    pub summary: StepSummary,
    /// Inner steps trained so far in the run, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite so far in the run.
    pub diverged_lanes: u64,
    /// Euclidean distance from the theta before.
    pub update_norm: f64,
    /// When it was folded, in milliseconds since 1970.
    pub folded_at_ms: u64,
}

impl StepResult {
    /// What is kept of it for people; `outer_step` counts it.
    pub(super) fn folded(&self, outer_step: u64, entry_losses: Vec<Option<f64>>) -> FoldedStep {
        let StepSummary { meta_loss, grad_norm, variance } = self.summary;
        FoldedStep {
            outer_step,
            folded_at_ms: self.folded_at_ms,
            meta_loss,
            grad_norm,
            variance,
            update_norm: self.update_norm,
            inner_steps: self.inner_steps,
            diverged_lanes: self.diverged_lanes,
            entry_losses,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker introduces itself.
    Registered {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The introduction.
        registration: Registration,
    },
    /// A worker has a free place.
    LeaseWanted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The worker.
        worker: WorkerId,
        /// What it holds.
        holdings: Vec<Holdings>,
    },
    /// A worker has waited long enough for a lease.
    WaitOver {
        /// The wait.
        ticket: Ticket,
    },
    /// A waiting caller went away.
    CallerGone {
        /// The wait.
        ticket: Ticket,
    },
    /// A worker reports a lease.
    Submitted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The report.
        submission: Submission,
        /// SHA-256 of the report's result; equal digests mean equal bytes.
        digest: [u8; 32],
    },
    /// A worker hands leases back.
    Released {
        /// Who waits for the answer; `None` when a lease could not be delivered.
        ticket: Option<Ticket>,
        /// The worker.
        worker: WorkerId,
        /// The leases.
        leases: Vec<LeaseKey>,
    },
    /// A person wants a run.
    RunWanted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The run.
        request: Box<RunRequest>,
    },
    /// A person pauses a run.
    PauseWanted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The run.
        run: RunId,
    },
    /// A person resumes a run.
    ResumeWanted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The run.
        run: RunId,
    },
    /// A person ends a run.
    StopWanted {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The run.
        run: RunId,
    },
    /// A person evaluated a checkpoint.
    Evaluated {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The run.
        run: RunId,
        /// What was found.
        evaluation: Arc<Evaluation>,
    },
    /// A fold that was asked for is done, or could not be done.
    StepFolded {
        /// The run.
        run: RunId,
        /// The new theta, or why there is none.
        result: Result<StepResult, String>,
    },
    /// A checkpoint that was asked for is encoded, or could not be.
    CheckpointMade {
        /// The run.
        run: RunId,
        /// The file and what is known of it.
        result: Result<(CheckpointInfo, Bytes), String>,
    },
    /// Time passed.
    Tick,
    /// The coordinator is asked to end.
    ShutDown,
}

/// A lease on its way to a worker; the surroundings attach theta.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The lease, without theta.
    pub lease: Lease,
    /// Whether its theta should travel inside it.
    pub attach_theta: bool,
    /// Who gets it.
    pub worker: WorkerId,
}

/// A good answer; refusals are [`Fault`]s.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Event::Registered`].
    Registered(Registered),
    /// To [`Event::LeaseWanted`].
    Lease(Option<Box<Grant>>),
    /// To [`Event::Submitted`].
    Submitted {
        /// What became of it.
        verdict: Verdict,
        /// The next lease.
        next: Option<Box<Grant>>,
    },
    /// To [`Event::Released`]: how many leases were handed back.
    Released(u32),
    /// To [`Event::RunWanted`].
    Created(Box<Created>),
    /// To pause, resume and stop.
    State(Box<RunState>),
    /// To [`Event::Evaluated`].
    Recorded,
}

/// Something the surroundings must do. Effects are done in order; [`Effect::Answer`] and [`Effect::Publish`] become
/// visible only after everything persisted before them is durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write these, all or nothing, after everything persisted before.
    Persist(Vec<Record>),
    /// Answer a caller.
    Answer(Ticket, Result<Answer, Fault>),
    /// Show the state of a run to those who watch it.
    Publish(Box<RunState>),
    /// The initial outer state made for this ticket now belongs to this run.
    Adopt {
        /// Who asked for the run.
        ticket: Ticket,
        /// The run.
        run: RunId,
    },
    /// Fold a closed step and move theta; comes back as [`Event::StepFolded`].
    Fold {
        /// The run.
        run: RunId,
        /// The step that closed.
        outer_step: u64,
        /// One contribution a slot, in slot order.
        contributions: Vec<Arc<Contribution>>,
    },
    /// Encode the run's outer state; comes back as [`Event::CheckpointMade`].
    Checkpoint {
        /// The run.
        run: RunId,
        /// SHA-256 of the checkpoint before.
        parent: Option<[u8; 32]>,
    },
    /// Versions of theta older than this are needed by nobody.
    ForgetThetas {
        /// The run.
        run: RunId,
        /// Oldest version needed.
        before: u64,
    },
    /// Count these; nothing depends on it.
    Note(Vec<Fact>),
}
