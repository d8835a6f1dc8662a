//! Workers that may be late, forgetful or broken, and what an honest one computes.

use std::sync::Arc;

use paceline_coordinator::machine::Ticket;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::estimator::PairReport;
use paceline_optimizer_core::outer::{Contribution, SlotResult};
use paceline_optimizer_core::schedule::{Trajectory, Window};
use paceline_proto::model::{Holdings, Lease, ResultBody, RunId, Submission, WorkerId};
use sha2::{Digest, Sha256};

use super::fake::contribution_bytes;

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) registered: bool,
    pub(super) waiting: Option<Ticket>,
    pub(super) leases: Vec<Lease>,
    pub(super) cached: Vec<u32>,
}

impl Worker {
    pub(super) fn holdings(&self, run: &RunId) -> Vec<Holdings> {
        vec![Holdings { run: run.clone(), theta_version: 0, slots: self.cached.clone() }]
    }
}

/// Numbers that depend on theta and slot, as a real worker's do.
pub(super) fn honest(theta: ThetaHash, slot: u32, attempt: u32) -> Vec<PairReport> {
    let number = |place: u32| {
        let bytes = u32::from_le_bytes(theta.0[..4].try_into().unwrap());
        f64::from(bytes ^ (slot << 8) ^ (attempt << 16) ^ place) * 1e-9
    };
    (0..2)
        .map(|pair| PairReport {
            fresh: number(pair * 4),
            carried: number(pair * 4 + 1),
            loss_plus: number(pair * 4 + 2),
            loss_minus: number(pair * 4 + 3),
        })
        .collect()
}

/// What honest workers report for a whole step.
pub(super) fn honest_step(theta: ThetaHash) -> Vec<Arc<Contribution>> {
    let contribution = |slot| Contribution {
        slot,
        window: Window { current: Trajectory::default(), next: None },
        result: SlotResult::SeedCoded(honest(theta, slot, 0)),
        inner_steps: 10,
        diverged_lanes: 0,
    };
    (0..4).map(contribution).map(Arc::new).collect()
}

pub(super) fn body_bytes(report: &Submission) -> Vec<u8> {
    let ResultBody::SeedCoded(coded) = &report.body else { panic!("only results are accepted") };
    let trajectory = Trajectory::default();
    contribution_bytes(&Contribution {
        slot: report.lease.slot,
        window: Window { current: trajectory, next: None },
        result: SlotResult::SeedCoded(coded.pairs.clone()),
        inner_steps: 10,
        diverged_lanes: 0,
    })
}

pub(super) fn digest(report: &Submission) -> [u8; 32] {
    Sha256::digest(format!("{:?}", report.body)).into()
}
