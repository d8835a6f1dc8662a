//! Where a coordinator writes down what must survive it.
//!
//! ```text
//!  machine ─Record─► Writer (one thread, group commit) ─► Journal (keys, encoding, chunks) ─► Store: sled or memory
//! ```
//!
//! # Keys, format 4
//!
//! Format 3 knows no folded steps: the curves of its runs begin where this version takes over. Format 2 has no progress of entries, its runs no costs and no curricula; format 1 differs from it in values only: its
//! results know no offset, its standings no variance. Both are read; what a run of format 2 did before is not counted.
//!
//! Numbers are big-endian, so that keys sort by number. `run` is the run's place in order of creation, 8 bytes.
//!
//! | key | value |
//! |---|---|
//! | `m/format` | format version, u32 |
//! | `m/flushes` | (sled) flushes promised so far, u64; the file `flushes` beside the log says the same, see `witness` |
//! | `m/epoch` | how often a coordinator has started on this store, u64 |
//! | `r/` run | what never changes in a run: id, recipe as JSON, request id |
//! | `s/` run | where the run stands: status, step, ledger |
//! | `f/` run | how far each entry of its mixture has come: counts, and sums of losses over at most 40 blocks of steps |
//! | `h/` run, step | a folded step, for people: losses, norms, counts and when |
//! | `e/` run, step | an evaluation of a checkpoint: its theta, its spans, when, how many families |
//! | `e/` run, step, entry | its curves on that entry of the mixture |
//! | `l/` run, step, slot, attempt | a lease and what became of it |
//! | `j/` run, step, slot | an accepted result, whole or as a pointer to chunks |
//! | `c/` run, step | a checkpoint's manifest, with a pointer to chunks |
//! | `b/` value, chunk | crc32c and at most [`chunks::CHUNK`] bytes of a large value |
//!
//! A store of format 4 without `e/` has no evaluations; a version that does not know the prefix leaves it as it is.
//!
//! Records are protobuf messages. A large value is written as chunks under a fresh value number and flushed *before* the
//! pointer to it (length and SHA-256) is written; chunks to which no pointer leads are removed when the store is opened.
//! Values in sled stay below 64 KiB, because larger ones leave files behind for ever (sled 0.34).
//!
//! # Durability
//!
//! One thread writes. It takes everything that waits, writes it in order, flushes once, and only then says that it is
//! durable. `flush_async` is never used: it hangs with seven or more callers (sled issue 1308).

pub mod chunks;
mod codec;
mod compaction;
mod error;
mod evaluation;
mod journal;
mod keys;
mod memory;
mod sled;
mod witness;
mod writer;

pub use error::StoreError;
pub use evaluation::read_evaluations;
pub use journal::{Journal, Stored, WriteTimes, read_checkpoint, read_steps};
pub use memory::MemoryStore;
pub use sled::SledStore;
pub use writer::{Committed, Writer};

/// Newest format this program reads, and the one it writes.
pub const FORMAT: u32 = 4;

/// Chunks written in one batch: 4 MiB, so that one checkpoint does not hold the log's buffers.
const CHUNK_BATCH: usize = 64;

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set the key to the value.
    Put(Vec<u8>, Vec<u8>),
    /// Remove the key, if it is there.
    Remove(Vec<u8>),
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered map of bytes that survives its process (sled) or does not (memory). Reading may happen on any thread,
/// writing on one.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All pairs whose key starts with `prefix`, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError>;

    /// All keys `from..to`, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn keys(&self, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Makes all changes or none, in order. They are durable only after [`Store::flush`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes on disk; `None` if it is not on one, or cannot tell.
    fn size_bytes(&self) -> Option<u64> {
        None
    }
}
