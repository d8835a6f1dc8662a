//! A folder of recordings, one folder a class, and its split by track or by speaker.
//!
//! ```text
//!  gtzan/                    fsdd/
//!    blues/                    0/
//!      blues.00000.wav           0_george_0.wav      <class>_<speaker>_<take>.wav
//!      …                         …
//!    rock/ …                   9/ …
//! ```
//!
//! Classes are the folders, in alphabetical order; recordings are their `.wav` files (any case), by name. Hidden files and
//! folders, other files, and files beside the class folders are ignored. A class without a recording is an error.
//!
//! | split | train | inner_valid | outer_valid | test |
//! |---|---|---|---|---|
//! | share of each class's tracks, or of the speakers | the rest | 8 % | 8 % | 16 % |
//!
//! rounded, at least one each. Tracks are shuffled by a fixed seed and the class's name, so every host has the same
//! splits, also when fewer classes are asked for. A track lies in one split with all of its segments. By track, a speaker
//! may be heard in several splits; by speaker, in one only.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use paceline_optimizer_core::Seed;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::{SPLIT_SEED, data_error, shuffled};

/// Most recordings and most classes of a folder.
const MAX_TRACKS: usize = 1 << 16;

/// What lies in one split with all that belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SplitBy {
    /// A recording.
    #[default]
    Track,
    /// All recordings of a speaker; files must be named `<class>_<speaker>_<take>.wav`.
    Speaker,
}

/// One recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) path: PathBuf,
    pub(crate) class: u32,
}

/// Recordings of a folder: by class, then by name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) classes: Vec<String>,
    pub(crate) tracks: Vec<Track>,
}

/// Lists a folder: its classes, or only those of `wanted` if that names some.
///
/// # Errors
/// [`Error::Data`] names the folder that cannot be read, has no class, lacks a wanted one, or has no recording.
pub(crate) fn list(folder: &Path, wanted: &[String]) -> Result<Listing, Error> {
    let found: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| path.is_dir()).collect();
    if found.is_empty() {
        return Err(data_error(folder, "has no class folders: it must hold one folder of .wav files for each class"));
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(missing) = wanted.iter().find(|wanted| !found.iter().any(|path| name(path) == **wanted)) {
        let there: Vec<String> = found.iter().map(|path| name(path)).collect();
        return Err(data_error(folder, format!("has no class {missing:?}, only {}", there.join(", "))));
    }
    let mut listing = Listing { classes: Vec::new(), tracks: Vec::new() };
    for path in found.iter().filter(|path| wanted.is_empty() || wanted.contains(&name(path))) {
        let class = listing.classes.len() as u32;
        let recordings = entries(path)?.into_iter().filter(|path| is_wav(path) && !path.is_dir());
        let before = listing.tracks.len();
        listing.tracks.extend(recordings.map(|path| Track { path, class }));
        if listing.tracks.len() == before {
            return Err(data_error(path, "is a class without a .wav file: add recordings or remove the folder"));
        }
        if listing.tracks.len() > MAX_TRACKS {
            return Err(data_error(folder, format!("holds more than {MAX_TRACKS} recordings: use fewer")));
        }
        listing.classes.push(name(path));
    }
    if listing.classes.len() < 2 {
        return Err(data_error(folder, "has a single class: there is nothing to tell apart"));
    }
    Ok(listing)
}

/// What a folder holds, hidden things aside, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |error: std::io::Error| data_error(folder, format!("cannot be listed: {error}"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if !path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b".") {
            paths.push(path);
        }
        // Files that are no recordings count too, or a folder of millions of them would fill the memory.
        if paths.len() > 2 * MAX_TRACKS {
            return Err(data_error(folder, format!("holds more than {} entries: use fewer", 2 * MAX_TRACKS)));
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_wav(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav"))
}

/// Tracks of train, inner_valid, outer_valid and test.
///
/// # Errors
/// [`Error::Data`] names the class with too few recordings, or the file whose name does not tell its speaker.
pub(crate) fn split(folder: &Path, listing: &Listing, by: SplitBy) -> Result<[Vec<Track>; 4], Error> {
    match by {
        SplitBy::Track => split_by_track(folder, listing),
        SplitBy::Speaker => split_by_speaker(folder, listing),
    }
}

/// How many of `count` go to each split; none if a split would be empty.
fn shares(count: usize) -> Option<[usize; 4]> {
    let share = |percent: usize| ((count * percent + 50) / 100).max(1);
    let [valid, test] = [share(8), share(16)];
    let train = count.checked_sub(2 * valid + test).filter(|&train| train > 0)?;
    Some([train, valid, valid, test])
}

/// Hands out shuffled indices to the four splits.
fn deal(count: usize, seed: Seed) -> Option<[Vec<usize>; 4]> {
    let mut order = shuffled(count, seed).into_iter();
    shares(count).map(|shares| shares.map(|share| order.by_ref().take(share).collect()))
}

fn split_by_track(folder: &Path, listing: &Listing) -> Result<[Vec<Track>; 4], Error> {
    let mut splits = [const { Vec::new() }; 4];
    for (class, name) in listing.classes.iter().enumerate() {
        let tracks: Vec<&Track> = listing.tracks.iter().filter(|track| track.class as usize == class).collect();
        let seed = name.bytes().fold(SPLIT_SEED, |seed, byte| seed.fold_in(u64::from(byte)));
        let Some(parts) = deal(tracks.len(), seed) else {
            let reason = format!("holds {} recordings: a class needs 4, one for each split", tracks.len());
            return Err(data_error(&folder.join(name), reason));
        };
        for (split, part) in splits.iter_mut().zip(parts) {
            split.extend(part.into_iter().map(|index| tracks[index].clone()));
        }
    }
    Ok(splits)
}

fn split_by_speaker(folder: &Path, listing: &Listing) -> Result<[Vec<Track>; 4], Error> {
    let speaker = |track: &Track| speaker(&track.path).map(str::to_owned);
    let speakers: BTreeSet<String> = listing.tracks.iter().map(speaker).collect::<Result<_, _>>()?;
    let speakers: Vec<String> = speakers.into_iter().collect();
    let Some(parts) = deal(speakers.len(), SPLIT_SEED) else {
        return Err(data_error(folder, format!("holds {} speakers: 4 are needed, one for each split", speakers.len())));
    };
    let mut splits = [const { Vec::new() }; 4];
    for (split, part) in splits.iter_mut().zip(parts) {
        let of_part = |track: &&Track| {
            // Every name was parsed above.
            speaker(track).is_ok_and(|name| part.iter().any(|&index| speakers[index] == name))
        };
        split.extend(listing.tracks.iter().filter(of_part).cloned());
        let heard = |class: usize| split.iter().any(|track: &Track| track.class as usize == class);
        if let Some(class) = (0..listing.classes.len()).find(|&class| !heard(class)) {
            let who: Vec<&str> = part.iter().map(|&index| speakers[index].as_str()).collect();
            let reason = format!("has no recording by {}, whom a split needs: split by track", who.join(" or "));
            return Err(data_error(&folder.join(&listing.classes[class]), reason));
        }
    }
    Ok(splits)
}

/// The speaker a file is named after.
fn speaker(path: &Path) -> Result<&str, Error> {
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    match stem.split('_').collect::<Vec<_>>()[..] {
        [_, speaker, _] if !speaker.is_empty() => Ok(speaker),
        _ => Err(data_error(path, "does not tell its speaker: name it <class>_<speaker>_<take>.wav or split by track")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn classes_and_recordings_are_sorted_and_the_rest_ignored() {
        let folder = folder(&["rock/b.wav", "rock/a.WAV", "rock/notes.txt", "rock/.c.wav", "jazz/x.wav", "list.csv"]);
        fs::create_dir(folder.path().join(".cache")).unwrap();
        fs::create_dir(folder.path().join("rock/folder.wav")).unwrap();
        let listing = list(folder.path(), &[]).unwrap();
        assert_eq!(listing.classes, ["jazz", "rock"]);
        let names: Vec<(u32, &str)> = listing
            .tracks
            .iter()
            .map(|track| (track.class, track.path.file_name().unwrap().to_str().unwrap()))
            .collect();
        assert_eq!(names, [(0, "x.wav"), (1, "a.WAV"), (1, "b.wav")]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let list_error = |files: &[&str], wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&name| name.into()).collect();
            list(folder(files).path(), &wanted).unwrap_err().to_string()
        };
        let cases = [
            (list_error(&[], &[]), "has no class folders"),
            (list_error(&["a.wav"], &[]), "has no class folders"),
            (list_error(&["rock/a.wav", "jazz/a.mp3"], &[]), "jazz: is a class without a .wav file"),
            (list_error(&["rock/a.wav", "jazz/a.wav"], &["rock", "pop"]), "has no class \"pop\", only jazz, rock"),
            (list_error(&["rock/a.wav"], &[]), "single class"),
        ];
        for (error, expected) in cases {
            assert!(error.contains(expected), "{error}");
        }
        let error = list(Path::new("/nowhere/at/all"), &[]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all: cannot be listed"), "{error}");
    }

    /// 10 classes of 6 speakers with 5 takes each.
    fn spoken(folder: &Path) -> Listing {
        let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        let name = |class: &str, speaker, take| folder.join(class).join(format!("{class}_{speaker}_{take}.wav"));
        let mut tracks = Vec::new();
        for (class, label) in classes.iter().zip(0..) {
            for speaker in ["ann", "bob", "cem", "dan", "eve", "fay"] {
                tracks.extend((0..5).map(|take| Track { path: name(class, speaker, take), class: label }));
            }
        }
        Listing { classes, tracks }
    }

    #[test]
    fn splits_share_no_track_lose_none_and_hold_every_class() {
        let (folder, speaker) = (Path::new("fsdd"), |track: &Track| speaker(&track.path).unwrap().to_owned());
        let listing = spoken(folder);
        for by in [SplitBy::Track, SplitBy::Speaker] {
            let splits = split(folder, &listing, by).unwrap();
            let mut all: Vec<Track> = splits.concat();
            all.sort_by_key(|track| (track.class, track.path.clone()));
            assert_eq!(all, listing.tracks, "{by:?}");
            let counts = splits.each_ref().map(Vec::len);
            let expected = if by == SplitBy::Track { [210, 20, 20, 50] } else { [150, 50, 50, 50] };
            assert_eq!(counts, expected, "{by:?}");
            for split in &splits {
                assert!((0..10).all(|class| split.iter().any(|track| track.class == class)), "{by:?}");
            }
            let voices = splits.each_ref().map(|split| split.iter().map(speaker).collect::<BTreeSet<_>>());
            let apart = (0..4).all(|a| (0..a).all(|b| voices[a].is_disjoint(&voices[b])));
            assert_eq!(apart, by == SplitBy::Speaker);
        }
    }

    #[test]
    fn a_class_keeps_its_split_when_others_leave() {
        let folder = Path::new("fsdd");
        let all = spoken(folder);
        let tracks = all.tracks.iter().filter(|track| track.class >= 8);
        let fewer = Listing {
            classes: all.classes[8..].to_vec(),
            tracks: tracks.map(|track| Track { class: track.class - 8, ..track.clone() }).collect(),
        };
        let test_of = |listing: &Listing, class: u32| -> Vec<PathBuf> {
            let [_, _, _, test] = split(folder, listing, SplitBy::Track).unwrap();
            test.into_iter().filter(|track| track.class == class).map(|track| track.path).collect()
        };
        assert_eq!(test_of(&all, 9), test_of(&fewer, 1));
        let takes = |class: u32| -> Vec<String> {
            let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy()[2..].to_owned();
            test_of(&all, class).into_iter().map(stem).collect()
        };
        assert_ne!(takes(8), takes(9), "classes are shuffled apart");
    }

    #[test]
    fn too_few_recordings_or_speakers_are_named() {
        let folder = Path::new("fsdd");
        let of = |names: &[(u32, &str)]| Listing {
            classes: vec!["a".into(), "b".into()],
            tracks: names.iter().map(|&(class, name)| Track { path: folder.join(name), class }).collect(),
        };
        let few = of(&[(0, "1"), (0, "2"), (0, "3"), (0, "4"), (1, "1"), (1, "2"), (1, "3")]);
        let error = split(folder, &few, SplitBy::Track).unwrap_err().to_string();
        assert!(error.contains("fsdd/b: holds 3 recordings"), "{error}");
        let error = split(folder, &few, SplitBy::Speaker).unwrap_err().to_string();
        assert!(error.contains("fsdd/1: does not tell its speaker"), "{error}");
        let two = of(&[(0, "a_x_1.wav"), (1, "b_y_1.wav")]);
        let error = split(folder, &two, SplitBy::Speaker).unwrap_err().to_string();
        assert!(error.contains("holds 2 speakers"), "{error}");
        let one_each = of(&[(0, "a_w_1.wav"), (0, "a_x_1.wav"), (1, "b_y_1.wav"), (1, "b_z_1.wav")]);
        let error = split(folder, &one_each, SplitBy::Speaker).unwrap_err().to_string();
        assert!(error.contains("has no recording by"), "{error}");
    }
}
