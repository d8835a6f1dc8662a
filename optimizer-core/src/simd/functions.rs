//! Elementary functions of vectors, as polynomials: plain arithmetic, so the bits do not depend on a library.

use super::Simd;

/// `e^x` with a relative error below 1e-7; overflows to infinity, underflows to 0, passes NaN on. (Cephes' `expf`.)
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer.
    let round = s.splat(12_582_912.0);
    let bounded = s.at_most(s.at_least(x, s.splat(-104.0)), s.splat(89.0));
    let n = s.sub(s.fma(bounded, s.splat(std::f32::consts::LOG2_E), round), round);
    // ln 2 in two parts: the first has so few bits that `n` times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), bounded);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut y = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        y = s.fma(y, r, s.splat(c));
    }
    let y = s.add(s.fma(y, s.mul(r, r), r), s.splat(1.0));
    // In two steps, so that results below the smallest normal number and up to the largest come out.
    let half = s.sub(s.add(s.mul(n, s.splat(0.5)), round), round);
    s.mul(s.mul(y, s.power_of_two(half)), s.power_of_two(s.sub(n, half)))
}

/// Natural logarithm of a positive normal number with a relative error below 1e-7 (Cephes' `logf`); infinity and NaN
/// come back as they are.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    let (m, e) = s.mantissa_exponent(x);
    let r = s.sub(m, s.splat(1.0));
    let mut y = s.splat(7.037_683_6e-2);
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        y = s.fma(y, r, s.splat(c));
    }
    let square = s.mul(r, r);
    let small = s.fma(e, s.splat(-2.121_944_4e-4), s.mul(s.mul(y, r), square));
    let small = s.fma(square, s.splat(-0.5), small);
    let log = s.fma(e, s.splat(0.693_359_4), s.add(r, small));
    s.select_less(x, s.splat(f32::INFINITY), log, x)
}

/// Hyperbolic tangent with an absolute error below 1.2e-7 (Cephes' `tanhf`).
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    let z = s.mul(x, x);
    let mut near = s.splat(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        near = s.fma(near, z, s.splat(c));
    }
    let near = s.fma(s.mul(near, z), x, x);
    let magnitude = s.abs(x);
    let grown = s.add(exp(s, s.add(magnitude, magnitude)), s.splat(1.0));
    let far = s.copy_sign(s.sub(s.splat(1.0), s.div(s.splat(2.0), grown)), x);
    s.select_less(magnitude, s.splat(0.625), near, far)
}

/// Logistic function `1 / (1 + e^(−x))`.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.zero(), x))))
}

/// `1 / √x`.
#[inline(always)]
pub fn rsqrt<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    s.div(s.splat(1.0), s.sqrt(x))
}
