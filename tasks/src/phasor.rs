//! exp(2πjx) with the same bits on every host: no mathematics library takes part.

use num_complex::Complex;

/// exp(2πj · turns) by series of nine terms on an eighth of a turn: to 1e-15 for a few turns, without libm.
pub(crate) fn cis(turns: f64) -> Complex<f64> {
    let quarter = (turns * 4.0).round();
    let x = (turns * 4.0 - quarter) * std::f64::consts::FRAC_PI_2;
    let square = x * x;
    let series = |first: f64| {
        (0..9).rev().fold(1.0, |sum, term| {
            let n = first + 2.0 * f64::from(term);
            1.0 - square / (n * (n + 1.0)) * sum
        })
    };
    let (cosine, sine) = (series(1.0), x * series(2.0));
    match (quarter as i64).rem_euclid(4) {
        0 => Complex::new(cosine, sine),
        1 => Complex::new(-sine, cosine),
        2 => Complex::new(-cosine, -sine),
        _ => Complex::new(sine, -cosine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_is_the_exponential() {
        for step in -2000..2000 {
            let turns = f64::from(step) / 997.0;
            let exact = Complex::cis(std::f64::consts::TAU * turns);
            assert!((cis(turns) - exact).norm() < 2e-15, "{turns}");
        }
    }
}
