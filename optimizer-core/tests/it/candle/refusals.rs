//! What cannot be trained or stepped is refused by name, and nothing has moved.

use super::*;

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
