//! Settings to a shared data set.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use paceline_optimizer_core::{Purpose, Seed};
use sha2::{Digest, Sha256};

use super::augment::augment;
use super::cache::{Cache, Key, VERSION};
use super::data::{AudioData, AudioExamples, standardise};
use super::features::Extractor;
use super::folder::{self, Track};
use super::procedural::{self, Cue};
use super::settings::{AudioSettings, AudioSource, refuse};
use super::{data_error, wav};
use crate::Error;
use crate::data::{SPLIT_SEED, shuffled};

/// The data set, made or read once in this process for all that use it at the same time.
///
/// # Errors
/// [`Error::Data`] names the file or folder at fault, [`Error::Setting`] the setting.
pub(crate) fn load(
    family: &str,
    settings: &AudioSettings,
    data_dir: Option<&Path>,
    cache: &Cache,
) -> Result<Arc<AudioData>, Error> {
    settings.check(family)?;
    let mut settings = AudioSettings { source: settings.source.resolve(data_dir), ..settings.clone() };
    let folder = match settings.source.folder() {
        None => {
            // These are about recordings.
            settings.classes.clear();
            settings.segments_per_track = 1;
            None
        }
        Some(name) => {
            settings.data_seed = 0;
            settings.classes.sort();
            settings.classes.dedup();
            Some(find(data_dir, name)?)
        }
    };
    static LOADED: Mutex<Option<HashMap<Shared, Weak<AudioData>>>> = Mutex::new(None);
    // Held while loading, so that threads that want the same data wait for it instead of making it again. A panic of
    // another holder leaves at worst a missing entry.
    let mut guard = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = guard.get_or_insert_with(HashMap::new);
    let shared = (settings, folder);
    if let Some(data) = loaded.get(&shared).and_then(Weak::upgrade) {
        return Ok(data);
    }
    let data = Arc::new(match &shared {
        (settings, None) => generate(family, settings)?,
        (settings, Some(folder)) => read(family, settings, folder, cache)?,
    });
    loaded.retain(|_, data| data.strong_count() > 0);
    loaded.insert(shared, Arc::downgrade(&data));
    Ok(data)
}

type Shared = (AudioSettings, Option<PathBuf>);

fn find(data_dir: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let cure = "give a data folder that holds one of that name, or set data = \"procedural\"";
    let Some(data_dir) = data_dir else {
        return Err(data_error(Path::new(name), format!("no data folder was given to find this in: {cure}")));
    };
    let folder = data_dir.join(name);
    if folder.is_dir() { Ok(folder) } else { Err(data_error(&folder, format!("no such folder: {cure}"))) }
}

/// Plans the front end of a data set.
fn extractor(family: &str, settings: &AudioSettings) -> Result<Extractor, Error> {
    Extractor::new(settings.sample_rate, settings.features).map_err(|reason| refuse(family, reason))
}

fn generate(family: &str, settings: &AudioSettings) -> Result<AudioData, Error> {
    settings.check_size(family, procedural::EXAMPLES.iter().sum())?;
    let extractor = extractor(family, settings)?;
    let cue = if settings.source == AudioSource::ProceduralPhase { Cue::Phase } else { Cue::Spectrum };
    let seed = Seed::new(settings.data_seed);
    let mut next = 0;
    let mut is_train = true;
    let splits = procedural::EXAMPLES.map(|count| {
        let mut examples = AudioExamples::default();
        for _ in 0..count {
            let (samples, label) = procedural::draw(seed, cue, next, settings.segment);
            extractor.append(&samples, label, &mut examples);
            if is_train {
                append_augmented(settings, &extractor, &samples, label, next, &mut examples);
            }
            next += 1;
        }
        is_train = false;
        examples
    });
    let origin = match cue {
        Cue::Spectrum => "procedural sounds",
        Cue::Phase => "procedural sounds told by phase",
    };
    let classes = (0..procedural::CLASSES).map(|class| class.to_string()).collect();
    Ok(finish(settings, origin.into(), classes, splits))
}

fn read(family: &str, settings: &AudioSettings, folder: &Path, cache: &Cache) -> Result<AudioData, Error> {
    let extractor = extractor(family, settings)?;
    let listing = folder::list(folder, &settings.classes)?;
    settings.check_size(family, listing.tracks.len())?;
    let recordings = each_split(&folder::split(folder, &listing, settings.split)?, |tracks| {
        tracks.iter().map(Recording::of).collect::<Result<Vec<_>, _>>()
    })?;
    let key = key(settings, &recordings);
    let most = listing.tracks.len() * settings.segments_per_track * (1 + settings.augmented);
    let splits = match cache.get(&key, settings.features.sizes(), most) {
        Some(splits) => splits,
        None => {
            let splits = compute(settings, &extractor, &recordings)?;
            cache.put(&key, &splits);
            splits
        }
    };
    let name = settings.source.folder().unwrap_or_default();
    Ok(finish(settings, format!("{name} from {}", folder.display()), listing.classes, splits))
}

/// A track and a hash of its bytes.
struct Recording {
    track: Track,
    hash: Key,
}

impl Recording {
    fn of(track: &Track) -> Result<Self, Error> {
        Ok(Self { track: track.clone(), hash: Sha256::digest(wav::read_bytes(&track.path)?).into() })
    }

    /// The samples of what was hashed.
    fn decode(&self, sample_rate: u32) -> Result<Vec<f32>, Error> {
        let path = &self.track.path;
        let bytes = wav::read_bytes(path)?;
        if Sha256::digest(&bytes)[..] != self.hash {
            return Err(data_error(path, "changed while it was being read: try again"));
        }
        wav::decode(path, &bytes, sample_rate)
    }

    /// A number for a segment of these bytes, so that its augmented copies do not depend on other recordings.
    fn place(&self, segment: usize) -> u64 {
        let fold = |seed: Seed, &byte: &u8| seed.fold_in(u64::from(byte));
        self.hash.iter().fold(Seed::new(segment as u64), fold).value()
    }
}

/// `change` on each split in turn.
fn each_split<T, U>(splits: &[T; 4], mut change: impl FnMut(&T) -> Result<U, Error>) -> Result<[U; 4], Error> {
    let [train, inner_valid, outer_valid, test] = splits;
    Ok([change(train)?, change(inner_valid)?, change(outer_valid)?, change(test)?])
}

/// A hash of all that computed features depend on.
fn key(settings: &AudioSettings, recordings: &[Vec<Recording>; 4]) -> Key {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // Lengths keep one part from running into the next.
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    // What is kept is not yet standardised.
    let settings = AudioSettings { standardise: false, ..settings.clone() };
    part(VERSION.as_bytes());
    part(&serde_json::to_vec(&settings).expect("settings are plain numbers, words and lists"));
    for split in recordings {
        part(&(split.len() as u64).to_le_bytes());
        for recording in split {
            part(&recording.track.class.to_le_bytes());
            part(&recording.hash);
        }
    }
    hasher.finalize().into()
}

/// Decodes every track and computes the features of its segments.
fn compute(
    settings: &AudioSettings,
    extractor: &Extractor,
    recordings: &[Vec<Recording>; 4],
) -> Result<[AudioExamples; 4], Error> {
    let mut is_train = true;
    each_split(recordings, |split| {
        let mut examples = AudioExamples::default();
        for recording in split {
            let samples = recording.decode(settings.sample_rate)?;
            let label = recording.track.class;
            for (index, samples) in segments(&samples, settings).enumerate() {
                extractor.append(samples, label, &mut examples);
                if is_train {
                    append_augmented(settings, extractor, samples, label, recording.place(index), &mut examples);
                }
            }
        }
        is_train = false;
        Ok(examples)
    })
}

/// Cuts a track: a last part of at least half a segment counts as one, and a short track is a segment by itself.
fn segments<'a>(samples: &'a [f32], settings: &AudioSettings) -> impl Iterator<Item = &'a [f32]> {
    let length = settings.segment;
    let count = ((samples.len() + length / 2) / length).clamp(1, settings.segments_per_track);
    (0..count).map(move |index| &samples[index * length..samples.len().min((index + 1) * length)])
}

/// Adds the augmented copies of a training segment.
fn append_augmented(
    settings: &AudioSettings,
    extractor: &Extractor,
    samples: &[f32],
    label: u32,
    place: u64,
    examples: &mut AudioExamples,
) {
    // Procedural sounds differ by seed already; recordings have seed 0.
    let seed = Seed::new(settings.data_seed).purpose(Purpose::Data).fold_in(u64::MAX).fold_in(place);
    for copy in 0..settings.augmented {
        let changed = augment(samples, settings.sample_rate, seed.fold_in(copy as u64));
        extractor.append(&changed, label, examples);
    }
}

/// Standardises and shuffles: batches of a split that is read in order shall hold all classes.
fn finish(settings: &AudioSettings, origin: String, classes: Vec<String>, mut splits: [AudioExamples; 4]) -> AudioData {
    let shape = settings.features.shape();
    if settings.standardise {
        standardise(&mut splits, shape);
    }
    let splits = splits.map(|split| split.reordered(&shuffled(split.len(), SPLIT_SEED)));
    AudioData { origin, classes, shape, splits }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use hound::{SampleFormat, WavSpec, WavWriter};
    use paceline_optimizer_core::task::Split;

    use super::*;
    use crate::audio::settings::FeatureSettings;
    use crate::audio::{FeatureKind, SplitBy};

    const SPLITS: [Split; 4] = [Split::Train, Split::InnerValid, Split::OuterValid, Split::Test];

    fn write(path: &Path, samples: impl IntoIterator<Item = i16>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = WavWriter::create(path, spec).unwrap();
        samples.into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
    }

    /// A sound that no other track has, long enough for two and a half segments.
    fn tone(track: usize) -> impl Iterator<Item = i16> {
        (0..5 * 256).map(move |n: usize| ((n * (3 + track) % 97) as i16 - 48) * 200)
    }

    /// Two classes of eight tracks.
    fn digits() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for track in 0..16 {
            write(&folder.path().join(format!("fsdd/{}/track{track:02}.wav", track % 2)), tone(track));
        }
        folder
    }

    fn settings() -> AudioSettings {
        let base = AudioSettings::of(AudioSource::Fsdd);
        let features = FeatureSettings { n_fft: 256, hop: 128, frames: 3, phases: true, ..base.features };
        AudioSettings { segment: 512, segments_per_track: 10, features, ..base }
    }

    fn load_from(folder: &Path, settings: &AudioSettings, cache: &Cache) -> Result<Arc<AudioData>, Error> {
        load("test", settings, Some(folder), cache)
    }

    #[test]
    fn a_folder_becomes_splits_of_whole_tracks() {
        let folder = digits();
        let data = load_from(folder.path(), &settings(), &Cache::none()).unwrap();
        assert_eq!((data.shape(), &data.classes[..]), ([1, 13, 3], &["0".to_owned(), "1".to_owned()][..]));
        // Three segments of each track, of which the last is half one and has a single frame.
        let counts = SPLITS.map(|split| data.split(split).len());
        assert_eq!(counts, [5, 1, 1, 1].map(|tracks| tracks * 2 * 3));
        let described = format!("{data:?}");
        assert!(described.contains("fsdd from ") && described.contains("30/6/6/6"), "{described}");
        for split in SPLITS.map(|split| data.split(split)) {
            assert_eq!(split.values.len(), split.len() * 13 * 3);
            assert_eq!(split.phases.len(), split.len() * 13 * 3);
            assert_eq!(split.labels.iter().sum::<u32>() as usize, split.len() / 2);
            let short = split.values.chunks(39).filter(|example| example[1] == 0.0 && example[2] == 0.0).count();
            assert_eq!(short, split.len() / 3, "one segment of three has no second frame");
        }
        let test: Vec<&[f32]> = data.split(Split::Test).values.chunks(39).collect();
        assert!(data.split(Split::Train).values.chunks(39).all(|example| !test.contains(&example)));
    }

    #[test]
    fn kept_features_are_those_computed_and_follow_content_and_settings() {
        let (folder, kept) = (digits(), tempfile::tempdir().unwrap());
        let (cache, settings) = (Cache::within(kept.path()), AudioSettings { augmented: 1, ..settings() });
        let count = || fs::read_dir(kept.path()).unwrap().count();
        // Dropped at once, so that nothing is shared within the process.
        let load = |settings: &AudioSettings| AudioData::clone(&load_from(folder.path(), settings, &cache).unwrap());
        let computed = load(&settings);
        assert_eq!(count(), 1);
        let file = fs::read_dir(kept.path()).unwrap().next().unwrap().unwrap().path();
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        assert!(load(&settings) == computed);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), modified, "read, not written again");
        assert!(AudioData::clone(&load_from(folder.path(), &settings, &Cache::none()).unwrap()) == computed);
        assert!(load(&AudioSettings { standardise: true, ..settings.clone() }) != computed);
        assert_eq!(count(), 1, "standardising needs no other features");

        let kind = FeatureSettings { kind: FeatureKind::Workflow1, ..settings.features };
        assert_eq!(load(&AudioSettings { features: kind, ..settings.clone() }).shape(), [2, 13, 3]);
        assert_eq!(count(), 2, "other settings");
        write(&folder.path().join("fsdd/0/track00.wav"), tone(40));
        assert!(load(&settings) != computed);
        assert_eq!(count(), 3, "other content");
        fs::write(&file, "damaged").unwrap();
        write(&folder.path().join("fsdd/0/track00.wav"), tone(0));
        assert!(load(&settings) == computed, "a damaged file is computed anew");
        assert_eq!(count(), 3);
    }

    #[test]
    fn only_training_segments_are_augmented() {
        let folder = digits();
        let plain = load_from(folder.path(), &settings(), &Cache::none()).unwrap();
        let more = AudioSettings { augmented: 2, ..settings() };
        let more = load_from(folder.path(), &more, &Cache::none()).unwrap();
        assert_eq!(more.split(Split::Train).len(), 3 * plain.split(Split::Train).len());
        let augmented: Vec<&[f32]> = more.split(Split::Train).values.chunks(39).collect();
        assert!(plain.split(Split::Train).values.chunks(39).all(|example| augmented.contains(&example)));
        for split in &SPLITS[1..] {
            assert_eq!(more.split(*split), plain.split(*split), "{split:?}");
        }
    }

    #[test]
    fn data_are_shared_while_in_use() {
        let folder = digits();
        let one = load_from(folder.path(), &settings(), &Cache::none()).unwrap();
        let two = load_from(folder.path(), &AudioSettings { data_seed: 9, ..settings() }, &Cache::none()).unwrap();
        assert!(Arc::ptr_eq(&one, &two), "recordings have no seed");
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_named() {
        let error = |folder: &Path, settings: &AudioSettings| {
            load_from(folder, settings, &Cache::none()).unwrap_err().to_string()
        };
        let (folder, base) = (digits(), settings());
        let track = folder.path().join("fsdd/1/track07.wav");
        let bytes = fs::read(&track).unwrap();
        fs::write(&track, &bytes[..300]).unwrap();
        let truncated = error(folder.path(), &base);
        assert!(truncated.contains("track07.wav: is truncated") && truncated.contains("sample 128"), "{truncated}");
        fs::write(&track, &bytes).unwrap();
        let rate = error(folder.path(), &AudioSettings { sample_rate: 16_000, ..base.clone() });
        assert!(rate.contains(".wav: is sampled at 8000 Hz, but 16000 Hz are wanted"), "{rate}");
        let class = error(folder.path(), &AudioSettings { classes: vec!["7".into()], ..base.clone() });
        assert!(class.contains("has no class \"7\", only 0, 1"), "{class}");
        fs::create_dir(folder.path().join("fsdd/2")).unwrap();
        let empty = error(folder.path(), &base);
        assert!(empty.contains("fsdd/2: is a class without a .wav file"), "{empty}");
        let none = error(&folder.path().join("fsdd"), &base);
        assert!(none.contains("no such folder") && none.contains("procedural"), "{none}");
        let none = load("test", &base, None, &Cache::none()).unwrap_err().to_string();
        assert!(none.contains("no data folder was given"), "{none}");
        let features = FeatureSettings { n_fft: 64, hop: 64, ..base.features };
        let bands = error(folder.path(), &AudioSettings { features, ..base });
        assert!(bands.contains("task family test: n_fft = 64"), "{bands}");
    }

    #[test]
    fn procedural_sounds_need_no_files() {
        for source in [AudioSource::Procedural, AudioSource::ProceduralPhase, AudioSource::Auto] {
            let mut settings = AudioSettings::of(source);
            settings.standardise = true;
            let data = load("test", &settings, None, &Cache::none()).unwrap();
            assert_eq!(SPLITS.map(|split| data.split(split).len()), procedural::EXAMPLES);
            let train = data.split(Split::Train);
            assert_eq!(train.values.len(), train.len() * settings.features.sizes()[0]);
            assert!(train.values.iter().all(|value| value.is_finite()));
            for class in 0..procedural::CLASSES {
                let count = train.labels.iter().filter(|&&label| label == class).count();
                assert!((90..170).contains(&count), "class {class}: {count} of {}", train.len());
            }
            settings.data_seed = 1;
            let other = load("test", &settings, None, &Cache::none()).unwrap();
            assert!(other.split(Split::Train) != train);
        }
    }

    #[test]
    fn real_digits_are_read_whole_in_both_splits() {
        let data_dir = std::env::var_os("PACELINE_DATA")
            .map(PathBuf::from)
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
        if !data_dir.join("fsdd").is_dir() {
            // Past the test harness: what was skipped must be seen.
            let line = "SKIPPED real digits: no ../shared/data/fsdd beside the project, and PACELINE_DATA names none";
            let _ = writeln!(std::io::stderr(), "{line}");
            return;
        }
        for (split, counts) in [(SplitBy::Track, [620, 70, 70, 140]), (SplitBy::Speaker, [450, 150, 150, 150])] {
            let base = AudioSettings::of(AudioSource::Fsdd);
            let features = FeatureSettings { kind: FeatureKind::Workflow2, phases: true, ..base.features };
            let settings = AudioSettings { split, features, ..base };
            let data = load_from(&data_dir, &settings, &Cache::none()).unwrap();
            assert_eq!(SPLITS.map(|split| data.split(split).len()), counts, "{split:?}");
            assert_eq!((data.shape(), data.classes.join("")), ([2, 13, 32], "0123456789".into()));
            for split in SPLITS.map(|split| data.split(split)) {
                assert!(split.values.iter().chain(&split.phases).all(|value| value.is_finite()));
                // Silence would leave all but the first coefficient at 0.
                let second = split.values.chunks(2 * 13 * 32).map(|example| example[32].hypot(example[14 * 32]));
                assert!(second.fold(f32::INFINITY, f32::min) > 1e-3);
            }
        }
    }
}
