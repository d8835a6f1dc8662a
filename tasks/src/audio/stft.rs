//! Short-time Fourier transform in f64.
//!
//! ```text
//!  samples ─► frames of n_fft, hop apart ─► × periodic Hann ─► FFT ─► bins 0..=n_fft/2        [bins, frames]
//!             Padding::None    ├──────┤├──────┤├──────┤···          T = floor((L - n_fft) / hop) + 1
//!             Padding::Centre  0 0├──────┤├──────┤├──────┤0 0       n_fft/2 zeros on both sides (librosa ≥ 0.10)
//! ```
//!
//! `X[k, t] = Σₙ w[n] y[t·hop + n] exp(-2πj kn / n_fft)`, unnormalised; `w[n] = 0.5 - 0.5 cos(2πn / n_fft)`. Any n_fft
//! works.
//!
//! rustfft is built without its SIMD paths, so one binary takes the same arithmetic steps on every processor. Its twiddle
//! factors still come from the system's sine and cosine, so spectra of two hosts agree to about 1e-15 of their largest
//! value, not to the bit.

use std::f64::consts::TAU;
use std::sync::Arc;

use num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::grid::Grid;

/// What lies before the first and after the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// Nothing: frames lie inside the signal.
    None,
    /// n_fft/2 zeros, so that frame t is centred on sample t·hop.
    Centre,
}

/// A planned transform.
pub(crate) struct Stft {
    n_fft: usize,
    hop: usize,
    padding: Padding,
    window: Vec<f64>,
    forward: Arc<dyn Fft<f64>>,
    backward: Arc<dyn Fft<f64>>,
}

impl Stft {
    /// Plans frames of `n_fft` samples, `hop` apart; both at least 1.
    pub(crate) fn new(n_fft: usize, hop: usize, padding: Padding) -> Self {
        let mut planner = FftPlanner::new();
        Self {
            n_fft,
            hop,
            padding,
            window: hann(n_fft),
            forward: planner.plan_fft_forward(n_fft),
            backward: planner.plan_fft_inverse(n_fft),
        }
    }

    /// Number of bins, 0 to the Nyquist frequency.
    pub(crate) fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    pub(crate) fn n_fft(&self) -> usize {
        self.n_fft
    }

    /// Number of frames of a signal of `length` samples.
    pub(crate) fn frames(&self, length: usize) -> usize {
        (length + 2 * self.margin()).checked_sub(self.n_fft).map_or(0, |last| last / self.hop + 1)
    }

    /// The window.
    #[cfg(test)]
    pub(crate) fn window(&self) -> &[f64] {
        &self.window
    }

    /// Zeros put before and after the signal.
    fn margin(&self) -> usize {
        match self.padding {
            Padding::None => 0,
            Padding::Centre => self.n_fft / 2,
        }
    }

    /// The spectrum of a signal, `[bins, frames]`.
    pub(crate) fn transform(&self, samples: &[f64]) -> Grid<Complex<f64>> {
        let frames = self.frames(samples.len());
        let mut spectrum = Grid::zeros(self.bins(), frames);
        let mut buffer = vec![Complex::default(); self.n_fft];
        let mut scratch = vec![Complex::default(); self.forward.get_inplace_scratch_len()];
        for frame in 0..frames {
            for (n, (value, weight)) in buffer.iter_mut().zip(&self.window).enumerate() {
                let sample = (frame * self.hop + n).checked_sub(self.margin()).and_then(|at| samples.get(at));
                *value = Complex::new(sample.copied().unwrap_or(0.0) * weight, 0.0);
            }
            self.forward.process_with_scratch(&mut buffer, &mut scratch);
            // These two are real for real signals; what rounding leaves would make their angles arbitrary.
            buffer[0].im = 0.0;
            if self.n_fft.is_multiple_of(2) {
                buffer[self.n_fft / 2].im = 0.0;
            }
            for (bin, &value) in buffer[..self.bins()].iter().enumerate() {
                spectrum.set(bin, frame, value);
            }
        }
        spectrum
    }

    /// The signal of `length` samples whose spectrum is nearest to this one in the least-squares sense (Griffin and Lim
    /// 1984, eq. 6): inverse FFTs, windowed again, added up, over the sum of squared windows. Where no frame reaches it
    /// is 0.
    pub(crate) fn inverse(&self, spectrum: &Grid<Complex<f64>>, length: usize) -> Vec<f64> {
        let total = length + 2 * self.margin();
        let (mut sum, mut weight) = (vec![0.0; total], vec![0.0; total]);
        let mut buffer = vec![Complex::default(); self.n_fft];
        let mut scratch = vec![Complex::default(); self.backward.get_inplace_scratch_len()];
        for frame in 0..spectrum.frames() {
            for bin in 0..self.bins() {
                let value = spectrum.at(bin, frame);
                buffer[(self.n_fft - bin) % self.n_fft] = value.conj();
                buffer[bin] = value;
            }
            self.backward.process_with_scratch(&mut buffer, &mut scratch);
            let start = (frame * self.hop).min(total);
            let places = sum[start..].iter_mut().zip(&mut weight[start..]);
            for ((sum, weight), (value, window)) in places.zip(buffer.iter().zip(&self.window)) {
                *sum += value.re / self.n_fft as f64 * window;
                *weight += window * window;
            }
        }
        let margin = self.margin();
        let places = sum[margin..margin + length].iter().zip(&weight[margin..]);
        places.map(|(sum, weight)| if *weight > 1e-10 { sum / weight } else { 0.0 }).collect()
    }
}

/// The periodic Hann window.
fn hann(length: usize) -> Vec<f64> {
    (0..length).map(|n| 0.5 - 0.5 * (TAU * n as f64 / length as f64).cos()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(length: usize) -> Vec<f64> {
        (0..length).map(|n| (0.3 * n as f64).sin() + 0.5 * (0.01 * (n * n) as f64).cos()).collect()
    }

    #[test]
    fn a_frame_is_the_windowed_fourier_sum() {
        for (n_fft, hop, padding) in [(16, 4, Padding::None), (15, 7, Padding::Centre), (50, 13, Padding::Centre)] {
            let (stft, y) = (Stft::new(n_fft, hop, padding), signal(90));
            let spectrum = stft.transform(&y);
            assert_eq!((spectrum.rows(), spectrum.frames()), (n_fft / 2 + 1, stft.frames(90)));
            for frame in 0..spectrum.frames() {
                for bin in 0..spectrum.rows() {
                    let sum: Complex<f64> = (0..n_fft)
                        .map(|n| {
                            let at = (frame * hop + n).checked_sub(stft.margin()).and_then(|at| y.get(at));
                            let turn = -TAU * (bin * n) as f64 / n_fft as f64;
                            Complex::cis(turn) * at.unwrap_or(&0.0) * stft.window[n]
                        })
                        .sum();
                    assert!((sum - spectrum.at(bin, frame)).norm() < 1e-12, "n_fft {n_fft} bin {bin} frame {frame}");
                }
            }
        }
    }

    #[test]
    fn frames_are_counted_as_the_conventions_say() {
        let paper = Stft::new(2048, 512, Padding::None);
        assert_eq!([2047, 2048, 66_150].map(|length| paper.frames(length)), [0, 1, 126]);
        let librosa = Stft::new(512, 128, Padding::Centre);
        assert_eq!([0, 127, 128, 4096].map(|length| librosa.frames(length)), [1, 1, 2, 33]);
    }

    #[test]
    fn the_inverse_gives_the_signal_back() {
        for n_fft in [64, 60] {
            let (stft, y) = (Stft::new(n_fft, n_fft / 4, Padding::Centre), signal(300));
            let back = stft.inverse(&stft.transform(&y), y.len());
            assert!(back.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }
}
