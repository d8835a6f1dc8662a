//! Leases and what comes back for them.

use std::time::Duration;

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::estimator::PairReport;
use paceline_optimizer_core::schedule::Window;

use super::trace::TraceParent;
use super::{RunId, RunSpec, Token, WorkerId};

/// Names a lease and proves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The run.
    pub run: RunId,
    /// The outer step; also the version of theta to use.
    pub outer_step: u64,
    /// The place in that step.
    pub slot: u32,
    /// The proof.
    pub token: Token,
}

/// A worker's timed right to fill one slot of one outer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its name and proof.
    pub key: LeaseKey,
    /// 1 for the first lease of a slot.
    pub attempt: u32,
    /// Epoch of the coordinator that gave it.
    pub epoch: u64,
    /// How long it lives without a heartbeat.
    pub ttl: Duration,
    /// What to run.
    pub window: Window,
    /// Names the theta to use.
    pub theta_hash: ThetaHash,
    /// That theta, little-endian f32, when it is small and the worker did not hold it; otherwise it is pulled.
    pub theta: Option<Bytes>,
    /// The run's spec, when the worker did not hold the run.
    pub spec: Option<Box<RunSpec>>,
    /// Its place in a trace, where somebody traces.
    pub traceparent: Option<TraceParent>,
}

/// What a worker holds of a run, so that it is not sent again and its cached trajectories come back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// The run.
    pub run: RunId,
    /// Newest theta held.
    pub theta_version: u64,
    /// Slots whose trajectories are cached.
    pub slots: Vec<u32>,
}

/// What a worker reports for a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Who reports.
    pub worker: WorkerId,
    /// For which lease.
    pub lease: LeaseKey,
    /// The theta that was used.
    pub theta_hash: ThetaHash,
    /// The result.
    pub body: ResultBody,
    /// Inner steps trained for it, all lanes.
    pub inner_steps: u64,
    /// Lanes that ended non-finite.
    pub diverged_lanes: u32,
    /// Whether the answer should carry the next lease.
    pub want_lease: bool,
    /// What the worker holds, for that next lease.
    pub holdings: Vec<Holdings>,
}

/// A slot's result, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultBody {
    /// Numbers from which the coordinator rebuilds the meta-gradient.
    SeedCoded(SeedCoded),
    /// The slot's part of the meta-gradient, summed by the worker: `Σ [carried (A + ε) + fresh ε] / (2 sigma)`.
    Dense {
        /// As long as theta.
        gradient: Vec<f32>,
        /// Mean normalised meta-loss over pairs and signs.
        loss: f64,
    },
    /// The worker could not compute the lease.
    Failure {
        /// Why, in words.
        reason: String,
    },
}

/// One report a pair, in pair order.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedCoded {
    /// The reports.
    pub pairs: Vec<PairReport>,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fills its slot and is durable.
    Accepted,
    /// The same result was accepted before.
    AlreadyAccepted,
    /// Another lease filled the slot.
    Superseded,
    /// A failure was counted; the slot will be leased again.
    FailureNoted,
}

/// Answer to a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct SubmissionOutcome {
    /// What became of it.
    pub verdict: Verdict,
    /// The next lease, if one was wanted and there is one.
    pub next: Option<Lease>,
}
