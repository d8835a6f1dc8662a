//! Training candle models: the same to the bit as driving the optimizer by hand, whatever the order of axes and names.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap};
use paceline_optimizer_core::candle::{Config, LearnedOptimizer, MissingGradients, Role, Variables};
use paceline_optimizer_core::checkpoint::{Checkpoint, CheckpointMeta, FORMAT};
use paceline_optimizer_core::learned::{HyperV2, HyperV2Config, LearnedOptimizer as _, LearnedOptimizerConfig};
use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::optimizer::{AdamW, OptState, Optimizer, OptimizerConfig, Sgd, Sgdm};
use paceline_optimizer_core::outer::OuterState;
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec};

use crate::optimizers::{hand_designed, learned, thetas};

mod as_candle_optimizer;
mod refusals;
mod restored;

/// Variables with ties among their axes, and candle's axes in the order of the reference. The names are sorted.
const MODEL: [(&str, &[usize], &[usize]); 8] = [
    ("conv.weight", &[4, 4, 3, 3], &[2, 3, 1, 0]),
    ("embed.weight", &[6, 6], &[0, 1]),
    ("l1.bias", &[5], &[0]),
    ("l1.weight", &[5, 5], &[1, 0]),
    ("l2.weight", &[7, 5], &[1, 0]),
    ("scale", &[], &[]),
    ("tied_kernel.weight", &[3, 3, 3, 3], &[2, 3, 1, 0]),
    ("wave.weight", &[4, 4, 4], &[2, 1, 0]),
];

const STEPS: u32 = 6;

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    noise::normals(Seed::new(seed), 0, &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A map of these variables, put in in this order.
fn var_map<'a>(variables: impl IntoIterator<Item = &'a (&'a str, &'a [usize], &'a [usize])>) -> VarMap {
    let mut map = VarMap::new();
    for (name, shape, _) in variables {
        map.get(*shape, name, Init::Const(0.), DType::F32, &Device::Cpu).unwrap();
        map.set_one(name, normal(name.len() as u64, shape)).unwrap();
    }
    map
}

fn var(map: &VarMap, name: &str) -> Var {
    map.data().lock().unwrap()[name].clone()
}

/// A loss with products in it, so that gradients depend on the variables.
fn loss(map: &VarMap, step: u32) -> Tensor {
    let mut total = Tensor::new(3.0_f32, &Device::Cpu).unwrap();
    for (index, (name, shape, _)) in MODEL.iter().enumerate() {
        let direction = normal(u64::from(100 * (step + 1)) + index as u64, shape);
        let value = var(map, name);
        let value = (value.as_tensor() * 0.1).unwrap().sqr().unwrap().broadcast_add(value.as_tensor()).unwrap();
        total = (total + (value * direction).unwrap().sum_all().unwrap()).unwrap();
    }
    let x = normal(u64::from(step), &[3, 5]);
    let hidden = x.matmul(&var(map, "l1.weight").t().unwrap()).unwrap();
    let hidden = hidden.broadcast_add(&var(map, "l1.bias")).unwrap().tanh().unwrap();
    let out = hidden.matmul(&var(map, "l2.weight").t().unwrap()).unwrap();
    (total + out.sqr().unwrap().mean_all().unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn map_bits(map: &VarMap) -> Vec<Vec<u32>> {
    MODEL.iter().map(|(name, ..)| bits(&values(&var(map, name)))).collect()
}

/// In the order of the reference, as candle permutes it.
fn in_reference(tensor: &Tensor, axes: &[usize]) -> Vec<f32> {
    if axes.is_empty() { values(tensor) } else { values(&tensor.permute(axes).unwrap()) }
}

fn layout() -> Arc<Layout> {
    let spec = |(name, shape, axes): &(&str, &[usize], &[usize])| {
        TensorSpec::new(*name, axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>())
    };
    Layout::new(MODEL.iter().map(spec).collect()).unwrap()
}

fn params(of: impl Fn(&str) -> Tensor) -> Params {
    let tensors = MODEL.iter().map(|(name, _, axes)| in_reference(&of(name), axes)).collect();
    Params::from_tensors(&layout(), 1, tensors).unwrap()
}

fn all() -> Vec<Box<dyn Optimizer>> {
    let bound = learned().into_iter().map(|learned| learned.bind(thetas(learned.as_ref(), 1)).unwrap());
    hand_designed().into_iter().chain(bound).collect()
}

/// The optimizers that every test of the surroundings uses: one that needs the loss, one that does not.
fn hyper() -> Box<dyn Optimizer> {
    let config = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
    let hyper = LearnedOptimizerConfig::HyperV2(config).build().unwrap();
    hyper.bind(thetas(hyper.as_ref(), 1)).unwrap()
}

fn adam_w() -> Box<dyn Optimizer> {
    let config = AdamW { learning_rate: 0.01.into(), weight_decay: 0.1, ..AdamW::default() };
    OptimizerConfig::AdamW(config).build().unwrap()
}

fn sgd(learning_rate: f64) -> Box<dyn Optimizer> {
    OptimizerConfig::Sgd(Sgd { learning_rate: learning_rate.into() }).build().unwrap()
}

fn sgdm() -> Box<dyn Optimizer> {
    OptimizerConfig::Sgdm(Sgdm { learning_rate: 0.1.into(), momentum: 0.9 }).build().unwrap()
}

fn train(optimizer: &mut LearnedOptimizer, map: &VarMap, steps: std::ops::Range<u32>) {
    for step in steps {
        optimizer.backward_step(&loss(map, step)).unwrap();
    }
}

#[test]
fn a_model_follows_the_same_path_as_its_parameters_by_hand() {
    for (by_hand, optimizer) in all().into_iter().zip(all()) {
        let map = var_map(&MODEL);
        let mut state = by_hand.init(params(|name| var(&map, name).as_tensor().clone()), &[STEPS]).unwrap();
        let mut optimizer = LearnedOptimizer::new(optimizer, &map, STEPS).unwrap();
        let start = map_bits(&map);
        for step in 0..STEPS {
            let loss = loss(&map, step);
            let grads = loss.backward().unwrap();
            let grads_by_hand = params(|name| grads.get(&var(&map, name)).unwrap().clone());
            state = by_hand.update(state, &grads_by_hand, &[loss.to_scalar().unwrap()]).unwrap();
            optimizer.step(&loss, &grads).unwrap();
            for (index, (name, _, axes)) in MODEL.iter().enumerate() {
                let trained = in_reference(&var(&map, name), axes);
                let name_of = format!("{} {name}, step {step}", by_hand.name());
                assert_eq!(bits(&trained), bits(state.params.lane(index, 0)), "{name_of}");
            }
        }
        assert_eq!(optimizer.steps_made(), STEPS);
        let moved = start.iter().zip(map_bits(&map)).all(|(before, after)| *before != after);
        assert!(moved, "{} left a variable where it was", by_hand.name());
    }
}

#[test]
fn gradients_may_be_views() {
    let (map, of_views) = (var_map(&MODEL), var_map(&MODEL));
    let [mut optimizer, mut other] = [&map, &of_views].map(|map| LearnedOptimizer::new(hyper(), map, STEPS).unwrap());
    for step in 0..STEPS {
        optimizer.backward_step(&loss(&map, step)).unwrap();
        let loss = loss(&of_views, step);
        let mut grads = loss.backward().unwrap();
        for (name, shape, _) in MODEL {
            let var = var(&of_views, name);
            let reversed: Vec<usize> = (0..shape.len()).rev().collect();
            if shape.len() > 1 {
                // Twice reversed and in between copied: the same values, laid out backward.
                let copy = grads.get(&var).unwrap().permute(reversed.clone()).unwrap().contiguous().unwrap();
                let view = copy.permute(reversed).unwrap();
                assert!(!view.is_contiguous());
                grads.insert(&var, view);
            }
        }
        other.step(&loss, &grads).unwrap();
    }
    assert_eq!(map_bits(&map), map_bits(&of_views));
}

#[test]
fn the_order_of_axes_matters_where_axes_are_tied_and_only_to_factored_moments() {
    for optimizer in all() {
        let factored = matches!(optimizer.name(), "adafac_mlp" | "hyper_v2");
        let again = all().into_iter().find(|other| format!("{other:?}") == format!("{optimizer:?}")).unwrap();
        let [inferred, as_is] = [(optimizer, None), (again, Some(Role::AsIs))].map(|(optimizer, role)| {
            let map = var_map(&MODEL);
            let mut variables = Variables::from(&map);
            if let Some(role) = role {
                variables = variables.with_role("l1.weight", role).unwrap();
            }
            train(&mut LearnedOptimizer::new(optimizer, variables, STEPS).unwrap(), &map, 0..STEPS);
            bits(&values(&var(&map, "l1.weight")))
        });
        assert_eq!(inferred != as_is, factored, "a square matrix, rows and columns exchanged");
    }
}

#[test]
fn results_do_not_depend_on_the_order_of_names() {
    let run = |map: VarMap| {
        let mut optimizer = LearnedOptimizer::new(hyper(), &map, STEPS).unwrap();
        assert_eq!(optimizer.names().collect::<Vec<_>>(), MODEL.map(|(name, ..)| name));
        train(&mut optimizer, &map, 0..STEPS);
        map_bits(&map)
    };
    let expected = run(var_map(&MODEL));
    for _ in 0..5 {
        // Each map has its own order; the reverse of insertion on top.
        assert_eq!(run(var_map(MODEL.iter().rev())), expected);
    }
}

#[test]
fn a_list_of_variables_keeps_its_order_and_takes_roles_from_ranks_or_as_given() {
    let run = |variables: &dyn Fn(&VarMap) -> Variables| {
        let map = var_map(&MODEL);
        let mut optimizer = LearnedOptimizer::new(hyper(), variables(&map), STEPS).unwrap();
        train(&mut optimizer, &map, 0..STEPS);
        map_bits(&map)
    };
    let list = |map: &VarMap| MODEL.iter().map(|(name, ..)| var(map, name)).collect::<Vec<_>>();
    let named = run(&|map| Variables::from(map));
    let as_linear = run(&|map| Variables::from(map).with_role("embed.weight", Role::Linear).unwrap());
    assert_ne!(named, as_linear);
    assert_eq!(run(&|map| list(map).into()), as_linear, "without names, a table is taken for a linear layer");
    assert_eq!(run(&|map| Variables::from(list(map)).with_role("1", Role::Embedding).unwrap()), named);
    let roles =
        [Role::Conv2d, Role::Embedding, Role::AsIs, Role::Linear, Role::Linear, Role::AsIs, Role::Conv2d, Role::Conv1d];
    assert_eq!(run(&|map| roles.into_iter().zip(list(map)).collect::<Vec<_>>().into()), named);
}

#[test]
fn variables_are_the_truth() {
    let map = var_map(&MODEL);
    let mut optimizer = LearnedOptimizer::new(sgd(0.5), &map, STEPS).unwrap();
    train(&mut optimizer, &map, 0..1);
    let scale = var(&map, "scale");
    scale.set(&Tensor::new(8.0_f32, &Device::Cpu).unwrap()).unwrap();
    let loss = loss(&map, 1);
    let grads = loss.backward().unwrap();
    let slope: f32 = grads.get(&scale).unwrap().to_scalar().unwrap();
    optimizer.step(&loss, &grads).unwrap();
    assert_eq!(scale.to_scalar::<f32>().unwrap(), (8.0 - 0.5 * f64::from(slope)) as f32);
}

#[test]
fn a_delta_is_what_a_step_would_add() {
    for optimizer in [hyper as fn() -> _, adam_w] {
        let (stepped, added) = (var_map(&MODEL), var_map(&MODEL));
        let [mut by_step, mut by_delta] =
            [&stepped, &added].map(|map| LearnedOptimizer::new(optimizer(), map, STEPS).unwrap());
        for step in 0..STEPS {
            let before = map_bits(&added);
            let loss_of_added = loss(&added, step);
            let grads = loss_of_added.backward().unwrap();
            let deltas = by_delta.update(&loss_of_added, &grads).unwrap();
            assert_eq!(map_bits(&added), before, "the variables stay");
            assert_eq!(by_delta.steps_made(), step + 1);
            for ((name, shape, _), delta) in MODEL.iter().zip(&deltas) {
                assert_eq!(delta.dims(), *shape);
                let old = var(&added, name);
                old.set(&(old.as_tensor() + delta).unwrap()).unwrap();
            }
            by_step.backward_step(&loss(&stepped, step)).unwrap();
            for (name, ..) in MODEL {
                for (a, b) in values(&var(&stepped, name)).iter().zip(values(&var(&added, name))) {
                    assert!((a - b).abs() <= 1e-6 * (1.0 + a.abs()), "{name}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn a_validation_loss_is_heard_by_who_listens_and_moves_nothing() {
    let rnn = || {
        let rnn = LearnedOptimizerConfig::RnnMlp(Default::default()).build().unwrap();
        rnn.bind(thetas(rnn.as_ref(), 1)).unwrap()
    };
    for (optimizer, listens) in [(adam_w as fn() -> _, false), (rnn, true)] {
        let (told, untold) = (var_map(&MODEL), var_map(&MODEL));
        let [mut hears, mut does_not] =
            [&told, &untold].map(|map| LearnedOptimizer::new(optimizer(), map, STEPS).unwrap());
        train(&mut hears, &told, 0..2);
        train(&mut does_not, &untold, 0..2);
        hears.observe_validation(&Tensor::new(0.5_f32, &Device::Cpu).unwrap()).unwrap();
        let nan = hears.observe_validation(&Tensor::new(f32::NAN, &Device::Cpu).unwrap()).unwrap_err();
        assert!(matches!(nan, Error::NotFinite { .. }), "{nan}");
        assert_eq!(map_bits(&told), map_bits(&untold));
        train(&mut hears, &told, 2..4);
        train(&mut does_not, &untold, 2..4);
        assert_eq!(map_bits(&told) != map_bits(&untold), listens);
    }
}

#[test]
fn velo_in_one_line_trains_a_model_is_named_inside_and_needs_the_loss() {
    let theta = HyperV2::new(HyperV2Config::velo()).unwrap().init_theta(Seed::new(1));
    let velo = || HyperV2::velo(STEPS).max_training_steps(2).weight_decay(1e-6).theta(theta.clone()).unwrap();
    let map = var_map(&MODEL);
    let start = map_bits(&map);
    let mut optimizer = LearnedOptimizer::new(velo(), &map, STEPS).unwrap();
    assert!(optimizer.optimizer().needs_loss());
    // Three gradients to one update.
    train(&mut optimizer, &map, 0..2);
    assert_eq!(map_bits(&map), start);
    let bytes = optimizer.to_bytes().unwrap();
    train(&mut optimizer, &map, 2..STEPS);
    assert!(start.iter().zip(map_bits(&map)).all(|(before, after)| *before != after));

    let fresh = var_map(&MODEL);
    let mut restored = LearnedOptimizer::new(velo(), &fresh, STEPS).unwrap();
    restored.restore(&bytes).unwrap();
    train(&mut restored, &fresh, 2..STEPS);
    assert_eq!(map_bits(&fresh), map_bits(&map));

    let bare = HyperV2::new(HyperV2Config::velo()).unwrap().bind(theta.clone()).unwrap();
    let said = LearnedOptimizer::new(bare, &fresh, STEPS).unwrap().restore(&bytes).unwrap_err().to_string();
    assert!(said.contains("is hyper_v2, the state's weight_decay(gradient_accumulation(hyper_v2))"), "{said}");
    let other = LearnedOptimizer::new(velo(), &fresh, STEPS + 1).unwrap_err();
    assert!(matches!(other, Error::Setting { .. }), "{other}");
}

#[test]
fn names_of_any_kind_are_kept_apart() {
    // Sorting is by bytes, and "10" comes before "9": what a list calls its variables must not be sorted.
    let mut draws = Draws::new(Seed::new(1));
    let vars: Vec<Var> = (0..12).map(|_| Var::new(draws.normal(), &Device::Cpu).unwrap()).collect();
    let optimizer = LearnedOptimizer::new(adam_w(), vars, 9).unwrap();
    assert_eq!(optimizer.names().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
}
