//! The store that survives: sled 0.34.7, used as carefully as its known faults ask for.
//!
//! ```text
//!  data folder ─┬─ lock   held while this process lives
//!               └─ db/    sled: keys, chunks of at most 64 KiB
//! ```

use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::witness::{self, Witness};
use super::{Change, Pair, Store, StoreError, compaction};

/// Memory sled may use to cache pages, in bytes.
const CACHE: u64 = 64 << 20;

/// A [`Store`] on disk.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    /// Flushes so far, in this life of the store and earlier ones.
    flushes: AtomicU64,
    witness: Witness,
    /// Held for its lock.
    _lock: File,
}

impl SledStore {
    /// Opens or makes the store in this folder.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Unusable`] with the cause.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |error: std::io::Error| StoreError::Unusable { path: folder.into(), reason: error.to_string() };
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: folder.into() }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        compaction::settle(folder).map_err(unusable)?;
        let db = compaction::compact(folder, open_db(&db_folder(folder))?)?;
        let flushes = db.get(witness::KEY).map_err(io)?.map_or(Ok(0), |count| count_of(&count))?;
        let witness = Witness::open(folder, flushes)?;
        Ok(Self { db, flushes: AtomicU64::new(flushes), witness, _lock: lock })
    }
}

fn count_of(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::damaged("count of flushes", "not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Where sled lives in the data folder.
pub(super) fn db_folder(folder: &Path) -> PathBuf {
    folder.join("db")
}

/// What sled says when its file is still locked.
const SLED_LOCK: &str = "could not acquire lock";
/// How long sled's threads may take to let go of its file after the last handle was dropped, as after a compaction. No
/// other process can hold it: this one holds the folder's lock.
const RELEASE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const RETRY: Duration = Duration::from_millis(10);

/// Opens sled. It refuses a torn snapshot although its log holds everything, so a refused open is tried again without
/// snapshots; that rebuilds them from the log.
pub(super) fn open_db(path: &Path) -> Result<sled::Db, StoreError> {
    let unusable = |reason: String| StoreError::Unusable { path: path.into(), reason };
    remove_snapshots(path, ".generating").map_err(|error| unusable(error.to_string()))?;
    // No background flush: the writer decides when things are durable.
    let config = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None);
    let begun = Instant::now();
    let open = || loop {
        let opened = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err("its log is damaged".to_owned()),
        };
        match opened {
            Err(reason) if reason.contains(SLED_LOCK) && begun.elapsed() < RELEASE => std::thread::sleep(RETRY),
            opened => return opened,
        }
    };
    open().or_else(|first| {
        remove_snapshots(path, "").map_err(|error| unusable(error.to_string()))?;
        open().map_err(|_| unusable(first))
    })
}

/// Removes sled's snapshots whose names end so.
fn remove_snapshots(path: &Path, ending: &str) -> std::io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(ending) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn io(error: sled::Error) -> StoreError {
    StoreError::Io { reason: error.to_string() }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(io)?.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.db
            .scan_prefix(prefix)
            .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(io))
            .collect()
    }

    fn keys(&self, from: &[u8], to: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.db.range(from..to).keys().map(|key| key.map(|key| key.to_vec()).map_err(io)).collect()
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.insert(key, value),
                Change::Remove(key) => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(io)
    }

    fn size_bytes(&self) -> Option<u64> {
        self.db.size_on_disk().ok()
    }

    fn flush(&self) -> Result<(), StoreError> {
        // Only the writer flushes, so nobody counts at the same time.
        let count = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        self.db.insert(witness::KEY, &count.to_be_bytes()).map_err(io)?;
        self.db.flush().map_err(io)?;
        self.witness.note(count).map_err(|error| StoreError::Io { reason: format!("note a flush: {error}") })
    }
}
