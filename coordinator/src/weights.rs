//! What happens to the weights of a run: begin, fold, encode, rebuild. Pure apart from reading checkpoints; all of it is
//! heavy and runs on blocking threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use paceline_optimizer_core::Purpose;
use paceline_optimizer_core::checkpoint::{Checkpoint, CheckpointMeta, FORMAT};
use paceline_optimizer_core::outer::{Contribution, OuterState, fold_with};
use paceline_proto::model::{CheckpointInfo, RunId, RunSpec};
use sha2::{Digest, Sha256};

use crate::machine::{Replay, StepResult, StoredRun, replay};
use crate::store::{Store, read_checkpoint};
use crate::threads::Threads;
use crate::wall_clock::now_ms;

/// The weights of one run, as its actor keeps them.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// After the last folded step.
    pub(crate) state: Arc<OuterState>,
    /// Versions of theta that may still be asked for, as little-endian f32.
    pub(crate) thetas: BTreeMap<u64, Bytes>,
}

impl Weights {
    /// Only the current version.
    pub(crate) fn new(state: OuterState) -> Self {
        let thetas = BTreeMap::from([(state.outer_step, theta_bytes(&state))]);
        Self { state: Arc::new(state), thetas }
    }

    /// Takes the next version.
    pub(crate) fn advance(&mut self, state: OuterState, theta: Bytes) {
        self.thetas.insert(state.outer_step, theta);
        self.state = Arc::new(state);
    }

    /// Forgets older versions.
    pub(crate) fn forget_before(&mut self, version: u64) {
        self.thetas = self.thetas.split_off(&version);
    }
}

/// Theta as it travels.
pub(crate) fn theta_bytes(state: &OuterState) -> Bytes {
    state.theta.values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// The outer state before the first step.
///
/// # Errors
/// If the learned optimizer cannot be built, in words.
pub(crate) fn initial(spec: &RunSpec) -> Result<OuterState, String> {
    let optimizer = spec.optimizer.build().map_err(|error| error.to_string())?;
    Ok(OuterState::new(optimizer.init_theta(spec.seed.purpose(Purpose::Theta))))
}

/// The outer state after one more step.
///
/// # Errors
/// If a contribution does not fit, in words.
pub(crate) fn step(
    spec: &RunSpec,
    state: OuterState,
    contributions: &[Arc<Contribution>],
) -> Result<OuterState, String> {
    let (threads, layout) = (Threads::all(), Arc::clone(state.theta.layout()));
    fold_with(&threads, spec.seed, state.outer_step, &spec.outer, &spec.estimator, &layout, contributions)
        .and_then(|folded| state.apply(&spec.outer, &folded))
        .map_err(|error| error.to_string())
}

/// What the machine wants to know of a folded step; `before` is the state it began with.
///
/// # Errors
/// If the state has seen no step.
pub(crate) fn step_result(before: &OuterState, state: &OuterState) -> Result<StepResult, String> {
    let moved = before.theta.values().iter().zip(state.theta.values());
    let update = moved.map(|(before, now)| (f64::from(*now) - f64::from(*before)).powi(2)).sum::<f64>().sqrt();
    Ok(StepResult {
        theta_hash: state.theta.hash(),
        summary: state.last.ok_or("the outer state has no summary of its last step")?,
        inner_steps: state.inner_steps,
        diverged_lanes: state.diverged_lanes,
        update_norm: update,
        folded_at_ms: now_ms(),
    })
}

/// A checkpoint's file and what is known of it.
///
/// # Errors
/// If it cannot be encoded, in words.
pub(crate) fn encode(
    run: &RunId,
    spec: &RunSpec,
    state: &OuterState,
    parent: Option<[u8; 32]>,
) -> Result<(CheckpointInfo, Bytes), String> {
    let checkpoint = Checkpoint {
        meta: CheckpointMeta {
            format: FORMAT,
            run: run.to_string(),
            optimizer: spec.optimizer.clone(),
            recipe: Some(serde_json::to_value(spec).map_err(|error| error.to_string())?),
            parent: parent.map(|sha256| sha256.iter().map(|byte| format!("{byte:02x}")).collect()),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        state: state.clone(),
    };
    let bytes = checkpoint.to_bytes().map_err(|error| error.to_string())?;
    let info = CheckpointInfo {
        run: run.clone(),
        outer_step: state.outer_step,
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).into(),
        theta_hash: state.theta.hash(),
        meta_loss: state.last.map(|last| last.meta_loss),
        inner_steps: state.inner_steps,
    };
    Ok((info, bytes.into()))
}

/// The weights of a stored run, rebuilt from a checkpoint and the results after it; `None` if the run has ended.
///
/// # Errors
/// In words for a person: what is missing, or that this program folds to other bits than the one before.
pub(crate) fn rebuild(run: &StoredRun, store: &dyn Store) -> Result<Option<Weights>, String> {
    let Some(Replay { from, to }) = Replay::of(run)? else { return Ok(None) };
    let begin = begin_at(run, from, store)?;
    let mut weights = Weights::new(begin);
    let start = weights.state.outer_step;
    weights = replay(run, start, weights, |mut weights, _, contributions| {
        let next = step(&run.record.spec, OuterState::clone(&weights.state), contributions)?;
        let theta = theta_bytes(&next);
        weights.advance(next, theta);
        Ok(weights)
    })?;
    let (hash, expected) = (weights.state.theta.hash(), run.standing.theta_hash);
    if hash != expected {
        return Err(format!(
            "theta {to}, folded again from the stored results, is {hash}, but workers were given {expected}: start the \
             program version that wrote this data folder, on the same kind of CPU, or create a new run"
        ));
    }
    weights.forget_before(from);
    Ok(Some(weights))
}

/// The newest whole checkpoint at or before `from` that the journal continues. A damaged one costs nothing but time.
fn begin_at(run: &StoredRun, from: u64, store: &dyn Store) -> Result<OuterState, String> {
    let journal_from = run.standing.journal_from;
    let id = &run.record.run;
    let mut damage = String::new();
    let usable = |info: &&CheckpointInfo| (journal_from..=from).contains(&info.outer_step);
    for info in run.checkpoints.iter().rev().filter(usable) {
        let file = read_checkpoint(store, run.record.order, id, info.outer_step).map_err(|fault| format!("{fault:?}"));
        match file.and_then(|bytes| Checkpoint::from_bytes(&bytes).map_err(|error| error.to_string())) {
            Ok(checkpoint) => return Ok(checkpoint.state),
            Err(reason) => {
                tracing::warn!(run = %id, outer_step = info.outer_step, %reason, "going back to an older checkpoint");
                damage = format!("checkpoint {}: {reason}; ", info.outer_step);
            }
        }
    }
    if journal_from == 0 {
        return initial(&run.record.spec); // seeds rebuild step 0
    }
    Err(format!("{damage}no whole checkpoint is left in steps {journal_from} to {from}; restore the data folder"))
}
