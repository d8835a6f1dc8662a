//! The self-check vectors of `spec/optimizers.md` §7: a theta and a model filled by a formula, four updates, and what
//! the JAX reference got. Unlike the golden files they hold a tensor whose second largest axis comes after the largest.

use std::sync::Arc;

use paceline_optimizer_core::learned::{AdafacMlpConfig, HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::{Layout, Params, TensorSpec, Theta};

const TOLERANCE: f64 = 1.5e-7;

/// Entry `i` is `amplitude · (2 frac((i+1) · 0.618… + (j+1) · 0.754…) − 1)`.
fn fill(j: usize, size: usize, amplitude: f64) -> Vec<f32> {
    let phase = (j + 1) as f64 * 0.754_877_666_246_692_7;
    (0..size)
        .map(|i| {
            let place = (i + 1) as f64 * 0.618_033_988_749_894_9 + phase;
            (amplitude * (2.0 * (place - place.floor()) - 1.0)) as f32
        })
        .collect()
}

fn model() -> Arc<Layout> {
    let shapes: [(&str, &[usize]); 4] = [("a", &[]), ("b", &[3]), ("k", &[2, 1, 4, 3]), ("w", &[2, 3])];
    Layout::new(shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap()
}

fn filled(layout: &Arc<Layout>, first: usize, amplitude: f64) -> Params {
    let tensors = layout.tensors().iter().enumerate();
    let values = tensors.map(|(n, tensor)| fill(first + n, tensor.size(), amplitude)).collect();
    Params::from_tensors(layout, 1, values).unwrap()
}

/// States after each of four updates; theta's leaves sorted by name are filled in turn.
fn run(config: &LearnedOptimizerConfig, amplitude: f64) -> Vec<OptState> {
    let learned = config.build().unwrap();
    let names: Vec<&str> = learned.layout().tensors().iter().map(TensorSpec::name).collect();
    assert!(names.is_sorted(), "theta is laid out in the order of its names");
    let mut theta = Theta::zeros(learned.layout(), 1);
    for (j, spec) in learned.layout().tensors().iter().enumerate() {
        let mut leaf = fill(j, spec.size(), amplitude);
        if spec.name().ends_with("_decays") {
            leaf.iter_mut().for_each(|value| *value *= 0.1);
        }
        theta.tensor_mut(0, j).copy_from_slice(&leaf);
    }
    let optimizer = learned.bind(theta).unwrap();
    let layout = model();
    let mut state = optimizer.init(filled(&layout, 100, 0.8), &[20]).unwrap();
    let mut states = Vec::new();
    for (t, loss) in [2.0, 1.5, 1.75, 1.875].into_iter().enumerate() {
        let grads = filled(&layout, 200 + 10 * t, 0.3 * (1 + t) as f64);
        state = optimizer.update(state, &grads, &[loss]).unwrap();
        states.push(state.clone());
    }
    states
}

fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() <= TOLERANCE, "{what}: {got} instead of {expected}");
    }
}

/// Checks `a`, `b`, `w`, and of `k` the first row and the sum of absolute values (where given).
fn assert_params(state: &OptState, a: f64, b: [f64; 3], w: [f64; 6], k: Option<([f64; 3], f64)>) {
    let step = state.step[0];
    assert_close(&format!("a after {step}"), state.params.tensor(0), &[a]);
    assert_close(&format!("b after {step}"), state.params.tensor(1), &b);
    assert_close(&format!("w after {step}"), state.params.tensor(3), &w);
    if let Some((row, sum)) = k {
        let values = state.params.tensor(2);
        assert_close(&format!("k after {step}"), &values[..3], &row);
        let got: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
        assert!((got - sum).abs() <= 24.0 * TOLERANCE, "sum of |k| after {step}: {got} instead of {sum}");
    }
}

#[test]
fn the_fill_is_the_published_one() {
    let layout = model();
    let (p, g) = (filled(&layout, 100, 0.8), filled(&layout, 200, 0.3));
    assert_close("p_a", p.tensor(0), &[0.577_085_26]);
    assert_close("p_b", p.tensor(1), &[0.184_889_51, -0.426_256_1, 0.562_598_3]);
    assert_close("g_b", g.tensor(1), &[-0.238_006_46, 0.132_813_93, -0.096_365_67]);
}

fn hyper_v2(use_bugged_loss_features: bool) -> Vec<OptState> {
    let config =
        HyperV2Config { lstm_hidden_size: 8, param_inits: 4, use_bugged_loss_features, ..HyperV2Config::default() };
    run(&LearnedOptimizerConfig::HyperV2(config), 0.2)
}

#[test]
fn hyper_v2_matches_the_published_vectors() {
    let states = hyper_v2(false);
    assert_params(
        &states[0],
        0.577_171_802_5,
        [0.184_948_41, -0.426_248_22, 0.562_661_65],
        [-0.599_501_43, 0.389_413_36, -0.221_763_92, 0.767_094_55, 0.155_993_64, -0.455_210_86],
        Some(([-0.207_284_85, 0.781_564_24, 0.170_473_89], 9.511_427_707)),
    );
    assert_params(
        &states[3],
        0.577_197_969_0,
        [0.184_960_2, -0.426_214_07, 0.562_685_43],
        [-0.599_457_26, 0.389_429_42, -0.221_748_53, 0.767_173_65, 0.156_011_69, -0.455_176_03],
        Some(([-0.207_271_78, 0.781_637_4, 0.170_484_42], 9.511_414_045)),
    );
    let hidden = states[3].slots.iter().find(|slot| slot.name == "lstm/hidden").unwrap();
    let expected = [
        -0.108_769_715,
        0.424_364_7,
        0.252_331_08,
        -0.127_809_08,
        0.187_847_78,
        -0.152_939_83,
        0.360_254_73,
        0.061_778_348,
    ];
    for (got, expected) in hidden.lane(0)[3 * 8..].iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() <= 2e-5, "h(w): {got} instead of {expected}");
    }
}

#[test]
fn hyper_v2_with_the_released_loss_features_matches_the_published_vectors() {
    let w = [-0.599_456_5, 0.389_430_64, -0.221_745_98, 0.767_176_8, 0.156_014_1, -0.455_175_7];
    assert_params(&hyper_v2(true)[3], 0.577_200_114_7, [0.184_961_86, -0.426_213_47, 0.562_686_3], w, None);
}

#[test]
fn adafac_mlp_matches_the_published_vectors() {
    let states = run(&LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), 0.5);
    assert_params(
        &states[0],
        0.577_106_058_6,
        [0.184_907_32, -0.426_318_8, 0.562_613_67],
        [-0.599_648_6, 0.389_379_86, -0.221_938_03, 0.767_100_45, 0.155_933_3, -0.455_268_74],
        Some(([-0.207_531_08, 0.781_595_2, 0.170_422_09], 9.511_416_498)),
    );
    assert_params(
        &states[3],
        0.577_152_133_0,
        [0.185_332_4, -0.425_971_54, 0.562_651_1],
        [-0.599_363_86, 0.389_538_97, -0.221_845_36, 0.767_084_4, 0.156_248_1, -0.454_987_85],
        Some(([-0.207_440_97, 0.781_581_64, 0.170_823_51], 9.511_102_004)),
    );
}
