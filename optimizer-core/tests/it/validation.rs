//! Validation losses reach an optimizer that listens through whatever is wrapped around it.

use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig, RnnMlpConfig};
use paceline_optimizer_core::optimizer::wrapper::{
    ExtendTime, GlobalNormClip, GradientAccumulation, GradientClip, Graft, Warp, WeightDecay,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use paceline_optimizer_core::{Layout, Params, Seed, TensorSpec};

fn rnn_mlp() -> Box<dyn Optimizer> {
    let learned = LearnedOptimizerConfig::RnnMlp(RnnMlpConfig::default()).build().unwrap();
    learned.bind(learned.init_theta(Seed::new(1))).unwrap()
}

fn params() -> Params {
    let layout = Layout::new(vec![TensorSpec::new("w", [2, 3])]).unwrap();
    Params::from_tensors(&layout, 1, vec![vec![0.3, -0.1, 0.7, 0.2, -0.9, 0.4]]).unwrap()
}

/// What a state remembers of validation losses, wherever in it that lies.
fn heard(state: &OptState) -> Vec<(String, Vec<f32>)> {
    let slots = state.slots.iter().filter(|slot| slot.name.contains("valid_loss"));
    slots.map(|slot| (slot.name.clone(), slot.values.clone())).collect()
}

fn after(optimizer: &dyn Optimizer, loss: f32) -> OptState {
    let state = optimizer.init(params(), &[50]).unwrap();
    optimizer.observe_validation(state, &[loss]).unwrap()
}

#[test]
fn every_wrapper_passes_validation_losses_on() {
    let alone = heard(&after(rnn_mlp().as_ref(), 1.5));
    assert!(alone.iter().any(|(_, values)| values.iter().any(|value| *value != 0.0)), "{alone:?}");
    let wrapped: [(&str, Box<dyn Optimizer>); 4] = [
        ("clip", Box::new(GradientClip::new(rnn_mlp(), 1.0).unwrap())),
        ("norm", Box::new(GlobalNormClip::new(rnn_mlp(), 1.0).unwrap())),
        ("accumulation", Box::new(GradientAccumulation::new(rnn_mlp(), 3).unwrap())),
        ("time", Box::new(ExtendTime::new(rnn_mlp(), Warp::Factor(2.0)).unwrap())),
    ];
    for (name, optimizer) in wrapped {
        let state = after(optimizer.as_ref(), 1.5);
        assert_eq!(heard(&state), alone, "{name}");
        assert_eq!(state.params, params(), "{name}: parameters never move");
        // The state is still one of this optimizer.
        optimizer.update(state, &params(), &[1.0]).unwrap();
    }
    let graft = Graft::new(rnn_mlp(), rnn_mlp());
    let values = |heard: Vec<(String, Vec<f32>)>| heard.into_iter().map(|(_, values)| values).collect::<Vec<_>>();
    let both = [values(alone.clone()), values(alone)].concat();
    assert_eq!(values(heard(&after(&graft, 1.5))), both);
}

#[test]
fn weight_decay_is_part_of_the_loss_that_is_told() {
    let decay = WeightDecay::new(rnn_mlp(), 0.5, true).unwrap();
    let square: f64 = params().tensor(0).iter().map(|p| f64::from(*p) * f64::from(*p)).sum();
    let penalised = (1.5 + 0.5 * square) as f32;
    assert_eq!(heard(&after(&decay, 1.5)), heard(&after(rnn_mlp().as_ref(), penalised)));
}

#[test]
fn time_counts_a_validation_only_where_somebody_listens() {
    let adam =
        paceline_optimizer_core::optimizer::OptimizerConfig::Adam(paceline_optimizer_core::optimizer::Adam::new(0.1));
    let deaf = ExtendTime::new(adam.build().unwrap(), Warp::Factor(2.0)).unwrap();
    let fresh = deaf.init(params(), &[50]).unwrap();
    let later = deaf.update(deaf.update(fresh, &params(), &[1.0]).unwrap(), &params(), &[1.0]).unwrap();
    assert_eq!(deaf.observe_validation(later.clone(), &[1.0]).unwrap(), later);
    let listens = ExtendTime::new(rnn_mlp(), Warp::Factor(2.0)).unwrap();
    let once = after(&listens, 1.0);
    let twice = listens.observe_validation(once.clone(), &[1.0]).unwrap();
    assert_eq!((once.step[0], twice.step[0]), (1, 3), "shown 0 and 2, counted once each");
}

/// The buffer of losses counts for itself: another time, however far away, does not change what it makes of them.
#[test]
fn a_warped_time_leaves_the_losses_alone() {
    let config = HyperV2Config { lstm_hidden_size: 8, param_inits: 4, ..HyperV2Config::default() };
    let bound = || {
        let learned = LearnedOptimizerConfig::HyperV2(config.clone()).build().unwrap();
        learned.bind(learned.init_theta(Seed::new(1))).unwrap()
    };
    let buffers = |optimizer: &dyn Optimizer| {
        let mut state = optimizer.init(params(), &[50]).unwrap();
        for loss in [2.0, 1.5, 1.75, 1.2, 0.9] {
            state = optimizer.update(state, &params(), &[loss]).unwrap();
        }
        let slots = state.slots.iter().filter(|slot| slot.name.starts_with("loss/"));
        slots.map(|slot| slot.values.clone()).collect::<Vec<_>>()
    };
    let alone = buffers(bound().as_ref());
    for factor in [0.5, 100.0, 1e10] {
        let warped = ExtendTime::new(bound(), Warp::Factor(factor)).unwrap();
        assert_eq!(buffers(&warped), alone, "{factor}");
    }
}
