//! Self-check vectors: a theta and a model filled by a formula, four updates, and what the JAX reference got. Unlike the golden files they hold a tensor whose second largest axis comes after the largest.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, HyperV2Config, LearnedOptimizerConfig, MlpConfig, MlpNominalConfig, NnAdamConfig, RnnMlpConfig,
    WeightLayout,
};
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::{Layout, Params, TensorSpec, Theta};

/// Of parameters whose steps are around 1e-5.
const TOLERANCE: f64 = 1.5e-7;

/// Of parameters whose steps are around 1e-2.
const WIDE_TOLERANCE: f64 = 3e-7;

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

fn assert_within(tolerance: f64, what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() <= tolerance, "{what}: {got} instead of {expected}");
    }
}

fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_within(TOLERANCE, what, got, expected);
}

/// Checks `a`, `b`, `w`, and of `k` the first row and the sum of absolute values (where given).
fn assert_params(state: &OptState, a: f64, b: [f64; 3], w: [f64; 6], k: Option<([f64; 3], f64)>) {
    assert_params_within(TOLERANCE, state, a, b, w, k.map(|(_, sum)| sum));
    if let Some((row, _)) = k {
        assert_close(&format!("k after {}", state.step[0]), &state.params.tensor(2)[..3], &row);
    }
}

/// Checks `a`, `b`, `w`, and the sum of the absolute values of `k` (where given).
fn assert_params_within(tolerance: f64, state: &OptState, a: f64, b: [f64; 3], w: [f64; 6], sum_of_k: Option<f64>) {
    let step = state.step[0];
    assert_within(tolerance, &format!("a after {step}"), state.params.tensor(0), &[a]);
    assert_within(tolerance, &format!("b after {step}"), state.params.tensor(1), &b);
    assert_within(tolerance, &format!("w after {step}"), state.params.tensor(3), &w);
    if let Some(sum) = sum_of_k {
        let got: f64 = state.params.tensor(2).iter().map(|value| f64::from(value.abs())).sum();
        assert!((got - sum).abs() <= 24.0 * tolerance, "sum of |k| after {step}: {got} instead of {sum}");
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

#[test]
fn mlp_matches_the_published_vectors() {
    let config = LearnedOptimizerConfig::Mlp(MlpConfig { hidden_size: 4, ..MlpConfig::default() });
    let states = run(&config, 0.5);
    assert_params_within(
        TOLERANCE,
        &states[0],
        0.577_303_946,
        [0.185_109_66, -0.426_427_5, 0.562_810_54],
        [-0.599_623_56, 0.389_570_06, -0.222_034_16, 0.767_127_34, 0.156_136_72, -0.455_397_25],
        Some(9.515_190_354),
    );
    assert_params_within(
        TOLERANCE,
        &states[3],
        0.577_040_076_3,
        [0.185_025_07, -0.426_547_4, 0.562_190_4],
        [-0.599_562_3, 0.389_222_4, -0.222_479_09, 0.767_517_4, 0.156_041_37, -0.455_435_7],
        Some(9.515_711_528),
    );
}

#[test]
fn rnn_mlp_matches_the_published_vectors() {
    let config =
        LearnedOptimizerConfig::RnnMlp(RnnMlpConfig { hidden_size: 4, lstm_hidden_size: 8, ..RnnMlpConfig::default() });
    let states = run(&config, 0.5);
    assert_params_within(
        TOLERANCE,
        &states[0],
        0.577_387_392_5,
        [0.185_294_85, -0.426_103, 0.562_690_8],
        [-0.599_344_8, 0.389_565_56, -0.221_689_52, 0.767_146_2, 0.156_321_63, -0.455_098],
        Some(9.510_960_351),
    );
    assert_params_within(
        TOLERANCE,
        &states[3],
        0.578_253_567_2,
        [0.186_047_67, -0.425_656_56, 0.563_416_6],
        [-0.599_069_7, 0.390_126_14, -0.220_952_53, 0.767_558_1, 0.156_872_06, -0.454_761_15],
        Some(9.508_931_654),
    );
}

#[test]
fn nn_adam_matches_the_published_vectors() {
    let config = LearnedOptimizerConfig::NnAdam(NnAdamConfig { lstm_hidden_size: 8, ..NnAdamConfig::default() });
    let states = run(&config, 0.5);
    assert_params_within(
        WIDE_TOLERANCE,
        &states[0],
        0.585_382_878_8,
        [0.201_091_32, -0.437_304_2, 0.571_282_45],
        [-0.606_042_56, 0.402_011_04, -0.236_792_37, 0.769_212_96, 0.172_544_97, -0.465_612_4],
        Some(9.778_797_671),
    );
    assert_params_within(
        WIDE_TOLERANCE,
        &states[3],
        0.545_033_037_7,
        [0.189_405_37, -0.427_567_3, 0.532_467_5],
        [-0.583_820_3, 0.376_622_65, -0.257_654_46, 0.809_475_5, 0.163_893_45, -0.454_205_93],
        Some(9.651_388_502),
    );
}

#[test]
fn mlp_nominal_matches_the_published_vectors() {
    let config = LearnedOptimizerConfig::MlpNominal(MlpNominalConfig {
        nominal_stepsize: 0.01,
        weight_decay: 0.1,
        nominal_controller: true,
        regularization_controller: true,
        normalize_blackbox: true,
        ..MlpNominalConfig::default()
    });
    let states = run(&config, 0.5);
    assert_params_within(
        WIDE_TOLERANCE,
        &states[0],
        0.574_180_543_4,
        [0.197_213_46, -0.336_005_12, 0.553_459_47],
        [-0.430_591_82, 0.385_776_28, -0.169_529_69, 0.795_441_2, 0.169_601_98, -0.362_868_2],
        Some(8.558_248_983),
    );
    assert_params_within(
        WIDE_TOLERANCE,
        &states[3],
        0.416_349_291_8,
        [0.166_648_27, -0.229_581_76, 0.402_242_42],
        [-0.284_352_33, 0.292_341_17, -0.117_070_5, 0.627_864_8, 0.152_584_96, -0.246_123_69],
        Some(6.354_412_011),
    );
}

/// Weights as scalars are the same numbers under other names: the same theta gives the same bits.
#[test]
fn scalar_weights_are_the_matrices_taken_apart() {
    let optimizer = |weights: WeightLayout| {
        let config = AdafacMlpConfig { weights, hidden_size: 12, ..AdafacMlpConfig::default() };
        LearnedOptimizerConfig::AdafacMlp(config).build().unwrap()
    };
    let (matrices, scalars) = (optimizer(WeightLayout::Matrices), optimizer(WeightLayout::Scalars));
    assert_eq!(matrices.layout().size(), scalars.layout().size());
    let mut matrix_theta = Theta::zeros(matrices.layout(), 1);
    let mut scalar_theta = Theta::zeros(scalars.layout(), 1);
    for (j, spec) in matrices.layout().tensors().iter().enumerate() {
        let leaf = fill(j, spec.size(), if spec.name().ends_with("_decays") { 0.05 } else { 0.5 });
        matrix_theta.tensor_mut(0, j).copy_from_slice(&leaf);
        for (i, value) in leaf.iter().enumerate() {
            let (name, place) = match *spec.shape() {
                [_, outputs] => (format!("{}_{}_{}", spec.name(), i / outputs, i % outputs), 0),
                _ if spec.name().starts_with("nn/~/b") => (format!("{}_{i}", spec.name()), 0),
                _ => (spec.name().to_owned(), i),
            };
            let index = scalars.layout().index_of(&name).unwrap_or_else(|| panic!("no {name}"));
            scalar_theta.tensor_mut(0, index)[place] = *value;
        }
    }
    let run = |optimizer: Box<dyn paceline_optimizer_core::optimizer::Optimizer>| {
        let state = optimizer.init(filled(&model(), 100, 0.8), &[20]).unwrap();
        optimizer.update(state, &filled(&model(), 200, 0.3), &[2.0]).unwrap()
    };
    assert_eq!(run(matrices.bind(matrix_theta).unwrap()), run(scalars.bind(scalar_theta).unwrap()));
}
