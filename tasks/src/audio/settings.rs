//! What a family's settings say about its sounds, and the limits of that.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::SplitBy;
use crate::Error;

/// Largest transform.
const MAX_N_FFT: usize = 1 << 14;
/// Longest segment, in samples: three minutes at 22,050 Hz.
const MAX_SEGMENT: usize = 1 << 22;
/// Longest procedural segment.
const MAX_PROCEDURAL: usize = 1 << 15;
/// Most frames of an example.
const MAX_FRAMES: usize = 1 << 12;
/// Most numbers of a data set: 1 GiB of f32.
const MAX_VALUES: usize = 1 << 28;

/// Where sounds come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AudioSource {
    /// Drawn from `data_seed`; the class is in the spectrum. Needs no files.
    #[default]
    Procedural,
    /// Drawn from `data_seed`; the class is in the phase only. Needs no files.
    ProceduralPhase,
    /// Spoken digits if the data folder has them, else procedural.
    Auto,
    /// Spoken digits in `<data folder>/fsdd/<digit>/*.wav`, 8,000 Hz.
    Fsdd,
    /// Music in `<data folder>/gtzan/<genre>/*.wav`, 22,050 Hz.
    Gtzan,
}

impl AudioSource {
    /// This source, with `auto` decided by what the data folder holds.
    #[must_use]
    pub(crate) fn resolve(self, data_dir: Option<&Path>) -> Self {
        match self {
            Self::Auto if data_dir.is_some_and(|folder| folder.join("fsdd").is_dir()) => Self::Fsdd,
            Self::Auto => Self::Procedural,
            other => other,
        }
    }

    /// The folder of its recordings in the data folder.
    pub(super) fn folder(self) -> Option<&'static str> {
        match self {
            Self::Procedural | Self::ProceduralPhase | Self::Auto => None,
            Self::Fsdd => Some("fsdd"),
            Self::Gtzan => Some("gtzan"),
        }
    }
}

/// Which features of a sound a model sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FeatureKind {
    /// The author's MFCC: one channel.
    #[default]
    MfccReal,
    /// librosa's MFCC: one channel.
    MfccLibrosa,
    /// The author's phase workflow 1: re and im.
    Workflow1,
    /// The author's phase workflow 2: re and im.
    Workflow2,
    /// log(1 + |X|) X / |X| of the STFT, all bins: re and im.
    Stft,
}

/// How features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FeatureSettings {
    pub(crate) kind: FeatureKind,
    /// Samples of a frame.
    pub(crate) n_fft: usize,
    /// Samples from one frame to the next.
    pub(crate) hop: usize,
    /// Mel bands; unused by `stft` without phases.
    pub(crate) n_mel: usize,
    /// Coefficients; unused by `stft` without phases.
    pub(crate) n_mfcc: usize,
    /// Frames of an example: features are cut or padded with zeros at the end to have as many.
    pub(crate) frames: usize,
    /// Whether each example has its phase matrix, for the graph.
    pub(crate) phases: bool,
}

impl FeatureSettings {
    /// Channels, rows and frames of an example.
    pub(crate) fn shape(&self) -> [usize; 3] {
        let (channels, rows) = match self.kind {
            FeatureKind::MfccReal | FeatureKind::MfccLibrosa => (1, self.n_mfcc),
            FeatureKind::Workflow1 | FeatureKind::Workflow2 => (2, self.n_mfcc),
            FeatureKind::Stft => (2, self.n_fft / 2 + 1),
        };
        [channels, rows, self.frames]
    }

    /// Numbers of one example, and of its phase matrix.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        [self.shape().iter().product(), if self.phases { self.n_mfcc * self.frames } else { 0 }]
    }
}

/// A data set of sounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct AudioSettings {
    /// Where sounds come from.
    pub(crate) source: AudioSource,
    /// Classes to tell apart, by folder name; none means all. Procedural sounds ignore it.
    pub(crate) classes: Vec<String>,
    /// Samples a second: recordings of another rate are refused.
    pub(crate) sample_rate: u32,
    /// Samples of a segment.
    pub(crate) segment: usize,
    /// Most segments of a track.
    pub(crate) segments_per_track: usize,
    /// What lies in one split with all that belongs to it.
    pub(crate) split: SplitBy,
    /// Augmented copies of each training segment, beside the segment itself. Other splits are never augmented.
    pub(crate) augmented: usize,
    /// Whether rows are standardised by the training split; the author's are not.
    pub(crate) standardise: bool,
    /// How features are computed.
    pub(crate) features: FeatureSettings,
    /// Seed of procedural sounds; recordings ignore it.
    pub(crate) data_seed: u64,
}

impl AudioSettings {
    /// What suits a source: the author's numbers for GTZAN, and for shorter sounds smaller ones of the same kind.
    pub(crate) fn of(source: AudioSource) -> Self {
        let features = |n_fft, hop, frames| FeatureSettings {
            kind: FeatureKind::MfccReal,
            n_fft,
            hop,
            n_mel: 13,
            n_mfcc: 13,
            frames,
            phases: false,
        };
        let (sample_rate, segment, segments_per_track, features) = match source {
            AudioSource::Procedural | AudioSource::Auto => (8_000, 2_048, 1, features(256, 128, 15)),
            AudioSource::ProceduralPhase => (8_000, 1_024, 1, features(256, 64, 13)),
            // Half of the digits last less than 0.42 s.
            AudioSource::Fsdd => (8_000, 4_480, 1, features(512, 128, 32)),
            AudioSource::Gtzan => (22_050, 66_150, 10, features(2_048, 512, 126)),
        };
        Self {
            source,
            classes: Vec::new(),
            sample_rate,
            segment,
            segments_per_track,
            split: SplitBy::Track,
            augmented: 0,
            standardise: false,
            features,
            data_seed: 0,
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`Error::Setting`] names the setting and its range.
    pub(crate) fn check(&self, family: &str) -> Result<(), Error> {
        let f = &self.features;
        let longest = if self.source.folder().is_some() { MAX_SEGMENT } else { MAX_PROCEDURAL };
        let ranges = [
            ("sample_rate", self.sample_rate as usize, 1_000, 192_000),
            ("n_fft", f.n_fft, 16, MAX_N_FFT),
            ("hop", f.hop, 1, f.n_fft),
            ("n_mel", f.n_mel, 1, 512),
            ("n_mfcc", f.n_mfcc, 1, f.n_mel),
            ("frames", f.frames, 1, MAX_FRAMES),
            ("segment", self.segment, f.n_fft, longest),
            ("segments_per_track", self.segments_per_track, 1, 1_000),
            ("augmented", self.augmented, 0, 64),
        ];
        for (name, got, least, most) in ranges {
            if !(least..=most).contains(&got) {
                return Err(refuse(family, format!("{name} must be {least} to {most} (got {got})")));
            }
        }
        if f.phases && f.kind == FeatureKind::MfccLibrosa {
            return Err(refuse(family, "phases belong to the author's front end, not to mfcc_librosa".into()));
        }
        Ok(())
    }

    /// Checks that a data set made of so many tracks fits into memory.
    pub(super) fn check_size(&self, family: &str, tracks: usize) -> Result<(), Error> {
        let copies = self.segments_per_track.saturating_mul(1 + self.augmented);
        let values = tracks.saturating_mul(copies).saturating_mul(self.features.sizes().iter().sum());
        if values <= MAX_VALUES {
            return Ok(());
        }
        let reason = format!(
            "{tracks} tracks of up to {copies} segments may make {values} numbers, up to {MAX_VALUES} are held: use a \
             smaller n_fft, frames, segments_per_track or augmented"
        );
        Err(refuse(family, reason))
    }
}

/// A refusal of a setting.
pub(super) fn refuse(family: &str, reason: String) -> Error {
    Error::Setting { family: family.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_suits_a_source_is_within_the_limits() {
        for source in [AudioSource::Procedural, AudioSource::ProceduralPhase, AudioSource::Fsdd, AudioSource::Gtzan] {
            let settings = AudioSettings::of(source);
            settings.check("test").unwrap();
            settings.check_size("test", 1_000).unwrap();
        }
        let gtzan = AudioSettings::of(AudioSource::Gtzan);
        assert_eq!(gtzan.features.shape(), [1, 13, 126]);
    }

    #[test]
    fn refusals_name_the_setting() {
        let base = AudioSettings::of(AudioSource::Fsdd);
        let with = |change: &dyn Fn(&mut AudioSettings)| {
            let mut settings = base.clone();
            change(&mut settings);
            settings.check("audio").unwrap_err().to_string()
        };
        let cases = [
            (with(&|s| s.sample_rate = 0), "sample_rate must be"),
            (with(&|s| s.features.n_fft = 1 << 20), "n_fft must be 16 to 16384 (got 1048576)"),
            (with(&|s| s.features.hop = 0), "hop must be"),
            (with(&|s| s.features.n_mfcc = 14), "n_mfcc must be 1 to 13 (got 14)"),
            (with(&|s| s.features.frames = 0), "frames must be"),
            (with(&|s| s.segment = 511), "segment must be 512"),
            (with(&|s| s.segments_per_track = 0), "segments_per_track must be"),
            (with(&|s| s.augmented = 65), "augmented must be"),
            (
                with(&|s| {
                    s.features.kind = FeatureKind::MfccLibrosa;
                    s.features.phases = true;
                }),
                "phases belong",
            ),
        ];
        for (error, expected) in cases {
            assert!(error.contains("task family audio") && error.contains(expected), "{error}");
        }
        let mut large = AudioSettings::of(AudioSource::Gtzan);
        large.features.kind = FeatureKind::Stft;
        let error = large.check_size("audio", 1_000).unwrap_err().to_string();
        assert!(error.contains("1000 tracks") && error.contains("n_fft"), "{error}");
    }

    #[test]
    fn auto_is_digits_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(AudioSource::Auto.resolve(None), AudioSource::Procedural);
        assert_eq!(AudioSource::Auto.resolve(Some(folder.path())), AudioSource::Procedural);
        std::fs::create_dir(folder.path().join("fsdd")).unwrap();
        assert_eq!(AudioSource::Auto.resolve(Some(folder.path())), AudioSource::Fsdd);
        assert_eq!(AudioSource::Gtzan.resolve(None), AudioSource::Gtzan);
    }
}
