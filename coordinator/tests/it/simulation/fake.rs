//! Weights without mathematics: theta is a hash over everything that was folded, so any difference in what was folded,
//! or in which order, shows.

use std::sync::Arc;

use paceline_coordinator::machine::StepResult;
use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::outer::{Contribution, SlotResult, StepSummary, Variance};
use paceline_proto::model::{CheckpointInfo, RunId};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct FakeWeights {
    pub(super) outer_step: u64,
    pub(super) theta: [u8; 32],
    pub(super) inner_steps: u64,
}

impl FakeWeights {
    pub(super) fn initial() -> Self {
        Self { outer_step: 0, theta: [7; 32], inner_steps: 0 }
    }

    pub(super) fn hash(&self) -> ThetaHash {
        ThetaHash(self.theta)
    }

    pub(super) fn fold(&self, contributions: &[Arc<Contribution>]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.theta);
        for contribution in contributions {
            hasher.update(contribution_bytes(contribution));
        }
        Self {
            outer_step: self.outer_step + 1,
            theta: hasher.finalize().into(),
            inner_steps: self.inner_steps + contributions.iter().map(|c| c.inner_steps).sum::<u64>(),
        }
    }

    pub(super) fn result(&self) -> StepResult {
        StepResult {
            theta_hash: self.hash(),
            summary: StepSummary {
                meta_loss: f64::from(self.theta[0]),
                grad_norm: f64::from(self.theta[1]),
                variance: Variance::default(),
            },
            inner_steps: self.inner_steps,
            diverged_lanes: 0,
            update_norm: 1.0,
            folded_at_ms: self.outer_step,
        }
    }

    pub(super) fn encode(&self, run: &RunId) -> (CheckpointInfo, Vec<u8>) {
        // Long enough to be stored in several chunks.
        let mut bytes = vec![0; 70_000];
        bytes[..8].copy_from_slice(&self.outer_step.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inner_steps.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.theta);
        let info = CheckpointInfo {
            run: run.clone(),
            outer_step: self.outer_step,
            size_bytes: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            theta_hash: self.hash(),
            meta_loss: None,
            inner_steps: self.inner_steps,
        };
        (info, bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            outer_step: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
            inner_steps: u64::from_le_bytes(bytes[8..16].try_into().unwrap()),
            theta: bytes[16..48].try_into().unwrap(),
        }
    }
}

pub(super) fn contribution_bytes(contribution: &Contribution) -> Vec<u8> {
    let SlotResult::SeedCoded(pairs) = &contribution.result else { panic!("the recipe asks for seeds") };
    let mut bytes = contribution.slot.to_le_bytes().to_vec();
    for pair in pairs {
        bytes.extend([pair.fresh, pair.carried, pair.loss_plus, pair.loss_minus].iter().flat_map(|n| n.to_le_bytes()));
    }
    bytes
}
