//! A cosine that has the same bits on every host: the one of the platform's library does not.

use std::f64::consts::PI;

/// `(1 + cos πx) / 2` for `x` in `[0, 1]`: from 1 to 0.
pub(super) fn half_cosine(x: f64) -> f64 {
    // cos πx is antisymmetric about 1/2, and the sine of what is left to 1/2; so an angle of at most π/4 remains.
    let near = x.min(1.0 - x);
    let cosine = if near <= 0.25 { cosine_series(PI * near) } else { sine_series(PI * (0.5 - near)) };
    0.5 + if x <= 0.5 { 0.5 * cosine } else { -0.5 * cosine }
}

/// `cos a` for `|a| ≤ π/4`, to the last bit or two: `1 − a²/(1·2) · (1 − a²/(3·4) · (1 − …))`.
fn cosine_series(angle: f64) -> f64 {
    let square = angle * angle;
    (1..=9).rev().fold(1.0, |sum, k| 1.0 - square / f64::from((2 * k - 1) * 2 * k) * sum)
}

/// `sin a` for `|a| ≤ π/4`: `a · (1 − a²/(2·3) · (1 − a²/(4·5) · (1 − …)))`.
fn sine_series(angle: f64) -> f64 {
    let square = angle * angle;
    angle * (1..=9).rev().fold(1.0, |sum, k| 1.0 - square / f64::from(2 * k * (2 * k + 1)) * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_the_cosine() {
        for i in 0..=10_000 {
            let x = f64::from(i) / 10_000.0;
            let error = half_cosine(x) - (0.5 + 0.5 * (PI * x).cos());
            assert!(error.abs() < 3e-16, "{x}: {error:e}");
        }
        assert_eq!([0.0, 0.5, 1.0].map(half_cosine), [1.0, 0.5, 0.0]);
    }
}
