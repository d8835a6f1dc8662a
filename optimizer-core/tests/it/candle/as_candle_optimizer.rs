//! Where candle's own optimizers stand: in loops that know its trait only.

use super::*;

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
