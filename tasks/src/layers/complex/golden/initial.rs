//! Moments of initial weights: in closed form from our scale, and of a sample, against the table of each layer and
//! scheme.

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;

use super::*;

const COUNT: usize = 40_000;

/// The columns, in order.
const FANS: usize = 0;
const MODULUS: usize = 3;
const MODULUS_VARIANCE: usize = 4;
const POWER: usize = 5;
const PART: usize = 6;
const FOURTH: usize = 7;
const BIAS: usize = 8;
const QUANTILES: [(usize, f64); 5] = [(9, 0.1), (10, 0.25), (11, 0.5), (12, 0.75), (13, 0.9)];

fn scheme(name: &str) -> ComplexInit {
    match name {
        "rayleigh_glorot" => ComplexInit::PolarGlorot,
        "rayleigh_he" => ComplexInit::PolarHe,
        "two_real_kaiming_uniform_a_sqrt5" => ComplexInit::TorchUniform,
        other => panic!("golden complex/init_moments: no scheme {other}"),
    }
}

fn is_polar(init: ComplexInit) -> bool {
    init != ComplexInit::TorchUniform
}

fn closed_form(init: ComplexInit, fans: Fans) -> Vec<f64> {
    let scale = init.scale(fans);
    let head = [fans.inputs as f64, fans.outputs as f64, scale];
    let square = scale * scale;
    if is_polar(init) {
        let pi = std::f64::consts::PI;
        let moments =
            [scale * (pi / 2.0).sqrt(), (2.0 - pi / 2.0) * square, 2.0 * square, square, 3.0 * square * square, 0.0];
        let quantiles = QUANTILES.map(|(_, q)| scale * (-2.0 * (1.0 - q).ln()).sqrt());
        return [&head[..], &moments, &quantiles].concat();
    }
    // The mean distance of a point of the square from its centre.
    let modulus = scale * (2.0_f64.sqrt() + 1.0_f64.asinh()) / 3.0;
    let power = 2.0 * square / 3.0;
    let moments = [modulus, power - modulus * modulus, power, square / 3.0, square * square / 5.0, power];
    [&head[..], &moments, &[0.0; 5]].concat()
}

#[test]
fn initial_weights_have_the_moments_of_the_table() {
    each("init_moments", |case| {
        let columns = case.shape("table")[1];
        assert_eq!(columns, 14, "columns {:?}", case.param("columns"));
        let rows: Vec<(ComplexInit, Vec<f64>)> = case
            .param("rows")
            .as_array()
            .unwrap()
            .iter()
            .zip(case.floats("table").chunks_exact(columns))
            .map(|(name, row)| (scheme(name[1].as_str().unwrap()), row.to_vec()))
            .collect();
        assert_eq!(rows.len(), case.shape("table")[0]);
        let mut ours = Vec::new();
        for (init, row) in rows {
            let fans = Fans::linear(row[FANS] as usize, row[FANS + 1] as usize);
            ours.extend(closed_form(init, fans));
            check_sample(init, fans, &row);
        }
        case.compare("table", &ours);
    });
}

/// Each mean within four of its standard deviations. All layers draw from one seed, so that they pass or fail together.
fn check_sample(init: ComplexInit, fans: Fans, row: &[f64]) {
    let mut draws = Draws::new(Seed::new(11));
    let weights: Vec<Complex64> = (0..COUNT).map(|_| init.weight(fans, &mut draws)).collect();
    let biases: Vec<Complex64> = (0..COUNT).map(|_| init.bias(fans, &mut draws)).collect();
    let close = |what: &str, values: &dyn Fn(Complex64) -> f64, numbers: &[Complex64], expected: f64| {
        let mean = numbers.iter().map(|&z| values(z)).sum::<f64>() / COUNT as f64;
        let variance = numbers.iter().map(|&z| (values(z) - mean).powi(2)).sum::<f64>() / COUNT as f64;
        let bound = 4.0 * (variance / COUNT as f64).sqrt();
        assert!((mean - expected).abs() <= bound, "{init:?} {fans:?}: {what} is {mean}, not {expected} ± {bound}");
    };
    close("mean re", &|w| w.re, &weights, 0.0);
    close("mean im", &|w| w.im, &weights, 0.0);
    close("re · im", &|w| w.re * w.im, &weights, 0.0);
    close("E|w|", &|w| w.norm(), &weights, row[MODULUS]);
    close("Var|w|", &|w| (w.norm() - row[MODULUS]).powi(2), &weights, row[MODULUS_VARIANCE]);
    close("E|w|²", &|w| w.norm_sqr(), &weights, row[POWER]);
    close("E re²", &|w| w.re * w.re, &weights, row[PART]);
    close("E im²", &|w| w.im * w.im, &weights, row[PART]);
    close("E re⁴", &|w| w.re.powi(4), &weights, row[FOURTH]);
    close("E b.re²", &|b| b.re * b.re, &biases, row[BIAS]);
    close("E b.im²", &|b| b.im * b.im, &biases, row[BIAS]);
    for (column, q) in QUANTILES.into_iter().filter(|_| is_polar(init)) {
        close("quantile", &|w| f64::from(w.norm() <= row[column]), &weights, q);
    }
    // The bounds of the specification.
    let (sigma, bound) = (row[PART].sqrt(), 4.0 / (COUNT as f64).sqrt());
    let mean = |values: &dyn Fn(Complex64) -> f64| weights.iter().map(|&w| values(w)).sum::<f64>() / COUNT as f64;
    assert!(mean(&|w| w.re).abs() < bound * sigma && (mean(&|w| w.norm_sqr()) / row[POWER] - 1.0).abs() < bound);
}
