//! What Celo, Celo2 and VeLO promise beside the trajectories of their authors: forms that do not mix, laws of the learned
//! rule, and the settings no stored trajectory shows, against the formulas in f64.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    Activation, Celo2, Celo2Base, Celo2Config, Celo2Meta, Celo2Rule, CeloConfig, HyperV2, HyperV2Config,
    LearnedOptimizer, LearnedOptimizerConfig, TrainPhase,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer, Schedule};
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec, Theta, noise};
use proptest::prelude::*;

use crate::celo2_formula;

fn layout(shapes: &[(&str, &[usize])]) -> Arc<Layout> {
    Layout::new(shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap()
}

/// Normal numbers times `scale`.
fn random(layout: &Arc<Layout>, seed: u64, scale: f32) -> Params {
    let mut params = Params::zeros(layout, 1);
    for index in 0..layout.len() {
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
        params.tensor_mut(index).iter_mut().for_each(|value| *value *= scale);
    }
    params
}

/// The initial theta, moved so that biases count and steps are not small.
fn theta(optimizer: &dyn LearnedOptimizer) -> Theta {
    let mut theta = optimizer.init_theta(Seed::new(3));
    let mut moved = vec![0.0; theta.values().len()];
    noise::normals(Seed::new(4), 0, &mut moved);
    theta.values_mut().iter_mut().zip(moved).for_each(|(value, moved)| *value += 0.2 * moved);
    theta
}

fn build(config: impl Into<Config>) -> Arc<dyn LearnedOptimizer> {
    config.into().0.build().unwrap()
}

/// Any configuration of this family.
struct Config(LearnedOptimizerConfig);

impl From<CeloConfig> for Config {
    fn from(config: CeloConfig) -> Self {
        Self(LearnedOptimizerConfig::Celo(config))
    }
}

impl From<HyperV2Config> for Config {
    fn from(config: HyperV2Config) -> Self {
        Self(LearnedOptimizerConfig::HyperV2(config))
    }
}

impl From<Celo2Config> for Config {
    fn from(config: Celo2Config) -> Self {
        Self(LearnedOptimizerConfig::Celo2(config))
    }
}

impl From<Celo2Rule> for Config {
    fn from(rule: Celo2Rule) -> Self {
        Celo2Config::Base(Celo2Base { rule, ..Celo2Base::default() }).into()
    }
}

/// States after each of some updates with random gradients, the third of them zero.
fn run(optimizer: &dyn Optimizer, params: Params, horizon: u32, steps: u64) -> Vec<OptState> {
    let layout = Arc::clone(params.layout());
    let mut states = vec![optimizer.init(params, &[horizon]).unwrap()];
    for step in 0..steps {
        let grads = random(&layout, 50 + step, if step == 2 { 0.0 } else { 0.3 });
        let next = optimizer.update(states[states.len() - 1].clone(), &grads, &[2.0 - 0.1 * step as f32]).unwrap();
        states.push(next);
    }
    states
}

const SHAPES: [(&str, &[usize]); 6] = [
    ("bias", &[19]),
    ("conv", &[3, 3, 5, 4]),
    ("heads", &[20, 3, 4]),
    ("matrix", &[20, 33]),
    ("scalar", &[]),
    ("tall", &[17, 2]),
];

/// The matrices (or the vector) of a tensor over which Celo2 normalises.
fn matrices<'a>(shape: &[usize], values: &'a [f32]) -> std::slice::ChunksExact<'a, f32> {
    values.chunks_exact(shape[shape.len().saturating_sub(2)..].iter().product())
}

fn rms(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    (values.map(|value| value * value).sum::<f64>() / count).sqrt()
}

#[test]
fn a_step_of_celo2_has_the_learning_rate_as_its_rms_and_never_rests() {
    let layout = layout(&SHAPES);
    let rate = 2.0_f32.powi(-7);
    for config in [
        Celo2Config::Base(Celo2Base { step_mult: rate, ..Celo2Base::default() }),
        Celo2Config::Base(Celo2Base { step_mult: rate, orthogonalize: true, ..Celo2Base::default() }),
        Celo2Config::Shipped(Celo2::base(rate)),
        Celo2Config::Shipped(Celo2 { orthogonalize: true, ..Celo2::base(rate) }),
    ] {
        let optimizer = build(config);
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        // Small parameters, so that a step loses little when it is added to them.
        let states = run(bound.as_ref(), random(&layout, 1, 1e-3), 9, 5);
        for (step, pair) in states.windows(2).enumerate() {
            for (index, tensor) in layout.tensors().iter().enumerate() {
                let (before, after) = (pair[0].params.tensor(index), pair[1].params.tensor(index));
                for (before, after) in matrices(tensor.shape(), before).zip(matrices(tensor.shape(), after)) {
                    let moved = before.iter().zip(after).map(|(p, q)| f64::from(*q) - f64::from(*p));
                    let ratio = rms(moved) / f64::from(rate);
                    // The third gradient is zero, and yet everything moves.
                    assert!((ratio - 1.0).abs() < 1e-5, "{optimizer:?} step {step} {}: {ratio}", tensor.name());
                }
            }
        }
    }
}

#[test]
fn celo2_on_a_transposed_matrix_is_transposed() {
    let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    };
    for orthogonalize in [false, true] {
        let optimizer = build(Celo2Config::Base(Celo2Base { orthogonalize, step_mult: 0.01, ..Celo2Base::default() }));
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        // Not square: which of two equal axes counts as the larger depends on the layout.
        let (rows, columns) = (20, 33);
        let (straight, turned) = (layout(&[("w", &[rows, columns])]), layout(&[("w", &[columns, rows])]));
        let turn = |params: &Params| {
            Params::from_tensors(&turned, 1, vec![transposed(params.tensor(0), rows, columns)]).unwrap()
        };
        let params = random(&straight, 1, 0.1);
        let mut a = bound.init(params.clone(), &[9]).unwrap();
        let mut b = bound.init(turn(&params), &[9]).unwrap();
        for step in 0..4 {
            let grads = random(&straight, 60 + step, 0.3);
            a = bound.update(a, &grads, &[1.0]).unwrap();
            b = bound.update(b, &turn(&grads), &[1.0]).unwrap();
        }
        for (a, b) in turn(&a.params).tensor(0).iter().zip(b.params.tensor(0)) {
            assert!((a - b).abs() < 2e-6, "orthogonalize {orthogonalize}: {a} for {b}");
        }
    }
}

/// How far a matrix is from rows that are orthogonal and of equal length: ‖G − I‖² for its scaled Gram matrix.
fn distance_from_orthogonal(matrix: &[f32], columns: usize) -> f64 {
    let rows: Vec<&[f32]> = matrix.chunks_exact(columns).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let length = dot(matrix, matrix) / rows.len() as f64;
    let entries = rows.iter().enumerate().flat_map(|(i, a)| {
        rows.iter().enumerate().map(move |(j, b)| dot(a, b) / length - if i == j { 1.0 } else { 0.0 })
    });
    entries.map(|entry| entry * entry).sum()
}

#[test]
fn the_matrices_of_a_convolution_are_orthogonalised_one_by_one() {
    let layout = layout(&[("conv", &[2, 3, 6, 40])]);
    let [plain, orthogonal] = [false, true].map(|orthogonalize| {
        let optimizer = build(Celo2Config::Base(Celo2Base { orthogonalize, step_mult: 1.0, ..Celo2Base::default() }));
        let bound = optimizer.bind(theta(optimizer.as_ref())).unwrap();
        run(bound.as_ref(), Params::zeros(&layout, 1), 9, 1).remove(1).params
    });
    for (plain, orthogonal) in matrices(&[6, 40], plain.tensor(0)).zip(matrices(&[6, 40], orthogonal.tensor(0))) {
        let [plain, orthogonal] = [plain, orthogonal].map(|matrix| distance_from_orthogonal(matrix, 40));
        // Six singular values, whose squares lie between 0.46 and 1.3.
        assert!(orthogonal < 2.0 && plain > 4.0, "{orthogonal} from {plain}");
    }
}

/// Settings that lack one group of inputs, with the groups that the full network has in its place.
type Ablation<C> = (fn(&mut C), &'static [usize]);

const HYPER_V2_ABLATIONS: [Ablation<HyperV2Config>; 15] = [
    (|config| config.with_g = false, &[0]),
    (|config| config.with_grad_clip_feat = false, &[1]),
    (|config| config.with_p = false, &[2]),
    (|config| config.with_m = false, &[3]),
    (|config| config.with_m_feat = false, &[3]),
    (|config| config.with_rms = false, &[4]),
    (|config| config.with_rms_feat = false, &[4]),
    (|config| config.with_rms_norm_g = false, &[5]),
    (|config| config.with_rsqrt_rms = false, &[6]),
    (|config| config.with_fac_norm_g = false, &[7]),
    (|config| config.with_rms_only_norm_g = false, &[8]),
    (|config| config.with_fac_rms = false, &[9, 10]),
    (|config| config.with_fac_rsqrt = false, &[11, 12]),
    (|config| config.with_fac_mom_mult = false, &[13]),
    (|config| config.adafactor_accumulator = false, &[9, 10, 11, 12, 13]),
];

const CELO_ABLATIONS: [Ablation<CeloConfig>; 15] = [
    (|config| config.with_g = false, &[0]),
    (|config| config.with_grad_clip_feat = false, &[1]),
    (|config| config.with_p = false, &[2]),
    (|config| config.with_m = false, &[3]),
    (|config| config.with_m_feat = false, &[3]),
    (|config| config.with_rms = false, &[4]),
    (|config| config.with_rms_feat = false, &[4]),
    (|config| config.with_rms_norm_g = false, &[5]),
    (|config| config.with_rsqrt_rms = false, &[6]),
    (|config| config.with_fac_norm_g = false, &[7]),
    (|config| config.with_rms_only_norm_g = false, &[8]),
    (|config| config.with_fac_rms = false, &[9, 10]),
    (|config| config.with_fac_rsqrt = false, &[11, 12]),
    (|config| config.with_fac_mom_mult = false, &[13]),
    (|config| config.adafactor_accumulator = false, &[9, 10, 11, 12, 13]),
];

const CELO2_ABLATIONS: [Ablation<Celo2Rule>; 12] = [
    (|rule| rule.with_g = false, &[0]),
    (|rule| rule.with_grad_clip_feat = false, &[1]),
    (|rule| rule.with_p = false, &[2]),
    (|rule| rule.with_m = false, &[3]),
    (|rule| rule.with_rms = false, &[4]),
    (|rule| rule.with_rms_norm_g = false, &[5]),
    (|rule| rule.with_rsqrt_rms = false, &[6]),
    (|rule| rule.with_fac_norm_g = false, &[7]),
    (|rule| rule.with_rms_only_norm_g = false, &[8]),
    (|rule| rule.with_fac_rms = false, &[9, 10]),
    (|rule| rule.with_fac_rsqrt = false, &[11, 12]),
    (|rule| rule.with_fac_mom_mult = false, &[13]),
];

/// Checks that a network without some groups of inputs moves parameters as the full one does whose weights of these
/// groups are 0, to the bit, and that these groups matter.
fn assert_ablations<C: Clone + Into<Config>>(full: &C, ablations: &[Ablation<C>]) {
    let layout = layout(&SHAPES);
    let bits = |optimizer: &dyn LearnedOptimizer, theta: Theta| {
        let states = run(optimizer.bind(theta).unwrap().as_ref(), random(&layout, 1, 0.1), 9, 4);
        let params = &states[4].params;
        (0..layout.len()).flat_map(|index| params.tensor(index)).map(|p| p.to_bits()).collect::<Vec<_>>()
    };
    let optimizer = build(full.clone());
    let complete = theta(optimizer.as_ref());
    let unchanged = bits(optimizer.as_ref(), complete.clone());
    for (drop, dropped) in ablations {
        let mut config = full.clone();
        drop(&mut config);
        let ablated = build(config);
        let mut smaller = Theta::zeros(ablated.layout(), 1);
        let mut silenced = complete.clone();
        let mut next = 0;
        for group in 0..14 {
            let index = optimizer.layout().index_of(&format!("ff_mod_stack/~/w0__{group}")).unwrap();
            if dropped.contains(&group) {
                silenced.tensor_mut(0, index).fill(0.0);
                continue;
            }
            let place = ablated.layout().index_of(&format!("ff_mod_stack/~/w0__{next}")).unwrap();
            smaller.tensor_mut(0, place).copy_from_slice(complete.tensor(0, index));
            next += 1;
        }
        assert_eq!(ablated.layout().len() + dropped.len(), optimizer.layout().len());
        for (index, tensor) in ablated.layout().tensors().iter().enumerate() {
            if !tensor.name().contains("/w0__") {
                let other = optimizer.layout().index_of(tensor.name()).unwrap();
                smaller.tensor_mut(0, index).copy_from_slice(complete.tensor(0, other));
            }
        }
        let without = bits(ablated.as_ref(), smaller);
        assert_eq!(without, bits(optimizer.as_ref(), silenced), "groups {dropped:?}");
        assert_ne!(without, unchanged, "groups {dropped:?} have no effect");
    }
}

#[test]
fn a_group_that_is_left_out_is_a_group_whose_weights_are_zero() {
    let small = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
    assert_ablations(&small, &HYPER_V2_ABLATIONS);
    let small = CeloConfig { lstm_hidden_size: 9, param_inits: 2, ..CeloConfig::default() };
    assert_ablations(&small, &CELO_ABLATIONS);
    assert_ablations(&Celo2Rule::default(), &CELO2_ABLATIONS);
}

#[test]
fn a_network_without_inputs_is_refused_and_fan_in_counts_what_is_left() {
    let mut config = HyperV2Config::default();
    HYPER_V2_ABLATIONS.iter().for_each(|(drop, _)| drop(&mut config));
    let error = LearnedOptimizerConfig::HyperV2(config.clone()).build().unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    config.with_p = true;
    let optimizer = build(config);
    let index = optimizer.layout().index_of("ff_mod_stack/~/w0__0").unwrap();
    assert_eq!(optimizer.layout().tensors()[index].shape(), [64, 1, 4]);
    // With one input left the weights are cut at ±2, not at ±2/√30.
    let largest = optimizer.init_theta(Seed::new(1)).tensor(0, index).iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!((1.0..=2.0).contains(&largest), "{largest}");
}

#[test]
fn celo_in_its_first_phase_ignores_the_rate_and_in_the_second_multiplies_by_it() {
    let layout = layout(&SHAPES);
    let config = |train_phase| CeloConfig { lstm_hidden_size: 6, train_phase, ..CeloConfig::published() };
    let [network, scheduler] = [TrainPhase::Network, TrainPhase::Scheduler].map(|phase| build(config(phase)));
    let theta = theta(network.as_ref());
    let bias = network.layout().index_of("rnn_params/step_size/b").unwrap();
    let weights = network.layout().index_of("rnn_params/step_size/w").unwrap();
    // Without weights the rate is 0.1 e^b, whatever the LSTM says.
    let at = |b: f32| {
        let mut theta = theta.clone();
        theta.tensor_mut(0, weights).fill(0.0);
        theta.tensor_mut(0, bias)[0] = b;
        theta
    };
    let first_step = |optimizer: &dyn LearnedOptimizer, theta: Theta| -> Vec<f64> {
        let states = run(optimizer.bind(theta).unwrap().as_ref(), random(&layout, 1, 1.0), 9, 1);
        let pair = (0..layout.len()).flat_map(|i| states[0].params.tensor(i).iter().zip(states[1].params.tensor(i)));
        pair.map(|(p, q)| f64::from(*q) - f64::from(*p)).collect()
    };
    assert_eq!(first_step(network.as_ref(), at(3.0)), first_step(network.as_ref(), at(-1.0)));
    let whole = first_step(network.as_ref(), at(0.0));
    let scale = rms(whole.iter().copied());
    for b in [-1.0_f32, 0.0, 5.0] {
        let rate = 0.1 * f64::from(b).exp();
        for (moved, whole) in first_step(scheduler.as_ref(), at(b)).iter().zip(&whole) {
            // Beside the rounding of parameters near 1.
            assert!(
                (moved - rate * whole).abs() < 1e-6 * rate * scale + 4e-7 * (1.0 + rate),
                "{moved} for {rate} · {whole}"
            );
        }
    }
}

#[test]
fn celo_and_celo2_have_the_published_thetas() {
    let celo = build(CeloConfig::published());
    assert_eq!((celo.layout().size(), celo.layout().len()), (37_089, 33));
    let shape = |optimizer: &dyn LearnedOptimizer, name: &str| {
        optimizer.layout().tensors()[optimizer.layout().index_of(name).unwrap()].shape().to_vec()
    };
    assert_eq!(shape(celo.as_ref(), "rnn_params/linear_1/w"), [18, 64]);
    assert_eq!(shape(celo.as_ref(), "ff_mod_stack/~/w0__3"), [1, 3, 4]);
    for form in [
        Celo2Config::Base(Celo2Base::default()),
        Celo2Config::Meta(Celo2Meta::default()),
        Celo2Config::Shipped(Celo2::new(1.0)),
        Celo2Config::Shipped(Celo2::base(1.0)),
    ] {
        let celo2 = build(form);
        assert_eq!((celo2.layout().size(), celo2.layout().len()), (347, 19));
        assert_eq!(shape(celo2.as_ref(), "ff_mod_stack/~/w0__3"), [3, 8]);
    }
}

#[test]
fn a_recipe_names_its_form_and_no_setting_of_another() {
    let parse = |text: &str| toml::from_str::<LearnedOptimizerConfig>(&format!("kind = \"celo2\"\n{text}"));
    let shipped = "form = \"shipped\"\nlearning_rate = 0.001\n";
    for (text, named) in [
        ("", "form"),
        ("form = \"optax\"", "optax"),
        ("form = \"base\"\nregex_1d = \"b\"", "regex_1d"),
        ("form = \"base\"\nlearning_rate = 0.1", "learning_rate"),
        ("form = \"meta\"\nlearning_rate = 0.1", "learning_rate"),
        ("form = \"shipped\"", "learning_rate"),
        (&format!("{shipped}step_mult = 0.1"), "step_mult"),
        (&format!("{shipped}mult_1d = 1.0"), "mult_1d"),
        (&format!("{shipped}[vectors.adam_w]\nregex_1d = \"b\""), "regex_1d"),
        (&format!("{shipped}[vectors.learned]\nmult_1d = 1.0"), "map"),
        ("form = \"base\"\n[rule]\nstep_mult = 0.1", "step_mult"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
    let plain = parse(shipped).unwrap();
    assert_eq!(plain, LearnedOptimizerConfig::Celo2(Celo2Config::Shipped(Celo2::new(0.001))));
    let base = parse(&format!("{shipped}orthogonalize = false\nvectors = \"learned\"")).unwrap();
    assert_eq!(base, LearnedOptimizerConfig::Celo2(Celo2Config::Shipped(Celo2::base(0.001))));
    for phase in ["0", "3", "\"two\""] {
        let text = format!("kind = \"celo\"\ntrain_phase = {phase}");
        assert!(toml::from_str::<LearnedOptimizerConfig>(&text).is_err(), "phase {phase}");
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (text, named) in [
        ("kind = \"celo2\"\nform = \"meta\"\nregex_1d = \"(\"", "regex_1d"),
        ("kind = \"celo2\"\nform = \"meta\"\nadam_b2 = 1.0", "adam_b2"),
        ("kind = \"celo2\"\nform = \"base\"\nstep_mult = inf", "step_mult"),
        ("kind = \"celo2\"\nform = \"base\"\n[rule]\nff_hidden_size = 0", "rule.ff_hidden_size"),
        ("kind = \"celo2\"\nform = \"base\"\n[rule]\nns_eps = 0.0", "rule.ns_eps"),
        ("kind = \"celo2\"\nform = \"base\"\n[rule]\ninitial_rms_decays = [1.0]", "rule.initial_rms_decays"),
        ("kind = \"celo2\"\nform = \"shipped\"\nlearning_rate = nan", "learning_rate"),
        (
            "kind = \"celo2\"\nform = \"shipped\"\nlearning_rate = 1.0\n[vectors.adam_w]\nmult_1d = nan",
            "vectors.adam_w.mult_1d",
        ),
        ("kind = \"celo\"\nlstm_hidden_size = 0", "lstm_hidden_size"),
        ("kind = \"celo\"\nrnn_state_decay = 1.0", "rnn_state_decay"),
        ("kind = \"hyper_v2\"\nff_mult = nan", "ff_mult"),
        ("kind = \"hyper_v2\"\ninitial_momentum_decays = [0.9, 0.99, 1.5]", "initial_momentum_decays"),
    ] {
        let config: LearnedOptimizerConfig = toml::from_str(text).unwrap();
        match config.build() {
            Err(Error::Setting { field, .. }) => assert_eq!(field, named, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn celo2_takes_a_number_or_a_schedule() {
    let layout = layout(&[("embedding", &[5, 4]), ("matrix", &[6, 5]), ("norm", &[5])]);
    let schedule = Schedule::Linear { init_value: 0.0, end_value: 0.02, steps: 2 };
    let theta = theta(build(Celo2Config::Shipped(Celo2::new(1.0))).as_ref());
    let optimizer = Celo2::new(schedule).weight_decay(0.1).theta(theta.clone()).unwrap();
    let states = run(optimizer.as_ref(), random(&layout, 1, 0.1), 9, 2);
    assert_eq!(states[0].params, states[1].params, "the rate at step 0 is 0, for the decay and AdamW too");
    assert_ne!(states[1].params, states[2].params);
    let slots: Vec<&str> = states[0].slots.iter().map(|slot| slot.name.as_str()).collect();
    let learned = ["m/matrix", "rms/matrix", "v_row/matrix", "v_col/matrix"];
    assert_eq!(slots, [&["m/embedding", "v/embedding"], &learned[..], &["m/norm", "v/norm"]].concat());
    let constant = Celo2::new(0.01_f32).theta(theta.clone()).unwrap();
    let states = run(constant.as_ref(), random(&layout, 1, 0.1), 9, 1);
    assert_ne!(states[0].params, states[1].params);
    let foreign = build(CeloConfig::default()).init_theta(Seed::new(1));
    assert!(matches!(Celo2::new(0.01).theta(foreign), Err(Error::LayoutMismatch { .. })));
}

#[test]
fn velo_is_hyper_v2_with_the_published_settings_and_wrappers() {
    let layout = layout(&[("b", &[4]), ("w", &[6, 4])]);
    let hyper = build(HyperV2Config::velo());
    assert_eq!(hyper.layout().size(), 2_320_385);
    let theta = theta(hyper.as_ref());
    let params = |state: &[OptState]| state.iter().map(|state| state.params.clone()).collect::<Vec<_>>();
    let start = random(&layout, 1, 0.5);
    let bare = run(hyper.bind(theta.clone()).unwrap().as_ref(), start.clone(), 40, 5);
    let velo = HyperV2::velo(40).theta(theta.clone()).unwrap();
    assert_eq!(params(&run(velo.as_ref(), start.clone(), 40, 5)), params(&bare));
    for horizon in [39, 41] {
        let error = velo.init(start.clone(), &[horizon]).unwrap_err();
        assert!(matches!(&error, Error::Setting { field, .. } if field == "horizon"), "{error}");
    }

    // 40 steps of at most 15: three calls an update, which the inner optimizer takes for 13 steps.
    let accumulated = HyperV2::velo(40).max_training_steps(15).theta(theta.clone()).unwrap();
    let states = run(accumulated.as_ref(), start.clone(), 40, 6);
    assert_eq!((states[6].horizon[0], states[6].step[0]), (13, 2));
    assert_eq!(states[2].params, states[0].params);
    assert_ne!(states[3].params, states[2].params);
    let long = HyperV2::velo(150_001).theta(theta.clone()).unwrap();
    assert_eq!(long.init(start.clone(), &[150_001]).unwrap().horizon, [75_000]);

    // The penalty stands outside: each call's gradient gains w p.
    let decayed = HyperV2::velo(40).weight_decay(0.25).theta(theta.clone()).unwrap();
    let state = decayed.init(start.clone(), &[40]).unwrap();
    let penalty = (0..2).flat_map(|i| start.tensor(i)).map(|&p| 0.25 * f64::from(p) * f64::from(p)).sum::<f64>() as f32;
    let after = decayed.update(state, &Params::zeros(&layout, 1), &[1.0]).unwrap();
    let mut pulled = start.clone();
    (0..2).for_each(|index| pulled.tensor_mut(index).iter_mut().for_each(|p| *p *= 0.25));
    let bound = hyper.bind(theta.clone()).unwrap();
    let expected = bound.update(bound.init(start, &[40]).unwrap(), &pulled, &[1.0 + penalty]).unwrap();
    assert_eq!(after.params, expected.params);

    for refused in [HyperV2::velo(0), HyperV2::velo(1).max_training_steps(0), HyperV2::velo(1).weight_decay(-1.0)] {
        assert!(matches!(refused.theta(theta.clone()), Err(Error::Setting { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Every option of the learned rule, in any combination, against the published formulas in f64.
    #[test]
    fn every_option_of_celo2_does_what_the_formulas_say(
        flags in prop::array::uniform8(any::<bool>()),
        shape in prop::sample::select(vec![vec![7, 5], vec![4, 6], vec![9], vec![], vec![2, 3, 4], vec![5, 2, 3]]),
        seed in 0_u64..1000,
    ) {
        let [bias_correction, normalize_input, aggregate_mag, param_scale_mult, normalize_output, precondition, tanh, orthogonalize] = flags;
        let rule = Celo2Rule {
            mlp_activation: if tanh { Activation::Tanh } else { Activation::Relu },
            initial_momentum_decays: [0.5, 0.75, 0.875],
            initial_rms_decays: [0.75],
            initial_adafactor_decays: [0.5, 0.875, 0.75],
            bias_correction,
            normalize_input,
            exp_mult: 0.25,
            aggregate_mag,
            param_scale_mult,
            ns_coeffs: [3.0, -3.5, 1.5],
            ns_iters: 3,
            ns_eps: 1e-3,
            normalize_output,
            rmsmult: 0.5,
            precondition_output: precondition,
            ..Celo2Rule::default()
        };
        let config = Celo2Base { step_mult: 0.125, weight_decay: 0.25, orthogonalize, rule: rule.clone() };
        let optimizer = build(Celo2Config::Base(config));
        let theta = theta(optimizer.as_ref());
        let layout = layout(&[("x", &shape)]);
        let bound = optimizer.bind(theta.clone()).unwrap();
        let mut formula = celo2_formula::Formula::new(&rule, orthogonalize, &theta, &shape);
        let mut state = bound.init(random(&layout, seed, 0.5), &[9]).unwrap();
        for step in 0..3 {
            let grads = random(&layout, 1000 + 7 * seed + step, 0.3);
            // Each step anew from our parameters: only what one step does is compared.
            let p: Vec<f64> = state.params.tensor(0).iter().map(|&p| p.into()).collect();
            let g: Vec<f64> = grads.tensor(0).iter().map(|&g| g.into()).collect();
            let direction = formula.direction(&p, &g);
            state = bound.update(state, &grads, &[1.0]).unwrap();
            let scale = direction.iter().fold(1.0_f64, |largest, s| largest.max(s.abs()));
            for ((got, p), s) in state.params.tensor(0).iter().zip(&p).zip(&direction) {
                let expected = p - 0.125 * s - 0.25 * p * 0.125;
                let error = (f64::from(*got) - expected).abs();
                prop_assert!(error < 3e-5 * scale, "step {}: {} for {}", step, got, expected);
            }
        }
    }
}
