//! A training put down and taken up: from its bytes, and from a checkpoint.

use super::*;

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
