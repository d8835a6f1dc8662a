//! What Celo, Celo2 and VeLO promise beside the trajectories of their authors: forms that do not mix, laws of the learned
//! rule, and the settings no stored trajectory shows.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    Celo2, Celo2Base, Celo2Config, Celo2Meta, Celo2Rule, CeloConfig, HyperV2Config, LearnedOptimizer,
    LearnedOptimizerConfig, TrainPhase,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer, Schedule};
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec, Theta, noise};

mod ablations;
mod formula;
mod rule;
mod velo;

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

/// Root mean square.
fn rms(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    (values.map(|value| value * value).sum::<f64>() / count).sqrt()
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
