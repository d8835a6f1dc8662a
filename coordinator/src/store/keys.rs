//! Keys of the store; the schema stands in [`super`].

use crate::machine::RunOrder;

pub(super) const FORMAT: &[u8] = b"m/format";
pub(super) const EPOCH: &[u8] = b"m/epoch";
pub(super) const RUNS: &[u8] = b"r/";
pub(super) const STANDINGS: &[u8] = b"s/";
pub(super) const PROGRESS: &[u8] = b"f/";
pub(super) const STEPS: &[u8] = b"h/";
pub(super) const EVALUATIONS: &[u8] = b"e/";
pub(super) const LEASES: &[u8] = b"l/";
pub(super) const RESULTS: &[u8] = b"j/";
pub(super) const CHECKPOINTS: &[u8] = b"c/";
pub(super) const CHUNKS: &[u8] = b"b/";

/// Prefix of everything of one kind in one run; the whole key for runs, standings and progress.
pub(super) fn of_run(kind: &[u8], run: RunOrder) -> Vec<u8> {
    [kind, &run.to_be_bytes()].concat()
}

/// Prefix of everything of one kind in one step; the whole key for checkpoints, folded steps and the head of an evaluation.
pub(super) fn of_step(kind: &[u8], run: RunOrder, outer_step: u64) -> Vec<u8> {
    [kind, &run.to_be_bytes(), &outer_step.to_be_bytes()].concat()
}

/// Key of a result.
pub(super) fn result(run: RunOrder, outer_step: u64, slot: u32) -> Vec<u8> {
    [RESULTS, &run.to_be_bytes(), &outer_step.to_be_bytes(), &slot.to_be_bytes()].concat()
}

/// Key of the curves of one entry of the mixture in an evaluation.
pub(super) fn curves(run: RunOrder, outer_step: u64, entry: u32) -> Vec<u8> {
    [EVALUATIONS, &run.to_be_bytes(), &outer_step.to_be_bytes(), &entry.to_be_bytes()].concat()
}

/// Key of a lease.
pub(super) fn lease(run: RunOrder, outer_step: u64, slot: u32, attempt: u32) -> Vec<u8> {
    [LEASES, &run.to_be_bytes(), &outer_step.to_be_bytes(), &slot.to_be_bytes(), &attempt.to_be_bytes()].concat()
}

/// Key of a chunk.
pub(super) fn chunk(value: u64, index: u32) -> Vec<u8> {
    [CHUNKS, &value.to_be_bytes(), &index.to_be_bytes()].concat()
}

/// The number that stands `at` bytes after the kind.
pub(super) fn number(key: &[u8], at: usize) -> Option<u64> {
    let bytes = key.get(2 + at..2 + at + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
