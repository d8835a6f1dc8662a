//! A store that could not be written and can be again: the coordinator then begins anew on it, in the same process.
//!
//! ```text
//!  store breaks ─► read-only: nothing is acknowledged ─ folder takes a file again ─► calls end, store is closed
//!                        ▲  looked at now and then                                        │ opened as after a crash
//!                        └────────────────────────── breaks again ◄── runs go on ◄────────┘
//! ```
//!
//! After a failed write nobody knows what the open store holds, so it is never written again. Opened anew it holds what was
//! acknowledged, and that alone is what runs are rebuilt from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use crate::handle::CoordinatorHandle;
use crate::store::Store;

/// How often a folder is looked at at first; half as often after each time that it broke again soon.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A store that held as long as this broke for another reason.
const HELD: Duration = Duration::from_secs(600);
/// What the folder must have room for: two of sled's segments.
const ROOM: usize = 1 << 20;
/// How long a store may take to be let go of by all who read it.
const RELEASE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// How often to look, from life to life of the coordinator.
#[derive(Debug)]
pub(crate) struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pace {
    /// Takes note that a store which lived so long broke and could be written again.
    pub(crate) fn note(&mut self, lived: Duration) {
        self.0 = if lived >= HELD { FIRST_PAUSE } else { (self.0 * 2).min(LONGEST_PAUSE) };
    }
}

/// Waits until the store of a coordinator broke, and its folder takes files again. Never ends for a store in memory.
pub(crate) async fn mended(handle: &CoordinatorHandle, folder: Option<PathBuf>, pace: &Pace) {
    let Some(folder) = folder else { return std::future::pending().await };
    handle.store_broke().await;
    loop {
        tokio::time::sleep(pace.0).await;
        let folder = folder.clone();
        if let Ok(Ok(())) = tokio::task::spawn_blocking(move || takes_files(&folder)).await {
            return;
        }
    }
}

/// Whether a file can be written there, durably; it is removed again.
fn takes_files(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0x5a; ROOM])?;
        file.sync_all()
    });
    // There may be none.
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Waits until nobody reads a store any more, so that it can be opened again. Answers whether that came to pass.
pub(crate) async fn released(store: Weak<dyn Store>) -> bool {
    let all_gone = async {
        while store.strong_count() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(RELEASE, all_gone).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_keeps_breaking_is_tried_less_and_less_often() {
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(pace.0.as_secs());
            pace.note(Duration::from_secs(1));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120]);
        pace.note(HELD);
        assert_eq!(pace.0, FIRST_PAUSE, "it held long enough");
    }

    #[test]
    fn a_folder_is_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        takes_files(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(takes_files(&folder.path().join("gone")).is_err());
    }
}
