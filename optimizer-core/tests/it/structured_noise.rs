//! Structured perturbations from end to end: the same meta-gradient as dense ones, and the same optimizer whether its
//! perturbed matrices are made or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::{
    CeloConfig, HyperV2Config, LearnedOptimizer, LearnedOptimizerConfig, TrainPhase,
};
use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use paceline_optimizer_core::outer::{Contribution, OuterConfig, Report, SlotResult, ThetaOptimizer, fold};
use paceline_optimizer_core::perturbation::{Noise, Perturbation};
use paceline_optimizer_core::schedule::{HorizonSchedule, Trajectory, Window};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{PairId, UnrollContext, full_es_pair};
use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec, Theta};

use crate::toy::{Exposed, Quadratic};

const RUN: Seed = Seed::new(31);
const WHOLE: EstimatorKind = EstimatorKind::FullEs { loss: MetaLoss::Average };

fn estimator(noise: Noise, sigma: f32, steps: u32) -> EstimatorConfig {
    EstimatorConfig { noise, ..EstimatorConfig::new(WHOLE, sigma, HorizonSchedule::Constant { steps }) }
}

fn window(outer_step: u64, horizon: u32) -> Window {
    let current = Trajectory { index: outer_step, began: outer_step, horizon, ..Trajectory::default() };
    Window { current, next: None }
}

/// The meta-gradient of one outer step: what workers report, folded.
fn meta_gradient(
    optimizer: &dyn LearnedOptimizer,
    families: &[Arc<dyn TaskFamily>],
    theta: &Theta,
    estimator: &EstimatorConfig,
    [slots, pairs_per_slot]: [u32; 2],
    outer_step: u64,
) -> Result<Vec<f64>> {
    let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    let context = UnrollContext {
        run: RUN,
        optimizer,
        estimator,
        families,
        trainer: None,
        cancelled: &cancelled,
        progress: &progress,
    };
    let window = window(outer_step, estimator.horizon.min());
    let contributions: Vec<Contribution> = (0..slots)
        .map(|slot| {
            let pair = |pair| full_es_pair(&context, theta, PairId { outer_step, slot, pair }, &window);
            let reports = (0..pairs_per_slot).map(|p| Ok(pair(p)?.report)).collect::<Result<Vec<_>>>()?;
            let result = SlotResult::SeedCoded(reports);
            Ok(Contribution { slot, window, result, inner_steps: 1, diverged_lanes: 0 })
        })
        .collect::<Result<_>>()?;
    let outer = OuterConfig {
        steps: 1,
        slots,
        pairs_per_slot,
        optimizer: ThetaOptimizer::default(),
        clip: None,
        clip_norm: None,
        accumulation: 1,
        report: Report::SeedCoded,
    };
    Ok(fold(RUN, outer_step, &outer, estimator, theta.layout(), &contributions)?.gradient)
}

/// Meta-losses with known gradients over a theta with matrices and vectors: linear, and quadratic at a sigma that a
/// finite difference would feel.
#[test]
fn every_kind_of_noise_has_the_meta_gradient_of_the_loss() {
    for curvature in [0.0, 1.5] {
        let toy = Arc::new(Exposed::new(&[("b", &[3]), ("m", &[4, 5]), ("s", &[]), ("w", &[3, 7])], curvature));
        let families: [Arc<dyn TaskFamily>; 1] = [toy.clone()];
        let theta = toy.theta(5);
        let gradient = toy.gradient(&theta);
        for noise in [Noise::Dense, Noise::Orthogonal, Noise::LowRank { rank: 1 }, Noise::LowRank { rank: 2 }] {
            let estimator = estimator(noise, 0.25, 1);
            let steps: Vec<Vec<f64>> = (0..60)
                .map(|step| meta_gradient(&*toy, &families, &theta, &estimator, [8, 20], step).unwrap())
                .collect();
            for (i, expected) in gradient.iter().enumerate() {
                let n = steps.len() as f64;
                let mean = steps.iter().map(|step| step[i]).sum::<f64>() / n;
                let squares = steps.iter().map(|step| (step[i] - mean).powi(2)).sum::<f64>();
                let error = (squares / (n - 1.0) / n).sqrt();
                assert!(
                    (mean - expected).abs() < 5.0 * error && error < 0.6,
                    "{noise:?}, curvature {curvature}, value {i}: {mean} ± {error}, not {expected}"
                );
            }
        }
    }
}

/// The optimizers that share their matrices.
fn sharing() -> [Arc<dyn LearnedOptimizer>; 2] {
    let config = CeloConfig {
        lstm_hidden_size: 12,
        param_inits: 10,
        train_phase: TrainPhase::Scheduler,
        // Its own steps are too small for parameters around 1 to show them.
        step_mult: 100.0,
        ..CeloConfig::default()
    };
    [hyper_v2(), LearnedOptimizerConfig::Celo(config).build().unwrap()]
}

fn hyper_v2() -> Arc<dyn LearnedOptimizer> {
    let config = HyperV2Config {
        lstm_hidden_size: 12,
        param_inits: 10,
        use_bugged_loss_features: false,
        ..HyperV2Config::default()
    };
    LearnedOptimizerConfig::HyperV2(config).build().unwrap()
}

fn theta_of(optimizer: &dyn LearnedOptimizer) -> Theta {
    let mut theta = optimizer.init_theta(Seed::new(3));
    // Biases and initial states are zeros at first; here everything takes part.
    let mut draws = Draws::new(Seed::new(4));
    theta.values_mut().iter_mut().for_each(|value| *value += 0.05 * draws.normal());
    theta
}

fn normals(layout: &Arc<Layout>, seed: u64, lanes: usize) -> Params {
    let mut params = Params::zeros(layout, lanes);
    for index in 0..layout.len() {
        noise::normals(Seed::new(seed).fold_in(index as u64), 0, params.tensor_mut(index));
    }
    params
}

fn model() -> Arc<Layout> {
    let tensors = [("b0", &[6][..]), ("b1", &[]), ("w0", &[5, 6]), ("w1", &[6, 2])];
    Layout::new(tensors.map(|(name, shape)| TensorSpec::new(name, shape)).to_vec()).unwrap()
}

/// States after each of some steps; lanes begin alike and see gradients of their own. `select` leaves some of two lanes.
fn trained(optimizer: &dyn Optimizer, select: &[usize]) -> Vec<OptState> {
    let both = |params: Params| {
        let both = params.select(&[0, 0]);
        both.select(select)
    };
    let mut state = optimizer.init(both(normals(&model(), 1, 1)), &vec![40; select.len()]).unwrap();
    let mut states = vec![];
    for step in 0..12_u64 {
        let grads = normals(&model(), 100 + step, 2).select(select);
        let losses: Vec<f32> = select.iter().map(|lane| 3.0 - 0.1 * step as f32 + 0.2 * *lane as f32).collect();
        state = optimizer.update(state, &grads, &losses).unwrap();
        states.push(state.clone());
    }
    states
}

/// Largest difference between parameters, relative to how far they have moved.
fn distance(a: &[OptState], b: &[OptState]) -> f64 {
    let start = normals(&model(), 1, 1);
    let mut worst = 0.0_f64;
    for (a, b) in a.iter().zip(b) {
        for index in 0..a.params.layout().len() {
            for lane in 0..a.lanes() {
                let moved = a.params.lane(index, lane).iter().zip(start.lane(index, 0));
                let moved = moved.fold(0.0_f64, |most, (p, start)| most.max(f64::from((p - start).abs())));
                assert!(moved > 0.0 && moved < 1e3, "tensor {index} moved by {moved}");
                for (a, b) in a.params.lane(index, lane).iter().zip(b.params.lane(index, lane)) {
                    worst = worst.max(f64::from((a - b).abs()) / moved);
                }
            }
        }
    }
    worst
}

#[test]
fn a_shared_hypernetwork_is_the_perturbed_one_but_for_rounding() {
    for (optimizer, rank) in sharing().into_iter().flat_map(|optimizer| [(optimizer.clone(), 1), (optimizer, 3)]) {
        let theta = theta_of(&*optimizer);
        let sigma = 0.02;
        let epsilon = Perturbation::new(RUN, Noise::LowRank { rank }, theta.layout(), 2, 1, 0).unwrap();
        let factored = (0..theta.layout().len()).filter(|index| epsilon.factors(*index).is_some()).count();
        assert!(factored >= 4, "the LSTM, both mixing layers and the head of the bank are factored");
        let made = theta.antithetic(sigma, &epsilon.whole()).unwrap();
        let expected = trained(&*optimizer.bind(made.clone()).unwrap(), &[0, 1]);
        let got = trained(&*optimizer.bind_perturbed(&theta, &epsilon, sigma).unwrap(), &[0, 1]);
        // How much the last bit of theta matters to this optimizer.
        let mut jitter = 0.0_f64;
        for seed in 0..4 {
            let mut draws = Draws::new(Seed::new(seed));
            let mut other = made.clone();
            for value in other.values_mut() {
                *value *= 1.0 + f32::EPSILON * (draws.below(3) as f32 - 1.0);
            }
            jitter = jitter.max(distance(&expected, &trained(&*optimizer.bind(other).unwrap(), &[0, 1])));
        }
        let error = distance(&expected, &got);
        assert!(jitter > 0.0 && error <= 2.0 * jitter, "rank {rank}: {error:e}, one bit of theta makes {jitter:e}");
        let unperturbed = distance(&expected, &trained(&*optimizer.bind(theta.clone()).unwrap(), &[0, 1]));
        assert!(unperturbed > 100.0 * error, "rank {rank}: a perturbation makes {unperturbed:e}, rounding {error:e}");
    }
}

#[test]
fn lanes_of_a_shared_hypernetwork_do_not_see_each_other() {
    sharing().into_iter().for_each(lanes_do_not_see_each_other);
}

fn lanes_do_not_see_each_other(optimizer: Arc<dyn LearnedOptimizer>) {
    let theta = theta_of(&*optimizer);
    let epsilon = Perturbation::new(RUN, Noise::LowRank { rank: 2 }, theta.layout(), 0, 0, 1).unwrap();
    let bound = |sigma| optimizer.bind_perturbed(&theta, &epsilon, sigma).unwrap();
    let both = trained(&*bound(0.02), &[0, 1]);
    // The other sign is the other lane, to the bit, whatever its neighbour does.
    for (swapped, both) in trained(&*bound(-0.02), &[1, 0]).iter().zip(&both) {
        assert_eq!(swapped.select(&[1, 0]), *both);
    }
    for (twice, both) in trained(&*bound(0.02), &[0, 0]).iter().zip(&both) {
        assert_eq!(twice.select(&[0]), both.select(&[0]));
    }
    for (twice, both) in trained(&*bound(0.02), &[1, 1]).iter().zip(&both) {
        assert_eq!(twice.select(&[1]), both.select(&[1]));
    }
    // One theta for many lanes: together as alone.
    let shared = optimizer.bind(theta.clone()).unwrap();
    let both = trained(&*shared, &[0, 1]);
    for lane in [0, 1] {
        for (alone, both) in trained(&*shared, &[lane]).iter().zip(&both) {
            assert_eq!(*alone, both.select(&[lane]));
        }
    }
}

/// A learned optimizer that does not know how to share: whatever it is asked to bind is made.
#[derive(Debug)]
struct Plain(Arc<dyn LearnedOptimizer>);

impl LearnedOptimizer for Plain {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        self.0.config()
    }

    fn layout(&self) -> &Arc<Layout> {
        self.0.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.0.init_theta(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        self.0.bind(theta)
    }
}

#[test]
fn unrolls_of_hyper_v2_report_the_same_meta_gradient_either_way() {
    let optimizer = hyper_v2();
    let theta = theta_of(&*optimizer);
    let families: [Arc<dyn TaskFamily>; 1] = [Arc::new(Quadratic::new())];
    let estimator = estimator(Noise::LowRank { rank: 1 }, 0.05, 12);
    let gradient =
        |optimizer: &dyn LearnedOptimizer| meta_gradient(optimizer, &families, &theta, &estimator, [4, 2], 0).unwrap();
    let (shared, made) = (gradient(&*optimizer), gradient(&Plain(Arc::clone(&optimizer))));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut shared.iter().zip(&made).map(|(a, b)| a - b));
    let size = norm(&mut made.iter().copied());
    assert!(size > 0.0 && difference < 0.01 * size, "{difference:e} of {size:e}");
    assert_ne!(shared, made, "the shared path was taken");
}
