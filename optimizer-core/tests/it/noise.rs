//! `noise/v1` against its pinned vectors, and against the normal distribution.

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::{self, Draws};

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../noise_v1.json")).unwrap()
}

fn hex(value: &serde_json::Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn hexes(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|item| u32::try_from(hex(item)).unwrap()).collect()
}

fn normals(seed: u64, first: u64, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    noise::normals(Seed::new(seed), first, &mut out);
    out
}

#[test]
fn normals_are_the_pinned_bits() {
    let vectors = vectors();
    assert_eq!(vectors["version"], noise::VERSION);
    for case in vectors["normals"].as_array().unwrap() {
        let expected = hexes(&case["bits"]);
        let got = normals(hex(&case["seed"]), case["first"].as_u64().unwrap(), expected.len());
        let bits: Vec<u32> = got.iter().map(|z| z.to_bits()).collect();
        assert_eq!(bits, expected, "{case}");
    }
}

#[test]
fn draws_are_the_pinned_words() {
    for case in vectors()["draws"].as_array().unwrap() {
        let mut draws = Draws::new(Seed::new(hex(&case["seed"])));
        for expected in hexes(&case["words"]) {
            assert_eq!(draws.word(), expected, "{case}");
        }
    }
}

#[test]
fn any_part_is_the_part_of_the_whole() {
    let whole = normals(9, 0, 1000);
    for first in [0, 1, 2, 3, 4, 5, 60, 61, 63, 64, 65, 500] {
        for length in [0, 1, 2, 3, 62, 63, 64, 65, 129, 300] {
            assert_eq!(normals(9, first as u64, length), whole[first..first + length], "{first} + {length}");
        }
    }
}

#[test]
fn a_million_draws_look_standard_normal() {
    let count = 1 << 20;
    let n = count as f64;
    let mut values: Vec<f64> = normals(2024, 0, count).into_iter().map(f64::from).collect();
    let moment = |power: i32| values.iter().map(|z| z.powi(power)).sum::<f64>() / n;
    // Five standard errors: the variance of z^k is (2k − 1)!! less the squared mean.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let bound = 5.0 * f64::sqrt(variance / n);
        assert!((moment(power) - expected).abs() < bound, "moment {power}: {} is not {expected}", moment(power));
    }
    for (z, tail) in [(2.0, 0.045_500_264), (3.0, 0.002_699_796), (4.0, 6.334_248e-5)] {
        let beyond = values.iter().filter(|value| value.abs() > z).count() as f64;
        assert!((beyond - n * tail).abs() < 5.0 * f64::sqrt(n * tail), "{beyond} beyond {z}");
    }
    // Kolmogorov–Smirnov: sup |F_n − F| stays below 1.95 / √n with probability 0.999.
    values.sort_by(f64::total_cmp);
    let distance = values.iter().enumerate().step_by(64).fold(0.0_f64, |worst, (i, &z)| {
        let cumulative = normal_cdf(z);
        worst.max((cumulative - i as f64 / n).abs()).max((cumulative - (i + 1) as f64 / n).abs())
    });
    assert!(distance < 1.95 / n.sqrt(), "Kolmogorov–Smirnov distance {distance}");
}

#[test]
fn places_seeds_and_streams_are_uncorrelated() {
    let count = 1 << 18;
    let base = normals(1, 0, count);
    let correlation =
        |other: &[f32]| base.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / count as f64;
    let bound = 5.0 / f64::sqrt(count as f64);
    assert!((correlation(&base) - 1.0).abs() < 0.02);
    for lag in [1, 2, 3, 4, 64, 1 << 20] {
        assert!(correlation(&normals(1, lag, count)).abs() < bound, "lag {lag}");
    }
    for seed in [0, 2, 3, 1 << 32, 1 << 63] {
        assert!(correlation(&normals(seed, 0, count)).abs() < bound, "seed {seed}");
    }
    let mut draws = Draws::new(Seed::new(1));
    let other: Vec<f32> = (0..count).map(|_| draws.normal()).collect();
    assert!(correlation(&other).abs() < bound, "draws against normals");
}

/// `Φ(z)` by the series of `erf` near zero and its continued fraction in the tails; good to 1e-10.
fn normal_cdf(z: f64) -> f64 {
    if z > 0.0 {
        return 1.0 - normal_cdf(-z);
    }
    let density = f64::exp(-z * z / 2.0) / f64::sqrt(2.0 * std::f64::consts::PI);
    if z < -3.0 {
        let fraction = (1..60).rev().fold(-z, |below, k| -z + f64::from(k) / below);
        return density / fraction;
    }
    let (mut term, mut sum) = (z, z);
    for k in 1..80 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + density * sum
}
