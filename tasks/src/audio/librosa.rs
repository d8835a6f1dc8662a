//! MFCC as librosa computes it (spec 7.2): centred frames, Slaney's mel bank, decibels floored 80 below the loudest.

use num_complex::Complex;

use super::dct::Dct;
use super::grid::Grid;
use super::mel::MelBank;
use super::stft::{Padding, Stft};

/// The least power.
const A_MIN: f64 = 1e-10;
/// How far below the loudest band decibels may lie.
const TOP_DB: f64 = 80.0;

/// librosa's front end, planned.
pub(crate) struct LibrosaFrontEnd {
    stft: Stft,
    bank: MelBank,
    dct: Dct,
}

impl LibrosaFrontEnd {
    /// Plans the front end; filters reach from 0 to half the sample rate.
    ///
    /// # Errors
    /// A mel filter without a bin.
    pub(crate) fn new(sample_rate: u32, stft: Stft, n_mel: usize, n_mfcc: usize) -> Result<Self, String> {
        let range = [0.0, f64::from(sample_rate) / 2.0];
        let bank = MelBank::slaney(sample_rate, stft.n_fft(), n_mel, range)?;
        Ok(Self { stft, bank, dct: Dct::new(n_mfcc, n_mel) })
    }

    /// The usual one: centred.
    ///
    /// # Errors
    /// A mel filter without a bin.
    pub(crate) fn centred(
        sample_rate: u32,
        n_fft: usize,
        hop: usize,
        n_mel: usize,
        n_mfcc: usize,
    ) -> Result<Self, String> {
        Self::new(sample_rate, Stft::new(n_fft, hop, Padding::Centre), n_mel, n_mfcc)
    }

    /// The spectrum `[n_fft/2 + 1, frames]` of the signal as it is.
    pub(crate) fn spectrum(&self, samples: &[f32]) -> Grid<Complex<f64>> {
        self.stft.transform(&samples.iter().copied().map(f64::from).collect::<Vec<_>>())
    }

    /// Power in each mel band.
    fn power(&self, spectrum: &Grid<Complex<f64>>) -> Grid<f64> {
        self.bank.apply(&spectrum.map(|value| value.norm_sqr()))
    }

    /// The MFCC, `[n_mfcc, frames]`.
    pub(crate) fn mfcc(&self, spectrum: &Grid<Complex<f64>>) -> Grid<f64> {
        self.dct.apply(&decibel(&self.power(spectrum)))
    }
}

/// 10 log10, floored below the maximum of the whole grid.
fn decibel(power: &Grid<f64>) -> Grid<f64> {
    let decibel = power.map(|power| 10.0 * power.max(A_MIN).log10());
    let loudest = decibel.values().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    decibel.map(|value| value.max(loudest - TOP_DB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn golden_librosa_features_match() {
        golden::each("mfcc_librosa_", |case| {
            let sizes = ["n_fft", "hop_length", "n_mels", "n_mfcc", "win_length"].map(|name| case.size(name));
            let [n_fft, hop, n_mels, n_mfcc, win_length] = sizes;
            let rate = u32::try_from(case.size("sr")).unwrap();
            // What this front end fixes must be what the case was made with.
            assert_eq!(win_length, n_fft);
            let fixed = ["power", "fmin", "fmax", "ref", "amin", "top_db", "lifter"].map(|name| case.number(name));
            assert_eq!(fixed, [2.0, 0.0, f64::from(rate) / 2.0, 1.0, A_MIN, TOP_DB, 0.0]);
            assert_eq!((case.text("mel_norm"), case.flag("htk")), ("slaney".into(), false));

            let padding = if case.flag("center") { Padding::Centre } else { Padding::None };
            let front = LibrosaFrontEnd::new(rate, Stft::new(n_fft, hop, padding), n_mels, n_mfcc).unwrap();
            let samples: Vec<f32> = case.floats("in.y").iter().map(|&sample| sample as f32).collect();
            let spectrum = front.spectrum(&samples);
            case.compare("window", front.stft.window());
            case.compare_pair("stft", spectrum.values());
            case.compare("mel_fb", &front.bank.weights());
            case.compare("mel_power", front.power(&spectrum).values());
            case.compare("mel_db", decibel(&front.power(&spectrum)).values());
            case.compare("dct", front.dct.weights());
            case.compare("mfcc", front.mfcc(&spectrum).values());
        });
    }

    #[test]
    fn decibels_are_floored_below_the_loudest_band() {
        let mut power = Grid::zeros(2, 2);
        power.set(0, 1, 100.0);
        assert_eq!(decibel(&power).values(), [-60.0, 20.0, -60.0, -60.0]);
    }
}
