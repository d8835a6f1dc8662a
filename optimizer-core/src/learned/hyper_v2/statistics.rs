//! Means and variances of a tensor's parameters and accumulators, read once.
//!
//! ```text
//!  stretch of 512 (first cache):  mean, then squares around it          f32, sixteen sums side by side
//!  stretch to stretch:            M ← M + M' + d² n n'/(n + n')         f64, in order (Chan, Golub, LeVeque)
//! ```
//!
//! So a variance is as exact as of two passes over the whole, which the logarithm of a small one needs, and memory is read
//! once.

use crate::learned::accumulators::TIMESCALES;
use crate::parallel::{GRAIN, Split, by_grains, grains, is_shared};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};

/// Values that are centred together.
const STRETCH: usize = 512;

/// Mean and variance of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    /// Mean.
    pub(super) mean: f64,
    /// Mean square around it.
    pub(super) variance: f64,
}

impl Spread {
    /// Of these `count` values and `more` others together.
    fn with(self, count: f64, other: Self, more: f64) -> Self {
        let all = count + more;
        let apart = other.mean - self.mean;
        let share = more / all;
        Self {
            mean: self.mean + apart * share,
            variance: (self.variance * count + other.variance * more) / all + apart * apart * share * (count / all),
        }
    }
}

/// Of one tensor in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Statistics {
    count: f64,
    /// `mean p²`.
    pub(super) mean_square: f64,
    /// Of each momentum.
    pub(super) m: [Spread; TIMESCALES],
    /// Of the second moment.
    pub(super) rms: Spread,
}

impl Statistics {
    /// Of parameters `[size]`, momenta `[3, size]` and a second moment `[size]`; zeros without elements.
    pub(super) fn of(p: &[f32], m: &[f32], rms: &[f32]) -> Self {
        let size = p.len();
        let part = Part { p, m: [&m[..size], &m[size..2 * size], &m[2 * size..]], rms };
        if size <= GRAIN {
            return dispatch(Take(part));
        }
        let mut of_grains = vec![Self::default(); grains(size)];
        by_grains(part, &mut of_grains, is_shared(size), &|part, _, statistics: &mut Self| {
            *statistics = dispatch(Take(part));
        });
        of_grains.into_iter().fold(Self::default(), Self::with)
    }

    /// Of these values and others together.
    fn with(mut self, other: Self) -> Self {
        let (count, more) = (self.count, other.count);
        if count == 0.0 {
            return other;
        }
        self.count = count + more;
        self.mean_square += (other.mean_square - self.mean_square) * (more / self.count);
        for (m, other) in self.m.iter_mut().zip(other.m) {
            *m = m.with(count, other, more);
        }
        self.rms = self.rms.with(count, other.rms, more);
        self
    }
}

/// Some elements.
#[derive(Clone, Copy)]
struct Part<'a> {
    p: &'a [f32],
    m: [&'a [f32]; TIMESCALES],
    rms: &'a [f32],
}

impl Split for Part<'_> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let m = self.m.map(|m| m.split_at(middle));
        (
            Self { p: &self.p[..middle], m: m.map(|m| m.0), rms: &self.rms[..middle] },
            Self { p: &self.p[middle..], m: m.map(|m| m.1), rms: &self.rms[middle..] },
        )
    }
}

struct Take<'a>(Part<'a>);

impl Kernel for Take<'_> {
    type Output = Statistics;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Statistics {
        let Part { p, m, rms } = self.0;
        let mut all = Statistics::default();
        let mut start = 0;
        while start < p.len() {
            let end = p.len().min(start + STRETCH);
            let count = (end - start) as f64;
            let stretch = Statistics {
                count,
                mean_square: f64::from(square_sum(s, &p[start..end], 0.0)) / count,
                m: [spread(s, &m[0][start..end]), spread(s, &m[1][start..end]), spread(s, &m[2][start..end])],
                rms: spread(s, &rms[start..end]),
            };
            all = all.with(stretch);
            start = end;
        }
        all
    }
}

/// Mean and variance of a stretch.
#[inline(always)]
fn spread<S: Simd>(s: S, values: &[f32]) -> Spread {
    let mut sum = s.zero();
    let mut start = 0;
    while start < values.len() {
        sum = s.add(sum, s.load_part(&values[start..values.len().min(start + WIDTH)]));
        start += WIDTH;
    }
    let count = values.len() as f64;
    let mean = f64::from(s.sum(sum)) / count;
    // The squares are taken around a rounded mean, and what that is off is taken back.
    let centre = mean as f32;
    let apart = mean - f64::from(centre);
    let variance = f64::from(square_sum(s, values, centre)) / count - apart * apart;
    Spread { mean, variance: if variance < 0.0 { 0.0 } else { variance } }
}

/// Sum of `(x − centre)²`.
#[inline(always)]
fn square_sum<S: Simd>(s: S, values: &[f32], centre: f32) -> f32 {
    let mut sum = s.zero();
    let mut start = 0;
    while start < values.len() {
        let count = WIDTH.min(values.len() - start);
        let apart = s.sub(s.load_part(&values[start..start + count]), s.splat(centre));
        let apart = if count == WIDTH { apart } else { s.first(apart, count) };
        sum = s.fma(apart, apart, sum);
        start += WIDTH;
    }
    s.sum(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, noise};

    fn exact(values: &[f32]) -> Spread {
        let count = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        Spread { mean, variance }
    }

    fn assert_close(got: Spread, values: &[f32]) {
        let exact = exact(values);
        let size = values.iter().fold(0.0, |size: f64, &x| size.max(f64::from(x).abs()));
        assert!((got.mean - exact.mean).abs() <= 2e-7 * size, "{got:?} {exact:?}");
        let error = (got.variance - exact.variance).abs();
        assert!(error <= 1e-6 * exact.variance + 1e-13 * size * size, "{got:?} {exact:?}");
    }

    #[test]
    fn any_length_is_as_exact_as_two_passes_even_far_from_zero() {
        for size in [1, 2, 15, 16, 17, 511, 512, 513, GRAIN, GRAIN + 1, 3 * GRAIN + 700] {
            let mut values = vec![0.0; 5 * size];
            noise::normals(Seed::new(size as u64), 0, &mut values);
            values[size..2 * size].iter_mut().for_each(|m| *m += 100.0);
            values[4 * size..].iter_mut().for_each(|rms| *rms = 1e-6 * *rms * *rms);
            let (p, m, rms) = (&values[..size], &values[size..4 * size], &values[4 * size..]);
            let statistics = Statistics::of(p, m, rms);
            for (a, spread) in statistics.m.into_iter().enumerate() {
                assert_close(spread, &m[a * size..(a + 1) * size]);
            }
            assert_close(statistics.rms, rms);
            let Spread { mean, variance } = exact(p);
            let mean_square = mean * mean + variance;
            assert!((statistics.mean_square - mean_square).abs() < 1e-6 * mean_square);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            assert_eq!(pool.install(|| Statistics::of(p, m, rms)), statistics);
        }
    }

    #[test]
    fn equal_values_do_not_spread_and_nothing_gives_zeros() {
        let values = vec![0.3_f32; 5 * 700];
        let statistics = Statistics::of(&values[..700], &values[700..2800], &values[2800..]);
        assert!(statistics.rms.variance < 1e-14, "{statistics:?}");
        assert_eq!(Statistics::of(&[2.0], &[1.0, 2.0, 3.0], &[0.7]).m[2], Spread { mean: 3.0, variance: 0.0 });
        assert_eq!(Statistics::of(&[], &[], &[]), Statistics::default());
    }

    #[test]
    fn a_nan_stays_visible() {
        let mut values = vec![1.0_f32; 5 * 40];
        values[75] = f32::NAN;
        let statistics = Statistics::of(&values[..40], &values[40..160], &values[160..]);
        assert!(statistics.m[0].mean.is_nan() && statistics.m[0].variance.is_nan());
        assert_eq!(statistics.m[1].mean, 1.0);
    }
}
