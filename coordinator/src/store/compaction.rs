//! Keeping the disk bounded: sled 0.34 frees little, so at start a store that is mostly dead is written anew.
//!
//! ```text
//!  db ──copy live pairs──► db.compacting ──flush──► db → db.old, db.compacting → db ──► remove db.old
//! ```
//!
//! A crash at any point leaves a whole store: [`settle`] puts it back under its name.

use std::fs;
use std::path::Path;

use super::sled::{db_folder, io, open_db};
use super::{CHUNK_BATCH, StoreError};

/// Smaller stores are left alone.
const WORTH_IT: u64 = 64 << 20;
/// A store this many times larger than its live pairs is written anew.
const BLOAT: u64 = 4;

/// Cleans up after an interrupted compaction.
pub(super) fn settle(folder: &Path) -> std::io::Result<()> {
    let (db, old, new) = (db_folder(folder), folder.join("db.old"), folder.join("db.compacting"));
    if old.exists() && !db.exists() {
        fs::rename(&old, &db)?;
    }
    for leftover in [old, new] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    Ok(())
}

/// The same store, written anew if that saves much.
pub(super) fn compact(folder: &Path, db: sled::Db) -> Result<sled::Db, StoreError> {
    let size = db.size_on_disk().map_err(io)?;
    if size < WORTH_IT || size < BLOAT * live_bytes(&db)? {
        return Ok(db);
    }
    rewrite(folder, db)
}

fn live_bytes(db: &sled::Db) -> Result<u64, StoreError> {
    let mut live = 0;
    for pair in db.iter() {
        let (key, value) = pair.map_err(io)?;
        live += (key.len() + value.len()) as u64;
    }
    Ok(live)
}

fn rewrite(folder: &Path, db: sled::Db) -> Result<sled::Db, StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unusable { path: folder.into(), reason: error.to_string() };
    let (path, old, new) = (db_folder(folder), folder.join("db.old"), folder.join("db.compacting"));
    let fresh = open_db(&new)?;
    let mut batch = sled::Batch::default();
    for (index, pair) in db.iter().enumerate() {
        let (key, value) = pair.map_err(io)?;
        batch.insert(key, value);
        if index % CHUNK_BATCH == CHUNK_BATCH - 1 {
            fresh.apply_batch(std::mem::take(&mut batch)).map_err(io)?;
        }
    }
    fresh.apply_batch(batch).map_err(io)?;
    fresh.flush().map_err(io)?;
    drop(fresh);
    drop(db);
    fs::rename(&path, &old).map_err(unusable)?;
    fs::rename(&new, &path).map_err(unusable)?;
    fs::remove_dir_all(&old).map_err(unusable)?;
    open_db(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) -> sled::Db {
        let db = open_db(&db_folder(folder)).unwrap();
        for key in 0..200_u32 {
            db.insert(key.to_be_bytes(), vec![key as u8; 100]).unwrap();
        }
        db.flush().unwrap();
        db
    }

    fn check(db: &sled::Db) {
        assert_eq!(db.len(), 200);
        for key in 0..200_u32 {
            assert_eq!(db.get(key.to_be_bytes()).unwrap().unwrap(), vec![key as u8; 100]);
        }
    }

    #[test]
    fn a_rewritten_store_holds_the_same_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let db = filled(folder.path());
        check(&rewrite(folder.path(), db).unwrap());
        assert!(!folder.path().join("db.old").exists());
        assert!(!folder.path().join("db.compacting").exists());
    }

    #[test]
    fn a_crash_between_the_renames_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        fs::rename(db_folder(folder.path()), folder.path().join("db.old")).unwrap();
        fs::create_dir(folder.path().join("db.compacting")).unwrap();
        settle(folder.path()).unwrap();
        assert!(!folder.path().join("db.compacting").exists());
        check(&open_db(&db_folder(folder.path())).unwrap());
    }
}
