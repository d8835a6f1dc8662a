//! What evolution strategies promise, checked on problems whose meta-gradient is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use paceline_optimizer_core::estimator::windowed::WindowLosses;
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss, PairReport, full_es, windowed};
use paceline_optimizer_core::outer::slot_gradient;
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence, Trajectory, Window, perturbation_seed};
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{PairId, UnrollContext, full_es_pair, window_pair};
use paceline_optimizer_core::{Layout, Seed, TensorSpec, noise};

use crate::toy::Recurrence;

const RUN: Seed = Seed::new(77);
const SIZE: usize = 6;

fn estimator(kind: EstimatorKind, sigma: f32, horizon: u32) -> EstimatorConfig {
    let horizon = HorizonSchedule::Constant { steps: horizon };
    EstimatorConfig::new(kind, sigma, horizon)
}

fn layout(size: usize) -> Arc<Layout> {
    Layout::new(vec![TensorSpec::new("theta", [size])]).unwrap()
}

const WHOLE: EstimatorKind = EstimatorKind::FullEs { loss: MetaLoss::Average };

fn epsilon(outer_step: u64, slot: u32, pair: u32) -> Vec<f64> {
    let mut values = [0.0; SIZE];
    noise::normals(perturbation_seed(RUN, outer_step, slot, pair), 0, &mut values);
    values.map(f64::from).to_vec()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Full ES gradient of one pair on a meta-loss given as a function of theta.
fn pair_gradient(loss: &dyn Fn(&[f64]) -> f64, theta: &[f64], sigma: f32, outer_step: u64) -> Vec<f64> {
    let epsilon = epsilon(outer_step, 0, 0);
    let at = |sign: f64| {
        let moved: Vec<f64> = theta.iter().zip(&epsilon).map(|(t, e)| t + sign * f64::from(sigma) * e).collect();
        loss(&moved)
    };
    let config = estimator(WHOLE, sigma, 1);
    let report = full_es::estimate(&config, MetaLoss::Average, &[at(1.0)], &[at(-1.0)]).report;
    let window = Window { current: Trajectory { began: outer_step, ..Trajectory::default() }, next: None };
    slot_gradient(RUN, outer_step, 0, &window, &config, &[report], &layout(SIZE))
}

/// Mean and standard error.
pub(crate) fn mean_and_error(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let variance = samples.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

const C: [f64; SIZE] = [1.0, -2.0, 0.5, 0.0, 3.0, -0.25];
const THETA: [f64; SIZE] = [0.3, -0.1, 0.7, 2.0, -1.0, 0.0];

#[test]
fn a_pair_on_a_linear_loss_is_the_projection_on_its_perturbation() {
    for sigma in [0.01, 1.0, 30.0] {
        for outer_step in 0..20 {
            let e = epsilon(outer_step, 0, 0);
            let gradient = pair_gradient(&|theta| dot(&C, theta), &THETA, sigma, outer_step);
            for (got, e_i) in gradient.iter().zip(&e) {
                assert!((got - dot(&C, &e) * e_i).abs() < 1e-9, "sigma {sigma}");
            }
        }
    }
}

#[test]
fn many_pairs_average_to_the_gradient_with_the_variance_of_the_closed_form() {
    let pairs = 20_000;
    let gradients: Vec<Vec<f64>> =
        (0..pairs).map(|step| pair_gradient(&|theta| dot(&C, theta), &THETA, 0.1, step)).collect();
    for i in 0..SIZE {
        let samples: Vec<f64> = gradients.iter().map(|gradient| gradient[i]).collect();
        let (mean, error) = mean_and_error(&samples);
        assert!((mean - C[i]).abs() < 4.5 * error, "element {i}: {mean} ± {error}");
        // Var (c·ε) ε_i = |c|² + c_i²
        let variance = error * error * pairs as f64;
        let expected = dot(&C, &C) + C[i] * C[i];
        assert!((variance / expected - 1.0).abs() < 0.1, "element {i}: variance {variance}, not {expected}");
    }
}

#[test]
fn a_quadratic_loss_has_no_bias_whatever_sigma_is() {
    let quadratic = |theta: &[f64]| 0.5 * theta.iter().zip(&C).map(|(t, c)| (1.0 + c * c) * t * t).sum::<f64>();
    let slope: Vec<f64> = THETA.iter().zip(&C).map(|(t, c)| (1.0 + c * c) * t).collect();
    for sigma in [0.01, 1.0, 10.0] {
        for outer_step in 0..20 {
            let e = epsilon(outer_step, 0, 0);
            let gradient = pair_gradient(&quadratic, &THETA, sigma, outer_step);
            for (got, e_i) in gradient.iter().zip(&e) {
                let expected = dot(&slope, &e) * e_i;
                assert!((got - expected).abs() < 1e-9 * (1.0 + expected.abs()), "sigma {sigma}: {got} {expected}");
            }
        }
    }
}

#[test]
fn sign_mode_does_not_see_the_scale_of_a_loss() {
    let config = EstimatorConfig { sign_delta: Some(1.0), ..estimator(WHOLE, 0.1, 3) };
    let (plus, minus) = ([1.0, 2.0, 3.0], [1.5, 2.5, 1.25]);
    let scaled = |losses: [f64; 3]| losses.map(|loss| 1e6 * loss);
    for loss in [MetaLoss::Average, MetaLoss::Min, MetaLoss::Last] {
        let small = full_es::estimate(&config, loss, &plus, &minus).report.fresh;
        let large = full_es::estimate(&config, loss, &scaled(plus), &scaled(minus)).report.fresh;
        assert_eq!((small.abs(), small), (1.0, large), "{loss:?}");
    }
}

#[test]
fn pes_on_one_whole_window_is_full_es() {
    let mut draws = noise::Draws::new(Seed::new(5));
    for steps in [1, 2, 7, 30] {
        let mut losses = || (0..steps).map(|_| draws.uniform()).collect::<Vec<f64>>();
        let (plus, minus) = (losses(), losses());
        let (live, done) = (vec![true; steps], vec![false; steps]);
        for sign_delta in [None, Some(0.5)] {
            let config = EstimatorConfig { sign_delta, ..estimator(WHOLE, 0.1, 100) };
            let whole = full_es::estimate(&config, MetaLoss::Average, &plus, &minus).report;
            let window = WindowLosses { plus: &plus, minus: &minus, live: &live, done: &done };
            let window = windowed::estimate(&config, &window).report;
            // A trajectory that begins in this window has no earlier perturbation, so both weights meet the same one.
            let (a, b) = (whole.carried + whole.fresh, window.carried + window.fresh);
            assert!((a - b).abs() < 1e-12, "{steps} steps: {a} {b}");
            assert!((whole.loss_plus - window.loss_plus).abs() < 1e-12);
        }
    }
}

/// The first component of one pair's part of the meta-gradient of outer step 1.
fn slot_gradient_of(pair: u32, window: &Window, config: &EstimatorConfig, report: &PairReport) -> f64 {
    let terms = config.kind.terms(window, 1, 0, pair, report, config.sigma);
    terms.iter().map(|term| term.weight * epsilon(term.outer_step, 0, pair)[0]).sum()
}

/// The specification's check of the done flag: `s' = s + theta`, loss s, T = 4, W = 2. Step 4's loss was moved by both
/// perturbations, so it must contribute 4; an inclusive flag would leave 2.
#[test]
fn the_last_step_of_a_trajectory_contributes_its_whole_gradient() {
    let sigma = 0.1_f32;
    let config = estimator(EstimatorKind::Pes { window: 2 }, sigma, 4);
    let samples: Vec<f64> = (0..20_000)
        .map(|pair| {
            let (first, second) = (epsilon(0, 0, pair)[0], epsilon(1, 0, pair)[0]);
            let moved = f64::from(sigma) * (2.0 * first + 2.0 * second);
            let losses = WindowLosses {
                plus: &[0.0, 2.0 + moved],
                minus: &[0.0, 2.0 - moved],
                live: &[true, true],
                done: &[false, true],
            };
            let report = windowed::estimate(&config, &losses).report;
            // The trajectory began one outer step earlier. The estimate is a mean over two live places.
            let window = Window { current: Trajectory { began: 0, ..Trajectory::default() }, next: None };
            2.0 * slot_gradient_of(pair, &window, &config, &report)
        })
        .collect();
    let (mean, error) = mean_and_error(&samples);
    assert!((mean - 4.0).abs() < 4.5 * error && error < 0.1, "{mean} ± {error}");
}

/// Runs slots of the recurrence through real windows; per slot, Σ over windows of gradient times live places, divided by
/// the trajectories completed: the estimate of the gradient of a trajectory's summed loss.
fn recurrence_by_windows(kind: EstimatorKind, horizon: HorizonSchedule, outer_steps: u64) -> (f64, f64, f64) {
    let toy = Arc::new(Recurrence::new());
    let families: [Arc<dyn TaskFamily>; 1] = [toy.clone()];
    let config = EstimatorConfig { horizon, initial_offset: 3, ..estimator(kind, 0.1, 1) };
    let window = kind.window().unwrap();
    let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    let context = UnrollContext {
        run: RUN,
        optimizer: &*toy,
        estimator: &config,
        families: &families,
        trainer: None,
        cancelled: &cancelled,
        progress: &progress,
    };
    let theta = toy.theta(0.5);
    let mut expected = 0.0;
    let samples: Vec<f64> = (0..400)
        .map(|slot| {
            let mut sequence = SlotSequence::new(RUN, slot, &config, outer_steps, &[1.0]).unwrap();
            let mut particle = None;
            let mut sum = 0.0;
            for outer_step in 0..outer_steps {
                let pair = PairId { outer_step, slot, pair: 0 };
                let plan = sequence.window();
                let (outcome, next) = window_pair(&context, &theta, pair, &plan, particle).unwrap();
                let gradient = slot_gradient(RUN, outer_step, slot, &plan, &config, &[outcome.report], &layout(1));
                sum += gradient[0] * outcome.inner_steps as f64 / 2.0;
                // Live places of both trajectories, by the definition of the toy: step t contributes t.
                let left = plan.current.length() - plan.current.inner_step;
                let before = left.min(window);
                let steps =
                    (1..=before).map(|t| plan.current.inner_step + t).chain(1..=(window - before).saturating_sub(1));
                expected += steps.map(f64::from).sum::<f64>();
                particle = Some(next);
                sequence.advance();
            }
            sum
        })
        .collect();
    let (mean, error) = mean_and_error(&samples);
    (mean, error, expected / 400.0)
}

/// Schedules that put resets first, last and in the middle of a window, and ends of trajectories with it.
const SCENES: [(HorizonSchedule, u32, u64); 3] = [
    (HorizonSchedule::Constant { steps: 4 }, 2, 10),
    (HorizonSchedule::Constant { steps: 5 }, 3, 8),
    (HorizonSchedule::LogUniform { min: 5, max: 20 }, 4, 15),
];

#[test]
fn pes_gpes_and_nres_estimate_the_recurrence_with_resets_anywhere_in_a_window() {
    for (horizon, window, outer_steps) in SCENES {
        for kind in [
            EstimatorKind::Pes { window },
            EstimatorKind::Gpes { window, period: 2 * window },
            EstimatorKind::Nres { window },
        ] {
            let (mean, error, expected) = recurrence_by_windows(kind, horizon.clone(), outer_steps);
            assert!((mean - expected).abs() < 4.5 * error, "{horizon:?}, {kind:?}: {mean} ± {error}, not {expected}");
            assert!(error < 0.1 * expected, "{horizon:?}, {kind:?}: too noisy to tell, {error} of {expected}");
        }
    }
}

/// Truncated ES sees only what theta did within the window: of step t, no more than the steps since the window began.
#[test]
fn truncated_es_is_biased_by_what_it_forgets() {
    for (horizon, window, outer_steps) in SCENES {
        let kind = EstimatorKind::TruncatedEs { window };
        let (mean, error, expected) = recurrence_by_windows(kind, horizon.clone(), outer_steps);
        assert!(mean + 4.5 * error < 0.9 * expected, "{horizon:?}: {mean} ± {error} reaches {expected}");
    }
}

#[test]
fn full_es_estimates_the_recurrence() {
    let toy = Arc::new(Recurrence::new());
    let families: [Arc<dyn TaskFamily>; 1] = [toy.clone()];
    let (cancelled, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    for (loss, expected) in [(MetaLoss::Average, 2.5), (MetaLoss::Last, 4.0)] {
        let config = estimator(EstimatorKind::FullEs { loss }, 0.1, 4);
        let context = UnrollContext {
            run: RUN,
            optimizer: &*toy,
            estimator: &config,
            families: &families,
            trainer: None,
            cancelled: &cancelled,
            progress: &progress,
        };
        let mut sequence = SlotSequence::new(RUN, 0, &config, 4000, &[1.0]).unwrap();
        let mut samples = vec![];
        for outer_step in 0..4000 {
            let window = sequence.window();
            let pair = PairId { outer_step, slot: 0, pair: 0 };
            let outcome = full_es_pair(&context, &toy.theta(0.5), pair, &window).unwrap();
            let PairReport { carried, loss_plus, .. } = outcome.report;
            assert!(carried == 0.0 && loss_plus.is_finite() && outcome.inner_steps == 8);
            samples.push(slot_gradient(RUN, outer_step, 0, &window, &config, &[outcome.report], &layout(1))[0]);
            sequence.advance();
        }
        let (mean, error) = mean_and_error(&samples);
        assert!((mean - expected).abs() < 4.5 * error && error < 0.1, "{loss:?}: {mean} ± {error}, not {expected}");
    }
}
