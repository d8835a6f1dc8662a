//! Computed features on disk.
//!
//! ```text
//!  <folder>/audio-<key, 64 hex digits>.bin
//!    magic 16 │ key 32 │ payload: 4 × (count u64 │ labels u32 │ values f32 │ phases f32) │ SHA-256 of all before 32
//! ```
//!
//! The key is a hash of the settings, of every recording's class, name and bytes, and of [`VERSION`]: a file never goes
//! stale, it is only no longer asked for. All little endian. A file that is damaged, cut or too long is computed anew and
//! replaced; files are written beside their place and renamed, so that readers see whole ones. Where the folder cannot be
//! written, features are computed every time, and nothing else changes. The folder may be deleted at any time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::data::AudioExamples;

/// Part of every key: to be raised with any change to the numbers of a front end, the splits or this format.
pub(crate) const VERSION: &str = "paceline audio features 1";
const MAGIC: [u8; 16] = *b"paceline-audio-1";
const HASH: usize = 32;

/// What features depend on, hashed.
pub(crate) type Key = [u8; HASH];

/// Where computed features are kept.
#[derive(Clone, Debug)]
pub(crate) struct Cache(Option<PathBuf>);

impl Cache {
    /// Keeps nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Keeps files in this folder, which is made when first needed.
    #[cfg(test)]
    pub(crate) fn within(folder: impl Into<PathBuf>) -> Self {
        Self(Some(folder.into()))
    }

    /// `$XDG_CACHE_HOME/paceline`, else `~/.cache/paceline`; without a home, keeps nothing.
    pub(crate) fn standard() -> Self {
        Self(standard_folder(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")))
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.as_ref().map(|folder| folder.join(format!("audio-{name}.bin")))
    }

    /// The features of this key, if they are here and whole. `sizes` are the numbers of one example and of its phase
    /// matrix; `most` examples are read.
    pub(crate) fn get(&self, key: &Key, sizes: [usize; 2], most: usize) -> Option<[AudioExamples; 4]> {
        let file = File::open(self.path(key)?).ok()?;
        let limit = MAGIC.len() + 2 * HASH + 4 * 8 + most * 4 * (1 + sizes[0] + sizes[1]);
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
        let (content, digest) = bytes.split_last_chunk::<HASH>()?;
        if bytes.len() > limit || Sha256::digest(content)[..] != digest[..] {
            return None;
        }
        decode(content.strip_prefix(&MAGIC)?.strip_prefix(key)?, sizes)
    }

    /// Keeps features. A folder that cannot be written is no error: the next run computes them again.
    pub(crate) fn put(&self, key: &Key, splits: &[AudioExamples; 4]) {
        let Some(path) = self.path(key) else { return };
        let mut bytes = [&MAGIC[..], key].concat();
        encode(splits, &mut bytes);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        let _ = write_whole(&path, &bytes);
    }
}

/// The folder that the XDG Base Directory Specification gives; relative paths do not count.
fn standard_folder(cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute(cache_home).or_else(|| absolute(home).map(|home| home.join(".cache")));
    folder.map(|folder| folder.join("paceline"))
}

/// Writes a file beside its place and moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Unlike all others that write now; only a name, it ends up in no result.
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{unique}.tmp", process::id()));
    let written = File::options().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if moved.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    moved
}

fn encode(splits: &[AudioExamples; 4], bytes: &mut Vec<u8>) {
    for split in splits {
        bytes.extend_from_slice(&(split.len() as u64).to_le_bytes());
        bytes.extend(split.labels.iter().flat_map(|label| label.to_le_bytes()));
        bytes.extend(split.values.iter().chain(&split.phases).flat_map(|value| value.to_le_bytes()));
    }
}

/// The splits, if the bytes are exactly those.
fn decode(mut bytes: &[u8], sizes: [usize; 2]) -> Option<[AudioExamples; 4]> {
    let mut take = |count: usize| bytes.split_off(..count.checked_mul(4)?);
    let mut splits = [const { None }; 4];
    for split in &mut splits {
        let (low, high) = take(2)?.split_at(4);
        let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        let count = usize::try_from(u64::from(word(high)?) << 32 | u64::from(word(low)?)).ok()?;
        let labels = take(count)?.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let mut floats = |size: usize| -> Option<Vec<f32>> {
            let words = take(count.checked_mul(size)?)?.as_chunks::<4>().0;
            Some(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
        };
        *split = Some(AudioExamples { labels, values: floats(sizes[0])?, phases: floats(sizes[1])? });
    }
    let [Some(train), Some(inner), Some(outer), Some(test)] = splits else { return None };
    bytes.is_empty().then_some([train, inner, outer, test])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 2] = [3, 2];

    fn splits() -> [AudioExamples; 4] {
        [4, 1, 0, 2].map(|count| AudioExamples {
            values: (0..count * 3).map(|n| n as f32 + 0.5).collect(),
            labels: (0..count).collect(),
            phases: (0..count * 2).map(|n| -(n as f32)).collect(),
        })
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_kept_comes_back_under_its_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::within(folder.path().join("made/when/needed"));
        assert_eq!(cache.get(&[1; 32], SIZES, 7), None);
        cache.put(&[1; 32], &splits());
        assert_eq!(cache.get(&[1; 32], SIZES, 7), Some(splits()));
        assert_eq!(cache.get(&[2; 32], SIZES, 7), None);
        assert_eq!(cache.get(&[1; 32], SIZES, 6), None, "larger than could be wanted");
        let names = files(&folder.path().join("made/when/needed"));
        assert!(names.len() == 1 && names[0].to_string_lossy().ends_with("01.bin"), "nothing left behind: {names:?}");
    }

    #[test]
    fn any_damage_is_a_miss_and_is_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::within(folder.path());
        cache.put(&[1; 32], &splits());
        let path = files(folder.path()).remove(0);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.get(&[1; 32], SIZES, 7), None, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.get(&[1; 32], SIZES, 7), None, "cut at {at}");
        }
        fs::write(&path, [&good[..], &[0]].concat()).unwrap();
        assert_eq!(cache.get(&[1; 32], SIZES, 7), None, "too long");
        cache.put(&[1; 32], &splits());
        assert_eq!(cache.get(&[1; 32], SIZES, 7), Some(splits()));
    }

    #[test]
    fn the_standard_folder_is_where_the_system_keeps_such_files() {
        let of = |cache_home: &str, home: &str| standard_folder(Some(cache_home.into()), Some(home.into()));
        assert_eq!(of("/c", "/h"), Some("/c/paceline".into()));
        assert_eq!(of("", "/h"), Some("/h/.cache/paceline".into()));
        assert_eq!(of("relative", "/h"), Some("/h/.cache/paceline".into()));
        assert_eq!(of("", ""), None);
        assert_eq!(standard_folder(None, None), None);
    }

    #[test]
    fn a_claim_of_many_examples_is_not_believed() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 100]);
        assert_eq!(decode(&bytes, SIZES), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        fs::write(&file, "").unwrap();
        for cache in [Cache::within(&file), Cache::within(file.join("below")), Cache::none()] {
            cache.put(&[1; 32], &splits());
            assert_eq!(cache.get(&[1; 32], SIZES, 7), None);
        }
        assert_eq!(files(folder.path()), [file]);
    }
}
