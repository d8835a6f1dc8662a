//! Whole windows inside one block: the kernel against the CPU's inner loop, 50 steps on.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::{Seed, Theta, noise};
use paceline_worker::cuda::layout::{LanePlan, THREADS};
use paceline_worker::cuda::window::WindowPlan;
use serde_json::{Value, json};

use super::emulator::{Emulator, Launch, emulator, floats, input, output};
use super::feed_forward::family;

/// What a block of a device of capability 9.0 may have: enough for every perceptron here.
const AMPLE: u64 = 227 << 10;

fn adafac(config: AdafacMlpConfig) -> Arc<dyn LearnedOptimizer> {
    LearnedOptimizerConfig::AdafacMlp(config).build().unwrap()
}

fn celo2() -> Arc<dyn LearnedOptimizer> {
    LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default())).build().unwrap()
}

fn hyper_v2(lstm_hidden_size: usize, param_inits: usize) -> Arc<dyn LearnedOptimizer> {
    let config = HyperV2Config { lstm_hidden_size, param_inits, ..HyperV2Config::velo() };
    LearnedOptimizerConfig::HyperV2(config).build().unwrap()
}

/// Lanes theta ± sigma ε, a pair a seed.
fn thetas(optimizer: &dyn LearnedOptimizer, pairs: usize, sigma: f32) -> Theta {
    let theta = optimizer.init_theta(Seed::new(5));
    let lanes = (0..pairs as u64).flat_map(|pair| {
        let mut epsilon = vec![0.0; theta.values().len()];
        noise::normals(Seed::new(60 + pair), 0, &mut epsilon);
        theta.antithetic(sigma, &epsilon).unwrap().values().to_vec()
    });
    Theta::new(optimizer.layout(), 2 * pairs, lanes.collect()).unwrap()
}

fn seeds(pairs: usize) -> Vec<Seed> {
    (0..2 * pairs as u64).map(|lane| Seed::new(30 + lane / 2)).collect()
}

/// Lanes between two windows.
#[derive(Clone, Debug)]
struct Lanes {
    state: OptState,
    diverged: Vec<u32>,
}

fn fresh(family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer, theta: &Theta) -> Lanes {
    let seeds = seeds(theta.lanes() / 2);
    let params = family.bind(&seeds).unwrap().init_params().unwrap();
    let state = optimizer.bind(theta.clone()).unwrap().init(params, &vec![100; seeds.len()]).unwrap();
    Lanes { state, diverged: vec![0; seeds.len()] }
}

/// Trains on the CPU; losses `[steps][lanes]`.
fn on_the_cpu(
    family: &dyn TaskFamily,
    optimizer: &dyn LearnedOptimizer,
    theta: &Theta,
    steps: u32,
) -> (Vec<Vec<f32>>, OptState) {
    let mut state = fresh(family, optimizer, theta).state;
    let mut tasks = family.bind(&seeds(theta.lanes() / 2)).unwrap();
    let bound = optimizer.bind(theta.clone()).unwrap();
    let mut losses = Vec::new();
    for step in 0..u64::from(steps) {
        let (loss, grads) = tasks.loss_and_grads(&state.params, step).unwrap();
        state = bound.update(state, &grads, &loss).unwrap();
        losses.push(loss);
    }
    (losses, state)
}

/// Trains steps `first..first + steps` by the kernel, where a block may have `shared` bytes; losses `[lanes][steps]`.
fn by_the_kernel(
    emulator: &Emulator,
    family: &dyn TaskFamily,
    optimizer: &dyn LearnedOptimizer,
    theta: &Theta,
    lanes: &mut Lanes,
    (first, steps): (u32, u32),
    shared: u64,
) -> Vec<Vec<f32>> {
    let (plan, net) = (WindowPlan::new(family, optimizer).unwrap(), family.feed_forward().unwrap());
    let arena = plan.arena_within(shared);
    let (state, count) = (&mut lanes.state, theta.lanes());
    let batches: Vec<u32> = seeds(count / 2)
        .into_iter()
        .step_by(2)
        .flat_map(|task| (first..first + steps).flat_map(|step| (net.batch)(task, u64::from(step))).collect::<Vec<_>>())
        .collect();
    let arguments = [
        input(&[plan.words(steps, arena)]),
        input(&plan.net.layers),
        input(&plan.lane.tensors),
        input(&plan.rule.settings),
        input(&plan.rule.place),
        input(net.images),
        input(net.labels),
        input(&batches),
        input(theta.values()),
        input(&state.step),
        input(&state.horizon),
        output(&LanePlan::pack_params(&state.params)),
        output(&LanePlan::pack_slots(state)),
        output(&lanes.diverged),
        output(&vec![f32::NAN; count * steps as usize]),
        output(&vec![f32::NAN; count * arena.spill]),
    ];
    let launch = Launch { shared_floats: arena.shared, ..Launch::new([count as u32, 1], THREADS) };
    let kernel = format!("{}_window", plan.rule.name);
    // Long windows of the large network show numbers, short ones of a small network barriers.
    let mut changed = match steps {
        ..=8 => emulator.run_in_all_orders(&kernel, launch, &arguments),
        _ => emulator.run(&kernel, launch, &arguments),
    };
    changed.truncate(4);
    state.params = LanePlan::unpack_params(family.layout(), count, &floats(&changed[0]));
    LanePlan::unpack_slots(&mut state.slots, count, &floats(&changed[1]));
    state.step.iter_mut().for_each(|step| *step += steps);
    lanes.diverged = changed[2].as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
    floats(&changed[3]).chunks(steps as usize).map(<[f32]>::to_vec).collect()
}

fn fifty_steps(test: &str, optimizer: &dyn LearnedOptimizer, name: &str, settings: &Value) {
    let Some(emulator) = emulator(test) else { return };
    let (family, steps, theta) = (family(name, settings), 50, thetas(optimizer, 1, 0.01));
    let (expected, end) = on_the_cpu(&*family, optimizer, &theta, steps);
    let mut lanes = fresh(&*family, optimizer, &theta);
    let got = by_the_kernel(emulator, &*family, optimizer, &theta, &mut lanes, (0, steps), AMPLE);
    for (lane, losses) in got.iter().enumerate() {
        for (step, loss) in losses.iter().enumerate() {
            let expected = expected[step][lane];
            assert!((loss - expected).abs() <= 1e-4, "lane {lane}, step {step}: {loss} is not {expected}");
        }
    }
    assert!(expected.iter().flatten().all(|loss| loss.is_finite()));
    assert_eq!((lanes.diverged, &lanes.state.step), (vec![0; 2], &end.step));
    // What trains must have trained: else equal losses would say little.
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    assert!((mean(&expected[0]) - mean(&expected[49])).abs() > 1e-3, "{} {}", mean(&expected[0]), mean(&expected[49]));
}

#[test]
fn adafac_mlp_trains_as_on_the_cpu() {
    fifty_steps("cuda_window_adafac_mlp", &*adafac(AdafacMlpConfig::default()), "image_mlp", &json!({}));
}

#[test]
fn celo2_trains_as_on_the_cpu() {
    fifty_steps("cuda_window_celo2", &*celo2(), "image_mlp", &json!({"batch_size": 64}));
}

#[test]
fn adafac_mlp_trains_convolutions_as_on_the_cpu() {
    fifty_steps("cuda_window_convolutions", &*adafac(AdafacMlpConfig::default()), "image_conv", &json!({}));
}

#[test]
fn celo2_trains_convolutions_as_on_the_cpu() {
    let settings = json!({"channels": [8, 12], "max_pool": true, "image_size": 8, "batch_size": 16});
    fifty_steps("cuda_window_celo2_convolutions", &*celo2(), "image_conv", &settings);
}

#[test]
fn hyper_v2_trains_as_on_the_cpu() {
    fifty_steps("cuda_window_hyper_v2", &*hyper_v2(128, 64), "image_mlp", &json!({}));
}

#[test]
fn a_window_in_parts_or_spilled_has_the_same_bits() {
    for optimizer in [celo2(), hyper_v2(24, 10)] {
        has_the_same_bits_in_parts_or_spilled(&*optimizer);
    }
}

fn has_the_same_bits_in_parts_or_spilled(optimizer: &dyn LearnedOptimizer) {
    let Some(emulator) = emulator("cuda_window_parts") else { return };
    for (name, settings) in [
        ("image_mlp", json!({"hidden": [9], "batch_size": 10})),
        ("image_conv", json!({"channels": [3, 4], "max_pool": true, "image_size": 6, "batch_size": 5})),
    ] {
        let family = family(name, &settings);
        let theta = thetas(optimizer, 1, 0.01);
        let run = |parts: &[(u32, u32)], shared: u64| {
            let mut lanes = fresh(&*family, optimizer, &theta);
            let losses: Vec<Vec<Vec<f32>>> = parts
                .iter()
                .map(|part| by_the_kernel(emulator, &*family, optimizer, &theta, &mut lanes, *part, shared))
                .collect();
            let joined: Vec<u32> = (0..2)
                .flat_map(|lane| losses.iter().flat_map(move |part| part[lane].iter().map(|loss| loss.to_bits())))
                .collect();
            (joined, lanes.state)
        };
        let whole = run(&[(0, 8)], AMPLE);
        assert!(run(&[(0, 3), (3, 5)], AMPLE) == whole, "{name}: two windows are one");
        // Nothing in shared memory, the sums, and all but the activations.
        let plan = WindowPlan::new(&*family, optimizer).unwrap();
        let all = 4 * plan.arena_within(AMPLE).shared as u64;
        for shared in [0, 31 << 10, all - 4] {
            let arena = plan.arena_within(shared);
            assert!((arena.shared == 0) == (shared == 0) && arena.spill > 0, "{arena:?}");
            assert!(run(&[(0, 8)], shared) == whole, "{name}: where the arena lies does not show, {arena:?}");
        }
    }
}

#[test]
fn a_lane_that_diverges_is_emptied_and_disturbs_nobody() {
    let Some(emulator) = emulator("cuda_window_diverged") else { return };
    let (optimizer, family) =
        (adafac(AdafacMlpConfig::default()), family("image_mlp", &json!({"hidden": [9], "batch_size": 10})));
    let theta = thetas(&*optimizer, 2, 0.01);
    let run = |poison: bool| {
        let mut lanes = fresh(&*family, &*optimizer, &theta);
        if poison {
            // An infinite weight: the loss of the first step is no number.
            lanes.state.params.lane_mut(0, 1)[0] = f32::INFINITY;
        }
        let losses = by_the_kernel(emulator, &*family, &*optimizer, &theta, &mut lanes, (0, 4), AMPLE);
        let again = by_the_kernel(emulator, &*family, &*optimizer, &theta, &mut lanes, (4, 2), AMPLE);
        (losses, again, lanes)
    };
    let (healthy, healthy_again, _) = run(false);
    let (losses, again, lanes) = run(true);
    assert_eq!(lanes.diverged, [0, 1, 0, 0]);
    assert!(losses[1].iter().chain(&again[1]).all(|loss| loss.is_nan()));
    let emptied = lanes.state.select(&[1]);
    assert!(LanePlan::pack_params(&emptied.params).iter().chain(&LanePlan::pack_slots(&emptied)).all(|x| *x == 0.0));
    for lane in [0, 2, 3] {
        assert_eq!((&losses[lane], &again[lane]), (&healthy[lane], &healthy_again[lane]));
    }
}

#[test]
fn a_lane_whose_parameters_overflow_keeps_the_loss_before() {
    let Some(emulator) = emulator("cuda_window_overflow") else { return };
    // One step of this size overflows.
    let config = AdafacMlpConfig { step_mult: 3e38, ..AdafacMlpConfig::default() };
    let (optimizer, family) = (adafac(config), family("image_mlp", &json!({"hidden": [9], "batch_size": 10})));
    let theta = thetas(&*optimizer, 1, 0.5);
    let mut lanes = fresh(&*family, &*optimizer, &theta);
    let losses = by_the_kernel(emulator, &*family, &*optimizer, &theta, &mut lanes, (0, 3), AMPLE);
    assert_eq!(lanes.diverged, [1, 1]);
    for losses in losses {
        assert!(losses[0].is_finite() && losses[2].is_nan(), "{losses:?}");
    }
}
