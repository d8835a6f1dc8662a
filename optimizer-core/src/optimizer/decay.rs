//! Decays of moving averages, with the two roundings found in the wild.
//!
//! `1 − 0.999` is 0.001 when it is formed in f64 and then rounded, but 0.000999987 when 0.999 is first rounded to f32.
//! The hand-designed optimizers of optax do the former, the learned optimizers (whose decays live in f32 arrays) the
//! latter. The two differ by 1.3e-5 relative, far more than the 1e-7 to which trajectories are compared.

/// A moving average `m ← keep · m + take · x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decay {
    /// Weight of what was there.
    pub(crate) keep: f32,
    /// Weight of what is new.
    pub(crate) take: f32,
}

impl Decay {
    /// A literal decay: `1 − decay` is formed in f64, then rounded (optax).
    pub(crate) fn literal(decay: f64) -> Self {
        Self { keep: decay as f32, take: (1.0 - decay) as f32 }
    }

    /// A decay that is itself an f32 value: `1 − decay` is formed in f32 (learned optimizers).
    pub(crate) fn traced(decay: f32) -> Self {
        Self { keep: decay, take: 1.0 - decay }
    }

    /// The average after one more value.
    #[inline(always)]
    pub(crate) fn mix(self, average: f32, new: f32) -> f32 {
        self.take * new + self.keep * average
    }

    /// `average ← keep · average + take · new`, element by element; `new` is computed from `source`.
    #[inline(always)]
    pub(crate) fn accumulate(self, average: &mut [f32], source: &[f32], new: impl Fn(f32) -> f32) {
        for (average, &source) in average.iter_mut().zip(source) {
            *average = self.keep * *average + self.take * new(source);
        }
    }

    /// `1 − decay^count`, what a moving average that began at zero has collected after `count` values.
    ///
    /// The power is taken in f64 and rounded before the subtraction: one f32 rounding of `0.999^1` is already 6e-5 of
    /// the result, so the place of the rounding matters.
    pub(crate) fn collected(self, count: u32) -> f32 {
        let exponent = i32::try_from(count).unwrap_or(i32::MAX);
        1.0 - f64::from(self.keep).powi(exponent) as f32
    }
}

/// `a · b + c` rounded once: the product of two f32 is exact in f64. (`f32::mul_add` is a library call where the target
/// lacks the instruction.)
#[inline(always)]
pub(crate) fn fused(a: f32, b: f32, c: f32) -> f32 {
    (f64::from(a) * f64::from(b) + f64::from(c)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_roundings_differ_as_published() {
        assert_eq!(Decay::literal(0.999).take, 0.001);
        assert_eq!(Decay::traced(0.999).take, 0.000_999_987_1);
        assert_eq!(Decay::literal(0.999).keep, Decay::traced(0.999).keep);
    }

    #[test]
    fn collected_grows_to_one() {
        let decay = Decay::literal(0.9);
        assert_eq!(decay.collected(0), 0.0);
        assert!((decay.collected(1) - 0.1).abs() < 1e-7);
        assert_eq!(decay.collected(u32::MAX), 1.0);
    }
}
