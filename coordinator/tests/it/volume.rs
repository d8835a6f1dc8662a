//! Small file systems for tests, to be filled and locked: only where one may be mounted.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory.
pub(crate) struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    /// `None` where nothing may be mounted, which is announced.
    pub(crate) fn mount(test: &str, size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        match mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder.path()) {
            Ok(()) => Some(Self { folder }),
            Err(reason) => {
                crate::announce(&format!("SKIPPED {test}: no file system can be mounted here ({reason})"));
                None
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read_only(&self) {
        mount(&["-o", "remount,ro"], self.folder.path()).expect("it was mounted");
    }

    /// Fills all but so many bytes.
    pub(crate) fn fill(&self, but: u64) {
        let path = self.path("filler");
        let mut file = File::create(&path).unwrap();
        let page = [0x5a; 4096];
        while file.write_all(&page).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(but)).unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Even if somebody still has a file open in it.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(folder).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
