//! A witness outside sled's log: how many flushes the store has promised.
//!
//! ```text
//!  flush n:  put m/flushes = n ─► sled flush ─► witness file = n ─► "durable"
//!  open:     m/flushes < witness: acknowledged writes are gone, so refuse
//! ```
//!
//! sled takes damage at the end of its log for a write that a crash tore, and silently goes on from what lies before it.
//! The witness is written after sled's flush, so after any crash it is at most as new as the log; only damage makes it
//! newer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Where the log itself counts.
pub(super) const KEY: &[u8] = b"m/flushes";
/// Name of the witness in the data folder.
const NAME: &str = "flushes";
/// Count, then the count's crc32c, both big-endian.
const LENGTH: usize = 12;

/// The witness file of an open store.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

impl Witness {
    /// Opens or makes the witness, and checks that a log which counts `logged` flushes has lost none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it has, [`StoreError::Unusable`] with the cause if the file cannot be used.
    pub(super) fn open(folder: &Path, logged: u64) -> Result<Self, StoreError> {
        let path = path(folder);
        let unusable = |error: io::Error| StoreError::Unusable { path: path.clone(), reason: error.to_string() };
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(unusable)?;
        let promised = promised(&file).map_err(unusable)?;
        if promised > logged {
            let reason = format!(
                "its last {} of {promised} acknowledged flushes are missing, as after a disk fault or a partial copy (to go \
                 on from what is left, remove {})",
                promised - logged,
                path.display()
            );
            return Err(StoreError::damaged("log", reason));
        }
        Ok(Self { file })
    }

    /// Notes that flush `count` is done. Not synced: the page cache outlives the process, and an older count is no harm.
    pub(super) fn note(&self, count: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(count), 0)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

fn encode(count: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&count.to_be_bytes());
    bytes[8..].copy_from_slice(&crc32c::crc32c(&count.to_be_bytes()).to_be_bytes());
    bytes
}

/// What the file promises; a new or damaged file promises nothing.
fn promised(file: &File) -> io::Result<u64> {
    let mut bytes = [0; LENGTH];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
        read => read?,
    }
    let count = bytes[..8].iter().fold(0, |count, byte| count << 8 | u64::from(*byte));
    if encode(count) == bytes {
        return Ok(count);
    }
    tracing::warn!("the witness of the store's flushes is damaged and was ignored");
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::sled::{SledStore, db_folder};
    use super::super::{Change, Store};
    use super::*;

    fn filled(folder: &Path) {
        let store = SledStore::open(folder).unwrap();
        for key in 0..50_u8 {
            store.apply(vec![Change::Put(vec![b'k', key], vec![key; 2000])]).unwrap();
            store.flush().unwrap();
        }
    }

    #[test]
    fn a_log_that_lost_acknowledged_writes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        SledStore::open(folder.path()).expect("a whole store opens");
        // The log loses its second half, as after a partial copy.
        let log = File::options().write(true).open(db_folder(folder.path()).join("db")).unwrap();
        let length = log.metadata().unwrap().len();
        let zeros = vec![0; (length / 2) as usize];
        log.write_all_at(&zeros, length - zeros.len() as u64).unwrap();
        let refused = SledStore::open(folder.path()).expect_err("acknowledged writes are gone").to_string();
        assert!(refused.contains("acknowledged flushes are missing"), "{refused}");
    }

    #[test]
    fn a_count_behind_the_witness_is_refused_and_one_ahead_is_not() {
        let folder = tempfile::tempdir().unwrap();
        Witness::open(folder.path(), 0).unwrap().note(7).unwrap();
        Witness::open(folder.path(), 7).expect("the same count");
        Witness::open(folder.path(), 9).expect("a crash between flush and note");
        let refused = Witness::open(folder.path(), 5).expect_err("two are missing").to_string();
        assert!(refused.contains("last 2 of 7") && refused.contains("remove"), "{refused}");
    }

    #[test]
    fn a_damaged_witness_promises_nothing() {
        let folder = tempfile::tempdir().unwrap();
        Witness::open(folder.path(), 0).unwrap().note(7).unwrap();
        let file = File::options().write(true).open(path(folder.path())).unwrap();
        file.write_all_at(&[1], 3).unwrap();
        Witness::open(folder.path(), 0).expect("nothing is promised");
    }
}
