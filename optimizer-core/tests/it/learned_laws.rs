//! What every kind of learned optimizer promises, checked on every kind there is.
//!
//! A lane does not see the others, the order of a layout's tensors does not matter, a state can be put down and taken up,
//! odd tensors are welcome, and what does not belong together is refused: all to the bit.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    Activation, AdafacMlpConfig, Celo2, Celo2Base, Celo2Config, Celo2Meta, Celo2Rule, CeloConfig, HyperV2Config,
    LearnedOptimizer, LearnedOptimizerConfig, MlpConfig, MlpNominalConfig, NnAdamConfig, NominalGradient, RnnMlpConfig,
    TrainPhase, WeightLayout,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer, Slot};
use paceline_optimizer_core::perturbation::{Antithetic, Noise, Perturbation};
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec, Theta, noise};
use proptest::prelude::*;

/// Further settings of a kind, and the kind that comes after it. There is no `_`: a new kind does not compile before it has
/// its place here.
fn after(kind: &LearnedOptimizerConfig) -> (Vec<LearnedOptimizerConfig>, Option<LearnedOptimizerConfig>) {
    use LearnedOptimizerConfig as Kind;
    match kind {
        Kind::LearnableSgd => (vec![], Some(Kind::LearnableSgdm)),
        Kind::LearnableSgdm => (vec![], Some(Kind::LearnableAdam)),
        Kind::LearnableAdam => {
            let next = NnAdamConfig { lstm_hidden_size: 5, output_scale: 0.3, ..NnAdamConfig::default() };
            (vec![], Some(Kind::NnAdam(next)))
        }
        Kind::NnAdam(config) => {
            let decaying = NnAdamConfig { decay_strength: 0.1, ..config.clone() };
            let next = MlpConfig { hidden_size: 7, ..MlpConfig::default() };
            (vec![Kind::NnAdam(decaying)], Some(Kind::Mlp(next)))
        }
        Kind::Mlp(_) => {
            let next =
                RnnMlpConfig { hidden_size: 6, lstm_hidden_size: 9, from_mlp_size: 3, ..RnnMlpConfig::default() };
            (vec![], Some(Kind::RnnMlp(next)))
        }
        Kind::RnnMlp(_) => {
            let next = AdafacMlpConfig { hidden_size: 6, ..AdafacMlpConfig::default() };
            (vec![], Some(Kind::AdafacMlp(next)))
        }
        Kind::AdafacMlp(config) => {
            let scalars = AdafacMlpConfig { weights: WeightLayout::Scalars, ..config.clone() };
            let next = MlpNominalConfig { nominal_stepsize: 0.01, weight_decay: 0.1, ..MlpNominalConfig::default() };
            (vec![Kind::AdafacMlp(scalars)], Some(Kind::MlpNominal(next)))
        }
        Kind::MlpNominal(config) => {
            let controlled = MlpNominalConfig {
                nominal_grad_estimator: NominalGradient::AggMo,
                nominal_controller: true,
                regularization_controller: true,
                aggregate_magnitude: true,
                aggregate_nom_magnitude: true,
                normalize_blackbox: true,
                selfnormalize_blackbox: true,
                ..config.clone()
            };
            let next = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
            (vec![Kind::MlpNominal(controlled)], Some(Kind::HyperV2(next)))
        }
        Kind::HyperV2(config) => {
            let other = HyperV2Config {
                use_bugged_loss_features: false,
                mix_layers: false,
                ff_hidden_size: 7,
                ff_hidden_layers: 3,
                precondition_output: true,
                rnn_state_decay: 0.1,
                ..config.clone()
            };
            let ablated = HyperV2Config {
                with_m_feat: false,
                with_rms_norm_g: false,
                with_fac_rms: false,
                with_p: false,
                param_scale_mult: false,
                use_bugged_next_lstm_state: true,
                ..config.clone()
            };
            let next = CeloConfig { lstm_hidden_size: 9, param_inits: 3, ..CeloConfig::published() };
            (vec![Kind::HyperV2(other), Kind::HyperV2(ablated)], Some(Kind::Celo(next)))
        }
        Kind::Celo(config) => {
            let other = CeloConfig {
                train_phase: TrainPhase::Network,
                mix_layers: false,
                with_validation_feature_dim: true,
                adafactor_accumulator: false,
                rnn_state_decay: 0.1,
                ..config.clone()
            };
            let next = Celo2Config::Base(Celo2Base { weight_decay: 0.1, ..Celo2Base::default() });
            (vec![Kind::Celo(other)], Some(Kind::Celo2(next)))
        }
        Kind::Celo2(_) => {
            let every_option = Celo2Rule {
                ff_hidden_size: 5,
                mlp_activation: Activation::Tanh,
                bias_correction: true,
                exp_mult: 0.1,
                aggregate_mag: true,
                param_scale_mult: true,
                precondition_output: true,
                rmsmult: 0.5,
                with_rms: false,
                ..Celo2Rule::default()
            };
            let base = Celo2Base { orthogonalize: true, rule: every_option, ..Celo2Base::default() };
            let plain = Celo2Rule { normalize_input: false, normalize_output: false, ..Celo2Rule::default() };
            let forms = [
                Celo2Config::Base(base),
                Celo2Config::Meta(Celo2Meta { rule: plain, ..Celo2Meta::default() }),
                Celo2Config::Meta(Celo2Meta { adam_bias_correction: true, ..Celo2Meta::default() }),
                Celo2Config::Shipped(Celo2::new(1e-3).weight_decay(0.1)),
                Celo2Config::Shipped(Celo2::base(1e-3)),
            ];
            (forms.map(Kind::Celo2).to_vec(), None)
        }
    }
}

/// Every kind, some with several settings.
fn every_kind() -> Vec<Arc<dyn LearnedOptimizer>> {
    let kinds = std::iter::successors(Some(LearnedOptimizerConfig::LearnableSgd), |kind| after(kind).1);
    let configs = kinds.flat_map(|kind| std::iter::once(kind.clone()).chain(after(&kind).0));
    configs.map(|config| config.build().unwrap()).collect()
}

/// Tensors in no particular order, among them a scalar, tensors with axes of length 1 and tensors longer than a block.
fn tensors() -> Vec<TensorSpec> {
    let shapes: [(&str, &[usize]); 6] = [
        ("square", &[4, 4]),
        ("bias", &[19]),
        ("scalar", &[]),
        ("matrix", &[20, 33]),
        ("conv", &[3, 3, 2, 4]),
        ("row", &[1, 5]),
    ];
    shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()
}

/// Normal numbers, the same for a tensor of the same name and size wherever it stands.
fn random(layout: &Arc<Layout>, seed: u64, lanes: usize) -> Params {
    let mut params = Params::zeros(layout, lanes);
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let of_name = tensor.name().bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte));
        noise::normals(Seed::new(seed).fold_in(of_name), 0, params.tensor_mut(index));
    }
    params
}

/// One theta a lane: the initial one, moved.
fn thetas(optimizer: &dyn LearnedOptimizer, lanes: usize) -> Theta {
    let size = optimizer.layout().size();
    let initial = optimizer.init_theta(Seed::new(3));
    let mut values = vec![0.0; lanes * size];
    noise::normals(Seed::new(4), 0, &mut values);
    for (i, value) in values.iter_mut().enumerate() {
        *value = 0.02 * *value + initial.values()[i % size];
    }
    Theta::new(optimizer.layout(), lanes, values).unwrap()
}

fn select(theta: &Theta, lanes: &[usize]) -> Theta {
    let values = lanes.iter().flat_map(|&lane| theta.lane(lane)).copied().collect();
    Theta::new(theta.layout(), lanes.len(), values).unwrap()
}

const HORIZONS: [u32; 3] = [7, 100, 2000];

/// Updates `first..last` of the lanes `chosen` out of three; before the third, a validation loss is observed. The last of
/// the three becomes NaN.
fn train(optimizer: &dyn Optimizer, mut state: OptState, steps: std::ops::Range<u64>, chosen: &[usize]) -> OptState {
    let layout = Arc::clone(state.params.layout());
    let of_chosen = |losses: [f32; 3]| chosen.iter().map(|&lane| losses[lane]).collect::<Vec<_>>();
    for step in steps {
        if step == 2 {
            state = optimizer.observe_validation(state, &of_chosen([1.5, 3.0, f32::NAN])).unwrap();
        }
        let mut grads = random(&layout, 100 + step, 3);
        if step == 1 {
            (0..layout.len()).for_each(|index| grads.lane_mut(index, 2).fill(f32::NAN));
        }
        let losses = of_chosen([2.0, 1.0 + step as f32, f32::NAN]);
        state = optimizer.update(state, &grads.select(chosen), &losses).unwrap();
    }
    state
}

/// Steps of a whole run.
const STEPS: std::ops::Range<u64> = 0..5;

fn start(optimizer: &dyn Optimizer, layout: &Arc<Layout>, chosen: &[usize]) -> OptState {
    let horizons: Vec<u32> = chosen.iter().map(|&lane| HORIZONS[lane]).collect();
    optimizer.init(random(layout, 1, 3).select(chosen), &horizons).unwrap()
}

/// Bits of parameters and slots, so that NaN equals itself.
fn bits(state: &OptState) -> Vec<u32> {
    let params = (0..state.params.layout().len()).flat_map(|index| state.params.tensor(index));
    params.chain(state.slots.iter().flat_map(|slot| &slot.values)).map(|value| value.to_bits()).collect()
}

fn is_finite(state: &OptState) -> bool {
    bits(state).into_iter().all(|bits| f32::from_bits(bits).is_finite())
}

#[test]
fn a_lane_of_a_batch_equals_the_lane_alone() {
    let layout = Layout::new(tensors()).unwrap();
    for optimizer in every_kind() {
        let own = thetas(optimizer.as_ref(), 3);
        let shared = select(&own, &[0]);
        // One theta a lane, then one for all.
        for theta_of in
            [&|lanes: &[usize]| select(&own, lanes), &|_: &[usize]| shared.clone()] as [&dyn Fn(&[usize]) -> Theta; 2]
        {
            let run = |lanes: &[usize]| {
                let bound = optimizer.bind(theta_of(lanes)).unwrap();
                train(bound.as_ref(), start(bound.as_ref(), &layout, lanes), STEPS, lanes)
            };
            let together = run(&[0, 1, 2]);
            for lane in 0..3 {
                let of_batch = together.select(&[lane]);
                assert_eq!(bits(&of_batch), bits(&run(&[lane])), "{optimizer:?}: lane {lane} sees the others");
                assert_eq!(is_finite(&of_batch), lane != 2, "{optimizer:?}: lane {lane}");
            }
            assert_eq!(bits(&together.select(&[1, 0])), bits(&run(&[1, 0])), "{optimizer:?}: lanes have an order");
        }
    }
}

#[test]
fn a_theta_for_all_is_the_same_theta_for_each() {
    let layout = Layout::new(tensors()).unwrap();
    for optimizer in every_kind() {
        let theta = thetas(optimizer.as_ref(), 1);
        let [shared, repeated] = [theta.clone(), select(&theta, &[0, 0, 0])].map(|theta| {
            let bound = optimizer.bind(theta).unwrap();
            bits(&train(bound.as_ref(), start(bound.as_ref(), &layout, &[0, 1, 2]), STEPS, &[0, 1, 2]))
        });
        assert_eq!(shared, repeated, "{optimizer:?}");
    }
}

/// Checks that two states of differently ordered layouts say the same of every tensor, to the bit.
/// Whoever trains lanes elsewhere gets the state that their thetas begin with, though these may not exist.
#[test]
fn lanes_of_pairs_begin_as_under_the_thetas_made() {
    let layout = Layout::new(tensors()).unwrap();
    let (params, horizons) = (random(&layout, 1, 4), [7, 100, 2000, 30]);
    for optimizer in every_kind() {
        let theta = thetas(optimizer.as_ref(), 1);
        for noise in [Noise::Dense, Noise::LowRank { rank: 1 }] {
            let epsilon = |pair| Perturbation::new(Seed::new(6), noise, theta.layout(), 2, 5, pair).unwrap();
            let lanes = Antithetic::new(&theta, vec![epsilon(3), epsilon(4)], 0.1).unwrap();
            let bound = optimizer.bind(lanes.made().unwrap()).unwrap();
            let expected = bound.init(params.clone(), &horizons).unwrap();
            let got = optimizer.init_pairs(&lanes, params.clone(), &horizons).unwrap();
            assert_eq!(bits(&got), bits(&expected), "{optimizer:?}");
            assert_eq!(got, expected, "{optimizer:?}");
            let fewer = optimizer.init_pairs(&lanes, params.select(&[0, 1, 2]), &horizons[..3]);
            assert!(matches!(fewer, Err(Error::Lanes { .. })), "{optimizer:?}: {fewer:?}");
        }
    }
}

fn assert_same_by_name(got: &OptState, expected: &OptState, what: &str) {
    let [ours, theirs] = [got, expected].map(|state| state.params.layout());
    let to_bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let rows = |slot: &Slot, index: usize| {
        let width = slot.size() / ours.len();
        let lanes = 0..got.lanes();
        lanes.flat_map(|lane| to_bits(&slot.lane(lane)[index * width..(index + 1) * width])).collect::<Vec<_>>()
    };
    let has_rows = |slot: &Slot| slot.name.starts_with("lstm/") && slot.shape[0] == ours.len();
    for (index, tensor) in ours.tensors().iter().enumerate() {
        let name = tensor.name();
        let other = theirs.index_of(name).unwrap();
        let (a, b) = (got.params.tensor(index), expected.params.tensor(other));
        assert_eq!(to_bits(a), to_bits(b), "{what}: parameters {name}");
        for slot in got.slots.iter().filter(|slot| has_rows(slot)) {
            let same = expected.slots.iter().find(|other| other.name == slot.name).unwrap();
            assert_eq!(rows(slot, index), rows(same, other), "{what}: {} of {name}", slot.name);
        }
    }
    assert_eq!(got.slots.len(), expected.slots.len());
    for slot in got.slots.iter().filter(|slot| !has_rows(slot)) {
        let same = expected.slots.iter().find(|other| other.name == slot.name).unwrap();
        assert_eq!(to_bits(&slot.values), to_bits(&same.values), "{what}: slot {}", slot.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_tensors_changes_nothing(shuffled in Just(tensors()).prop_shuffle()) {
        let reversed: Vec<TensorSpec> = tensors().into_iter().rev().collect();
        for optimizer in every_kind() {
            let bound = optimizer.bind(thetas(optimizer.as_ref(), 2)).unwrap();
            let [one, reversed, shuffled] = [tensors(), reversed.clone(), shuffled.clone()].map(|tensors| {
                let layout = Layout::new(tensors).unwrap();
                train(bound.as_ref(), start(bound.as_ref(), &layout, &[0, 1]), STEPS, &[0, 1])
            });
            prop_assert!(is_finite(&one));
            assert_same_by_name(&reversed, &one, &format!("{optimizer:?} reversed"));
            assert_same_by_name(&shuffled, &one, &format!("{optimizer:?} shuffled"));
        }
    }
}

/// A state written down field by field and read back.
fn written_down(state: &OptState) -> OptState {
    let layout = Layout::new(state.params.layout().tensors().to_vec()).unwrap();
    let tensors = (0..layout.len()).map(|index| state.params.tensor(index).to_vec()).collect();
    let copy = |slot: &Slot| Slot { name: slot.name.clone(), shape: slot.shape.clone(), values: slot.values.clone() };
    OptState {
        params: Params::from_tensors(&layout, state.lanes(), tensors).unwrap(),
        step: state.step.clone(),
        horizon: state.horizon.clone(),
        slots: state.slots.iter().map(copy).collect(),
    }
}

#[test]
fn a_state_goes_on_as_if_never_put_down() {
    let layout = Layout::new(tensors()).unwrap();
    for optimizer in every_kind() {
        let theta = thetas(optimizer.as_ref(), 3);
        let bound = optimizer.bind(theta.clone()).unwrap();
        let begun = start(bound.as_ref(), &layout, &[0, 1, 2]);
        let straight = train(bound.as_ref(), begun.clone(), 0..6, &[0, 1, 2]);
        let kept = train(bound.as_ref(), begun, 0..3, &[0, 1, 2]);
        let taken_up = optimizer.bind(theta).unwrap();
        let resumed = train(taken_up.as_ref(), written_down(&kept), 3..6, &[0, 1, 2]);
        assert_eq!(bits(&resumed), bits(&straight), "{optimizer:?}");
        assert_eq!(resumed.step, straight.step);
        for lane in 0..2 {
            assert_ne!(bits(&kept.select(&[lane])), bits(&resumed.select(&[lane])), "{optimizer:?} stands still");
        }
    }
}

#[test]
fn tensors_without_elements_and_scalars_are_welcome() {
    let shapes: [(&str, &[usize]); 8] = [
        ("none", &[0]),
        ("no_rows", &[0, 5]),
        ("scalar", &[]),
        ("no_cols", &[5, 0]),
        ("one", &[1, 1]),
        ("no_middle", &[4, 0, 3]),
        ("bias", &[3]),
        ("nothing", &[0, 0]),
    ];
    let layout = Layout::new(shapes.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap();
    let nothing = Layout::new(vec![]).unwrap();
    for optimizer in every_kind() {
        let bound = optimizer.bind(thetas(optimizer.as_ref(), 2)).unwrap();
        let begun = start(bound.as_ref(), &layout, &[0, 1]);
        let ended = train(bound.as_ref(), begun.clone(), STEPS, &[0, 1]);
        assert!(is_finite(&ended), "{optimizer:?}");
        for (index, tensor) in layout.tensors().iter().enumerate() {
            let moved = begun.params.tensor(index) != ended.params.tensor(index);
            assert_eq!(moved, tensor.size() > 0, "{optimizer:?}: {}", tensor.name());
        }
        let ended = train(bound.as_ref(), start(bound.as_ref(), &nothing, &[0, 1]), STEPS, &[0, 1]);
        assert!(is_finite(&ended) && ended.step[0] >= 5, "{optimizer:?} without tensors");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let layout = Layout::new(tensors()).unwrap();
    let kinds = every_kind();
    for optimizer in &kinds {
        let bound = optimizer.bind(thetas(optimizer.as_ref(), 2)).unwrap();
        for other in &kinds {
            let theta = thetas(other.as_ref(), 2);
            if other.layout() != optimizer.layout() {
                let error = optimizer.bind(theta).unwrap_err();
                assert!(matches!(error, Error::LayoutMismatch { .. }), "{optimizer:?} bound {other:?}: {error}");
                continue;
            }
            assert!(optimizer.bind(theta).is_ok());
        }
        let none = optimizer.bind(Theta::zeros(optimizer.layout(), 0)).unwrap_err();
        assert!(matches!(none, Error::Lanes { got: 0, .. }), "{none}");
        let three = bound.init(random(&layout, 1, 3), &[9; 3]).unwrap_err();
        assert!(matches!(three, Error::Lanes { expected: 2, got: 3, .. }), "{three}");
        let horizon = bound.init(random(&layout, 1, 2), &[9; 3]).unwrap_err();
        assert!(matches!(horizon, Error::Lanes { .. }), "{horizon}");

        let (state, grads) = (bound.init(random(&layout, 1, 2), &[9; 2]).unwrap(), random(&layout, 2, 2));
        let update = |state: OptState, grads: &Params, losses: &[f32]| bound.update(state, grads, losses).unwrap_err();
        let error = update(state.clone(), &random(&layout, 2, 3), &[1.0; 2]);
        assert!(matches!(error, Error::Lanes { .. }), "{error}");
        let error = update(state.clone(), &grads, &[1.0; 3]);
        assert!(matches!(error, Error::Lanes { expected: 2, got: 3, .. }), "{error}");
        let error = bound.observe_validation(state.clone(), &[1.0; 3]).unwrap_err();
        assert!(matches!(error, Error::Lanes { expected: 2, got: 3, .. }), "{error}");
        let renamed = Layout::new(vec![TensorSpec::new("else", [4])]).unwrap();
        let error = update(state.clone(), &random(&renamed, 2, 2), &[1.0; 2]);
        assert!(matches!(error, Error::LayoutMismatch { .. }), "{error}");

        // A state of other lanes than theta has, even where its slots fit.
        let wide = optimizer.bind(thetas(optimizer.as_ref(), 3)).unwrap();
        let wide = wide.init(random(&layout, 1, 3), &[9; 3]).unwrap();
        let error = update(wide, &random(&layout, 2, 3), &[1.0; 3]);
        assert!(matches!(error, Error::Lanes { .. }), "{error}");

        // States of other optimizers, and one with a slot too many.
        let mut foreign: Vec<OptState> = Vec::new();
        for other in &kinds {
            let other = other.bind(thetas(other.as_ref(), 2)).unwrap();
            let other = other.init(random(&layout, 1, 2), &[9; 2]).unwrap();
            let sizes = |state: &OptState| state.slots.iter().map(Slot::size).collect::<Vec<_>>();
            if sizes(&other) != sizes(&state) {
                foreign.push(other);
            }
        }
        let mut longer = state.clone();
        longer.slots.push(Slot::filled("more", [2], 2, 0.0));
        foreign.push(longer);
        if !state.slots.is_empty() {
            let mut damaged = state.clone();
            damaged.slots[0].values.pop();
            foreign.push(damaged);
        }
        for foreign in foreign {
            let error = update(foreign, &grads, &[1.0; 2]);
            assert!(matches!(error, Error::Length { .. }), "{optimizer:?}: {error}");
        }
        assert!(bound.update(state, &grads, &[1.0; 2]).is_ok());
    }
}

#[test]
fn theta_is_sorted_by_name_and_drawn_from_its_seed() {
    for optimizer in every_kind() {
        let names: Vec<&str> = optimizer.layout().tensors().iter().map(TensorSpec::name).collect();
        assert!(names.is_sorted(), "{optimizer:?}");
        let theta = optimizer.init_theta(Seed::new(5));
        assert_eq!(theta.lanes(), 1);
        assert!(theta.values().iter().all(|value| value.is_finite()));
        assert_eq!(theta, optimizer.init_theta(Seed::new(5)));
        let random = !matches!(
            optimizer.config().unwrap(),
            LearnedOptimizerConfig::LearnableSgd
                | LearnedOptimizerConfig::LearnableSgdm
                | LearnedOptimizerConfig::LearnableAdam
        );
        assert_eq!(random, theta != optimizer.init_theta(Seed::new(6)), "{optimizer:?}");
    }
}

#[test]
fn settings_survive_a_recipe_and_unknown_ones_are_refused() {
    for optimizer in every_kind() {
        let config = optimizer.config().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<LearnedOptimizerConfig>(&text).unwrap(), config);
        let mut json = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<LearnedOptimizerConfig>(json.clone()).unwrap(), config);
        json["hiden_size"] = 3.into();
        let error = serde_json::from_value::<LearnedOptimizerConfig>(json).unwrap_err();
        assert!(error.to_string().contains("hiden_size"), "{error}");
        // The tags alone stand for the reference's defaults, but for a learning rate, which has none.
        let mut tags = serde_json::to_value(&config).unwrap();
        tags.as_object_mut().unwrap().retain(|key, _| ["kind", "form", "learning_rate"].contains(&key.as_str()));
        let defaults: LearnedOptimizerConfig = serde_json::from_value(tags).unwrap();
        assert!(defaults.build().is_ok());
    }
}

#[test]
fn default_thetas_have_the_published_sizes() {
    for (kind, size) in [
        ("learnable_sgd", 1),
        ("learnable_sgdm", 2),
        ("learnable_adam", 4),
        ("nn_adam", 6856),
        ("mlp", 1762),
        ("rnn_mlp", 35_799),
        ("adafac_mlp", 197),
        ("mlp_nominal", 207),
        ("hyper_v2", 162_305),
        ("celo", 157_697),
    ] {
        let config: LearnedOptimizerConfig = serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap();
        assert_eq!(config.build().unwrap().layout().size(), size, "{kind}");
    }
    let scalars = "kind = \"adafac_mlp\"\nweights = \"scalars\"";
    let scalars: LearnedOptimizerConfig = toml::from_str(scalars).unwrap();
    let scalars = scalars.build().unwrap();
    assert_eq!(scalars.layout().size(), 197);
    assert_eq!(scalars.layout().len(), 190 + 3);
    assert!(scalars.layout().index_of("nn/~/w0_38_3").is_some() && scalars.layout().index_of("nn/~/b2_1").is_some());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (recipe, field) in [
        ("kind = \"nn_adam\"\noutput_scale = inf", "output_scale"),
        ("kind = \"nn_adam\"\ninitial_learning_rate = 0.0", "initial_learning_rate"),
        ("kind = \"nn_adam\"\ninitial_beta1 = 1.0", "initial_beta1"),
        ("kind = \"nn_adam\"\ninitial_beta2 = -0.1", "initial_beta2"),
        ("kind = \"nn_adam\"\ninitial_epsilon = -1.0", "initial_epsilon"),
        ("kind = \"nn_adam\"\ndecay_strength = 1.5", "decay_strength"),
        ("kind = \"nn_adam\"\nlstm_hidden_size = 0", "lstm_hidden_size"),
        ("kind = \"mlp\"\nhidden_size = 257", "hidden_size"),
        ("kind = \"mlp\"\nhidden_layers = 0", "hidden_layers"),
        ("kind = \"mlp\"\nstep_mult = nan", "step_mult"),
        ("kind = \"rnn_mlp\"\nstep_multiplier = nan", "step_multiplier"),
        ("kind = \"rnn_mlp\"\nmagnitude_rate = nan", "magnitude_rate"),
        ("kind = \"rnn_mlp\"\nhidden_layer = 0", "hidden_layer"),
        ("kind = \"rnn_mlp\"\nfrom_mlp_size = 0", "from_mlp_size"),
        ("kind = \"rnn_mlp\"\nfrom_lstm_size = 0", "from_lstm_size"),
        ("kind = \"rnn_mlp\"\nlstm_to_ff = 0", "lstm_to_ff"),
        ("kind = \"rnn_mlp\"\nlstm_hidden_size = 4097", "lstm_hidden_size"),
        ("kind = \"rnn_mlp\"\ndecays = [0.5, 0.9, 0.99, 0.999, 1.0]", "decays"),
        ("kind = \"adafac_mlp\"\ninitial_momentum_decays = [0.9, 1.0, 0.5]", "initial_momentum_decays"),
        ("kind = \"adafac_mlp\"\ninitial_rms_decays = [nan]", "initial_rms_decays"),
        ("kind = \"mlp_nominal\"\ninitial_adafactor_decays = [0.9, 0.9, -0.1]", "initial_adafactor_decays"),
        ("kind = \"mlp_nominal\"\nexp_mult = [0.0, inf, 0.0]", "exp_mult"),
        ("kind = \"mlp_nominal\"\nnominal_stepsize = nan", "nominal_stepsize"),
        ("kind = \"mlp_nominal\"\nweight_decay = nan", "weight_decay"),
        ("kind = \"mlp_nominal\"\naggregate_reg_magnitude = true", "aggregate_reg_magnitude"),
    ] {
        let config: LearnedOptimizerConfig = toml::from_str(recipe).unwrap();
        match config.build() {
            Err(Error::Setting { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{recipe}: {other:?}"),
        }
    }
    for (recipe, reason) in [
        ("kind = \"rnn_mlp\"\ndecays = [0.5, 0.9]", "length"),
        ("kind = \"mlp_nominal\"\nnominal_grad_estimator = \"adagrad\"", "adagrad"),
    ] {
        let error = toml::from_str::<LearnedOptimizerConfig>(recipe).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
