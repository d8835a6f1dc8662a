//! Whole leases by the window kernels: reports and particles against those of the CPU, memory budget included.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::{AdafacMlpConfig, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::perturbation::{Antithetic, Noise, Perturbation};
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{
    LaneTrainer, PairId, PairOutcome, Pairs, UnrollContext, full_es_pair, full_es_pairs, window_pair, window_pairs,
};
use paceline_worker::cuda::layout::THREADS;
use paceline_worker::cuda::{DeviceProbe, WindowJob, WindowKernel, WindowTrainer, thetas};
use serde_json::json;

use super::emulator::{Emulator, Launch, Order, emulator, floats, input, output};
use super::feed_forward::family;

const PAIRS: u32 = 3;

/// The emulator as a device of this much memory.
#[derive(Debug)]
struct Emulated {
    emulator: &'static Emulator,
    free: u64,
    launches: AtomicU64,
    /// Of all lanes of all launches, in order.
    thetas: Mutex<Vec<f32>>,
}

impl WindowKernel for Emulated {
    fn shared(&self) -> u64 {
        227 << 10
    }

    fn free(&self) -> Result<u64, String> {
        Ok(self.free)
    }

    fn run(&self, job: &mut WindowJob<'_>) -> Result<Vec<f32>, String> {
        self.launches.fetch_add(1, Ordering::Relaxed);
        let thetas = self.emulator.thetas(&job.thetas, [Order::Shuffled]);
        self.thetas.lock().unwrap().extend_from_slice(&thetas);
        let arguments = [
            input(&[job.window]),
            input(job.layers),
            input(job.tensors),
            input(job.settings),
            input(job.place),
            input(job.images),
            input(job.labels),
            input(&job.batches),
            input(&thetas),
            input(&job.first_steps),
            input(&job.horizons),
            output(&job.params),
            output(&job.slots),
            output(&job.diverged),
            output(&vec![f32::NAN; (job.lanes * job.steps) as usize]),
            output(&vec![f32::NAN; job.spill]),
        ];
        let launch = Launch { shared_floats: (job.shared / 4) as usize, ..Launch::new([job.lanes, 1], THREADS) };
        let changed = self.emulator.run(&job.kernel, launch, &arguments);
        job.params = floats(&changed[0]);
        job.slots = floats(&changed[1]);
        job.diverged = changed[2].as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        Ok(floats(&changed[3]))
    }
}

struct Setup {
    optimizer: Arc<dyn LearnedOptimizer>,
    estimator: EstimatorConfig,
    families: [Arc<dyn TaskFamily>; 1],
    cancelled: AtomicBool,
    progress: AtomicU64,
}

impl Setup {
    fn new(kind: EstimatorKind, steps: u32, family: Arc<dyn TaskFamily>) -> Self {
        Self::with(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), kind, steps, family)
    }

    fn with(config: LearnedOptimizerConfig, kind: EstimatorKind, steps: u32, family: Arc<dyn TaskFamily>) -> Self {
        Self {
            optimizer: config.build().unwrap(),
            estimator: EstimatorConfig::new(kind, 0.01, HorizonSchedule::Constant { steps }),
            families: [family],
            cancelled: AtomicBool::new(false),
            progress: AtomicU64::new(0),
        }
    }

    fn on<'a>(&'a self, trainer: &'a dyn LaneTrainer) -> UnrollContext<'a> {
        UnrollContext { trainer: Some(trainer), ..self.context() }
    }

    fn context(&self) -> UnrollContext<'_> {
        UnrollContext {
            run: Seed::new(4),
            optimizer: &*self.optimizer,
            estimator: &self.estimator,
            families: &self.families,
            trainer: None,
            cancelled: &self.cancelled,
            progress: &self.progress,
        }
    }
}

fn slot(outer_step: u64) -> Pairs {
    Pairs { outer_step, slot: 1, pairs: 0..PAIRS }
}

fn close(got: &PairOutcome, expected: &PairOutcome, what: &str) {
    let losses = |outcome: &PairOutcome| [outcome.report.loss_plus, outcome.report.loss_minus];
    for (got, expected) in losses(got).into_iter().zip(losses(expected)) {
        assert!((got - expected).abs() <= 1e-4, "{what}: {got} is not {expected}");
    }
    assert_eq!((got.inner_steps, got.diverged_lanes), (expected.inner_steps, expected.diverged_lanes), "{what}");
}

fn device(emulator: &'static Emulator, free: u64) -> WindowTrainer<Emulated> {
    WindowTrainer(Emulated { emulator, free, launches: AtomicU64::new(0), thetas: Mutex::default() })
}

/// Of trajectories of seven steps: a reset falls into a window.
const WINDOWS: EstimatorKind = EstimatorKind::Pes { window: 3 };

fn hyper_v2() -> LearnedOptimizerConfig {
    LearnedOptimizerConfig::HyperV2(HyperV2Config { lstm_hidden_size: 20, param_inits: 6, ..HyperV2Config::velo() })
}

fn perceptron() -> Arc<dyn TaskFamily> {
    family("image_mlp", &json!({"hidden": [6], "batch_size": 8}))
}

#[test]
fn a_lease_of_windows_is_that_of_the_cpu() {
    lease_of_windows("cuda_lease_of_windows", &Setup::new(WINDOWS, 7, perceptron()));
    lease_of_windows("cuda_lease_of_hyper_v2", &Setup::with(hyper_v2(), WINDOWS, 7, perceptron()));
}

#[test]
fn a_lease_of_convolutions_is_that_of_the_cpu() {
    let settings = json!({"channels": [4, 6, 5], "max_pool": true, "image_size": 8, "batch_size": 5});
    let family = family("image_conv", &settings);
    lease_of_windows("cuda_lease_of_convolutions", &Setup::new(WINDOWS, 7, Arc::clone(&family)));
    lease_of_windows("cuda_lease_of_hyper_v2_convolutions", &Setup::with(hyper_v2(), WINDOWS, 7, family));
}

/// The kinds of noise through whole windows, with a reset in them and particles that go on.
#[test]
fn a_lease_under_structured_noise_is_that_of_the_cpu() {
    for noise in [Noise::Orthogonal, Noise::LowRank { rank: 1 }, Noise::LowRank { rank: 2 }] {
        for config in [LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()), hyper_v2()] {
            let mut setup = Setup::with(config, WINDOWS, 7, perceptron());
            setup.estimator.noise = noise;
            lease_of_windows("cuda_lease_under_structured_noise", &setup);
        }
    }
}

/// The lanes of a lease run under the thetas that the CPU makes, to the bit.
#[test]
fn lanes_of_a_lease_run_under_the_thetas_of_the_cpu() {
    let Some(emulator) = emulator("cuda_lease_thetas") else { return };
    for noise in [Noise::Dense, Noise::Orthogonal, Noise::LowRank { rank: 2 }] {
        let mut setup = Setup::new(EstimatorKind::FullEs { loss: MetaLoss::Average }, 1, perceptron());
        setup.estimator.noise = noise;
        let (trainer, theta) = (device(emulator, 1 << 30), setup.optimizer.init_theta(Seed::new(2)));
        let window = SlotSequence::new(Seed::new(4), 1, &setup.estimator, 100, &[1.0]).unwrap().window();
        full_es_pairs(&setup.on(&trainer), &theta, &slot(6), &window).unwrap();
        let epsilon = |pair| Perturbation::new(Seed::new(4), noise, theta.layout(), 6, 1, pair).unwrap();
        let lanes = Antithetic::new(&theta, (0..PAIRS).map(epsilon).collect(), setup.estimator.sigma).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(&trainer.0.thetas.lock().unwrap()) == bits(lanes.made().unwrap().values()), "{noise:?}");
    }
}

fn lease_of_windows(test: &str, setup: &Setup) {
    let Some(emulator) = emulator(test) else { return };
    let (trainer, theta) = (device(emulator, 1 << 30), setup.optimizer.init_theta(Seed::new(2)));
    trainer.knows(&*setup.families[0], &*setup.optimizer).unwrap();
    let mut sequence = SlotSequence::new(Seed::new(4), 1, &setup.estimator, 100, &[1.0]).unwrap();
    let (mut kept, mut on_cpu) = (vec![], vec![None; PAIRS as usize]);
    for outer_step in 0..4 {
        let plan = sequence.window();
        let got = window_pairs(&setup.on(&trainer), &theta, &slot(outer_step), &plan, kept).unwrap();
        for (pair, (got, particle)) in (0..PAIRS).zip(&got) {
            let id = PairId { outer_step, slot: 1, pair };
            let before = on_cpu[pair as usize].take();
            let (expected, after) = window_pair(&setup.context(), &theta, id, &plan, before).unwrap();
            close(got, &expected, &format!("outer step {outer_step}, pair {pair}"));
            assert_eq!((particle.trajectory, &particle.state.step), (after.trajectory, &after.state.step));
            on_cpu[pair as usize] = Some(after);
        }
        kept = got.into_iter().map(|(_, particle)| particle).collect();
        sequence.advance();
    }
}

/// A device that computes almost what it should.
#[derive(Debug)]
struct Off(Emulated, f32);

impl WindowKernel for Off {
    fn shared(&self) -> u64 {
        self.0.shared()
    }

    fn free(&self) -> Result<u64, String> {
        self.0.free()
    }

    fn run(&self, job: &mut WindowJob<'_>) -> Result<Vec<f32>, String> {
        self.0.run(job).map(|losses| losses.into_iter().map(|loss| loss + self.1).collect())
    }
}

#[test]
fn a_probe_runs_a_tiny_lease_and_notices_what_is_off() {
    let Some(emulator) = emulator("cuda_device_probe") else { return };
    let emulated = || Emulated { emulator, free: 1 << 30, launches: AtomicU64::new(0), thetas: Mutex::default() };
    let device = Arc::new(WindowTrainer(emulated()));
    let probe = DeviceProbe::new(Arc::clone(&device) as Arc<dyn LaneTrainer>);
    assert_eq!([probe.check(), probe.check()], [Ok(()), Ok(())]);
    assert_eq!(device.0.launches.load(Ordering::Relaxed), 2, "on the device, each time");
    for off in [1e-3, -1.0, f32::NAN, f32::INFINITY] {
        let refused = DeviceProbe::new(Arc::new(WindowTrainer(Off(emulated(), off)))).check().unwrap_err();
        assert!(refused.contains("where the processor computes"), "{refused}");
    }
    let full = Emulated { free: 1 << 10, ..emulated() };
    let refused = DeviceProbe::new(Arc::new(WindowTrainer(full))).check().unwrap_err();
    assert!(refused.contains("one pair of lanes needs"), "{refused}");
}

#[test]
fn a_lease_too_large_is_split_without_a_trace_and_a_pair_too_large_refused() {
    let Some(emulator) = emulator("cuda_lease_split") else { return };
    let setup = Setup::new(EstimatorKind::FullEs { loss: MetaLoss::Average }, 5, perceptron());
    let theta = setup.optimizer.init_theta(Seed::new(2));
    let window = SlotSequence::new(Seed::new(4), 1, &setup.estimator, 100, &[1.0]).unwrap().window();
    let plan = paceline_worker::cuda::window::WindowPlan::new(&*setup.families[0], &*setup.optimizer).unwrap();
    let epsilon = Perturbation::new(Seed::new(4), Noise::Dense, theta.layout(), 0, 1, 0).unwrap();
    let thetas = thetas::need(&Antithetic::new(&theta, vec![epsilon], setup.estimator.sigma).unwrap());
    let need = plan.need(5, plan.arena_within(227 << 10)) + thetas;
    let run = |pairs: u64| {
        let trainer = device(emulator, (need.shared + pairs * need.pair) * 10 / 9 + 16);
        let outcomes = full_es_pairs(&setup.on(&trainer), &theta, &slot(0), &window);
        (outcomes, trainer.0.launches.into_inner(), trainer.0.thetas.into_inner().unwrap())
    };
    let (whole, launches, thetas) = run(3);
    assert_eq!(launches, 1);
    let whole = whole.unwrap();
    for (pairs, launches) in [(2, 2), (1, 3)] {
        let (split, counted, made) = run(pairs);
        assert_eq!((split.unwrap(), counted), (whole.clone(), launches), "the same to the bit");
        assert!(made == thetas, "each part has the thetas of its pairs");
    }
    let refused = run(0).0.unwrap_err().to_string();
    assert!(refused.contains("one pair of lanes needs"), "{refused}");
    for (pair, got) in (0..PAIRS).zip(&whole) {
        let id = PairId { outer_step: 0, slot: 1, pair };
        close(got, &full_es_pair(&setup.context(), &theta, id, &window).unwrap(), &format!("pair {pair}"));
    }
}
