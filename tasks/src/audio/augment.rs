//! Augmentation of recordings: pitch and tempo, each changed with probability one half (spec 6.2).
//!
//! ```text
//!  stretch by r:  STFT ─► read frames r hops apart: magnitudes interpolated, phases advanced ─► inverse    length / r
//!  shift by s:    stretch by 2^(-s/12) ─► resample by 2^(s/12)                                              length
//! ```
//!
//! The phase vocoder of Flanagan and Golden (1966) as improved by Laroche and Dolson (1999): the phase of a bin advances by
//! the frequency measured between two neighbouring frames, and bins around a peak keep their phases to it (their "identity
//! phase locking"). Resampling is by a sinc kernel under a Hann window.
//!
//! The same seed makes the same choices everywhere; sines and cosines are the system's, so samples of two hosts agree to
//! rounding, not to the bit.

use std::f64::consts::{PI, TAU};

use num_complex::Complex;
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;

use super::grid::Grid;
use super::stft::{Padding, Stft};

/// Largest shift to each side, in semitones.
const SEMITONES: f64 = 2.0;
/// Slowest and fastest tempo.
const RATES: [f64; 2] = [0.8, 1.2];
/// Zero crossings of the resampling kernel on each side.
const CROSSINGS: f64 = 16.0;

/// A recording with its pitch shifted by U(-2, 2) semitones with probability 1/2, then its tempo changed by U(0.8, 1.2)
/// with probability 1/2. The length changes with the tempo.
pub(crate) fn augment(samples: &[f32], sample_rate: u32, seed: Seed) -> Vec<f32> {
    let mut draws = Draws::new(seed);
    // All four are drawn always, so that one choice does not move the next.
    let [shifts, stretches] = [0, 1].map(|_| draws.below(2) == 0);
    let [shift, stretch] = [0, 1].map(|_| draws.uniform());
    let mut changed: Vec<f64> = samples.iter().copied().map(f64::from).collect();
    if shifts {
        changed = pitch_shift(&changed, sample_rate, SEMITONES * (2.0 * shift - 1.0));
    }
    if stretches {
        changed = time_stretch(&changed, sample_rate, RATES[0] + (RATES[1] - RATES[0]) * stretch);
    }
    changed.into_iter().map(|sample| sample as f32).collect()
}

/// The same length, `semitones` higher.
pub(crate) fn pitch_shift(samples: &[f64], sample_rate: u32, semitones: f64) -> Vec<f64> {
    let ratio = (semitones / 12.0).exp2();
    resample(&time_stretch(samples, sample_rate, 1.0 / ratio), ratio, samples.len())
}

/// `rate` times as fast at the same pitch: round(length / rate) samples.
pub(crate) fn time_stretch(samples: &[f64], sample_rate: u32, rate: f64) -> Vec<f64> {
    // About a tenth of a second resolves neighbouring partials of speech and music; a quarter of it apart, frames overlap
    // enough to measure frequencies.
    let n_fft = 1_usize << (sample_rate / 10).max(64).ilog2();
    let hop = n_fft / 4;
    let stft = Stft::new(n_fft, hop, Padding::Centre);
    let length = (samples.len() as f64 / rate).round() as usize;
    stft.inverse(&vocode(&stft.transform(samples), rate, TAU * hop as f64 / n_fft as f64), length)
}

/// Frames at multiples of `rate`; `advance` is the phase bin 1 advances by in one hop.
fn vocode(spectrum: &Grid<Complex<f64>>, rate: f64, advance: f64) -> Grid<Complex<f64>> {
    let (bins, frames) = (spectrum.rows(), (spectrum.frames() as f64 / rate).ceil() as usize);
    let mut out = Grid::zeros(bins, frames);
    // Beyond the last frame there is silence.
    let column = |frame: usize| -> Vec<Complex<f64>> {
        (0..bins).map(|bin| spectrum.row(bin).get(frame).copied().unwrap_or_default()).collect()
    };
    let mut phases: Vec<f64> = column(0).iter().map(|value| value.arg()).collect();
    for frame in 0..frames {
        let place = frame as f64 * rate;
        let (before, share) = (place as usize, place.fract());
        let (now, next) = (column(before), column(before + 1));
        let magnitudes: Vec<f64> = now.iter().map(|value| value.norm()).collect();
        let peaks = nearest_peaks(&magnitudes);
        let locked: Vec<f64> =
            peaks.iter().enumerate().map(|(bin, &peak)| phases[peak] + now[bin].arg() - now[peak].arg()).collect();
        for bin in 0..bins {
            let magnitude = magnitudes[bin] + share * (next[bin].norm() - magnitudes[bin]);
            out.set(bin, frame, Complex::from_polar(magnitude, locked[bin]));
            let expected = advance * bin as f64;
            let deviation = next[bin].arg() - now[bin].arg() - expected;
            phases[bin] = locked[bin] + expected + deviation - TAU * (deviation / TAU).round();
        }
    }
    out
}

/// The peak each bin belongs to: the nearest bin that is louder than two neighbours on each side. Bins around a peak are
/// one partial seen through the window; kept in their phases to each other, they neither fade nor smear.
fn nearest_peaks(magnitudes: &[f64]) -> Vec<usize> {
    let is_peak = |bin: &usize| {
        let around = bin.saturating_sub(2)..(bin + 3).min(magnitudes.len());
        around.into_iter().all(|other| other == *bin || magnitudes[other] < magnitudes[*bin])
    };
    let peaks: Vec<usize> = (0..magnitudes.len()).filter(is_peak).collect();
    if peaks.is_empty() {
        return (0..magnitudes.len()).collect();
    }
    let mut at = 0;
    (0..magnitudes.len())
        .map(|bin| {
            while peaks.get(at + 1).is_some_and(|next| next.abs_diff(bin) < peaks[at].abs_diff(bin)) {
                at += 1;
            }
            peaks[at]
        })
        .collect()
}

/// `length` samples read `step` apart: frequencies rise by `step`, and what would pass the Nyquist frequency is removed.
pub(crate) fn resample(samples: &[f64], step: f64, length: usize) -> Vec<f64> {
    let cutoff = (1.0 / step).min(1.0);
    let reach = CROSSINGS / cutoff;
    // The sine of the sinc and the cosine of the window advance by fixed angles from one sample to the next.
    let angles = [PI * cutoff, PI / reach];
    let turns = angles.map(Complex::cis);
    (0..length)
        .map(|index| {
            let centre = index as f64 * step;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let end = ((centre + reach).floor() as usize + 1).min(samples.len());
            let reached = samples.get(first..end).unwrap_or_default();
            let mut phasors = angles.map(|angle| Complex::cis(angle * (first as f64 - centre)));
            let mut sum = 0.0;
            for (sample, at) in reached.iter().zip(first..) {
                let x = angles[0] * (at as f64 - centre);
                let sinc = if x.abs() < 1e-5 { 1.0 } else { phasors[0].im / x };
                sum += sample * cutoff * sinc * (0.5 + 0.5 * phasors[1].re);
                phasors.iter_mut().zip(turns).for_each(|(phasor, turn)| *phasor *= turn);
            }
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8000;

    fn sine(hertz: f64, length: usize) -> Vec<f64> {
        (0..length).map(|n| (TAU * hertz * n as f64 / f64::from(RATE)).sin()).collect()
    }

    /// The strongest frequency of the middle of a signal, in Hz, and its amplitude.
    fn peak(samples: &[f64]) -> (f64, f64) {
        let n_fft = 2048;
        let middle = &samples[samples.len() / 2 - n_fft / 2..][..n_fft];
        let spectrum = Stft::new(n_fft, n_fft, Padding::None).transform(middle);
        let magnitudes: Vec<f64> = spectrum.values().iter().map(|value| value.norm()).collect();
        let bin = (0..magnitudes.len()).max_by(|&a, &b| magnitudes[a].total_cmp(&magnitudes[b])).unwrap();
        // The main lobe of a Hann window has most of the energy in three bins: 3/8 n_fft amplitude².
        let energy: f64 = magnitudes[bin - 1..=bin + 1].iter().map(|value| value * value).sum();
        let amplitude = (energy / (n_fft * n_fft) as f64 * 32.0 / 3.0).sqrt();
        (bin as f64 * f64::from(RATE) / n_fft as f64, amplitude)
    }

    #[test]
    fn an_octave_doubles_the_frequency_and_keeps_the_length() {
        for (semitones, expected) in [(12.0, 1000.0), (-12.0, 250.0), (7.0, 749.2)] {
            let shifted = pitch_shift(&sine(500.0, 8000), RATE, semitones);
            assert_eq!(shifted.len(), 8000);
            let (hertz, amplitude) = peak(&shifted);
            assert!((hertz - expected).abs() < 5.0, "{semitones} semitones: {hertz} Hz");
            assert!((amplitude - 1.0).abs() < 0.1, "{semitones} semitones: amplitude {amplitude}");
        }
    }

    #[test]
    fn a_stretch_changes_the_length_and_keeps_the_pitch() {
        for rate in [0.8, 1.0, 1.2] {
            let stretched = time_stretch(&sine(500.0, 8000), RATE, rate);
            assert_eq!(stretched.len(), (8000.0 / rate).round() as usize);
            let (hertz, amplitude) = peak(&stretched);
            assert!((hertz - 500.0).abs() < 5.0, "rate {rate}: {hertz} Hz");
            assert!((amplitude - 1.0).abs() < 0.05, "rate {rate}: amplitude {amplitude}");
        }
    }

    #[test]
    fn a_stretch_by_one_changes_nothing() {
        let y: Vec<f64> = sine(500.0, 3000).iter().zip(sine(1333.0, 3000)).map(|(a, b)| a + b).collect();
        let same = time_stretch(&y, RATE, 1.0);
        assert!(same.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-9));
    }

    #[test]
    fn resampling_reads_between_samples_and_removes_what_would_alias() {
        let read = resample(&sine(500.0, 2000), 0.7, 2000);
        let expected = sine(350.0, 2000);
        assert!((200..1800).all(|n| (read[n] - expected[n]).abs() < 2e-3), "between samples");
        let aliased = resample(&sine(3000.0, 4000), 2.0, 2000);
        assert!((200..1800).all(|n| aliased[n].abs() < 1e-2), "3000 Hz cannot be 6000 Hz of 8000");
    }

    #[test]
    fn a_seed_is_an_augmentation() {
        let y: Vec<f32> = sine(500.0, 4000).into_iter().map(|sample| sample as f32).collect();
        let of = |seed| augment(&y, RATE, Seed::new(seed));
        assert_eq!(of(3), of(3));
        let results: Vec<Vec<f32>> = (0..64).map(of).collect();
        let untouched = results.iter().filter(|&result| *result == y).count();
        let stretched = results.iter().filter(|result| result.len() != y.len()).count();
        assert!((6..27).contains(&untouched), "a quarter is left alone: {untouched} of 64");
        assert!((20..45).contains(&stretched), "half is stretched: {stretched} of 64");
        assert!(results.iter().all(|result| (3333..=5000).contains(&result.len())));
    }

    #[test]
    fn short_and_silent_recordings_survive() {
        for samples in [vec![], vec![0.5], vec![0.0; 700]] {
            for seed in 0..8 {
                let result = augment(&samples, RATE, Seed::new(seed));
                assert!(result.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}
