//! What every optimizer promises, hand-designed or learned: lanes that cannot disturb each other, states that can be
//! kept and taken up again, and clear refusals.

use std::sync::Arc;

use paceline_optimizer_core::learned::{AdafacMlpConfig, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::{Adam, AdamW, OptState, Optimizer, OptimizerConfig, Sgd, Sgdm};
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec, Theta, noise};

fn layout() -> Arc<Layout> {
    let shapes: [(&str, &[usize]); 5] =
        [("bias", &[19]), ("conv", &[3, 3, 2, 4]), ("matrix", &[40, 33]), ("scalar", &[]), ("square", &[4, 4])];
    Layout::new(shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap()
}

pub(crate) fn random(seed: u64, lanes: usize) -> Params {
    let mut params = Params::zeros(&layout(), lanes);
    for index in 0..params.layout().len() {
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
    }
    params
}

pub(crate) fn learned() -> [Arc<dyn LearnedOptimizer>; 4] {
    let small = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
    let other = HyperV2Config {
        use_bugged_loss_features: false,
        mix_layers: false,
        ff_hidden_size: 7,
        ff_hidden_layers: 3,
        precondition_output: true,
        rnn_state_decay: 0.1,
        ..small.clone()
    };
    [
        LearnedOptimizerConfig::LearnableAdam,
        LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig { hidden_size: 6, ..AdafacMlpConfig::default() }),
        LearnedOptimizerConfig::HyperV2(small),
        LearnedOptimizerConfig::HyperV2(other),
    ]
    .map(|config| config.build().unwrap())
}

/// One theta a lane: the initial one, moved.
pub(crate) fn thetas(optimizer: &dyn LearnedOptimizer, lanes: usize) -> Theta {
    let size = optimizer.layout().size();
    let initial = optimizer.init_theta(Seed::new(3));
    let mut values = vec![0.0; lanes * size];
    noise::normals(Seed::new(4), 0, &mut values);
    for (i, value) in values.iter_mut().enumerate() {
        *value = 0.01 * *value + initial.values()[i % size];
    }
    Theta::new(optimizer.layout(), lanes, values).unwrap()
}

fn lane_of(theta: &Theta, lane: usize) -> Theta {
    Theta::new(theta.layout(), 1, theta.lane(lane).to_vec()).unwrap()
}

pub(crate) fn hand_designed() -> [Box<dyn Optimizer>; 4] {
    [
        OptimizerConfig::Sgd(Sgd { learning_rate: 0.1.into() }),
        OptimizerConfig::Sgdm(Sgdm { learning_rate: 0.1.into(), momentum: 0.9 }),
        OptimizerConfig::Adam(Adam::new(0.1)),
        OptimizerConfig::AdamW(AdamW { learning_rate: 0.1.into(), weight_decay: 0.1, ..AdamW::default() }),
    ]
    .map(|config| config.build().unwrap())
}

/// Some updates with gradients of all `lanes`, of which `chosen` are taken.
pub(crate) fn train(
    optimizer: &dyn Optimizer,
    mut state: OptState,
    first: u64,
    steps: u64,
    chosen: &[usize],
) -> OptState {
    for step in first..first + steps {
        let mut grads = random(100 + step, 3);
        if step == 1 {
            grads.lane_mut(2, 2).fill(f32::NAN);
        }
        let losses = [2.0, 1.0 + step as f32, f32::NAN];
        let chosen_losses: Vec<f32> = chosen.iter().map(|&lane| losses[lane]).collect();
        state = optimizer.update(state, &grads.select(chosen), &chosen_losses).unwrap();
    }
    state
}

/// Bits of parameters and slots, so that NaN equals itself.
pub(crate) fn bits(state: &OptState) -> Vec<u32> {
    let params = (0..state.params.layout().len()).flat_map(|index| state.params.tensor(index));
    params.chain(state.slots.iter().flat_map(|slot| &slot.values)).map(|value| value.to_bits()).collect()
}

pub(crate) const HORIZONS: [u32; 3] = [7, 100, 2000];

/// Runs three lanes together (the third becomes NaN) and each alone, with the optimizer that `bound` gives for them.
fn assert_lanes_are_independent(name: &str, bound: impl Fn(&[usize]) -> Box<dyn Optimizer>) {
    let run = |lanes: &[usize]| {
        let optimizer = bound(lanes);
        let horizons: Vec<u32> = lanes.iter().map(|&lane| HORIZONS[lane]).collect();
        let state = optimizer.init(random(1, 3).select(lanes), &horizons).unwrap();
        train(optimizer.as_ref(), state, 0, 5, lanes)
    };
    let together = run(&[0, 1, 2]);
    let of_lane = |lane: usize| bits(&together.select(&[lane]));
    for lane in 0..3 {
        assert_eq!(of_lane(lane), bits(&run(&[lane])), "{name}: lane {lane} alone differs from lane {lane} of three");
    }
    let finite = |lane: usize| of_lane(lane).into_iter().all(|bits| f32::from_bits(bits).is_finite());
    assert!(finite(0) && finite(1), "{name}: a neighbour of a diverged lane diverged");
    assert!(!finite(2), "{name}: a NaN disappeared");
    assert_ne!(of_lane(0), of_lane(1), "{name}: lanes do not differ");
}

#[test]
fn a_lane_of_a_batch_equals_the_lane_alone() {
    for index in 0..4 {
        let name = hand_designed()[index].name();
        assert_lanes_are_independent(name, |_| hand_designed().into_iter().nth(index).unwrap());
    }
    for optimizer in learned() {
        let theta = thetas(optimizer.as_ref(), 3);
        assert_lanes_are_independent(&format!("{optimizer:?}"), |lanes| {
            let values = lanes.iter().flat_map(|&lane| theta.lane(lane)).copied().collect();
            optimizer.bind(Theta::new(theta.layout(), lanes.len(), values).unwrap()).unwrap()
        });
    }
}

#[test]
fn one_theta_may_serve_all_lanes() {
    for optimizer in learned() {
        let shared = lane_of(&thetas(optimizer.as_ref(), 1), 0);
        let repeated = Theta::new(shared.layout(), 3, shared.values().repeat(3)).unwrap();
        let [shared, repeated] = [shared, repeated].map(|theta| {
            let bound = optimizer.bind(theta).unwrap();
            let state = bound.init(random(1, 3), &HORIZONS).unwrap();
            bits(&train(bound.as_ref(), state, 0, 4, &[0, 1, 2]))
        });
        assert_eq!(shared, repeated, "{optimizer:?}");
    }
}

#[test]
fn a_kept_state_goes_on_as_if_never_put_down() {
    let bound = learned().map(|optimizer| optimizer.bind(thetas(optimizer.as_ref(), 3)).unwrap());
    for optimizer in hand_designed().into_iter().chain(bound) {
        let state = optimizer.init(random(1, 3), &HORIZONS).unwrap();
        let kept = train(optimizer.as_ref(), state.clone(), 0, 3, &[0, 1, 2]);
        let resumed = train(optimizer.as_ref(), kept.clone(), 3, 3, &[0, 1, 2]);
        let straight = train(optimizer.as_ref(), state, 0, 6, &[0, 1, 2]);
        assert_eq!(bits(&resumed), bits(&straight), "{}", optimizer.name());
        assert_eq!(resumed.step, [6, 6, 6]);
        assert_ne!(bits(&kept), bits(&resumed), "{} stands still", optimizer.name());
    }
}

#[test]
fn settings_survive_a_recipe_and_unknown_ones_are_refused() {
    for optimizer in learned() {
        let config = optimizer.config().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<LearnedOptimizerConfig>(&text).unwrap(), config);
        let error = toml::from_str::<LearnedOptimizerConfig>(&format!("{text}\nhiden_size = 3\n")).unwrap_err();
        assert!(error.to_string().contains("hiden_size"), "{error}");
        let mut json = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<LearnedOptimizerConfig>(json.clone()).unwrap(), config);
        json["hiden_size"] = 3.into();
        let error = serde_json::from_value::<LearnedOptimizerConfig>(json).unwrap_err();
        assert!(error.to_string().contains("hiden_size"), "{error}");
    }
    let error = toml::from_str::<OptimizerConfig>("kind = \"adam\"\nlearning_rate = 0.1\nbeta3 = 1\n").unwrap_err();
    assert!(error.to_string().contains("beta3"), "{error}");
}

#[test]
fn absent_settings_are_those_of_the_reference() {
    let config: LearnedOptimizerConfig = toml::from_str("kind = \"hyper_v2\"").unwrap();
    let LearnedOptimizerConfig::HyperV2(config) = config else { panic!("{config:?}") };
    assert!(config.use_bugged_loss_features && config.mix_layers && config.param_scale_mult);
    assert_eq!((config.lstm_hidden_size, config.param_inits), (128, 64));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (recipe, field) in [
        ("kind = \"adafac_mlp\"\nhidden_size = 0", "hidden_size"),
        ("kind = \"adafac_mlp\"\nhidden_layers = 9", "hidden_layers"),
        ("kind = \"adafac_mlp\"\nexp_mult = nan", "exp_mult"),
        ("kind = \"hyper_v2\"\nlstm_hidden_size = 0", "lstm_hidden_size"),
        ("kind = \"hyper_v2\"\nparam_inits = 1000000", "param_inits"),
        ("kind = \"hyper_v2\"\nrnn_state_decay = 1.0", "rnn_state_decay"),
        ("kind = \"hyper_v2\"\nclip_param_scale_amount = -1.0", "clip_param_scale_amount"),
    ] {
        let config: LearnedOptimizerConfig = toml::from_str(recipe).unwrap();
        match config.build() {
            Err(Error::Setting { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{recipe}: {other:?}"),
        }
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let [adam, adafac, hyper, _] = learned();
    let error = adafac.bind(thetas(adam.as_ref(), 1)).unwrap_err();
    assert!(matches!(error, Error::LayoutMismatch { .. }), "{error}");
    let bound = adafac.bind(thetas(adafac.as_ref(), 2)).unwrap();
    let error = bound.init(random(1, 3), &HORIZONS).unwrap_err();
    assert!(matches!(error, Error::Lanes { expected: 2, got: 3, .. }), "{error}");
    let bound = hyper.bind(thetas(hyper.as_ref(), 1)).unwrap();
    let error = bound.init(random(1, 1), &[0]).unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    let foreign = adam.bind(thetas(adam.as_ref(), 1)).unwrap().init(random(1, 1), &[5]).unwrap();
    let error = bound.update(foreign, &random(2, 1), &[1.0]).unwrap_err();
    assert!(matches!(error, Error::Length { .. }), "{error}");
    let state = bound.init(random(1, 1), &[5]).unwrap();
    let error = bound.update(state.clone(), &random(2, 2), &[1.0, 1.0]).unwrap_err();
    assert!(matches!(error, Error::Lanes { .. }), "{error}");
    let error = bound.update(state, &random(2, 1), &[]).unwrap_err();
    assert!(matches!(error, Error::Lanes { expected: 1, got: 0, .. }), "{error}");
}

#[test]
fn initial_theta_has_the_published_size_and_spread() {
    let build = |recipe: &str| toml::from_str::<LearnedOptimizerConfig>(recipe).unwrap().build().unwrap();
    for (recipe, size) in [
        ("kind = \"learnable_adam\"", 4),
        ("kind = \"adafac_mlp\"", 197),
        ("kind = \"hyper_v2\"", 162_305),
        ("kind = \"hyper_v2\"\nlstm_hidden_size = 512\nparam_inits = 256", 2_320_385),
    ] {
        assert_eq!(build(recipe).layout().size(), size, "{recipe}");
    }
    let hyper = build("kind = \"hyper_v2\"");
    assert_eq!(hyper.layout().len(), 33);
    let theta = hyper.init_theta(Seed::new(5));
    assert_eq!(theta.values(), hyper.init_theta(Seed::new(5)).values(), "the same seed draws the same theta");
    assert_ne!(theta.values(), hyper.init_theta(Seed::new(6)).values());
    let lstm = theta.tensor(0, hyper.layout().index_of("rnn_params/rnn/linear/w").unwrap());
    let scale = 1.0 / 256_f64.sqrt();
    let square: f64 = lstm.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let spread = (square / lstm.len() as f64).sqrt();
    assert!((spread / scale - 0.8796).abs() < 0.005, "standard deviation {spread}");
    assert!(lstm.iter().all(|&value| f64::from(value).abs() <= 2.000_001 * scale), "cut at two");
    assert!(theta.tensor(0, hyper.layout().index_of("rnn_params/rnn/linear/b").unwrap()).iter().all(|&b| b == 0.0));
}
