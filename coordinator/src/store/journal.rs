//! From records to keys and back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paceline_proto::fault::Fault;
use paceline_proto::model::{CheckpointInfo, FoldedStep, RunId};

use super::chunks::{CHUNK, Pointer, writing};
use super::{CHUNK_BATCH, Change, FORMAT, Store, StoreError, codec, evaluation, keys};
use crate::machine::{Record, RunOrder, StoredRun};

/// A result as stored: this byte, then the result itself …
const WHOLE: u8 = 0;
/// … or this one, then a pointer to it.
const POINTER: u8 = 1;

/// Everything a coordinator finds when it starts.
#[derive(Debug)]
pub struct Stored {
    /// Number of this start, from 1.
    pub epoch: u64,
    /// Runs in order of creation.
    pub runs: Vec<StoredRun>,
}

/// How long writing took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTimes {
    /// All of it, until durable.
    pub whole: Duration,
    /// Each flush.
    pub flushes: Vec<Duration>,
}

/// Writes records into a store.
#[derive(Debug)]
pub struct Journal {
    store: Arc<dyn Store>,
    /// Number for the next large value.
    next_value: u64,
    /// Bytes of the results that are kept.
    result_bytes: u64,
}

impl Journal {
    /// Opens what is stored: checks the format, counts this start, removes orphaned chunks and reads every run.
    ///
    /// # Errors
    /// [`StoreError::FormatTooNew`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn open(store: Arc<dyn Store>) -> Result<(Self, Stored), StoreError> {
        let found = match store.get(keys::FORMAT)? {
            None => FORMAT,
            Some(bytes) => u32::from_be_bytes(
                bytes[..].try_into().map_err(|_| StoreError::damaged("format version", "it is not four bytes"))?,
            ),
        };
        if found > FORMAT {
            return Err(StoreError::FormatTooNew { found, supported: FORMAT });
        }
        let before = match store.get(keys::EPOCH)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(
                bytes[..].try_into().map_err(|_| StoreError::damaged("epoch", "it is not eight bytes"))?,
            ),
        };
        let epoch = before + 1;
        store.apply(vec![
            Change::Put(keys::FORMAT.to_vec(), FORMAT.to_be_bytes().to_vec()),
            Change::Put(keys::EPOCH.to_vec(), epoch.to_be_bytes().to_vec()),
        ])?;
        let (mut used, mut result_bytes) = (HashSet::new(), 0);
        let runs = read_runs(&*store, &mut used, &mut result_bytes)?;
        let next_value = remove_orphans(&*store, &used)?;
        store.flush()?;
        Ok((Self { store, next_value, result_bytes }, Stored { epoch, runs }))
    }

    /// Bytes of the accepted results that are kept: what a restart reads, and folds again from the newest checkpoint on.
    pub fn result_bytes(&self) -> u64 {
        self.result_bytes
    }

    /// Writes batches in order, each all or nothing, and returns when they are durable.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then nothing more may be written here.
    pub fn write(&mut self, batches: &[Vec<Record>]) -> Result<WriteTimes, StoreError> {
        let begun = Instant::now();
        let mut flushes = Vec::new();
        let mut pending = Vec::new();
        let mut chunks = Vec::new();
        for batch in batches {
            let drops = |record: &Record| {
                matches!(
                    record,
                    Record::DropCheckpoint { .. } | Record::DropResults { .. } | Record::DropEvaluation { .. }
                )
            };
            if batch.iter().any(drops) && !pending.is_empty() {
                // What is dropped must be read first, and may stand in an earlier batch.
                self.write_chunks(&mut chunks, &mut flushes)?;
                self.store.apply(std::mem::take(&mut pending))?;
            }
            for record in batch {
                self.changes(record, &mut pending, &mut chunks)?;
            }
        }
        self.write_chunks(&mut chunks, &mut flushes)?;
        self.store.apply(pending)?;
        self.flush(&mut flushes)?;
        Ok(WriteTimes { whole: begun.elapsed(), flushes })
    }

    fn flush(&self, times: &mut Vec<Duration>) -> Result<(), StoreError> {
        let begun = Instant::now();
        self.store.flush()?;
        times.push(begun.elapsed());
        Ok(())
    }

    /// Chunks become durable before any pointer to them is written.
    fn write_chunks(&self, chunks: &mut Vec<Change>, times: &mut Vec<Duration>) -> Result<(), StoreError> {
        if chunks.is_empty() {
            return Ok(());
        }
        let mut rest = std::mem::take(chunks).into_iter().peekable();
        while rest.peek().is_some() {
            self.store.apply(rest.by_ref().take(CHUNK_BATCH).collect())?;
        }
        self.flush(times)
    }

    fn large(&mut self, bytes: &[u8], chunks: &mut Vec<Change>) -> Pointer {
        let pointer = Pointer::to(self.next_value, bytes);
        self.next_value += 1;
        chunks.extend(writing(pointer.value, bytes));
        pointer
    }

    fn changes(
        &mut self,
        record: &Record,
        changes: &mut Vec<Change>,
        chunks: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        match record {
            Record::Run(run) => {
                changes.push(Change::Put(keys::of_run(keys::RUNS, run.order), codec::encode_run(run)));
            }
            Record::Standing(run, standing) => {
                changes.push(Change::Put(keys::of_run(keys::STANDINGS, *run), codec::encode_standing(standing)));
            }
            Record::Progress(run, progress) => {
                changes.push(Change::Put(keys::of_run(keys::PROGRESS, *run), codec::encode_progress(progress)));
            }
            Record::Step(run, step) => {
                changes.push(Change::Put(keys::of_step(keys::STEPS, *run, step.outer_step), codec::encode_step(step)));
            }
            Record::Lease(run, lease) => {
                let key = keys::lease(*run, lease.outer_step, lease.slot, lease.attempt);
                changes.push(Change::Put(key, codec::encode_lease(lease)));
            }
            Record::Result { run, outer_step, contribution } => {
                let bytes = codec::encode_contribution(contribution);
                self.result_bytes += bytes.len() as u64;
                let value = if bytes.len() < CHUNK {
                    [&[WHOLE], &bytes[..]].concat()
                } else {
                    [&[POINTER], &codec::encode_pointer(&self.large(&bytes, chunks))[..]].concat()
                };
                changes.push(Change::Put(keys::result(*run, *outer_step, contribution.slot), value));
            }
            Record::Checkpoint { run, info, bytes } => {
                let pointer = self.large(bytes, chunks);
                let key = keys::of_step(keys::CHECKPOINTS, *run, info.outer_step);
                changes.push(Change::Put(key, codec::encode_checkpoint(info, &pointer)));
            }
            Record::Evaluation(run, evaluation) => changes.extend(evaluation::writing(*run, evaluation)),
            Record::DropEvaluation { run, outer_step } => {
                let prefix = keys::of_step(keys::EVALUATIONS, *run, *outer_step);
                changes.extend(self.store.scan(&prefix)?.into_iter().map(|(key, _)| Change::Remove(key)));
            }
            Record::DropCheckpoint { run, outer_step } => {
                let key = keys::of_step(keys::CHECKPOINTS, *run, *outer_step);
                if let Some((_, pointer)) = read_manifest(&*self.store, &key, *outer_step)? {
                    changes.extend(pointer.removal());
                }
                changes.push(Change::Remove(key));
            }
            Record::DropResults { run, before } => {
                for key in self.before(keys::RESULTS, *run, *before)? {
                    let length = match self.store.get(&key)?.as_deref() {
                        Some([POINTER, pointer @ ..]) => {
                            let pointer = codec::decode_pointer(pointer)?;
                            changes.extend(pointer.removal());
                            pointer.length
                        }
                        Some([_, bytes @ ..]) => bytes.len() as u64,
                        Some([]) | None => 0,
                    };
                    self.result_bytes = self.result_bytes.saturating_sub(length);
                    changes.push(Change::Remove(key));
                }
            }
            Record::DropLeases { run, before } => {
                let old = self.before(keys::LEASES, *run, *before)?;
                changes.extend(old.into_iter().map(Change::Remove));
            }
        }
        Ok(())
    }

    fn before(&self, kind: &[u8], run: RunOrder, outer_step: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.keys(&keys::of_run(kind, run), &keys::of_step(kind, run, outer_step))
    }
}

fn read_runs(store: &dyn Store, used: &mut HashSet<u64>, result_bytes: &mut u64) -> Result<Vec<StoredRun>, StoreError> {
    let mut runs = Vec::new();
    for (key, value) in store.scan(keys::RUNS)? {
        let order = keys::number(&key, 0).ok_or_else(|| StoreError::damaged("key of a run", "it is cut short"))?;
        if order != runs.len() as RunOrder {
            return Err(StoreError::damaged(format!("run {}", runs.len()), "it is missing"));
        }
        let record = codec::decode_run(order, &value)?;
        let standing = store
            .get(&keys::of_run(keys::STANDINGS, order))?
            .ok_or_else(|| StoreError::damaged(format!("standing of run {}", record.run), "it is missing"))?;
        let progress = store.get(&keys::of_run(keys::PROGRESS, order))?;
        let progress = progress.map(|bytes| codec::decode_progress(&bytes)).transpose()?.unwrap_or_default();
        let leases = store
            .scan(&keys::of_run(keys::LEASES, order))?
            .iter()
            .map(|(_, value)| codec::decode_lease(value))
            .collect::<Result<_, _>>()?;
        let mut results = Vec::new();
        for (key, value) in store.scan(&keys::of_run(keys::RESULTS, order))? {
            let step =
                keys::number(&key, 8).ok_or_else(|| StoreError::damaged("key of a result", "it is cut short"))?;
            let contribution = match &value[..] {
                [WHOLE, bytes @ ..] => {
                    *result_bytes += bytes.len() as u64;
                    codec::decode_contribution(bytes)?
                }
                [POINTER, bytes @ ..] => {
                    let pointer = codec::decode_pointer(bytes)?;
                    used.insert(pointer.value);
                    *result_bytes += pointer.length;
                    codec::decode_contribution(&pointer.read(store)?)?
                }
                _ => return Err(StoreError::damaged("result", "it has an unknown form")),
            };
            results.push((step, Arc::new(contribution)));
        }
        let mut checkpoints = Vec::new();
        for (key, value) in store.scan(&keys::of_run(keys::CHECKPOINTS, order))? {
            let step =
                keys::number(&key, 8).ok_or_else(|| StoreError::damaged("key of a checkpoint", "it is cut short"))?;
            let (info, pointer) = codec::decode_checkpoint(&record.run, step, &value)?;
            used.insert(pointer.value);
            checkpoints.push(info);
        }
        let standing = codec::decode_standing(&standing)?;
        let evaluations = evaluation::evaluated(store, order)?;
        let record = Arc::new(record);
        runs.push(StoredRun { record, standing, progress, leases, results, checkpoints, evaluations });
    }
    Ok(runs)
}

/// Removes chunks to which no pointer leads and returns the next free value number. A number that a pointer names is
/// not free even if its chunks are lost: whoever drops that pointer would remove the chunks of a new value.
fn remove_orphans(store: &dyn Store, used: &HashSet<u64>) -> Result<u64, StoreError> {
    let end = [keys::CHUNKS, &[0xff; 16]].concat();
    let mut next = used.iter().max().map_or(0, |largest| largest + 1);
    let mut orphans = Vec::new();
    for key in store.keys(keys::CHUNKS, &end)? {
        let value = keys::number(&key, 0).ok_or_else(|| StoreError::damaged("key of a chunk", "it is cut short"))?;
        next = next.max(value + 1);
        if !used.contains(&value) {
            orphans.push(Change::Remove(key));
        }
    }
    store.apply(orphans)?;
    Ok(next)
}

fn read_manifest(
    store: &dyn Store,
    key: &[u8],
    outer_step: u64,
) -> Result<Option<(CheckpointInfo, Pointer)>, StoreError> {
    // The run's id is not part of the manifest, and whoever drops or reads a file does not need it from here.
    let nobody: RunId = "unknown".parse().expect("it is a valid id");
    store.get(key)?.map(|bytes| codec::decode_checkpoint(&nobody, outer_step, &bytes)).transpose()
}

/// Those of these folded steps of a run that are stored, in the order asked for.
///
/// # Errors
/// [`StoreError::Damaged`], [`StoreError::Io`].
pub fn read_steps(
    store: &dyn Store,
    order: RunOrder,
    steps: impl IntoIterator<Item = u64>,
) -> Result<Vec<FoldedStep>, StoreError> {
    let read = |step| Ok(store.get(&keys::of_step(keys::STEPS, order, step))?.map(|bytes| (step, bytes)));
    let decode = |(step, bytes): (u64, Vec<u8>)| codec::decode_step(step, &bytes);
    steps.into_iter().filter_map(|step| read(step).transpose()).map(|found| found.and_then(decode)).collect()
}

/// The file of a checkpoint, checked against its manifest.
///
/// # Errors
/// [`Fault::CheckpointNotFound`], [`Fault::CheckpointCorrupt`], [`Fault::StoreReadOnly`] if the store cannot be read.
pub fn read_checkpoint(store: &dyn Store, order: RunOrder, run: &RunId, outer_step: u64) -> Result<Vec<u8>, Fault> {
    let fault = |error: StoreError| match error {
        StoreError::Damaged { .. } => {
            Fault::CheckpointCorrupt { run: run.clone(), outer_step, reason: error.to_string() }
        }
        other => other.to_fault(),
    };
    let key = keys::of_step(keys::CHECKPOINTS, order, outer_step);
    let (_, pointer) = read_manifest(store, &key, outer_step)
        .map_err(fault)?
        .ok_or_else(|| Fault::CheckpointNotFound { run: run.clone(), outer_step: Some(outer_step) })?;
    pointer.read(store).map_err(fault)
}
