//! Saved states of optimizers: the next step is the same to the bit, and nothing else than the right bytes is continued.

use std::sync::Arc;

use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::wrapper::{
    ExtendTime, GlobalNormClip, GradientAccumulation, GradientClip, Graft, Warp, WeightDecay,
};
use paceline_optimizer_core::optimizer::{OptState, Optimizer, OptimizerConfig, Schedule};
use paceline_optimizer_core::{Error, Theta};
use safetensors::SafeTensors;

use crate::optimizers::{HORIZONS, bits, learned, random, thetas, train};

/// The optimizer that a recipe calls so, with its default settings.
fn named(kind: &str) -> Box<dyn Optimizer> {
    toml::from_str::<OptimizerConfig>(&format!("kind = {kind:?}")).unwrap().build().unwrap()
}

/// Learned optimizers beside those of [`crate::optimizers`], as a recipe says them.
fn more_learned() -> impl Iterator<Item = Arc<dyn LearnedOptimizer>> {
    let recipes = [
        "kind = 'rnn_mlp'",
        "kind = 'nn_adam'",
        "kind = 'mlp'",
        "kind = 'mlp_nominal'",
        "kind = 'learnable_sgd'",
        "kind = 'learnable_sgdm'",
        "kind = 'celo'",
        "kind = 'celo2'\nform = 'base'",
        "kind = 'celo2'\nform = 'meta'",
        "kind = 'celo2'\nform = 'shipped'\nlearning_rate = 0.01",
    ];
    recipes.into_iter().map(|recipe| toml::from_str::<LearnedOptimizerConfig>(recipe).unwrap().build().unwrap())
}

fn hand_designed() -> Vec<Box<dyn Optimizer>> {
    let kinds = "sgd sgdm adam adam_w rmsprop nadamw lamb lars radam yogi adabelief adagrad adafactor sm3 fromage muon \
                 piecewise_linear_adam adam_sqrt_decay_lr adam_exp_decay_lr";
    kinds.split(' ').map(named).collect()
}

fn hyper() -> (Arc<dyn LearnedOptimizer>, Theta) {
    let config = HyperV2Config {
        lstm_hidden_size: 9,
        param_inits: 5,
        use_bugged_loss_features: false,
        ..HyperV2Config::default()
    };
    let hyper = LearnedOptimizerConfig::HyperV2(config).build().unwrap();
    let theta = thetas(hyper.as_ref(), 3);
    (hyper, theta)
}

fn bound_hyper() -> Box<dyn Optimizer> {
    let (hyper, theta) = hyper();
    hyper.bind(theta).unwrap()
}

/// Wrappers in wrappers, of the same kind too, around an optimizer that knows time and loss.
fn nested() -> Box<dyn Optimizer> {
    let accumulated = GradientAccumulation::new(bound_hyper(), 2).unwrap();
    let twice = GradientAccumulation::new(Box::new(accumulated), 2).unwrap();
    let decayed = WeightDecay::new(Box::new(twice), 0.01, true).unwrap();
    let clipped = GradientClip::new(Box::new(GlobalNormClip::new(Box::new(decayed), 9.0).unwrap()), 3.0).unwrap();
    let extended = ExtendTime::new(Box::new(clipped), Warp::Factor(1.5)).unwrap();
    Box::new(Graft::new(named("adam"), Box::new(extended)))
}

fn all() -> Vec<Box<dyn Optimizer>> {
    let bind = |optimizer: &dyn LearnedOptimizer| optimizer.bind(thetas(optimizer, 3)).unwrap();
    let bound = learned().into_iter().chain(more_learned()).map(|optimizer| bind(optimizer.as_ref()));
    hand_designed().into_iter().chain(bound).chain([bound_hyper(), nested()]).collect()
}

fn fresh(optimizer: &dyn Optimizer) -> OptState {
    optimizer.init(random(1, 3), &HORIZONS).unwrap()
}

#[test]
fn the_next_step_of_a_restored_state_is_the_same_to_the_bit() {
    for optimizer in all() {
        let name = optimizer.name();
        // The third lane diverges in step 1: NaN is part of the state.
        let saved = train(optimizer.as_ref(), fresh(optimizer.as_ref()), 0, 3, &[0, 1, 2]);
        assert!(bits(&saved).into_iter().any(|bits| f32::from_bits(bits).is_nan()), "{name} has no NaN to keep");
        let bytes = saved.to_bytes(optimizer.as_ref()).unwrap();

        let again = all().into_iter().find(|other| format!("{other:?}") == format!("{optimizer:?}")).unwrap();
        let zeros = again.init(random(77, 3), &HORIZONS).unwrap();
        let restored = OptState::from_bytes(&bytes, again.as_ref(), &zeros).unwrap();
        assert_eq!(bits(&restored), bits(&saved), "{name}");
        assert_eq!((&restored.step, &restored.horizon), (&saved.step, &saved.horizon));
        assert_eq!(restored.params.layout(), saved.params.layout());
        let names = |state: &OptState| state.slots.iter().map(|slot| slot.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&restored), names(&saved));
        assert_eq!(restored.to_bytes(again.as_ref()).unwrap(), bytes, "{name}: equal states are equal bytes");

        let next = train(again.as_ref(), restored, 3, 3, &[0, 1, 2]);
        let straight = train(optimizer.as_ref(), saved, 3, 3, &[0, 1, 2]);
        assert_eq!(bits(&next), bits(&straight), "{name}");
    }
}

#[test]
fn odd_numbers_keep_their_bits() {
    let sgd = named("sgd");
    let mut state = fresh(sgd.as_ref());
    let odd = [0x7FC0_0001, 0xFFC1_2345, 0x7F80_0000, 0xFF80_0000, 0x8000_0000, 1, 0x7F7F_FFFF];
    for (value, bits) in state.params.tensor_mut(0).iter_mut().zip(odd) {
        *value = f32::from_bits(bits);
    }
    let bytes = state.to_bytes(sgd.as_ref()).unwrap();
    let restored = OptState::from_bytes(&bytes, sgd.as_ref(), &fresh(sgd.as_ref())).unwrap();
    assert_eq!(bits(&restored), bits(&state));
    assert_eq!(bits(&restored)[..odd.len()], odd);
}

#[test]
fn a_state_goes_on_only_under_the_optimizer_that_made_it() {
    let [adam, adam_w] = ["adam", "adam_w"].map(named);
    let state = fresh(adam.as_ref());
    let bytes = state.to_bytes(adam.as_ref()).unwrap();
    let said = |optimizer: &dyn Optimizer, fresh: &OptState, bytes: &[u8]| {
        OptState::from_bytes(bytes, optimizer, fresh).unwrap_err().to_string()
    };
    let other = said(adam_w.as_ref(), &fresh(adam_w.as_ref()), &bytes);
    assert!(other.contains("its optimizer is adam_w, the state's adam"), "{other}");
    let planned = said(adam.as_ref(), &adam.init(random(1, 3), &[7, 100, 2001]).unwrap(), &bytes);
    assert!(planned.contains("horizon is [7, 100, 2001], the state's [7, 100, 2000]"), "{planned}");
    let fewer = OptState::from_bytes(&bytes, adam.as_ref(), &state.select(&[0, 1])).unwrap_err();
    assert!(matches!(fewer, Error::Lanes { expected: 2, got: 3, .. }), "{fewer}");

    for learned in learned().into_iter().chain(more_learned()) {
        let theta = thetas(learned.as_ref(), 3);
        let mut moved = theta.clone();
        moved.values_mut()[1] += 1.0;
        let [bound, moved] = [theta, moved].map(|theta| learned.bind(theta).unwrap());
        let state = fresh(bound.as_ref());
        let said = said(moved.as_ref(), &state, &state.to_bytes(bound.as_ref()).unwrap());
        let hash = bound.theta_hash().unwrap().to_string();
        assert!(said.contains("its theta is") && said.contains(&hash), "{said}");
    }
}

#[test]
fn what_is_wrapped_is_part_of_the_name() {
    let decayed = |inner| WeightDecay::new(inner, 0.1, true).unwrap();
    let [of_adam, of_adam_w] = ["adam", "adam_w"].map(|kind| decayed(named(kind)));
    let bytes = fresh(&of_adam).to_bytes(&of_adam).unwrap();
    OptState::from_bytes(&bytes, &of_adam, &fresh(&of_adam)).unwrap();
    let said = OptState::from_bytes(&bytes, &of_adam_w, &fresh(&of_adam_w)).unwrap_err().to_string();
    assert!(said.contains("its optimizer is weight_decay(adam_w), the state's weight_decay(adam)"), "{said}");

    let (hyper, mut theta) = hyper();
    let bytes = fresh(&decayed(bound_hyper())).to_bytes(&decayed(bound_hyper())).unwrap();
    theta.values_mut()[1] += 1.0;
    let of_moved = decayed(hyper.bind(theta).unwrap());
    let said = OptState::from_bytes(&bytes, &of_moved, &fresh(&of_moved)).unwrap_err().to_string();
    assert!(said.contains("its theta is"), "{said}");
}

#[test]
fn another_learning_rate_may_continue() {
    let wrapped = |kind| -> Box<dyn Optimizer> {
        let inner = ExtendTime::new(named(kind), Warp::Factor(2.0)).unwrap();
        Box::new(GradientClip::new(Box::new(WeightDecay::new(Box::new(inner), 0.1, true).unwrap()), 3.0).unwrap())
    };
    let celo2 = |optimizer: Arc<dyn LearnedOptimizer>| optimizer.bind(thetas(optimizer.as_ref(), 1)).unwrap();
    let with_rate = more_learned().map(celo2).filter(|optimizer| optimizer.learning_rate(0, 9).is_some());
    let hand_designed = ["sgd", "sgdm", "adam", "adam_w", "yogi"].map(named).into_iter().chain([wrapped("lamb")]);
    let mut celo2s = 0;
    for optimizer in hand_designed.chain(with_rate) {
        celo2s += usize::from(optimizer.name() == "celo2");
        let name = optimizer.name();
        let rate = optimizer.learning_rate(0, 9).unwrap();
        let slower = optimizer.with_learning_rate(0.1 * rate).unwrap();
        assert_eq!((slower.name(), slower.learning_rate(5, 9)), (name, Some(0.1 * rate)));
        let state = train(optimizer.as_ref(), fresh(optimizer.as_ref()), 0, 1, &[0, 1, 2]);
        let bytes = state.to_bytes(optimizer.as_ref()).unwrap();
        let restored = OptState::from_bytes(&bytes, slower.as_ref(), &fresh(slower.as_ref())).unwrap();
        let next = |optimizer: &dyn Optimizer| train(optimizer, restored.clone(), 2, 1, &[0, 1, 2]);
        let (fast, slow) = (next(optimizer.as_ref()), next(slower.as_ref()));
        for tensor in [0, 2] {
            let moved = |state: &OptState| state.params.tensor(tensor)[5] - restored.params.tensor(tensor)[5];
            let ratio = moved(&fast) / moved(&slow);
            assert!((ratio - 10.0).abs() < 0.02, "{name}: ten times the learning rate goes {ratio} times as far");
        }
        assert_eq!(fast.slots, slow.slots, "{name}: moments do not depend on it");
    }
    assert_eq!(celo2s, 2, "the forms with one rate for all tensors");
    let none = |optimizer: &dyn Optimizer| {
        optimizer.learning_rate(0, 9).is_none() && optimizer.with_learning_rate(0.1).is_none()
    };
    for learned in learned() {
        assert!(none(learned.bind(thetas(learned.as_ref(), 1)).unwrap().as_ref()), "theta's own: {learned:?}");
    }
    assert!(none(nested().as_ref()) && none(named("muon").as_ref()), "there are two");
}

#[test]
fn a_learning_rate_is_that_of_the_time_the_optimizer_sees() {
    let line = Schedule::Linear { init_value: 0.0, end_value: 1.0, steps: 100 };
    let text = "kind = \"adam\"\nlearning_rate = { kind = \"linear\", init_value = 0, end_value = 1, steps = 100 }";
    let adam = || toml::from_str::<OptimizerConfig>(text).unwrap().build().unwrap();
    assert_eq!(adam().learning_rate(30, 100), Some(line.value(30, 100)));
    let half = GradientAccumulation::new(adam(), 2).unwrap();
    assert_eq!(half.learning_rate(61, 200), Some(line.value(30, 100)));
    let fast = ExtendTime::new(adam(), Warp::Factor(3.0)).unwrap();
    assert_eq!(fast.learning_rate(10, 40), Some(line.value(30, 120)));
    assert_eq!(fast.with_learning_rate(0.5).unwrap().learning_rate(10, 40), Some(0.5), "constant from then on");
}

#[test]
fn damage_is_found_wherever_it_is() {
    let sgd = named("sgd");
    let state = fresh(sgd.as_ref()).select(&[0]);
    let mut bytes = state.to_bytes(sgd.as_ref()).unwrap();
    let damaged = |bytes: &[u8]| match OptState::from_bytes(bytes, sgd.as_ref(), &state) {
        Err(Error::SavedState { .. }) => (),
        other => panic!("{other:?}"),
    };
    for length in 0..bytes.len() {
        damaged(&bytes[..length]);
    }
    for place in 0..bytes.len() {
        let bit = place % 8;
        bytes[place] ^= 1 << bit;
        damaged(&bytes);
        bytes[place] ^= 1 << bit;
    }
    bytes.push(0);
    damaged(&bytes);
    damaged(&[0xFF; 64]);
    damaged(&[]);
    // A checkpoint holds theta, not the state of a training.
    let error = Checkpoint::from_bytes(&state.to_bytes(sgd.as_ref()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not written by paceline"), "{error}");
}

#[test]
fn any_tool_can_read_it() {
    let bound = bound_hyper();
    let state = train(bound.as_ref(), fresh(bound.as_ref()), 0, 1, &[0, 1, 2]);
    let bytes = state.to_bytes(bound.as_ref()).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let decays = state.slots.iter().position(|slot| slot.name == "loss/decays").unwrap();
    let view = file.tensor(&format!("slots/{decays}/loss/decays")).unwrap();
    assert_eq!(view.shape(), [3, 10]);
    let last = f32::from_le_bytes(view.data()[2 * 40 + 36..][..4].try_into().unwrap());
    assert_eq!(last, state.slots[decays].lane(2)[9]);
    assert_eq!(file.tensor("params/conv").unwrap().shape(), [3, 3, 3, 2, 4]);
    assert_eq!(file.tensor("step").unwrap().data(), [1, 0, 0, 0].repeat(3));
}

#[test]
fn who_needs_the_loss_says_so() {
    let mut needy = Vec::new();
    for optimizer in all() {
        let run = |loss: f32| {
            let state = fresh(optimizer.as_ref());
            let mut state = optimizer.update(state, &random(2, 3), &[1.0; 3]).unwrap();
            // So long that a buffer of losses behind two accumulators gives features.
            for step in 0..30 {
                state = optimizer.update(state, &random(3 + step, 3), &[loss * (1.0 + step as f32); 3]).unwrap();
            }
            let params = (0..state.params.layout().len()).flat_map(|index| state.params.tensor(index).to_vec());
            params.map(f32::to_bits).collect::<Vec<_>>()
        };
        let moves = run(0.5) != run(f32::NAN);
        assert_eq!(optimizer.needs_loss(), moves, "{optimizer:?}");
        if moves {
            needy.push(optimizer.name());
        }
    }
    for name in ["hyper_v2", "celo", "rnn_mlp", "graft"] {
        assert!(needy.contains(&name), "{name} is not among {needy:?}");
    }
}
