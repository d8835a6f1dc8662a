//! Who works, and what a heartbeat answers.

use std::time::Duration;

use super::{Holdings, LeaseKey, WorkerId};

/// How a worker introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its protocol number; see [`crate::PROTOCOL`].
    pub protocol: u32,
    /// Its id, the same through reconnects.
    pub worker: WorkerId,
    /// Version of its code.
    pub code_version: String,
    /// Device it computes on, for example `cpu`.
    pub device: String,
    /// Threads it computes with.
    pub threads: u32,
    /// Task families it can run.
    pub families: Vec<String>,
}

/// What a coordinator tells a worker it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Grows at every start of the coordinator.
    pub epoch: u64,
    /// How often to send a heartbeat.
    pub heartbeat: Duration,
    /// How long a lease lives without one.
    pub lease_ttl: Duration,
}

/// What to do with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Go on; it is renewed.
    Continue,
    /// Drop it: its slot is filled, its run ended, or it is not known.
    Cancel,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The coordinator's epoch.
    pub epoch: u64,
    /// One a lease asked about, in order.
    pub directives: Vec<Directive>,
    /// Whether the coordinator knows the worker; if not, it must register again.
    pub known: bool,
}

/// A worker's wish for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// How long the answer may be held back while there is no work.
    pub wait: Duration,
    /// What the worker holds already.
    pub holdings: Vec<Holdings>,
}

/// What a heartbeat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReport {
    /// Who lives.
    pub worker: WorkerId,
    /// All leases it holds.
    pub leases: Vec<LeaseKey>,
    /// Highest epoch of a coordinator it has seen.
    pub epoch: u64,
    /// Inner steps trained since it started.
    pub inner_steps: u64,
}

/// Leases handed back unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// Who hands back.
    pub worker: WorkerId,
    /// Which.
    pub leases: Vec<LeaseKey>,
}
