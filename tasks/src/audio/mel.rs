//! Banks of triangular filters that gather Fourier bins into mel bands.
//!
//! ```text
//!  weight                       author: corners on whole bins,        librosa: corners anywhere,
//!    1 ┤    ╱╲                  weight 1 twice at the peak            weights taken from the triangle,
//!      │  ╱    ╲                not normalised                        area 2 / (f₂ - f₀) in Hz
//!    0 ┼─┴──────┴─► bin         mel(f) = 2595 log10(1 + f/700)        Slaney: linear below 1 kHz, then log
//!       p₀  p₁  p₂
//! ```

use std::ops::{AddAssign, Mul, Range};

use super::grid::Grid;

/// `bands` filters over `bins`. Each filter is kept from its first to its last weight that is not 0.
pub(crate) struct MelBank {
    bins: usize,
    filters: Vec<Filter>,
}

struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl Filter {
    fn of(weights: &[f64]) -> Self {
        let Some(first) = weights.iter().position(|&weight| weight != 0.0) else {
            return Self { first: 0, weights: Vec::new() };
        };
        let last = weights.iter().rposition(|&weight| weight != 0.0).unwrap_or(first);
        Self { first, weights: weights[first..=last].to_vec() }
    }

    fn bins(&self) -> Range<usize> {
        self.first..self.first + self.weights.len()
    }
}

/// Corner bins of the author's bank: `bands + 2` points, equally spaced in mel from 0 to half the sample rate.
pub(crate) fn author_points(sample_rate: u32, n_fft: usize, bands: usize) -> Vec<usize> {
    let rate = f64::from(sample_rate);
    let top = 2595.0 * (1.0 + rate / 2.0 / 700.0).log10();
    (0..bands + 2)
        .map(|point| {
            let mel = top * point as f64 / (bands + 1) as f64;
            let hertz = 700.0 * (10.0_f64.powf(mel / 2595.0) - 1.0);
            let bin = ((n_fft + 1) as f64 / rate * hertz).floor() as usize;
            bin.min(n_fft / 2)
        })
        .collect()
}

impl MelBank {
    /// The author's bank (spec 7.1): rising `linspace(0, 1)` on `[p₀, p₁)`, falling `linspace(1, 0)` on `[p₁, p₂)`.
    ///
    /// # Errors
    /// A filter with no bin on one of its sides: it would be all zero, or give weight to bin 0, whose phase is arbitrary.
    /// The text says which, and what to do.
    pub(crate) fn author(sample_rate: u32, n_fft: usize, bands: usize) -> Result<Self, String> {
        let points = author_points(sample_rate, n_fft, bands);
        let bins = n_fft / 2 + 1;
        let filters = points.windows(3).enumerate().map(|(band, corners)| {
            let &[start, peak, end] = corners else { unreachable!("windows of three") };
            let mut weights = vec![0.0; bins];
            ramp(&mut weights[start..peak], 0.0, 1.0);
            ramp(&mut weights[peak..end], 1.0, 0.0);
            if start == peak || peak == end || weights.iter().all(|&weight| weight == 0.0) {
                return Err(format!(
                    "n_fft = {n_fft} at {sample_rate} Hz leaves mel filter {band} of {bands} without a bin between its \
                     corners {start}, {peak} and {end}: use a larger n_fft or fewer mel bands"
                ));
            }
            Ok(Filter::of(&weights))
        });
        Ok(Self { bins, filters: filters.collect::<Result<_, _>>()? })
    }

    /// librosa's default bank (spec 7.2): Slaney's scale and area norm, from `low` to `high` Hz.
    ///
    /// # Errors
    /// A filter between two bins would be all zero; librosa only warns.
    pub(crate) fn slaney(sample_rate: u32, n_fft: usize, bands: usize, [low, high]: [f64; 2]) -> Result<Self, String> {
        let (low_mel, high_mel) = (hertz_to_mel(low), hertz_to_mel(high));
        let corner = |point: usize| mel_to_hertz(low_mel + (high_mel - low_mel) * point as f64 / (bands + 1) as f64);
        let bins = n_fft / 2 + 1;
        let filters = (0..bands).map(|band| {
            let [start, peak, end] = [0, 1, 2].map(|offset| corner(band + offset));
            let weight = |bin: usize| {
                let hertz = bin as f64 * f64::from(sample_rate) / n_fft as f64;
                let triangle = ((hertz - start) / (peak - start)).min((end - hertz) / (end - peak));
                triangle.max(0.0) * 2.0 / (end - start)
            };
            let filter = Filter::of(&(0..bins).map(weight).collect::<Vec<_>>());
            if filter.weights.is_empty() {
                return Err(format!(
                    "n_fft = {n_fft} at {sample_rate} Hz leaves mel filter {band} of {bands} ({start:.0} to {end:.0} Hz) \
                     without a bin: use a larger n_fft or fewer mel bands"
                ));
            }
            Ok(filter)
        });
        Ok(Self { bins, filters: filters.collect::<Result<_, _>>()? })
    }

    /// `[bands, bins]`, row-major.
    #[cfg(test)]
    pub(crate) fn weights(&self) -> Vec<f64> {
        let mut all = vec![0.0; self.filters.len() * self.bins];
        for (filter, row) in self.filters.iter().zip(all.chunks_exact_mut(self.bins)) {
            row[filter.bins()].copy_from_slice(&filter.weights);
        }
        all
    }

    /// Weighted sums of bins, lowest bin first: `[bins, frames]` to `[bands, frames]`.
    pub(crate) fn apply<T>(&self, spectrum: &Grid<T>) -> Grid<T>
    where
        T: Copy + Default + AddAssign + Mul<f64, Output = T>,
    {
        debug_assert_eq!(spectrum.rows(), self.bins);
        let mut out = Grid::zeros(self.filters.len(), spectrum.frames());
        for (band, filter) in self.filters.iter().enumerate() {
            for (bin, &weight) in filter.bins().zip(&filter.weights) {
                let row = out.row_mut(band).iter_mut();
                row.zip(spectrum.row(bin)).for_each(|(sum, &value)| *sum += value * weight);
            }
        }
        out
    }
}

/// Equal steps from `start` to `end`, both included; a single value is `start` (numpy's `linspace`).
fn ramp(out: &mut [f64], start: f64, end: f64) {
    let Some(last) = out.len().checked_sub(1) else { return };
    for (step, value) in out.iter_mut().enumerate() {
        *value = if step == 0 { start } else { start + (end - start) * step as f64 / last as f64 };
    }
}

/// Where Slaney's scale turns from linear to logarithmic, in Hz, and in mel.
const BREAK: (f64, f64) = (1000.0, 15.0);
/// Mel per natural logarithm above it.
fn log_step() -> f64 {
    27.0 / 6.4_f64.ln()
}

fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz < BREAK.0 { hertz * 3.0 / 200.0 } else { BREAK.1 + (hertz / BREAK.0).ln() * log_step() }
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel < BREAK.1 { mel * 200.0 / 3.0 } else { BREAK.0 * ((mel - BREAK.1) / log_step()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_corners_are_these() {
        let expected = [0, 14, 32, 53, 80, 112, 152, 201, 260, 333, 421, 530, 663, 825, 1024];
        assert_eq!(author_points(22_050, 2048, 13), expected);
    }

    #[test]
    fn the_ends_of_the_spectrum_have_no_weight() {
        for (rate, n_fft, bands) in [(22_050, 2048, 13), (8_000, 512, 13), (8_000, 256, 13), (16_000, 401, 20)] {
            let bank = MelBank::author(rate, n_fft, bands).unwrap();
            for row in bank.weights().chunks(n_fft / 2 + 1) {
                assert_eq!((row[0], row[n_fft / 2]), (0.0, 0.0));
                assert_eq!(row.iter().copied().fold(0.0, f64::max), 1.0);
            }
        }
    }

    #[test]
    fn filters_without_a_bin_are_refused() {
        let error = MelBank::author(22_050, 64, 13).err().unwrap();
        assert!(error.contains("n_fft = 64") && error.contains("mel filter 0 of 13"), "{error}");
        let error = MelBank::slaney(22_050, 128, 80, [0.0, 11_025.0]).err().unwrap();
        assert!(error.contains("without a bin"), "{error}");
    }
}
