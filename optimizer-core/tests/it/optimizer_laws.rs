//! What every hand-designed optimizer and every wrapper promises, for each kind a recipe can name: lanes that cannot
//! disturb each other, results that do not hang on the order of tensors, states that go on after they were put down, and
//! clear refusals.

use std::sync::Arc;

use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::wrapper::{GradientAccumulation, Warp};
use paceline_optimizer_core::optimizer::{
    AdaBelief, AdaGrad, Adafactor, Adam, AdamExpDecayLr, AdamSqrtDecayLr, AdamW, ExtendTimeConfig, Fromage,
    GlobalNormClipConfig, GradientAccumulationConfig, GradientClipConfig, GraftConfig, Lamb, Lars, Muon, NAdamW,
    OptState, Optimizer, OptimizerConfig, PiecewiseLinearAdam, RAdam, RmsProp, Schedule, Sgd, Sgdm, Slot, Sm3,
    WeightDecayConfig, Yogi,
};
use paceline_optimizer_core::{Error, Layout, Params, Seed, TensorSpec, Theta, noise};
use proptest::prelude::*;

/// The kind after `config` in an order that visits all; the `match` has an arm for each, so a new kind must find its place.
fn next(config: &OptimizerConfig) -> Option<OptimizerConfig> {
    use OptimizerConfig as C;
    let adam = || Box::new(C::Adam(Adam::new(0.05)));
    Some(match config {
        C::Sgd(_) => C::Sgdm(Sgdm { learning_rate: 0.02.into(), momentum: 0.8 }),
        C::Sgdm(_) => C::Adam(Adam::default()),
        C::Adam(_) => C::AdamW(AdamW { weight_decay: 0.1, ..AdamW::default() }),
        C::AdamW(_) => C::RmsProp(RmsProp { momentum: 0.5, ..RmsProp::default() }),
        C::RmsProp(_) => {
            let learning_rate = Schedule::NadamwCosine {
                learning_rate: 0.02,
                min_learning_rate_mult: 0.1,
                constant_fraction: 0.2,
                warmup_fraction: 0.1,
            };
            C::NAdamW(NAdamW { learning_rate, adamw_weight_decay: 0.1, l2_weight_decay: 0.01, ..NAdamW::default() })
        }
        C::NAdamW(_) => C::Lamb(Lamb { weight_decay: 0.1, ..Lamb::default() }),
        C::Lamb(_) => C::Lars(Lars { trust_coefficient: 0.1, weight_decay: 0.1, ..Lars::default() }),
        C::Lars(_) => C::RAdam(RAdam::default()),
        C::RAdam(_) => C::Yogi(Yogi::default()),
        C::Yogi(_) => C::AdaBelief(AdaBelief::default()),
        C::AdaBelief(_) => C::AdaGrad(AdaGrad::default()),
        C::AdaGrad(_) => {
            let some = Adafactor { momentum: Some(0.9), weight_decay_rate: Some(0.001), ..Adafactor::default() };
            C::Adafactor(Adafactor { min_dim_size_to_factor: 4, ..some })
        }
        C::Adafactor(_) => C::Sm3(Sm3 { beta2: 0.9, ..Sm3::default() }),
        C::Sm3(_) => C::Fromage(Fromage::default()),
        C::Fromage(_) => C::Muon(Muon::default()),
        C::Muon(_) => C::PiecewiseLinearAdam(PiecewiseLinearAdam { times: vec![2, 9], ..Default::default() }),
        C::PiecewiseLinearAdam(_) => C::AdamSqrtDecayLr(AdamSqrtDecayLr { learning_rate: 5.0 }),
        C::AdamSqrtDecayLr(_) => C::AdamExpDecayLr(AdamExpDecayLr::default()),
        C::AdamExpDecayLr(_) => C::GradientClip(GradientClipConfig { grad_clip: 0.5, inner: adam() }),
        C::GradientClip(_) => C::GlobalNormClip(GlobalNormClipConfig { max_norm: 2.0, inner: adam() }),
        C::GlobalNormClip(_) => C::GradientAccumulation(GradientAccumulationConfig { steps: 3, inner: adam() }),
        C::GradientAccumulation(_) => {
            C::WeightDecay(WeightDecayConfig { weight_decay: 0.01, add_to_loss: true, inner: adam() })
        }
        C::WeightDecay(_) => C::Graft(GraftConfig { magnitude: adam(), direction: Box::new(C::Sgd(Sgd::default())) }),
        C::Graft(_) => C::ExtendTime(ExtendTimeConfig { warp: Warp::Factor(0.5), inner: adam() }),
        C::ExtendTime(_) => return None,
    })
}

/// One of each kind, then wrappers within wrappers.
pub(crate) fn configs() -> Vec<OptimizerConfig> {
    use OptimizerConfig as C;
    let first = C::Sgd(Sgd { learning_rate: 0.1.into() });
    let mut all: Vec<C> = std::iter::successors(Some(first), next).collect();
    let accumulate =
        |steps, inner| C::GradientAccumulation(GradientAccumulationConfig { steps, inner: Box::new(inner) });
    let decay =
        |inner| C::WeightDecay(WeightDecayConfig { weight_decay: 0.1, add_to_loss: false, inner: Box::new(inner) });
    let adam = || C::Adam(Adam::new(0.05));
    let nested = accumulate(2, decay(adam()));
    all.push(C::GradientClip(GradientClipConfig { grad_clip: 1.0, inner: Box::new(nested.clone()) }));
    all.push(accumulate(2, accumulate(2, C::Muon(Muon::default()))));
    let graft =
        |magnitude, direction| C::Graft(GraftConfig { magnitude: Box::new(magnitude), direction: Box::new(direction) });
    all.push(graft(nested, graft(adam(), accumulate(3, C::Lamb(Lamb::default())))));
    let curve = Warp::Curve(Schedule::Linear { init_value: 3.0, end_value: 40.0, steps: 10 });
    all.push(C::ExtendTime(ExtendTimeConfig { warp: curve, inner: Box::new(graft(all[5].clone(), all[8].clone())) }));
    all
}

const SHAPES: [(&str, &[usize]); 9] = [
    ("bias", &[5]),
    ("conv", &[3, 3, 2, 4]),
    ("embed", &[6, 3]),
    ("matrix", &[12, 10]),
    ("none", &[0, 4]),
    ("nothing", &[4, 5, 0]),
    ("scalar", &[]),
    ("square", &[4, 4]),
    ("tall", &[9, 1]),
];

fn layout() -> Arc<Layout> {
    Layout::new(SHAPES.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect()).unwrap()
}

/// Normal values that depend on the name of a tensor, not on its place.
fn random(layout: &Arc<Layout>, seed: u64, lanes: usize) -> Params {
    let mut params = Params::zeros(layout, lanes);
    for index in 0..layout.len() {
        let name = layout.tensors()[index].name();
        let number = name.bytes().fold(0, |number, byte| number * 256 + u64::from(byte));
        noise::normals(Seed::new(seed).fold_in(number), 0, params.tensor_mut(index));
    }
    params
}

const LANES: usize = 3;
const HORIZONS: [u32; LANES] = [7, 100, 2000];
/// The lane that meets a NaN.
const BROKEN: usize = 2;

/// Updates `first..last`, of which lanes `chosen` are taken. Gradients differ in size from step to step; the broken lane
/// meets a NaN in one of them.
fn train(
    optimizer: &dyn Optimizer,
    mut state: OptState,
    seed: u64,
    steps: std::ops::Range<u64>,
    chosen: &[usize],
) -> OptState {
    let layout = state.params.layout().clone();
    for step in steps {
        let mut grads = random(&layout, seed + 1000 + step, LANES);
        let scale = [1.0, 0.0, 30.0, 0.01, 1e6][(step % 5) as usize];
        for index in 0..layout.len() {
            grads.tensor_mut(index).iter_mut().for_each(|g| *g *= scale);
        }
        if step == 2 {
            grads.lane_mut(layout.index_of("matrix").unwrap(), BROKEN)[7] = f32::NAN;
        }
        let losses: Vec<f32> = chosen.iter().map(|&lane| 1.0 + lane as f32 / (1.0 + step as f32)).collect();
        state = optimizer.update(state, &grads.select(chosen), &losses).unwrap();
    }
    state
}

fn begin(optimizer: &dyn Optimizer, layout: &Arc<Layout>, seed: u64, chosen: &[usize]) -> OptState {
    let horizons: Vec<u32> = chosen.iter().map(|&lane| HORIZONS[lane]).collect();
    optimizer.init(random(layout, seed, LANES).select(chosen), &horizons).unwrap()
}

/// Everything in a state by name, as bits, so that NaN equals itself and the order of tensors does not show.
fn bits(state: &OptState) -> Vec<(String, Vec<u32>)> {
    let words = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let tensors = state.params.layout().tensors().iter().enumerate();
    let mut all: Vec<_> =
        tensors.map(|(index, spec)| (format!("params/{}", spec.name()), words(state.params.tensor(index)))).collect();
    all.extend(state.slots.iter().map(|slot| (format!("slots/{}", slot.name), words(&slot.values))));
    all.push(("step".into(), state.step.clone()));
    all.push(("horizon".into(), state.horizon.clone()));
    all.sort();
    all
}

/// Two states of one optimizer as one, lanes one after another.
fn beside(left: &OptState, right: &OptState) -> OptState {
    let layout = left.params.layout();
    let both = |left: &[f32], right: &[f32]| [left, right].concat();
    let tensors = (0..layout.len()).map(|index| both(left.params.tensor(index), right.params.tensor(index))).collect();
    let slots = left.slots.iter().zip(&right.slots).map(|(left, right)| Slot {
        name: left.name.clone(),
        shape: left.shape.clone(),
        values: both(&left.values, &right.values),
    });
    OptState {
        params: Params::from_tensors(layout, left.lanes() + right.lanes(), tensors).unwrap(),
        step: [&left.step[..], &right.step].concat(),
        horizon: [&left.horizon[..], &right.horizon].concat(),
        slots: slots.collect(),
    }
}

/// A state as a file would hold it, and back.
fn through_bytes(state: &OptState) -> OptState {
    let through = |values: &[f32]| -> Vec<f32> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let layout = state.params.layout();
    let tensors = (0..layout.len()).map(|index| through(state.params.tensor(index))).collect();
    let slots = state.slots.iter().map(|slot| Slot {
        name: slot.name.clone(),
        shape: slot.shape.clone(),
        values: through(&slot.values),
    });
    OptState {
        params: Params::from_tensors(layout, state.lanes(), tensors).unwrap(),
        step: state.step.clone(),
        horizon: state.horizon.clone(),
        slots: slots.collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_lane_of_a_batch_is_the_lane_alone(seed in 0_u64..1 << 40, steps in 3_u64..9) {
        for config in configs() {
            let optimizer = config.build().unwrap();
            let run = |lanes: &[usize]| {
                let state = begin(optimizer.as_ref(), &layout(), seed, lanes);
                train(optimizer.as_ref(), state, seed, 0..steps, lanes)
            };
            let together = run(&[0, 1, 2]);
            for lane in 0..LANES {
                let alone = run(&[lane]);
                prop_assert_eq!(bits(&together.select(&[lane])), bits(&alone), "lane {} of {:?}", lane, config);
                let finite = (0..alone.params.layout().len())
                    .all(|index| alone.params.tensor(index).iter().all(|p| p.is_finite()));
                prop_assert!(finite || lane == BROKEN, "lane {} of {:?} diverged", lane, config);
                prop_assert!(!finite || lane != BROKEN || steps < 4, "a NaN disappeared from {:?}", config);
            }
        }
    }

    #[test]
    fn lanes_may_stand_at_different_counts(seed in 0_u64..1 << 40, early in 0_u64..4, late in 4_u64..8) {
        for config in configs() {
            let optimizer = config.build().unwrap();
            let alone = |lane: usize, steps| {
                train(optimizer.as_ref(), begin(optimizer.as_ref(), &layout(), seed, &[lane]), seed, steps, &[lane])
            };
            let (one, two) = (alone(0, 0..early), alone(1, 0..late));
            let together = train(optimizer.as_ref(), beside(&one, &two), seed, 10..15, &[0, 1]);
            for (lane, state) in [(0, one), (1, two)] {
                let alone = train(optimizer.as_ref(), state, seed, 10..15, &[lane]);
                prop_assert_eq!(bits(&together.select(&[lane])), bits(&alone), "lane {} of {:?}", lane, config);
            }
        }
    }

    #[test]
    fn the_order_of_tensors_does_not_matter(seed in 0_u64..1 << 40, by in 1_usize..8) {
        let mut turned = layout().tensors().to_vec();
        turned.rotate_left(by);
        turned.swap(1, 4);
        let turned = Layout::new(turned).unwrap();
        for config in configs() {
            let optimizer = config.build().unwrap();
            let [straight, turned] = [&layout(), &turned].map(|layout| {
                let state = begin(optimizer.as_ref(), layout, seed, &[0, 1, 2]);
                bits(&train(optimizer.as_ref(), state, seed, 0..6, &[0, 1, 2]))
            });
            prop_assert_eq!(straight, turned, "{:?}", config);
        }
    }

    #[test]
    fn a_kept_state_goes_on_as_if_never_put_down(seed in 0_u64..1 << 40, kept in 0_u64..6) {
        for config in configs() {
            let optimizer = config.build().unwrap();
            let state = begin(optimizer.as_ref(), &layout(), seed, &[0, 1, 2]);
            let straight = train(optimizer.as_ref(), state.clone(), seed, 0..7, &[0, 1, 2]);
            let put_down = through_bytes(&train(optimizer.as_ref(), state, seed, 0..kept, &[0, 1, 2]));
            let resumed = train(config.build().unwrap().as_ref(), put_down, seed, kept..7, &[0, 1, 2]);
            prop_assert_eq!(bits(&resumed), bits(&straight), "{:?}", config);
        }
    }
}

#[test]
fn every_optimizer_lowers_a_quadratic_loss() {
    let layout = layout();
    let centre = random(&layout, 1, LANES);
    let loss = |params: &Params, lane| -> f64 {
        let squares = |index| -> f64 {
            let pairs = params.lane(index, lane).iter().zip(centre.lane(index, lane));
            pairs.map(|(p, c)| f64::from(p - c).powi(2)).sum()
        };
        (0..layout.len()).map(squares).sum()
    };
    for config in configs() {
        let optimizer = config.build().unwrap();
        let mut state = begin(optimizer.as_ref(), &layout, 2, &[0, 1, 2]);
        let before: Vec<f64> = (0..LANES).map(|lane| loss(&state.params, lane)).collect();
        for _ in 0..60 {
            let mut grads = state.params.clone();
            for index in 0..layout.len() {
                grads.tensor_mut(index).iter_mut().zip(centre.tensor(index)).for_each(|(g, c)| *g -= c);
            }
            let losses: Vec<f32> = (0..LANES).map(|lane| loss(&state.params, lane) as f32).collect();
            state = optimizer.update(state, &grads, &losses).unwrap();
        }
        for (lane, before) in before.into_iter().enumerate() {
            let after = loss(&state.params, lane);
            assert!(after < 0.999 * before, "{config:?}: from {before} to {after}");
        }
    }
}

#[test]
fn slots_have_names_of_their_own() {
    for config in configs() {
        let state = begin(config.build().unwrap().as_ref(), &layout(), 1, &[0, 1]);
        let mut names: Vec<&str> = state.slots.iter().map(|slot| slot.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{config:?}");
    }
}

#[test]
fn nothing_to_train_is_trained() {
    let layouts = [Layout::new(vec![]).unwrap(), Layout::new(vec![TensorSpec::new("none", [0])]).unwrap()];
    for config in configs() {
        let optimizer = config.build().unwrap();
        for layout in &layouts {
            for lanes in [0, 2] {
                let params = Params::zeros(layout, lanes);
                let mut state = optimizer.init(params.clone(), &vec![9; lanes]).unwrap();
                for _ in 0..4 {
                    state = optimizer.update(state, &params, &vec![1.0; lanes]).unwrap();
                }
                assert_eq!(state.params, params, "{config:?}");
            }
        }
    }
}

#[test]
fn what_does_not_belong_to_a_state_is_refused() {
    let other = Layout::new(vec![TensorSpec::new("bias", [5])]).unwrap();
    for config in configs() {
        let optimizer = config.build().unwrap();
        let state = begin(optimizer.as_ref(), &layout(), 1, &[0, 1]);
        let grads = random(&layout(), 2, 2);
        let refused =
            |state: OptState, grads: &Params, losses: &[f32]| optimizer.update(state, grads, losses).unwrap_err();
        let error = refused(state.clone(), &random(&other, 2, 2), &[1.0; 2]);
        assert!(matches!(error, Error::LayoutMismatch { .. }), "{config:?}: {error}");
        let error = refused(state.clone(), &grads.select(&[0]), &[1.0]);
        assert!(matches!(error, Error::Lanes { .. }), "{config:?}: {error}");
        let error = refused(state.clone(), &grads, &[1.0]);
        assert!(matches!(error, Error::Lanes { expected: 2, got: 1, .. }), "{config:?}: {error}");
        let error = optimizer.init(random(&layout(), 2, 2), &[9]).unwrap_err();
        assert!(matches!(error, Error::Lanes { .. }), "{config:?}: {error}");
        let mut foreign = state.clone();
        foreign.slots.push(Slot::filled("foreign", [4], 2, 0.0));
        let error = refused(foreign, &grads, &[1.0; 2]);
        assert!(matches!(error, Error::Length { .. }), "{config:?}: {error}");
        let mut less = state;
        if less.slots.pop().is_some() {
            let error = refused(less, &grads, &[1.0; 2]);
            assert!(matches!(error, Error::Length { .. }), "{config:?}: {error}");
        }
    }
}

/// One theta a lane, bound to an optimizer within an accumulator whose lanes stand at different counts: the inner
/// optimizer must be given all lanes, and only those that are due may move.
#[test]
fn a_learned_optimizer_accumulates_with_a_theta_a_lane() {
    let small = HyperV2Config { lstm_hidden_size: 9, param_inits: 5, ..HyperV2Config::default() };
    let learned = LearnedOptimizerConfig::HyperV2(small).build().unwrap();
    let thetas: Vec<f32> = (0..2).flat_map(|lane| learned.init_theta(Seed::new(lane)).values().to_vec()).collect();
    let bind = |values: &[f32]| {
        let lanes = values.len() / learned.layout().size();
        let theta = Theta::new(learned.layout(), lanes, values.to_vec()).unwrap();
        GradientAccumulation::new(learned.bind(theta).unwrap(), 3).unwrap()
    };
    let (left, right) = thetas.split_at(learned.layout().size());
    let (one, two, both) = (bind(left), bind(right), bind(&thetas));
    let started = |optimizer: &GradientAccumulation, lane: usize, steps| {
        train(optimizer, begin(optimizer, &layout(), 5, &[lane]), 5, 0..steps, &[lane])
    };
    let (ahead, behind) = (started(&one, 0, 4), started(&two, 1, 2));
    let together = train(&both, beside(&ahead, &behind), 5, 4..9, &[0, 1]);
    let ahead = train(&one, ahead, 5, 4..9, &[0]);
    let behind = train(&two, behind, 5, 4..9, &[1]);
    assert_eq!(bits(&together.select(&[0])), bits(&ahead));
    assert_eq!(bits(&together.select(&[1])), bits(&behind));
    assert_eq!((together.step, together.horizon), (vec![3, 2], vec![2, 33]), "of the inner optimizer");
}
