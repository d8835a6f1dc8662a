//! From samples to the numbers a model sees.
//!
//! ```text
//!  samples ─► front end, f64 [rows, T] ─► frames cut or padded with zeros ─► f32 [channels, rows, frames]
//! ```

use num_complex::Complex;

use super::data::AudioExamples;
use super::grid::Grid;
use super::librosa::LibrosaFrontEnd;
use super::mfcc::{AuthorFrontEnd, log_magnitude, normalised, workflow2};
use super::settings::{FeatureKind, FeatureSettings};
use super::stft::{Padding, Stft};

/// A front end planned for one data set.
pub(crate) struct Extractor {
    settings: FeatureSettings,
    front: FrontEnd,
}

enum FrontEnd {
    Author(AuthorFrontEnd),
    Librosa(LibrosaFrontEnd),
    /// The author's transform without mel bands, which small transforms may not have room for.
    Stft(Stft),
}

impl Extractor {
    /// Plans the front end.
    ///
    /// # Errors
    /// Mel bands that the transform cannot resolve.
    pub(crate) fn new(sample_rate: u32, settings: FeatureSettings) -> Result<Self, String> {
        let FeatureSettings { kind, n_fft, hop, n_mel, n_mfcc, phases, .. } = settings;
        let front = match kind {
            FeatureKind::MfccLibrosa => {
                FrontEnd::Librosa(LibrosaFrontEnd::centred(sample_rate, n_fft, hop, n_mel, n_mfcc)?)
            }
            FeatureKind::Stft if !phases => FrontEnd::Stft(Stft::new(n_fft, hop, Padding::None)),
            _ => FrontEnd::Author(AuthorFrontEnd::new(sample_rate, n_fft, hop, n_mel, n_mfcc)?),
        };
        Ok(Self { settings, front })
    }

    /// Adds an example. Samples that do not fill one frame are padded with zeros.
    pub(crate) fn append(&self, samples: &[f32], label: u32, examples: &mut AudioExamples) {
        let mut padded = Vec::new();
        let samples = if samples.len() < self.settings.n_fft {
            padded.extend_from_slice(samples);
            padded.resize(self.settings.n_fft, 0.0);
            &padded
        } else {
            samples
        };
        let out = &mut examples.values;
        match &self.front {
            FrontEnd::Librosa(front) => self.append_real(&front.mfcc(&front.spectrum(samples)), out),
            FrontEnd::Stft(stft) => self.append_pair(&log_magnitude(&stft.transform(&normalised(samples))), out),
            FrontEnd::Author(front) => {
                let spectrum = front.spectrum(samples);
                let turns = self.settings.kind == FeatureKind::Workflow2;
                let phase = if turns || self.settings.phases { front.phase(&spectrum) } else { Grid::zeros(0, 0) };
                match self.settings.kind {
                    FeatureKind::MfccReal | FeatureKind::MfccLibrosa => self.append_real(&front.mfcc(&spectrum), out),
                    FeatureKind::Workflow1 => self.append_pair(&front.workflow1(&spectrum), out),
                    FeatureKind::Workflow2 => self.append_pair(&workflow2(&front.mfcc(&spectrum), &phase), out),
                    FeatureKind::Stft => self.append_pair(&log_magnitude(&spectrum), out),
                }
                if self.settings.phases {
                    self.append_real(&phase, &mut examples.phases);
                }
            }
        }
        examples.labels.push(label);
    }

    fn append_real(&self, grid: &Grid<f64>, out: &mut Vec<f32>) {
        let frames = self.settings.frames;
        for row in 0..grid.rows() {
            let kept = grid.row(row).iter().copied().chain(std::iter::repeat(0.0)).take(frames);
            out.extend(kept.map(|value| value as f32));
        }
    }

    fn append_pair(&self, grid: &Grid<Complex<f64>>, out: &mut Vec<f32>) {
        self.append_real(&grid.map(|value| value.re), out);
        self.append_real(&grid.map(|value| value.im), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: FeatureKind) -> FeatureSettings {
        FeatureSettings { kind, n_fft: 256, hop: 64, n_mel: 13, n_mfcc: 10, frames: 8, phases: false }
    }

    const KINDS: [FeatureKind; 5] = [
        FeatureKind::MfccReal,
        FeatureKind::MfccLibrosa,
        FeatureKind::Workflow1,
        FeatureKind::Workflow2,
        FeatureKind::Stft,
    ];

    fn sound(length: usize) -> Vec<f32> {
        (0..length).map(|n| (0.01 * (n * n % 1009) as f32).sin()).collect()
    }

    #[test]
    fn every_kind_fills_its_shape_whatever_the_length() {
        for kind in KINDS {
            for phases in [false, true] {
                let settings = FeatureSettings { phases: phases && kind != FeatureKind::MfccLibrosa, ..settings(kind) };
                let extractor = Extractor::new(8000, settings).unwrap();
                let mut examples = AudioExamples::default();
                let lengths = [0, 1, 255, 256, 500, 704, 5000];
                lengths.iter().zip(0..).for_each(|(&n, label)| extractor.append(&sound(n), label, &mut examples));
                let [size, phase_size] = settings.sizes();
                assert_eq!(examples.values.len(), lengths.len() * size, "{kind:?}");
                assert_eq!(examples.phases.len(), lengths.len() * phase_size, "{kind:?}");
                assert_eq!(examples.labels, [0, 1, 2, 3, 4, 5, 6]);
                assert!(examples.values.iter().chain(&examples.phases).all(|value| value.is_finite()), "{kind:?}");
            }
        }
    }

    #[test]
    fn missing_frames_are_zeros_and_surplus_ones_are_cut() {
        let of = |frames: usize| {
            let settings = FeatureSettings { frames, ..settings(FeatureKind::Workflow2) };
            let mut examples = AudioExamples::default();
            Extractor::new(8000, settings).unwrap().append(&sound(256 + 64 * 4), 0, &mut examples);
            examples.values
        };
        let (exact, longer, shorter) = (of(5), of(7), of(3));
        for row in 0..20 {
            let whole = &exact[row * 5..][..5];
            assert_eq!(longer[row * 7..][..7], [whole, &[0.0; 2]].concat());
            assert_eq!(shorter[row * 3..][..3], whole[..3]);
            assert!(whole.iter().any(|&value| value != 0.0));
        }
    }

    #[test]
    fn the_phase_matrix_turns_the_real_mfcc_into_workflow_2() {
        let of = |kind| {
            let mut examples = AudioExamples::default();
            let settings = FeatureSettings { phases: true, ..settings(kind) };
            Extractor::new(8000, settings).unwrap().append(&sound(900), 0, &mut examples);
            examples
        };
        let (real, turned) = (of(FeatureKind::MfccReal), of(FeatureKind::Workflow2));
        assert_eq!(real.phases, turned.phases);
        let (re, im) = turned.values.split_at(80);
        for (place, (&magnitude, &phase)) in real.values.iter().zip(&real.phases).enumerate() {
            let tolerance = 1e-4 * magnitude.abs().max(1.0);
            assert!((re[place] - magnitude * phase.cos()).abs() < tolerance);
            assert!((im[place] - magnitude * phase.sin()).abs() < tolerance);
        }
    }

    #[test]
    fn small_transforms_need_no_mel_bands() {
        let small = FeatureSettings { n_fft: 32, ..settings(FeatureKind::Stft) };
        assert!(Extractor::new(8000, small).is_ok());
        let error = Extractor::new(8000, FeatureSettings { phases: true, ..small }).err().unwrap();
        assert!(error.contains("mel filter"), "{error}");
    }
}
