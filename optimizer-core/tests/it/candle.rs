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
fn a_variable_without_a_gradient_is_named_left_out_or_fed_zeros() {
    let map = var_map(&MODEL);
    let start = map_bits(&map);
    let loss_of_bias = |map: &VarMap| var(map, "l1.bias").sqr().unwrap().sum_all().unwrap();
    let mut optimizer = LearnedOptimizer::new(sgdm(), &map, 9).unwrap();
    let error = optimizer.backward_step(&loss_of_bias(&map)).unwrap_err();
    assert!(matches!(&error, Error::MissingGradient { name } if name == "conv.weight"), "{error}");
    assert!(error.to_string().contains("layer_norm"), "{error}");
    assert_eq!((map_bits(&map), optimizer.steps_made()), (start.clone(), 0));

    let mut optimizer = optimizer.with_missing_gradients(MissingGradients::Zeros);
    optimizer.backward_step(&loss(&map, 0)).unwrap();
    let after_one = map_bits(&map);
    optimizer.backward_step(&loss_of_bias(&map)).unwrap();
    let moved =
        |before: &[Vec<u32>]| before.iter().zip(map_bits(&map)).filter(|(before, after)| *before != after).count();
    assert_eq!(moved(&after_one), MODEL.len(), "momentum moves them all");

    let map = var_map(&MODEL);
    let variables = Variables::from(&map).retain(|name| name == "l1.bias");
    LearnedOptimizer::new(hyper(), variables, 9).unwrap().backward_step(&loss_of_bias(&map)).unwrap();
    let changed: Vec<bool> = start.iter().zip(map_bits(&map)).map(|(before, after)| *before != after).collect();
    assert_eq!(changed, MODEL.map(|(name, ..)| name == "l1.bias"));
}

#[test]
fn candle_drops_gradients_through_its_fused_layer_norm_and_this_says_so() {
    let map = VarMap::new();
    let builder = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let first = candle_nn::linear(4, 4, builder.pp("first")).unwrap();
    let norm = candle_nn::layer_norm(4, 1e-5, builder.pp("norm")).unwrap();
    let x = normal(1, &[3, 4]);
    let loss = norm.forward(&first.forward(&x).unwrap()).unwrap().sqr().unwrap().sum_all().unwrap();
    let error = LearnedOptimizer::new(adam_w(), &map, 9).unwrap().backward_step(&loss).unwrap_err();
    assert!(matches!(&error, Error::MissingGradient { name } if name == "first.bias"), "{error}");
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    let said = |variables: Variables| LearnedOptimizer::new(adam_w(), variables, 9).unwrap_err().to_string();
    let map = var_map(&MODEL);
    map.get(3, "half", Init::Const(0.), DType::F16, &Device::Cpu).unwrap();
    let half = said(Variables::from(&map));
    assert!(half.contains("\"half\"") && half.contains("F16"), "{half}");
    LearnedOptimizer::new(adam_w(), Variables::from(&map).retain(|name| name != "half"), 9).unwrap();

    let twice = var(&map, "scale");
    let twice = said(vec![twice.clone(), twice].into());
    assert!(twice.contains("variable \"1\"") && twice.contains("same variable"), "{twice}");
    let role = Variables::from(&map).with_role("scale", Role::Linear).unwrap_err().to_string();
    assert!(role.contains("\"scale\"") && role.contains("Linear needs 2 axes"), "{role}");
    let unknown = Variables::from(&map).with_role("scaled", Role::AsIs).unwrap_err().to_string();
    assert!(unknown.contains("\"scaled\""), "{unknown}");
    let given = said(vec![(Role::Conv2d, var(&map, "scale"))].into());
    assert!(given.contains("Conv2d needs 4 axes"), "{given}");
    let error = LearnedOptimizer::new(hyper(), &var_map(&MODEL), 0).unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
}

/// A step that must be refused, and after which the training goes on as if it had never been tried.
fn assert_refused(word: &str, spoil: impl Fn(&VarMap, &mut Tensor, &mut GradStore)) {
    for optimizer in [hyper as fn() -> _, adam_w] {
        let (map, undisturbed) = (var_map(&MODEL), var_map(&MODEL));
        let [mut tried, mut straight] =
            [&map, &undisturbed].map(|map| LearnedOptimizer::new(optimizer(), map, STEPS).unwrap());
        train(&mut tried, &map, 0..2);
        let before = map_bits(&map);
        let mut loss = loss(&map, 2);
        let mut grads = loss.backward().unwrap();
        spoil(&map, &mut loss, &mut grads);
        let error = tried.step(&loss, &grads).unwrap_err().to_string();
        assert!(error.contains(word), "{error} should say {word}");
        assert_eq!((map_bits(&map), tried.steps_made()), (before, 2), "{word}");
        train(&mut tried, &map, 2..STEPS);
        train(&mut straight, &undisturbed, 0..STEPS);
        assert_eq!(map_bits(&map), map_bits(&undisturbed), "{word}");
    }
}

#[test]
fn a_step_that_is_refused_changes_nothing() {
    let insert = |map: &VarMap, grads: &mut GradStore, name: &str, grad: Tensor| {
        grads.insert(&var(map, name), grad);
    };
    let number = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    assert_refused("loss: not finite", |_, loss, _| *loss = number(f32::NAN));
    assert_refused("loss: not finite", |_, loss, _| *loss = number(f32::INFINITY));
    assert_refused("loss: expected 1 values, got 3", |_, loss, _| *loss = normal(1, &[3]));
    assert_refused("gradient of variable \"wave.weight\": not finite", |map, _, grads| {
        insert(map, grads, "wave.weight", (normal(1, &[4, 4, 4]) / 0.0).unwrap());
    });
    assert_refused("variable \"l2.weight\": its gradient is F32 [5, 7], not F32 [7, 5]", |map, _, grads| {
        insert(map, grads, "l2.weight", normal(1, &[5, 7]));
    });
    assert_refused("variable \"l1.bias\": its gradient is F64 [5]", |map, _, grads| {
        insert(map, grads, "l1.bias", normal(1, &[5]).to_dtype(DType::F64).unwrap());
    });
    assert_refused("variable \"scale\" has no gradient", |map, _, grads| {
        grads.remove(&var(map, "scale"));
    });
}

#[test]
fn a_restored_training_takes_the_same_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    for optimizer in [hyper as fn() -> _, adam_w] {
        let map = var_map(&MODEL);
        let mut straight = LearnedOptimizer::new(optimizer(), &map, STEPS).unwrap();
        train(&mut straight, &map, 0..3);
        // What was done to the variables since the last step is kept as well.
        var(&map, "l1.bias").set(&normal(55, &[5])).unwrap();
        straight.save(&path).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left behind");
        let at_save = map_bits(&map);
        train(&mut straight, &map, 3..STEPS);

        let fresh = var_map(&MODEL);
        var(&fresh, "l2.weight").set(&normal(56, &[7, 5])).unwrap();
        let mut restored = LearnedOptimizer::new(optimizer(), &fresh, STEPS).unwrap();
        restored.load(&path).unwrap();
        assert_eq!((map_bits(&fresh), restored.steps_made()), (at_save, 3));
        assert_eq!(restored.to_bytes().unwrap(), std::fs::read(&path).unwrap());
        train(&mut restored, &fresh, 3..STEPS);
        assert_eq!(map_bits(&fresh), map_bits(&map));
    }
}

#[test]
fn another_training_is_not_restored() {
    let map = var_map(&MODEL);
    let mut optimizer = LearnedOptimizer::new(hyper(), &map, STEPS).unwrap();
    train(&mut optimizer, &map, 0..2);
    let bytes = optimizer.to_bytes().unwrap();
    let said = |mut other: LearnedOptimizer, bytes: &[u8]| {
        let error = other.restore(bytes).unwrap_err().to_string();
        assert_eq!(other.steps_made(), 0);
        error
    };
    let fresh = var_map(&MODEL);
    let start = map_bits(&fresh);
    let new = |optimizer, variables, steps| LearnedOptimizer::new(optimizer, variables, steps).unwrap();
    let all_of = || Variables::from(&fresh);
    for (said, word) in [
        (said(new(adam_w(), all_of(), STEPS), &bytes), "its optimizer is adam_w"),
        (said(new(hyper(), all_of(), STEPS + 1), &bytes), "its horizon is [7], the state's [6]"),
        (said(new(hyper(), all_of().retain(|name| name != "scale"), STEPS), &bytes), "order of axes"),
        (said(new(hyper(), all_of().with_role("l1.weight", Role::AsIs).unwrap(), STEPS), &bytes), "order of axes"),
        (said(new(hyper(), all_of(), STEPS), &bytes[..bytes.len() - 1]), "not a whole safetensors file"),
    ] {
        assert!(said.contains(word), "{said} should say {word}");
    }
    let list: Vec<Var> = MODEL.iter().map(|(name, ..)| var(&fresh, name)).collect();
    let renamed = said(new(hyper(), Variables::from(list).with_role("1", Role::Embedding).unwrap(), STEPS), &bytes);
    assert!(renamed.contains("saved parameters"), "{renamed}");
    let error = new(hyper(), all_of(), STEPS).load("/nowhere/training.safetensors").unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert!(optimizer.save("/nowhere/training.safetensors").is_err());
    assert_eq!(map_bits(&fresh), start, "nothing was changed");
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

/// A training loop as people write them, which knows candle's trait only.
fn generic<O: candle_nn::Optimizer>(map: &VarMap, config: O::Config) -> candle_core::Result<O> {
    let vars = MODEL.iter().map(|(name, ..)| var(map, name)).collect();
    let mut optimizer = O::new(vars, config)?;
    for step in 0..STEPS {
        optimizer.backward_step(&loss(map, step))?;
    }
    Ok(optimizer)
}

/// Another such loop, which takes gradients and loss apart.
fn generic_steps<O: candle_nn::Optimizer>(map: &VarMap, config: O::Config) -> candle_core::Result<O> {
    let vars = MODEL.iter().map(|(name, ..)| var(map, name)).collect();
    let mut optimizer = O::new(vars, config)?;
    for step in 0..STEPS {
        optimizer.step(&loss(map, step).backward()?)?;
    }
    Ok(optimizer)
}

fn config(optimizer: Box<dyn Optimizer>) -> Config {
    Config { optimizer, num_steps: STEPS, missing_gradients: MissingGradients::Refuse }
}

#[test]
fn generic_training_loops_work() {
    for optimizer in [hyper as fn() -> _, adam_w] {
        let (own, generic_map) = (var_map(&MODEL), var_map(&MODEL));
        let list: Vec<Var> = MODEL.iter().map(|(name, ..)| var(&own, name)).collect();
        train(&mut LearnedOptimizer::new(optimizer(), list, STEPS).unwrap(), &own, 0..STEPS);
        generic::<LearnedOptimizer>(&generic_map, config(optimizer())).unwrap();
        assert_eq!(map_bits(&generic_map), map_bits(&own));
        let without_loss = var_map(&MODEL);
        match generic_steps::<LearnedOptimizer>(&without_loss, config(optimizer())) {
            Ok(_) => {
                assert_eq!(map_bits(&without_loss), map_bits(&own));
                assert!(!optimizer().needs_loss());
            }
            Err(error) => {
                assert!(optimizer().needs_loss());
                assert!(error.to_string().contains("hyper_v2 needs the training loss"), "{error}");
                assert_eq!(map_bits(&without_loss), map_bits(&var_map(&MODEL)));
            }
        }
    }
}

#[test]
fn adam_w_here_is_adam_w_of_candle() {
    let (ours, theirs) = (var_map(&MODEL), var_map(&MODEL));
    generic::<LearnedOptimizer>(&ours, config(adam_w())).unwrap();
    let settings = candle_nn::ParamsAdamW { lr: 0.01, weight_decay: 0.1, ..Default::default() };
    generic::<candle_nn::AdamW>(&theirs, settings).unwrap();
    for (name, ..) in MODEL {
        for (a, b) in values(&var(&ours, name)).iter().zip(values(&var(&theirs, name))) {
            assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{name}: {a}, candle {b}");
        }
    }
}

#[test]
fn a_learning_rate_is_there_or_missed_aloud() {
    let map = var_map(&MODEL);
    let mut adam = LearnedOptimizer::new(adam_w(), &map, STEPS).unwrap();
    assert_eq!(adam.learning_rate(), Some(0.01));
    adam.set_learning_rate(0.0).unwrap();
    let before = map_bits(&map);
    train(&mut adam, &map, 0..1);
    assert_eq!(map_bits(&map), before, "a learning rate of 0 moves nothing");
    assert!(matches!(adam.set_learning_rate(f64::NAN), Err(Error::Setting { .. })));
    assert_eq!(adam.learning_rate(), Some(0.0));

    fn scheduled<O: candle_nn::Optimizer>(optimizer: &mut O, map: &VarMap) -> candle_core::Result<f64> {
        optimizer.set_learning_rate(0.25);
        optimizer.backward_step(&loss(map, 1))?;
        Ok(optimizer.learning_rate())
    }
    assert_eq!(scheduled(&mut adam, &map).unwrap(), 0.25);
    assert_ne!(map_bits(&map), before);
    let mut velo = LearnedOptimizer::new(hyper(), &map, STEPS).unwrap();
    assert!(velo.learning_rate().is_none() && candle_nn::Optimizer::learning_rate(&velo).is_nan());
    let error = velo.set_learning_rate(0.1).unwrap_err().to_string();
    assert!(error.contains("hyper_v2 has no learning rate"), "{error}");
    let before = map_bits(&map);
    let error = scheduled(&mut velo, &map).unwrap_err().to_string();
    assert!(error.contains("hyper_v2 has no learning rate"), "{error}");
    assert_eq!(map_bits(&map), before);
    velo.backward_step(&loss(&map, 1)).unwrap();
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
fn a_checkpoint_trains_as_its_theta_does() {
    let optimizer = LearnedOptimizerConfig::AdafacMlp(Default::default());
    let theta = optimizer.build().unwrap().init_theta(Seed::new(8));
    let meta = CheckpointMeta {
        format: FORMAT,
        run: "run".into(),
        optimizer: optimizer.clone(),
        recipe: None,
        parent: None,
        code_version: "0.1.0".into(),
    };
    let bytes = Checkpoint { meta, state: OuterState::new(theta.clone()) }.to_bytes().unwrap();
    let (from_file, from_theta) = (var_map(&MODEL), var_map(&MODEL));
    let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
    train(&mut LearnedOptimizer::from_checkpoint(&checkpoint, &from_file, STEPS).unwrap(), &from_file, 0..STEPS);
    let bound = optimizer.build().unwrap().bind(theta).unwrap();
    train(&mut LearnedOptimizer::new(bound, &from_theta, STEPS).unwrap(), &from_theta, 0..STEPS);
    assert_eq!(map_bits(&from_file), map_bits(&from_theta));
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

/// Fails in its second update, as an optimizer with a fault would.
#[derive(Debug)]
struct Faulty;

impl Optimizer for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState, Error> {
        OptState::new(params, horizon, Vec::new())
    }

    fn update(&self, mut state: OptState, _: &Params, _: &[f32]) -> Result<OptState, Error> {
        if state.step[0] == 1 {
            return Err(Error::Cancelled);
        }
        state.step[0] += 1;
        Ok(state)
    }
}

#[test]
fn a_fault_inside_the_optimizer_is_not_forgotten_and_can_be_restored() {
    let map = var_map(&MODEL);
    let mut optimizer = LearnedOptimizer::new(Box::new(Faulty), &map, STEPS).unwrap();
    let bytes = optimizer.to_bytes().unwrap();
    train(&mut optimizer, &map, 0..1);
    assert!(matches!(optimizer.backward_step(&loss(&map, 1)), Err(Error::Cancelled)));
    assert!(matches!(optimizer.backward_step(&loss(&map, 1)), Err(Error::StateLost { optimizer: "faulty" })));
    assert!(matches!(optimizer.to_bytes(), Err(Error::StateLost { .. })));
    optimizer.restore(&bytes).unwrap();
    train(&mut optimizer, &map, 0..1);
    assert_eq!(optimizer.steps_made(), 1);
}

#[test]
fn names_of_any_kind_are_kept_apart() {
    // Sorting is by bytes, and "10" comes before "9": what a list calls its variables must not be sorted.
    let mut draws = Draws::new(Seed::new(1));
    let vars: Vec<Var> = (0..12).map(|_| Var::new(draws.normal(), &Device::Cpu).unwrap()).collect();
    let optimizer = LearnedOptimizer::new(adam_w(), vars, 9).unwrap();
    assert_eq!(optimizer.names().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
}
