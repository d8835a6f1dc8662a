//! Records as protobuf messages. Numbers that must come back bit by bit are stored as bits: protobuf leaves out a
//! floating-point field that equals zero, and with it the sign of −0.

use paceline_optimizer_core::ThetaHash;
use paceline_optimizer_core::estimator::PairReport;
use paceline_optimizer_core::outer::{Contribution, SlotResult, StepSummary, Variance};
use paceline_optimizer_core::schedule::{Trajectory, Window};
use paceline_proto::model::{CheckpointInfo, FoldedStep, Ledger, RunId, RunStatus, TaskCost, Token};
use prost::Message;

use super::StoreError;
use super::chunks::Pointer;
use crate::machine::{Block, EntryCurve, LeaseRecord, LeaseState, MixtureProgress, RunOrder, RunRecord, Standing};

#[derive(Clone, PartialEq, Message)]
struct RunMessage {
    #[prost(string, tag = "1")]
    run: String,
    #[prost(string, tag = "2")]
    spec_json: String,
    #[prost(string, tag = "3")]
    request_id: String,
    #[prost(uint64, tag = "4")]
    theta_size: u64,
    /// Bits of flop, bytes and seconds of each entry of the mixture; NaN where seconds are not known. Empty if nothing is.
    #[prost(fixed64, repeated, tag = "5")]
    costs: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ProgressMessage {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EntryMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(uint64, tag = "1")]
    contributions: u64,
    #[prost(uint64, tag = "2")]
    inner_steps: u64,
    #[prost(uint64, tag = "3")]
    diverged_lanes: u64,
    /// Index and contributions of each block, one after another.
    #[prost(uint64, repeated, tag = "4")]
    blocks: Vec<u64>,
    /// Bits of the sum of losses of each block.
    #[prost(fixed64, repeated, tag = "5")]
    losses: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StepMessage {
    #[prost(uint64, tag = "1")]
    folded_at_ms: u64,
    /// Bits of meta-loss, gradient norm, signal to noise, antithetic correlation and norm of the update; NaN for none.
    #[prost(fixed64, repeated, tag = "2")]
    numbers: Vec<u64>,
    #[prost(uint64, tag = "3")]
    inner_steps: u64,
    #[prost(uint64, tag = "4")]
    diverged_lanes: u64,
    /// Bits of the loss of each entry of the mixture; NaN for none.
    #[prost(fixed64, repeated, tag = "5")]
    entries: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StandingMessage {
    /// 1 running, 2 paused, 3 completed, 4 stopped, 5 failed.
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(uint64, tag = "3")]
    outer_step: u64,
    #[prost(bytes = "vec", tag = "4")]
    theta_hash: Vec<u8>,
    /// Bits of meta-loss, gradient norm, signal to noise, antithetic correlation; empty before the first step.
    #[prost(fixed64, repeated, tag = "5")]
    last: Vec<u64>,
    #[prost(uint64, tag = "6")]
    inner_steps: u64,
    #[prost(uint64, tag = "7")]
    diverged_lanes: u64,
    /// Issued, accepted, superseded, expired, released, rejected, outstanding.
    #[prost(uint64, repeated, tag = "8")]
    ledger: Vec<u64>,
    #[prost(uint64, tag = "9")]
    journal_from: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseMessage {
    #[prost(bytes = "vec", tag = "1")]
    token: Vec<u8>,
    #[prost(uint64, tag = "2")]
    outer_step: u64,
    #[prost(uint32, tag = "3")]
    slot: u32,
    #[prost(uint32, tag = "4")]
    attempt: u32,
    #[prost(string, tag = "5")]
    worker: String,
    #[prost(bytes = "vec", tag = "6")]
    theta_hash: Vec<u8>,
    /// 1 held, 2 accepted, 3 superseded, 4 expired, 5 released, 6 rejected, 7 failed.
    #[prost(uint32, tag = "7")]
    state: u32,
    #[prost(bytes = "vec", tag = "8")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ResultMessage {
    #[prost(uint32, tag = "1")]
    slot: u32,
    /// Index, family, horizon, offset, began and inner step of the trajectory, then of the one that replaces it.
    #[prost(uint64, repeated, tag = "2")]
    window: Vec<u64>,
    /// Bits of fresh, carried, loss+ and loss−, pair by pair.
    #[prost(fixed64, repeated, tag = "3")]
    pairs: Vec<u64>,
    /// Little-endian f32; its presence makes the result dense.
    #[prost(bytes = "vec", optional, tag = "4")]
    gradient: Option<Vec<u8>>,
    /// Bits of the loss of a dense result.
    #[prost(fixed64, tag = "5")]
    loss: u64,
    #[prost(uint64, tag = "6")]
    inner_steps: u64,
    #[prost(uint32, tag = "7")]
    diverged_lanes: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PointerMessage {
    #[prost(uint64, tag = "1")]
    value: u64,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(bytes = "vec", tag = "3")]
    sha256: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointMessage {
    #[prost(message, optional, tag = "1")]
    pointer: Option<PointerMessage>,
    #[prost(bytes = "vec", tag = "2")]
    theta_hash: Vec<u8>,
    #[prost(fixed64, optional, tag = "3")]
    meta_loss: Option<u64>,
    #[prost(uint64, tag = "4")]
    inner_steps: u64,
}

pub(super) fn encode_run(record: &RunRecord) -> Vec<u8> {
    RunMessage {
        run: record.run.to_string(),
        spec_json: serde_json::to_string(&record.spec).expect("a spec has text keys only, so JSON can hold it"),
        request_id: record.request_id.clone(),
        theta_size: record.theta_size as u64,
        costs: record.costs.iter().flat_map(cost_bits).collect(),
    }
    .encode_to_vec()
}

fn cost_bits(cost: &TaskCost) -> [u64; 3] {
    let TaskCost { flop, bytes, seconds } = *cost;
    // A measured time is a number, so NaN is free to mean that there is none.
    [flop, bytes, seconds.unwrap_or(f64::NAN)].map(f64::to_bits)
}

pub(super) fn decode_run(order: RunOrder, bytes: &[u8]) -> Result<RunRecord, StoreError> {
    let damaged = |reason: String| StoreError::damaged(format!("run {order}"), reason);
    let message = RunMessage::decode(bytes).map_err(|error| damaged(error.to_string()))?;
    let (costs, []) = message.costs.as_chunks::<3>() else { return Err(damaged("a cost is cut short".to_owned())) };
    let cost = |bits: &[u64; 3]| {
        let [flop, bytes, seconds] = bits.map(f64::from_bits);
        TaskCost { flop, bytes, seconds: Some(seconds).filter(|seconds| !seconds.is_nan()) }
    };
    Ok(RunRecord {
        costs: costs.iter().map(cost).collect(),
        order,
        run: message.run.parse().map_err(|error| damaged(format!("{error}")))?,
        spec: serde_json::from_str(&message.spec_json).map_err(|error| damaged(error.to_string()))?,
        request_id: message.request_id,
        theta_size: message.theta_size as usize,
    })
}

pub(super) fn encode_standing(standing: &Standing) -> Vec<u8> {
    let (status, reason) = match &standing.status {
        RunStatus::Running => (1, ""),
        RunStatus::Paused => (2, ""),
        RunStatus::Completed => (3, ""),
        RunStatus::Stopped => (4, ""),
        RunStatus::Failed { reason } => (5, reason.as_str()),
    };
    let ledger = &standing.ledger;
    StandingMessage {
        status,
        reason: reason.to_owned(),
        outer_step: standing.outer_step,
        theta_hash: standing.theta_hash.0.to_vec(),
        last: standing.last.map_or(Vec::new(), |last| {
            let StepSummary { meta_loss, grad_norm, variance } = last;
            let Variance { signal_to_noise, antithetic_correlation } = variance;
            // Numbers of a step are finite, so NaN is free to mean that there is none.
            let or_nan = |number: Option<f64>| number.unwrap_or(f64::NAN);
            [meta_loss, grad_norm, or_nan(signal_to_noise), or_nan(antithetic_correlation)].map(f64::to_bits).to_vec()
        }),
        inner_steps: standing.inner_steps,
        diverged_lanes: standing.diverged_lanes,
        ledger: vec![
            ledger.issued,
            ledger.accepted,
            ledger.superseded,
            ledger.expired,
            ledger.released,
            ledger.rejected,
            ledger.outstanding,
        ],
        journal_from: standing.journal_from,
    }
    .encode_to_vec()
}

pub(super) fn decode_standing(bytes: &[u8]) -> Result<Standing, StoreError> {
    let damaged = |reason: &str| StoreError::damaged("standing of a run", reason);
    let message = StandingMessage::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
    let status = match message.status {
        1 => RunStatus::Running,
        2 => RunStatus::Paused,
        3 => RunStatus::Completed,
        4 => RunStatus::Stopped,
        5 => RunStatus::Failed { reason: message.reason },
        _ => return Err(damaged("unknown status")),
    };
    let [issued, accepted, superseded, expired, released, rejected, outstanding] = message.ledger[..] else {
        return Err(damaged("the ledger does not have seven counts"));
    };
    let last = match message.last[..] {
        [] => None,
        // Format 1 knew no variance.
        [loss, norm] => {
            let variance = Variance::default();
            Some(StepSummary { meta_loss: f64::from_bits(loss), grad_norm: f64::from_bits(norm), variance })
        }
        [loss, norm, signal_to_noise, correlation] => {
            let number = |bits: u64| Some(f64::from_bits(bits)).filter(|number| !number.is_nan());
            let (signal_to_noise, antithetic_correlation) = (number(signal_to_noise), number(correlation));
            let variance = Variance { signal_to_noise, antithetic_correlation };
            Some(StepSummary { meta_loss: f64::from_bits(loss), grad_norm: f64::from_bits(norm), variance })
        }
        _ => return Err(damaged("the step's summary does not have two or four numbers")),
    };
    Ok(Standing {
        status,
        outer_step: message.outer_step,
        theta_hash: ThetaHash(fixed(&message.theta_hash, "theta hash")?),
        last,
        inner_steps: message.inner_steps,
        diverged_lanes: message.diverged_lanes,
        ledger: Ledger { issued, accepted, superseded, expired, released, rejected, outstanding },
        journal_from: message.journal_from,
    })
}

pub(super) fn encode_progress(progress: &MixtureProgress) -> Vec<u8> {
    let entry = |entry: &EntryCurve| EntryMessage {
        contributions: entry.contributions,
        inner_steps: entry.inner_steps,
        diverged_lanes: entry.diverged_lanes,
        blocks: entry.blocks.iter().flat_map(|block| [block.index, block.contributions]).collect(),
        losses: entry.blocks.iter().map(|block| block.loss.to_bits()).collect(),
    };
    ProgressMessage { entries: progress.entries.iter().map(entry).collect() }.encode_to_vec()
}

pub(super) fn decode_progress(bytes: &[u8]) -> Result<MixtureProgress, StoreError> {
    let damaged = |reason: &str| StoreError::damaged("progress of a run", reason);
    let message = ProgressMessage::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
    let entry = |entry: EntryMessage| {
        let (places, []) = entry.blocks.as_chunks::<2>() else { return Err(damaged("a block is cut short")) };
        if places.len() != entry.losses.len() {
            return Err(damaged("it does not have one loss a block"));
        }
        let block = |(&[index, contributions], &loss): (&[u64; 2], &u64)| Block {
            index,
            contributions,
            loss: f64::from_bits(loss),
        };
        Ok(EntryCurve {
            contributions: entry.contributions,
            inner_steps: entry.inner_steps,
            diverged_lanes: entry.diverged_lanes,
            blocks: places.iter().zip(&entry.losses).map(block).collect(),
        })
    };
    Ok(MixtureProgress { entries: message.entries.into_iter().map(entry).collect::<Result<_, _>>()? })
}

/// Numbers of a step are finite, so NaN is free to mean that there is none.
fn or_nan(number: Option<f64>) -> u64 {
    number.unwrap_or(f64::NAN).to_bits()
}

fn unless_nan(bits: u64) -> Option<f64> {
    Some(f64::from_bits(bits)).filter(|number| !number.is_nan())
}

pub(super) fn encode_step(step: &FoldedStep) -> Vec<u8> {
    let Variance { signal_to_noise, antithetic_correlation } = step.variance;
    StepMessage {
        folded_at_ms: step.folded_at_ms,
        numbers: vec![
            step.meta_loss.to_bits(),
            step.grad_norm.to_bits(),
            or_nan(signal_to_noise),
            or_nan(antithetic_correlation),
            step.update_norm.to_bits(),
        ],
        inner_steps: step.inner_steps,
        diverged_lanes: step.diverged_lanes,
        entries: step.entry_losses.iter().copied().map(or_nan).collect(),
    }
    .encode_to_vec()
}

pub(super) fn decode_step(outer_step: u64, bytes: &[u8]) -> Result<FoldedStep, StoreError> {
    let damaged = |reason: &str| StoreError::damaged(format!("folded step {outer_step}"), reason);
    let message = StepMessage::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
    let [loss, norm, signal_to_noise, correlation, update] = message.numbers[..] else {
        return Err(damaged("it does not have five numbers"));
    };
    Ok(FoldedStep {
        outer_step,
        folded_at_ms: message.folded_at_ms,
        meta_loss: f64::from_bits(loss),
        grad_norm: f64::from_bits(norm),
        variance: Variance {
            signal_to_noise: unless_nan(signal_to_noise),
            antithetic_correlation: unless_nan(correlation),
        },
        update_norm: f64::from_bits(update),
        inner_steps: message.inner_steps,
        diverged_lanes: message.diverged_lanes,
        entry_losses: message.entries.into_iter().map(unless_nan).collect(),
    })
}

pub(super) fn encode_lease(lease: &LeaseRecord) -> Vec<u8> {
    let (state, digest) = match lease.state {
        LeaseState::Held => (1, Vec::new()),
        LeaseState::Accepted { digest } => (2, digest.to_vec()),
        LeaseState::Superseded => (3, Vec::new()),
        LeaseState::Expired => (4, Vec::new()),
        LeaseState::Released => (5, Vec::new()),
        LeaseState::Rejected => (6, Vec::new()),
        LeaseState::Failed => (7, Vec::new()),
    };
    LeaseMessage {
        token: lease.token.0.to_vec(),
        outer_step: lease.outer_step,
        slot: lease.slot,
        attempt: lease.attempt,
        worker: lease.worker.to_string(),
        theta_hash: lease.theta_hash.0.to_vec(),
        state,
        digest,
    }
    .encode_to_vec()
}

pub(super) fn decode_lease(bytes: &[u8]) -> Result<LeaseRecord, StoreError> {
    let damaged = |reason: String| StoreError::damaged("lease", reason);
    let message = LeaseMessage::decode(bytes).map_err(|error| damaged(error.to_string()))?;
    let state = match message.state {
        1 => LeaseState::Held,
        2 => LeaseState::Accepted { digest: fixed(&message.digest, "digest of a lease")? },
        3 => LeaseState::Superseded,
        4 => LeaseState::Expired,
        5 => LeaseState::Released,
        6 => LeaseState::Rejected,
        7 => LeaseState::Failed,
        other => return Err(damaged(format!("unknown state {other}"))),
    };
    Ok(LeaseRecord {
        token: Token(fixed(&message.token, "token of a lease")?),
        outer_step: message.outer_step,
        slot: message.slot,
        attempt: message.attempt,
        worker: message.worker.parse().map_err(|error| damaged(format!("{error}")))?,
        theta_hash: ThetaHash(fixed(&message.theta_hash, "theta hash of a lease")?),
        state,
    })
}

pub(super) fn encode_contribution(contribution: &Contribution) -> Vec<u8> {
    let trajectories = std::iter::once(&contribution.window.current).chain(&contribution.window.next);
    let window = trajectories
        .flat_map(|t| [t.index, t.family as u64, t.horizon.into(), t.offset.into(), t.began, t.inner_step.into()])
        .collect();
    let (pairs, gradient, loss) = match &contribution.result {
        SlotResult::SeedCoded(pairs) => {
            let bits = pairs.iter().flat_map(|p| [p.fresh, p.carried, p.loss_plus, p.loss_minus].map(f64::to_bits));
            (bits.collect(), None, 0)
        }
        SlotResult::Dense { gradient, loss } => {
            let bytes = gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
            (Vec::new(), Some(bytes), loss.to_bits())
        }
    };
    ResultMessage {
        slot: contribution.slot,
        window,
        pairs,
        gradient,
        loss,
        inner_steps: contribution.inner_steps,
        diverged_lanes: contribution.diverged_lanes,
    }
    .encode_to_vec()
}

pub(super) fn decode_contribution(bytes: &[u8]) -> Result<Contribution, StoreError> {
    let damaged = |reason: &str| StoreError::damaged("result", reason);
    let message = ResultMessage::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
    let trajectory = |n: &[u64]| -> Result<Trajectory, StoreError> {
        let narrow = |number: u64| u32::try_from(number).map_err(|_| damaged("a number of its window is too large"));
        let &[index, family, horizon, offset, began, inner_step] = n else {
            return Err(damaged("its window is cut short"));
        };
        Ok(Trajectory {
            index,
            family: narrow(family)? as usize,
            horizon: narrow(horizon)?,
            offset: narrow(offset)?,
            began,
            inner_step: narrow(inner_step)?,
        })
    };
    let numbers = match message.window.len() {
        // Format 1 knew no offset.
        5 | 10 => message.window.chunks(5).flat_map(|n| [n[0], n[1], n[2], 0, n[3], n[4]]).collect(),
        _ => message.window,
    };
    let window = match numbers.split_at_checked(6) {
        Some((current, [])) => Window { current: trajectory(current)?, next: None },
        Some((current, next)) => Window { current: trajectory(current)?, next: Some(trajectory(next)?) },
        None => return Err(damaged("its window is cut short")),
    };
    let result = match message.gradient {
        Some(bytes) => {
            let (values, []) = bytes.as_chunks::<4>() else { return Err(damaged("its gradient is cut short")) };
            let gradient = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
            SlotResult::Dense { gradient, loss: f64::from_bits(message.loss) }
        }
        None => {
            let (pairs, []) = message.pairs.as_chunks::<4>() else { return Err(damaged("a pair is cut short")) };
            let report = |bits: &[u64; 4]| {
                let [fresh, carried, loss_plus, loss_minus] = bits.map(f64::from_bits);
                PairReport { fresh, carried, loss_plus, loss_minus }
            };
            SlotResult::SeedCoded(pairs.iter().map(report).collect())
        }
    };
    Ok(Contribution {
        slot: message.slot,
        window,
        result,
        inner_steps: message.inner_steps,
        diverged_lanes: message.diverged_lanes,
    })
}

pub(super) fn encode_pointer(pointer: &Pointer) -> Vec<u8> {
    pointer_message(pointer).encode_to_vec()
}

pub(super) fn decode_pointer(bytes: &[u8]) -> Result<Pointer, StoreError> {
    let message = PointerMessage::decode(bytes).map_err(|error| StoreError::damaged("pointer", error))?;
    read_pointer(&message)
}

fn pointer_message(pointer: &Pointer) -> PointerMessage {
    PointerMessage { value: pointer.value, length: pointer.length, sha256: pointer.sha256.to_vec() }
}

fn read_pointer(message: &PointerMessage) -> Result<Pointer, StoreError> {
    let sha256 = fixed(&message.sha256, "SHA-256 of a pointer")?;
    Ok(Pointer { value: message.value, length: message.length, sha256 })
}

pub(super) fn encode_checkpoint(info: &CheckpointInfo, pointer: &Pointer) -> Vec<u8> {
    CheckpointMessage {
        pointer: Some(pointer_message(pointer)),
        theta_hash: info.theta_hash.0.to_vec(),
        meta_loss: info.meta_loss.map(f64::to_bits),
        inner_steps: info.inner_steps,
    }
    .encode_to_vec()
}

pub(super) fn decode_checkpoint(
    run: &RunId,
    outer_step: u64,
    bytes: &[u8],
) -> Result<(CheckpointInfo, Pointer), StoreError> {
    let damaged = |reason: &str| StoreError::damaged(format!("manifest of checkpoint {outer_step} of {run}"), reason);
    let message = CheckpointMessage::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
    let pointer = read_pointer(message.pointer.as_ref().ok_or_else(|| damaged("it points nowhere"))?)?;
    let info = CheckpointInfo {
        run: run.clone(),
        outer_step,
        size_bytes: pointer.length,
        sha256: pointer.sha256,
        theta_hash: ThetaHash(fixed(&message.theta_hash, "theta hash of a checkpoint")?),
        meta_loss: message.meta_loss.map(f64::from_bits),
        inner_steps: message.inner_steps,
    };
    Ok((info, pointer))
}

fn fixed<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| StoreError::damaged(what, format!("it has {} bytes, not {N}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(contribution: &Contribution) -> Vec<u8> {
        encode_contribution(contribution)
    }

    #[test]
    fn results_come_back_bit_by_bit() {
        let trajectory = Trajectory { index: 3, family: 1, horizon: 90, offset: 11, began: 7, inner_step: 60 };
        let pair = PairReport { fresh: -0.0, carried: f64::MIN_POSITIVE / 8.0, loss_plus: 0.1, loss_minus: -1e300 };
        let seed_coded = Contribution {
            slot: 9,
            window: Window { current: trajectory, next: Some(Trajectory { index: 4, inner_step: 0, ..trajectory }) },
            result: SlotResult::SeedCoded(vec![pair; 3]),
            inner_steps: 11,
            diverged_lanes: 2,
        };
        let dense = Contribution {
            window: Window { current: trajectory, next: None },
            result: SlotResult::Dense { gradient: vec![-0.0, 1e-40, 3.5], loss: -0.0 },
            ..seed_coded.clone()
        };
        for contribution in [seed_coded, dense] {
            let back = decode_contribution(&bits(&contribution)).unwrap();
            assert_eq!(back, contribution);
            assert_eq!(bits(&back), bits(&contribution), "the signs of zeros must survive");
            if let (SlotResult::Dense { loss, .. }, SlotResult::Dense { .. }) = (&back.result, &contribution.result) {
                assert!(loss.is_sign_negative());
            }
        }
    }

    #[test]
    fn what_format_1_wrote_is_read() {
        let current = [3, 1, 90, 7, 60];
        let next = [4, 1, 80, 8, 0];
        let result = |window: Vec<u64>| {
            let message = ResultMessage {
                slot: 9,
                window,
                pairs: vec![],
                gradient: None,
                loss: 0,
                inner_steps: 11,
                diverged_lanes: 2,
            };
            decode_contribution(&message.encode_to_vec()).unwrap().window
        };
        let expected = Trajectory { index: 3, family: 1, horizon: 90, offset: 0, began: 7, inner_step: 60 };
        assert_eq!(result(current.to_vec()), Window { current: expected, next: None });
        let next_expected = Trajectory { index: 4, family: 1, horizon: 80, offset: 0, began: 8, inner_step: 0 };
        let both = Window { current: expected, next: Some(next_expected) };
        assert_eq!(result([current, next].concat()), both);
        let standing = StandingMessage {
            status: 1,
            reason: String::new(),
            outer_step: 5,
            theta_hash: vec![7; 32],
            last: [1.5, 2.5].map(f64::to_bits).to_vec(),
            inner_steps: 100,
            diverged_lanes: 0,
            ledger: vec![0; 7],
            journal_from: 0,
        };
        let last = decode_standing(&standing.encode_to_vec()).unwrap().last.unwrap();
        assert_eq!(last, StepSummary { meta_loss: 1.5, grad_norm: 2.5, variance: Variance::default() });
    }

    #[test]
    fn damaged_progress_is_named() {
        let entry = EntryMessage { contributions: 1, blocks: vec![0, 1, 2], losses: vec![0], ..Default::default() };
        let unequal = EntryMessage { blocks: vec![0, 1], losses: vec![], ..entry.clone() };
        for (entry, said) in [(entry, "a block is cut short"), (unequal, "one loss a block")] {
            let error = decode_progress(&ProgressMessage { entries: vec![entry] }.encode_to_vec()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn damage_is_named_and_never_panics() {
        for bytes in [&[0xff; 8][..], &[0x12, 0x02, 0x01, 0x01][..], b""] {
            let error = decode_contribution(bytes).unwrap_err().to_string();
            assert!(error.contains("result"), "{error}");
            assert!(decode_standing(bytes).is_err());
            assert!(decode_lease(bytes).is_err());
        }
    }
}
