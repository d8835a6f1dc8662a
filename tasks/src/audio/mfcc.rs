//! MFCC with phase: the author's front end (spec 7.1; `namanlab/CVCNN_Paper`).
//!
//! ```text
//!                          ┌─ |X|² ─► mel ─► 10 log10 ─► DCT ──────────────► real MFCC ─┐
//!  y ─► y / max|y| ─► STFT ┼─ arg X ─► mel ─► DCT ─► P, the phase matrix φ ─────────────┴─► MFCC · exp(jP)   workflow 2
//!                        X └─ mel (complex sums) ─► 10 log10 (complex, principal) ─► DCT ─►                  workflow 1
//! ```
//!
//! All in f64. P sums the phases of many bins as they are, without unwrapping: it reaches tens of radians, so exp(jP) is
//! close to a hash of the frame, and a shift of the audio by a few samples changes it all. That is the paper's feature.
//!
//! Two rules keep what is arbitrary out of it: a bin whose magnitude is at most 1e-12 of the largest has angle 0, and a
//! complex mel sum of exactly 0 counts as 1e-10. Silence (max|y| < 1e-8) is not normalised; it gives the finite features
//! of the floors: -100 dB in every band, so a real MFCC of -100√M in coefficient 0, and phases of 0.

use std::f64::consts::LN_10;

use num_complex::Complex;

use super::dct::Dct;
use super::grid::Grid;
use super::mel::MelBank;
use super::stft::{Padding, Stft};

/// Below this peak a signal is silence and keeps its scale.
const SILENCE: f64 = 1e-8;
/// Bins of less than this share of the largest magnitude have angle 0.
const TINY: f64 = 1e-12;
/// The least energy, and what an exactly zero complex sum counts as.
const FLOOR: f64 = 1e-10;

/// The author's front end, planned.
pub(crate) struct AuthorFrontEnd {
    stft: Stft,
    bank: MelBank,
    dct: Dct,
}

impl AuthorFrontEnd {
    /// Plans the front end.
    ///
    /// # Errors
    /// A mel filter without a bin.
    pub(crate) fn new(sample_rate: u32, n_fft: usize, hop: usize, n_mel: usize, n_mfcc: usize) -> Result<Self, String> {
        Ok(Self {
            stft: Stft::new(n_fft, hop, Padding::None),
            bank: MelBank::author(sample_rate, n_fft, n_mel)?,
            dct: Dct::new(n_mfcc, n_mel),
        })
    }

    /// The spectrum `[n_fft/2 + 1, frames]` of the normalised signal.
    pub(crate) fn spectrum(&self, samples: &[f32]) -> Grid<Complex<f64>> {
        self.stft.transform(&normalised(samples))
    }

    /// The real MFCC, `[n_mfcc, frames]`.
    pub(crate) fn mfcc(&self, spectrum: &Grid<Complex<f64>>) -> Grid<f64> {
        let energy = self.bank.apply(&spectrum.map(|value| value.norm_sqr()));
        self.dct.apply(&energy.map(|energy| 10.0 * energy.max(FLOOR).log10()))
    }

    /// The phase matrix φ, `[n_mfcc, frames]`, in radians.
    pub(crate) fn phase(&self, spectrum: &Grid<Complex<f64>>) -> Grid<f64> {
        self.dct.apply(&self.bank.apply(&angles(spectrum)))
    }

    /// Workflow 1, `[n_mfcc, frames]`: the complex logarithm of complex mel sums.
    pub(crate) fn workflow1(&self, spectrum: &Grid<Complex<f64>>) -> Grid<Complex<f64>> {
        self.dct.apply(&self.bank.apply(spectrum).map(complex_decibel))
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Stft, &MelBank, &Dct) {
        (&self.stft, &self.bank, &self.dct)
    }
}

/// Workflow 2, `[n_mfcc, frames]`: the real MFCC turned by the phase matrix.
pub(crate) fn workflow2(mfcc: &Grid<f64>, phase: &Grid<f64>) -> Grid<Complex<f64>> {
    mfcc.zip(phase, |magnitude, phase| Complex::cis(phase) * magnitude)
}

/// Every value over the largest magnitude, unless that is silence.
pub(crate) fn normalised(samples: &[f32]) -> Vec<f64> {
    let peak = samples.iter().fold(0.0_f64, |peak, &sample| peak.max(f64::from(sample).abs()));
    let scale = if peak < SILENCE { 1.0 } else { peak };
    samples.iter().map(|&sample| f64::from(sample) / scale).collect()
}

/// The logarithm of magnitudes with their phases kept, log(1 + |X|) X / |X|; 0 where |X| is 0 (spec 8, `audio_*_stft`).
pub(crate) fn log_magnitude(spectrum: &Grid<Complex<f64>>) -> Grid<Complex<f64>> {
    spectrum.map(|value| {
        let magnitude = value.norm();
        if magnitude > 0.0 { value * (magnitude.ln_1p() / magnitude) } else { Complex::default() }
    })
}

/// Angles in (-π, π], 0 for bins too weak to have one.
fn angles(spectrum: &Grid<Complex<f64>>) -> Grid<f64> {
    // Squares are cheaper than magnitudes, and those of normalised signals neither overflow nor vanish.
    let largest = spectrum.values().iter().fold(0.0_f64, |largest, value| largest.max(value.norm_sqr()));
    spectrum.map(|value| if value.norm_sqr() > TINY * TINY * largest { angle(value) } else { 0.0 })
}

/// 10 log10 of a complex number, principal branch.
fn complex_decibel(sum: Complex<f64>) -> Complex<f64> {
    let sum = if sum.re == 0.0 && sum.im == 0.0 { Complex::new(FLOOR, 0.0) } else { sum };
    Complex::new(10.0 * sum.norm().log10(), 10.0 * angle(sum) / LN_10)
}

/// The argument. + 0 turns -0 into 0, so that a negative real number has the angle π whatever the sign of its zero.
fn angle(value: Complex<f64>) -> f64 {
    (value.im + 0.0).atan2(value.re)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn golden_paper_features_match() {
        golden::each("mfcc_paper_", |case| {
            let sizes = ["n_fft", "hop", "n_mel", "n_dct"].map(|name| case.size(name));
            let [n_fft, hop, n_mel, n_dct] = sizes;
            assert!(!case.flag("center") && case.text("window") == "hann, periodic");
            let rate = u32::try_from(case.size("sr")).unwrap();
            let front = AuthorFrontEnd::new(rate, n_fft, hop, n_mel, n_dct).unwrap();
            let samples: Vec<f32> = case.floats("in.y").iter().map(|&sample| sample as f32).collect();
            let spectrum = front.spectrum(&samples);

            let (stft, bank, dct) = front.parts();
            case.compare("window", stft.window());
            let points: Vec<i64> =
                super::super::mel::author_points(rate, n_fft, n_mel).iter().map(|&point| point as i64).collect();
            case.compare_integers("filter_points", &points);
            case.compare("mel_fb", &bank.weights());
            case.compare("dct", dct.weights());
            if case.has("stft.re") {
                case.compare_pair("stft", spectrum.values());
            }
            let (mfcc, phase) = (front.mfcc(&spectrum), front.phase(&spectrum));
            case.compare("mfcc", mfcc.values());
            case.compare("phase", phase.values());
            case.compare_pair("workflow1", front.workflow1(&spectrum).values());
            case.compare_pair("workflow2", workflow2(&mfcc, &phase).values());
        });
    }

    #[test]
    fn silence_has_the_features_of_the_floors() {
        let front = AuthorFrontEnd::new(8000, 256, 128, 13, 13).unwrap();
        for level in [0.0, 1e-9] {
            let spectrum = front.spectrum(&[level; 1000]);
            let (mfcc, phase) = (front.mfcc(&spectrum), front.phase(&spectrum));
            for frame in 0..mfcc.frames() {
                assert!((mfcc.at(0, frame) + 100.0 * 13.0_f64.sqrt()).abs() < 1e-9);
                assert!((1..13).all(|row| mfcc.at(row, frame).abs() < 1e-9));
            }
            assert!(level > 0.0 || phase.values().iter().all(|&phase| phase == 0.0));
            assert!(front.workflow1(&spectrum).values().iter().all(|value| value.is_finite()));
            assert!(log_magnitude(&spectrum).values().iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn weak_bins_and_signed_zeros_have_no_say() {
        let grid = |values: &[Complex<f64>]| {
            let mut grid = Grid::zeros(values.len(), 1);
            values.iter().enumerate().for_each(|(row, &value)| grid.set(row, 0, value));
            grid
        };
        let spectrum = grid(&[Complex::new(0.0, 2.0), Complex::new(-1e-12, 1e-13), Complex::new(-1.0, -0.0)]);
        let got = angles(&spectrum);
        assert_eq!(got.values(), [std::f64::consts::FRAC_PI_2, 0.0, std::f64::consts::PI]);
        assert_eq!(complex_decibel(Complex::new(-0.0, -0.0)), Complex::new(-100.0, 0.0));
    }
}
