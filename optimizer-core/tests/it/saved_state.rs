//! Saved states of optimizers: the next step is the same to the bit, and nothing else than the right bytes is continued.

use paceline_optimizer_core::Error;
use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use safetensors::SafeTensors;

use crate::optimizers::{HORIZONS, bits, hand_designed, learned, random, thetas, train};

fn all() -> Vec<Box<dyn Optimizer>> {
    let bind = |optimizer: &dyn LearnedOptimizer| optimizer.bind(thetas(optimizer, 3)).unwrap();
    hand_designed().into_iter().chain(learned().iter().map(|optimizer| bind(optimizer.as_ref()))).collect()
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

        let next = train(again.as_ref(), restored, 3, 2, &[0, 1, 2]);
        let straight = train(optimizer.as_ref(), saved, 3, 2, &[0, 1, 2]);
        assert_eq!(bits(&next), bits(&straight), "{name}");
    }
}

#[test]
fn odd_numbers_keep_their_bits() {
    let [sgd, ..] = hand_designed();
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
    let [adam, adam_w] = [2, 3].map(|index| hand_designed().into_iter().nth(index).unwrap());
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

    for learned in learned() {
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
fn another_learning_rate_may_continue() {
    for optimizer in hand_designed() {
        assert_eq!(optimizer.learning_rate(), Some(0.1), "{}", optimizer.name());
        let slower = optimizer.with_learning_rate(0.01).unwrap();
        assert_eq!((slower.name(), slower.learning_rate()), (optimizer.name(), Some(0.01)));
        let state = train(optimizer.as_ref(), fresh(optimizer.as_ref()), 0, 3, &[0, 1, 2]);
        let bytes = state.to_bytes(optimizer.as_ref()).unwrap();
        let restored = OptState::from_bytes(&bytes, slower.as_ref(), &fresh(slower.as_ref())).unwrap();
        let [fast, slow] =
            [&optimizer, &slower].map(|optimizer| train(optimizer.as_ref(), restored.clone(), 3, 1, &[0, 1, 2]));
        let moved = |state: &OptState| (state.params.tensor(0)[0] - restored.params.tensor(0)[0]).abs();
        let ratio = moved(&fast) / moved(&slow);
        assert!(
            (ratio - 10.0).abs() < 0.01,
            "{}: ten times the learning rate moves {ratio} times as far",
            slower.name()
        );
        let rest = |state: OptState| state.slots;
        let nan_bits = |slots: Vec<_>| format!("{slots:?}");
        assert_eq!(nan_bits(rest(fast)), nan_bits(rest(slow)), "moments do not depend on it");
    }
    for learned in learned() {
        let bound = learned.bind(thetas(learned.as_ref(), 1)).unwrap();
        assert!(bound.learning_rate().is_none() && bound.with_learning_rate(0.1).is_none(), "theta's own");
    }
}

#[test]
fn damage_is_found_wherever_it_is() {
    let [sgd, ..] = hand_designed();
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
    let hyper = learned().into_iter().nth(2).unwrap();
    let bound = hyper.bind(thetas(hyper.as_ref(), 3)).unwrap();
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
fn only_hyper_v2_needs_the_loss_and_says_so() {
    for optimizer in all() {
        let run = |loss: f32| {
            let state = fresh(optimizer.as_ref());
            let mut state = optimizer.update(state, &random(2, 3), &[1.0; 3]).unwrap();
            for step in 0..4 {
                state = optimizer.update(state, &random(3 + step, 3), &[loss * (1.0 + step as f32); 3]).unwrap();
            }
            bits(&state)
        };
        let moves = run(0.5) != run(f32::NAN);
        assert_eq!(optimizer.needs_loss(), moves, "{optimizer:?}");
        assert_eq!(moves, optimizer.name() == "hyper_v2");
    }
}
