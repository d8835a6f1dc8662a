//! Powers that have the same bits on every host: `powf` of the platform's library does not.

/// `base^exponent` by repeated squaring.
pub(super) fn whole_power(mut base: f64, mut exponent: u64) -> f64 {
    let mut power = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    power
}

/// `base^u` for a positive base and `u` in `[0, 1)`: each binary digit of `u` is a square root of the one before.
pub(super) fn fractional_power(mut base: f64, mut u: f64) -> f64 {
    let mut power = 1.0;
    while u > 0.0 {
        base = base.sqrt();
        u *= 2.0;
        if u >= 1.0 {
            u -= 1.0;
            power *= base;
        }
    }
    power
}

/// `base^exponent` for a positive base and an exponent of at least 0.
pub(super) fn power(base: f64, exponent: f64) -> f64 {
    let whole = exponent.floor();
    whole_power(base, whole as u64) * fractional_power(base, exponent - whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_powers() {
        for (base, exponent) in [(0.3, 0.0), (0.3, 0.7), (7.0, 0.999), (1e-9, 1.0 / 3.0), (3.0, 2.5), (0.9, 37.0)] {
            let relative = power(base, exponent) / f64::powf(base, exponent) - 1.0;
            assert!(relative.abs() < 1e-14, "{base}^{exponent} is off by {relative:e}");
        }
        for (base, exponent) in [(1.01, 1000), (2.0, 63), (0.99993, 100_000)] {
            let relative = whole_power(base, exponent) / f64::powi(base, exponent as i32) - 1.0;
            assert!(relative.abs() < 1e-11, "{base}^{exponent} is off by {relative:e}");
        }
        assert_eq!((whole_power(-2.0, 3), whole_power(0.0, 0)), (-8.0, 1.0));
    }
}
