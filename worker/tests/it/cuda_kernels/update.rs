//! The fused updates: the device's arithmetic against the CPU's optimizers, some steps on.

use std::sync::Arc;

use paceline_optimizer_core::learned::{
    AdafacMlpConfig, Celo2Base, Celo2Config, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig,
};
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::{Layout, Params, Seed, TensorSpec, Theta, noise};
use paceline_worker::cuda::DeviceRule;
use paceline_worker::cuda::layout::{LanePlan, THREADS};

use super::emulator::{Emulator, Launch, emulator, input, output, value};

pub(super) const LANES: usize = 3;
pub(super) const STEPS: usize = 6;

/// Wide, tall and square matrices, lines of one, more elements than threads, vectors and a scalar; then higher ranks:
/// kernels of convolutions, the factored axes inside, across and outside the matrices of the last two.
const SHAPES: [&[usize]; 17] = [
    &[64, 32],
    &[32],
    &[5, 40],
    &[7, 7],
    &[1, 9],
    &[1, 1],
    &[10],
    &[],
    &[300],
    &[9, 1],
    &[3, 3, 16, 32],
    &[3, 3, 1, 16],
    &[3, 3, 2, 4],
    &[5, 2, 3],
    &[2, 11, 3, 11],
    &[4, 4, 1, 1],
    &[20, 3, 6],
];

/// Size of each tensor's gradients.
const SCALES: [f32; SHAPES.len()] =
    [1.0, 1e-4, 30.0, 1e-8, 1.0, 2000.0, 0.1, 1.0, 1e-2, 1.0, 0.1, 1.0, 1e-4, 30.0, 1.0, 1.0, 1e-2];

fn layout() -> Arc<Layout> {
    let tensors = SHAPES.iter().enumerate().map(|(index, shape)| TensorSpec::new(format!("t{index}"), *shape));
    Layout::new(tensors.collect()).unwrap()
}

/// Gradients of very different sizes, tensor by tensor; some are exactly zero.
fn gradients(layout: &Arc<Layout>, lanes: usize, step: usize) -> Params {
    let mut grads = Params::zeros(layout, lanes);
    for (tensor, scale) in SCALES.into_iter().enumerate() {
        for lane in 0..lanes {
            let g = grads.lane_mut(tensor, lane);
            noise::normals(Seed::new(100 + step as u64).fold_in(tensor as u64).fold_in(lane as u64), 0, g);
            g.iter_mut().for_each(|g| *g *= scale);
            g[0] = 0.0;
        }
    }
    grads
}

/// Thetas away from their initial values, decays included, one a lane.
fn thetas(optimizer: &dyn LearnedOptimizer, lanes: usize) -> Theta {
    let values = (0..lanes as u64).flat_map(|lane| {
        let mut theta = optimizer.init_theta(Seed::new(7).fold_in(lane));
        let mut moved = vec![0.0; theta.values().len()];
        noise::normals(Seed::new(8).fold_in(lane), 0, &mut moved);
        theta.values_mut().iter_mut().zip(moved).for_each(|(value, e)| *value += 0.02 * e);
        theta.values().to_vec()
    });
    Theta::new(optimizer.layout(), lanes, values.collect()).unwrap()
}

/// Noisy losses that fall until one leaps, when the longest memory has the largest mean; one a lane.
fn losses(lanes: usize, step: usize) -> Vec<f32> {
    let mut losses = vec![0.0; lanes];
    noise::normals(Seed::new(300 + step as u64), 0, &mut losses);
    losses.iter().map(|e| [8.0, 1.6, 0.8, 0.4, 20.0, 0.7][step] + 0.1 * e).collect()
}

/// One update by the kernels.
fn updated(
    emulator: &Emulator,
    rule: &DeviceRule,
    theta: &Theta,
    mut state: OptState,
    grads: &Params,
    losses: &[f32],
) -> OptState {
    let layout = Arc::clone(state.params.layout());
    let (lanes, kept) = (state.lanes(), rule.kept(layout.len()));
    let plan = LanePlan::new(&layout).unwrap().with_own_slots(kept.slots).unwrap();
    let tables = rule.table_floats(plan.most_lines);
    let mut slots = LanePlan::pack_slots(&state);
    let launch = Launch {
        shared_floats: rule.workspace_floats() + rule.scratch_floats(),
        ..Launch::new([lanes as u32, layout.len() as u32], THREADS)
    };
    let theta_size = value(theta.layout().size() as u32);
    let packed = LanePlan::pack_params(&state.params);
    let head = [input(&plan.tensors), input(&rule.settings)];
    let [size, slot_size] = [plan.size, plan.slot_size].map(|size| value(size as u32));
    let mut arguments = head.to_vec();
    if kept.advice == 0 {
        arguments.extend([input(&rule.place), size, slot_size, theta_size, value(tables as u32)]);
        arguments.extend([input(theta.values()), input(&state.step)]);
    } else {
        let advice = vec![f32::NAN; lanes * kept.advice];
        let [tensors, settings] = head;
        let arguments_of_advice = [
            tensors,
            value(layout.len() as u32),
            settings,
            input(&rule.place),
            size.clone(),
            slot_size.clone(),
            theta_size,
            input(theta.values()),
            input(&state.step),
            input(&state.horizon),
            input(losses),
            input(&packed),
            output(&slots),
            output(&advice),
        ];
        let launch = Launch { shared_floats: kept.scratch, ..Launch::new([lanes as u32, 1], THREADS) };
        let mut advised = emulator.run_f32(&format!("{}_advise", rule.name), launch, &arguments_of_advice);
        let advice = advised.remove(1);
        slots = advised.remove(0);
        arguments.extend([size, slot_size, value(tables as u32), input(&advice)]);
    }
    arguments.extend([
        output(&LanePlan::pack_params(grads)),
        output(&slots),
        output(&packed),
        output(&vec![f32::NAN; lanes * layout.len() * tables]),
    ]);
    let changed = emulator.run_f32(&format!("{}_update", rule.name), launch, &arguments);
    LanePlan::unpack_slots(&mut state.slots, lanes, &changed[1]);
    state.params = LanePlan::unpack_params(&layout, lanes, &changed[2]);
    state.step.iter_mut().for_each(|step| *step += 1);
    state
}

/// Largest difference over the largest magnitude of the tensor.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let apart = got.iter().zip(expected).map(|(got, expected)| f64::from((got - expected).abs())).fold(0.0, f64::max);
    assert!(got.iter().all(|value| value.is_finite()), "{got:?}");
    if apart == 0.0 { 0.0 } else { apart / f64::from(largest) }
}

fn initial(optimizer: &dyn LearnedOptimizer, theta: &Theta, layout: &Arc<Layout>, lanes: usize) -> OptState {
    let mut packed = vec![0.0; lanes * layout.size()];
    noise::normals(Seed::new(1), 0, &mut packed);
    packed.iter_mut().for_each(|value| *value *= 0.1);
    let params = LanePlan::unpack_params(layout, lanes, &packed);
    let mut state = optimizer.bind(theta.clone()).unwrap().init(params, &vec![1000; lanes]).unwrap();
    // Lanes need not stand at the same step.
    state.step.iter_mut().enumerate().for_each(|(lane, step)| *step = 40 * lane as u32);
    state
}

pub(super) fn follows_the_cpu(test: &str, config: LearnedOptimizerConfig, lanes: usize, steps: usize) {
    let Some(emulator) = emulator(test) else { return };
    let (optimizer, layout) = (config.build().unwrap(), layout());
    let rule = DeviceRule::new(&*optimizer).unwrap().for_lanes(&layout);
    let theta = thetas(&*optimizer, lanes);
    let mut cpu = initial(&*optimizer, &theta, &layout, lanes);
    let mut device = cpu.clone();
    let bound = optimizer.bind(theta.clone()).unwrap();
    for step in 0..steps {
        let grads = gradients(&layout, lanes, step);
        let before = cpu.params.clone();
        let losses = losses(lanes, step);
        cpu = bound.update(cpu, &grads, &losses).unwrap();
        device = updated(emulator, &rule, &theta, device, &grads, &losses);
        for lane in 0..lanes {
            for (index, shape) in SHAPES.iter().enumerate() {
                let (got, expected) = (device.params.lane(index, lane), cpu.params.lane(index, lane));
                let apart = distance(got, expected);
                assert!(apart <= 1e-6, "step {step}, lane {lane}, parameters {shape:?}: {apart:e}");
                // A step is small beside the parameters: it must agree by itself, as far as the parameters resolve it.
                let steps = |after: &[f32]| -> Vec<f32> {
                    after.iter().zip(before.lane(index, lane)).map(|(after, before)| after - before).collect()
                };
                let apart = distance(&steps(got), &steps(expected));
                assert!(step > 0 || apart <= 2e-3, "lane {lane}, step of {shape:?}: {apart:e}");
            }
            for (got, expected) in device.slots.iter().zip(&cpu.slots) {
                let apart = distance(got.lane(lane), expected.lane(lane));
                assert!(apart <= 1e-6, "step {step}, lane {lane}, {}: {apart:e}", got.name);
            }
        }
    }
}

#[test]
fn adafac_mlp_follows_the_cpu() {
    follows_the_cpu("cuda_adafac_mlp", LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), LANES, STEPS);
}

#[test]
fn large_steps_of_adafac_mlp_follow_the_cpu() {
    let config = AdafacMlpConfig { step_mult: 0.1, exp_mult: 0.1, ..AdafacMlpConfig::default() };
    follows_the_cpu("cuda_adafac_mlp_large", LearnedOptimizerConfig::AdafacMlp(config), LANES, STEPS);
}

#[test]
fn celo2_follows_the_cpu() {
    let base = Celo2Base { weight_decay: 0.1, step_mult: 0.01, ..Celo2Base::default() };
    follows_the_cpu("cuda_celo2", LearnedOptimizerConfig::Celo2(Celo2Config::Base(base)), LANES, STEPS);
}

#[test]
fn a_lane_has_the_same_bits_alone_and_among_others() {
    let Some(emulator) = emulator("cuda_lanes") else { return };
    for config in [
        LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()),
        LearnedOptimizerConfig::Celo2(Celo2Config::Base(Celo2Base::default())),
        LearnedOptimizerConfig::HyperV2(HyperV2Config { lstm_hidden_size: 16, ..HyperV2Config::default() }),
    ] {
        let (optimizer, layout) = (config.build().unwrap(), layout());
        let rule = DeviceRule::new(&*optimizer).unwrap().for_lanes(&layout);
        let theta = thetas(&*optimizer, 3);
        let state = initial(&*optimizer, &theta, &layout, 3);
        let grads = gradients(&layout, 3, 0);
        let together = updated(emulator, &rule, &theta, state.clone(), &grads, &losses(3, 0));
        let own = Theta::new(theta.layout(), 1, theta.lane(1).to_vec()).unwrap();
        let alone = updated(emulator, &rule, &own, state.select(&[1]), &grads.select(&[1]), &losses(3, 0)[1..2]);
        let bits = |params: &Params| -> Vec<u32> {
            LanePlan::pack_params(params).iter().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(&alone.params), bits(&together.params.select(&[1])), "{}", rule.name);
    }
}
