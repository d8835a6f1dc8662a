//! Elementary functions of f32 that vectorise, give the same bits on every host, and treat NaN as JAX does.
//!
//! `f32::exp` and `f32::tanh` call the platform's mathematical library: slow (one element at a time) and different from
//! host to host. The functions here are plain arithmetic without branches, so a loop over a block becomes SIMD code and
//! the result depends on IEEE 754 alone. Where a function is needed only a few times a step, it is evaluated in f64 and
//! rounded, which hides the last-bit differences between libraries.
//!
//! `min`, `max` and `clip` of JAX pass NaN on, while `f32::min` and `f32::max` swallow it; a NaN must stay visible.

/// Elements that are processed together. Sums are taken block by block, so this is part of the numerics: the same on
/// every machine whatever its vector width.
pub(super) const BLOCK: usize = 16;

/// A block of values, one an element.
pub(super) type Block = [f32; BLOCK];

/// `e^x` with a relative error below 1e-7; overflows to infinity, underflows to 0, passes NaN on.
///
/// Cephes' `expf`: `x = n ln 2 + r`, a polynomial for `e^r`, then two exact scalings by powers of two.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5 · 2²³ rounds to the nearest integer, which the sum holds in its low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts: the first has so few bits that `n` times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let bounded = x.clamp(-104.0, 89.0);
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (bounded - n * LN2_HIGH) - n * LN2_LOW;
    let mut y = 1.987_569_1e-4;
    y = y * r + 1.398_199_9e-3;
    y = y * r + 8.333_452e-3;
    y = y * r + 4.166_579_6e-2;
    y = y * r + 1.666_666_5e-1;
    y = y * r + 5e-1;
    y = y * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    y * power(half) * power(exponent.wrapping_sub(half))
}

/// Hyperbolic tangent with an absolute error below 1e-7 (Cephes' `tanhf`).
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut near = -5.704_988_7e-3;
    near = near * z + 2.063_909e-2;
    near = near * z - 5.373_971_6e-2;
    near = near * z + 1.333_144_2e-1;
    near = near * z - 3.333_328e-1;
    near = near * z * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// `max(x, bound)` that passes a NaN in `x` on.
#[inline(always)]
pub(super) fn at_least(x: f32, bound: f32) -> f32 {
    if x < bound { bound } else { x }
}

/// `min(a, b)` that passes NaN on from either side.
#[inline(always)]
pub(crate) fn minimum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}

/// `max(a, b)` that passes NaN on from either side.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// `1 / √x`.
#[inline(always)]
pub(super) fn rsqrt(x: f32) -> f32 {
    1.0 / x.sqrt()
}

/// `1 / √max(x, 1e-9)`: at most 31622.8.
#[inline(always)]
pub(super) fn safe_rsqrt(x: f32) -> f32 {
    rsqrt(at_least(x, 1e-9))
}

/// `1/√(1e-5 + mean x²)`, by which a channel is multiplied over a whole tensor.
pub(super) fn normaliser(mean_square: f32) -> f32 {
    rsqrt(1e-5 + mean_square)
}

/// Natural logarithm, evaluated in f64.
pub(super) fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

/// Exponential evaluated in f64, for the few places where the last bit is amplified.
pub(super) fn exact_exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// `clip(ln(1e-8 + |x|), ±5)`, how the size of a statistic enters a network.
pub(super) fn log_magnitude(x: f32) -> f32 {
    ln(1e-8 + x.abs()).clamp(-5.0, 5.0)
}

/// −1, 0 or 1; passes NaN on. (`f32::signum` has no 0.)
pub(crate) fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// `f` of every element. (`array::map` is not always inlined, which costs the SIMD code.)
#[inline(always)]
pub(super) fn each(mut block: Block, f: impl Fn(f32) -> f32) -> Block {
    for value in &mut block {
        *value = f(*value);
    }
    block
}

/// `a − b`, element by element.
#[inline(always)]
pub(super) fn minus(mut a: Block, b: &Block) -> Block {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= b;
    }
    a
}

/// Sum of a block by halves: 16 → 8 → 4 → 2 → 1.
#[inline(always)]
pub(super) fn block_sum(mut values: Block) -> f32 {
    let mut width = BLOCK / 2;
    while width > 0 {
        for j in 0..width {
            values[j] += values[j + width];
        }
        width /= 2;
    }
    values[0]
}

/// Sum of the first `length` values of a block; the others are ignored.
#[inline(always)]
pub(super) fn partial_sum(mut values: Block, length: usize) -> f64 {
    if length < BLOCK {
        values[length..].fill(0.0);
    }
    f64::from(block_sum(values))
}

/// Sum of `map(x)` over a slice: f32 sums of blocks, added up in f64.
pub(super) fn sum(values: &[f32], map: impl Fn(f32) -> f32) -> f64 {
    let mut sum = 0.0;
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    for block in blocks {
        sum += f64::from(block_sum(each(*block, &map)));
    }
    let mut last = [0.0; BLOCK];
    for (last, &value) in last.iter_mut().zip(rest) {
        *last = map(value);
    }
    sum + f64::from(block_sum(last))
}

/// Mean of `map(x)` over a slice, 0 for an empty one: [`sum`], divided and rounded once.
pub(super) fn mean(values: &[f32], map: impl Fn(f32) -> f32) -> f32 {
    (sum(values, map) / values.len().max(1) as f64) as f32
}

/// Mean of `(x − centre)²` over a slice, 0 for an empty one.
pub(super) fn mean_square_around(values: &[f32], centre: f32) -> f32 {
    mean(values, |x| (x - centre) * (x - centre))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 97th float of a range.
    fn floats(low: f32, high: f32) -> impl Iterator<Item = f32> {
        let count = 400_000;
        (0..=count).map(move |i| low + (high - low) * i as f32 / count as f32)
    }

    #[test]
    fn exp_is_within_1e_7_relative() {
        for x in floats(-87.0, 88.7).chain(floats(-0.01, 0.01)) {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 1e-7, "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(-105.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        let subnormal = exp(-100.0);
        assert!((f64::from(subnormal) / (-100f64).exp() - 1.0).abs() < 0.02, "{subnormal:e}");
    }

    #[test]
    fn tanh_is_within_1e_7() {
        for x in floats(-12.0, 12.0) {
            let exact = f64::from(x);
            let error = (f64::from(tanh(x)) - exact.tanh()).abs();
            assert!(error < 1e-7, "tanh({x}) is off by {error:e}");
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn signs_and_magnitudes() {
        assert_eq!([sign(-0.1), sign(0.0), sign(-0.0), sign(7.0)], [-1.0, 0.0, 0.0, 1.0]);
        assert!(sign(f32::NAN).is_nan() && log_magnitude(f32::NAN).is_nan());
        assert_eq!([log_magnitude(0.0), log_magnitude(-1e9), log_magnitude(-1.0)], [-5.0, 5.0, ln(1.0 + 1e-8)]);
    }

    #[test]
    fn bounds_pass_nan_on() {
        assert!(at_least(f32::NAN, 0.0).is_nan());
        assert!(minimum(f32::NAN, 0.0).is_nan() && minimum(0.0, f32::NAN).is_nan());
        assert!(maximum(f32::NAN, 0.0).is_nan() && maximum(0.0, f32::NAN).is_nan());
        assert_eq!((minimum(1.0, 2.0), maximum(1.0, 2.0)), (1.0, 2.0));
        assert_eq!((at_least(-3.0, 0.0), at_least(3.0, 0.0)), (0.0, 3.0));
    }

    #[test]
    fn means_cover_blocks_and_the_rest() {
        let values: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(mean(&values, |x| x), 18.0);
        assert_eq!(mean(&values[..3], |x| x + 1.0), 2.0);
        assert_eq!(mean(&[], |x| x + 1.0), 0.0);
    }
}
