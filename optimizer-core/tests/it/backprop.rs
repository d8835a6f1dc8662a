//! Exact meta-gradients against finite differences, and estimators against exact meta-gradients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use candle_core::{Device, Tensor};
use paceline_optimizer_core::estimator::backprop::{
    MetaGradient, SmoothAdam, SmoothProblem, SmoothQuadratic, SmoothRule, SmoothSgd, SmoothSgdm, meta_gradient,
};
use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, MetaLoss};
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use paceline_optimizer_core::outer::slot_gradient;
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence};
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::unroll::{PairId, UnrollContext, full_es_pair, window_pair};
use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec, Theta};

const HORIZON: u32 = 12;

fn quadratic() -> SmoothQuadratic {
    SmoothQuadratic { initial: vec![1.0, -2.0, 0.5], curvature: vec![1.0, 0.3, 2.5], centre: vec![0.2, 0.1, -0.7] }
}

/// The quadratic as a task family: every instance is the same.
#[derive(Debug)]
struct Family(Arc<Layout>, SmoothQuadratic);

impl Family {
    fn new() -> Self {
        Self(Layout::new(vec![TensorSpec::new("x", [3])]).unwrap(), quadratic())
    }
}

impl TaskFamily for Family {
    fn name(&self) -> &'static str {
        "smooth_quadratic"
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.0
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(Lanes(self, seeds.len())))
    }

    fn cost(&self) -> Cost {
        crate::toy::cost(self.layout())
    }

    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss } else { 1e6 }
    }
}

struct Lanes<'a>(&'a Family, usize);

impl TaskLanes for Lanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        let initial = self.0.1.initial.iter().map(|value| *value as f32);
        let values = initial.collect::<Vec<_>>().repeat(self.1);
        Params::from_tensors(&self.0.0, self.1, vec![values])
    }

    fn loss_and_grads(&mut self, params: &Params, _: u64) -> Result<(Vec<f32>, Params)> {
        let SmoothQuadratic { curvature, centre, .. } = &self.0.1;
        let (mut losses, mut grads) = (vec![], params.clone());
        for lane in 0..self.1 {
            let mut loss = 0.0;
            for ((x, h), c) in grads.lane_mut(0, lane).iter_mut().zip(curvature).zip(centre) {
                let offset = f64::from(*x) - c;
                loss += 0.5 * h * offset * offset;
                *x = (h * offset) as f32;
            }
            losses.push(loss as f32);
        }
        Ok((losses, grads))
    }

    fn evaluate(&mut self, params: &Params, _: Split, batch: u64) -> Result<Vec<Evaluation>> {
        let losses = self.loss_and_grads(params, batch)?.0;
        Ok(losses.into_iter().map(|loss| Evaluation { loss, accuracy: None }).collect())
    }
}

/// A learned optimizer, its smooth twin and a theta at which both learn.
fn twins() -> [(LearnedOptimizerConfig, &'static dyn SmoothRule, Vec<f64>); 3] {
    [
        (LearnedOptimizerConfig::LearnableSgd, &SmoothSgd, vec![-1.5]),
        (LearnedOptimizerConfig::LearnableSgdm, &SmoothSgdm, vec![-2.5, -0.7]),
        (LearnedOptimizerConfig::LearnableAdam, &SmoothAdam, vec![-4.0, -2.0, -2.0, -3.5]),
    ]
}

const LOSSES: [MetaLoss; 4] =
    [MetaLoss::Average, MetaLoss::Min, MetaLoss::Last, MetaLoss::LastRecompute { batches: 3 }];

fn exact(rule: &dyn SmoothRule, theta: &[f64], loss: MetaLoss) -> MetaGradient {
    meta_gradient(rule, &quadratic(), theta, HORIZON, loss).unwrap()
}

#[test]
fn twins_train_alike() {
    for (config, rule, theta) in twins() {
        let learned = config.build().unwrap();
        let values = theta.iter().map(|value| *value as f32).collect();
        let optimizer = learned.bind(Theta::new(learned.layout(), 1, values).unwrap()).unwrap();
        let family = Family::new();
        let mut lanes = family.bind(&[Seed::new(0)]).unwrap();
        let mut state = optimizer.init(lanes.init_params().unwrap(), &[HORIZON]).unwrap();
        for batch in 0..u64::from(HORIZON) {
            let (losses, grads) = lanes.loss_and_grads(&state.params, batch).unwrap();
            state = optimizer.update(state, &grads, &losses).unwrap();
        }
        for (got, expected) in state.params.tensor(0).iter().zip(exact(rule, &theta, MetaLoss::Last).last) {
            assert!((f64::from(*got) - expected).abs() < 3e-6, "{config:?}: {got} is not {expected}");
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    for (config, rule, theta) in twins() {
        for loss in LOSSES {
            let gradient = exact(rule, &theta, loss).gradient;
            for (index, got) in gradient.iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = theta.clone();
                    moved[index] += step;
                    exact(rule, &moved, loss).loss
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((got - slope).abs() < 1e-7 * (1.0 + slope.abs()), "{config:?} {loss:?} {index}: {got} {slope}");
            }
        }
    }
}

/// The estimate of one trajectory's meta-gradient: its whole unroll, or the sum of its windows weighed by their steps.
fn estimate(kind: EstimatorKind, config: &LearnedOptimizerConfig, theta: &[f64], slot: u32) -> Vec<f64> {
    let estimator = EstimatorConfig::new(kind, 1e-3, HorizonSchedule::Constant { steps: HORIZON });
    let learned = config.build().unwrap();
    let theta = Theta::new(learned.layout(), 1, theta.iter().map(|value| *value as f32).collect()).unwrap();
    let families: [Arc<dyn TaskFamily>; 1] = [Arc::new(Family::new())];
    let (run, cancelled, progress) = (Seed::new(6), AtomicBool::new(false), AtomicU64::new(0));
    let context = UnrollContext {
        run,
        optimizer: &*learned,
        estimator: &estimator,
        families: &families,
        trainer: None,
        cancelled: &cancelled,
        progress: &progress,
    };
    let mut sequence = SlotSequence::new(run, slot, &estimator, 100, &[1.0]).unwrap();
    let mut sum = vec![0.0; learned.layout().size()];
    let mut particle = None;
    for outer_step in 0..kind.window().map_or(1, |window| u64::from(HORIZON / window)) {
        let (window, pair) = (sequence.window(), PairId { outer_step, slot, pair: 0 });
        let outcome = match kind {
            EstimatorKind::FullEs { .. } => full_es_pair(&context, &theta, pair, &window).unwrap(),
            _ => {
                let (outcome, next) = window_pair(&context, &theta, pair, &window, particle).unwrap();
                particle = Some(next);
                outcome
            }
        };
        let share = outcome.inner_steps as f64 / f64::from(2 * HORIZON);
        let part = slot_gradient(run, outer_step, slot, &window, &estimator, &[outcome.report], learned.layout());
        sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += share * value);
        sequence.advance();
    }
    sum
}

#[test]
fn estimators_expect_the_exact_gradient() {
    let samples = 4000;
    for (config, rule, theta) in twins() {
        for (kind, loss) in [
            (EstimatorKind::FullEs { loss: MetaLoss::Average }, MetaLoss::Average),
            (EstimatorKind::FullEs { loss: MetaLoss::Last }, MetaLoss::Last),
            (EstimatorKind::Pes { window: 3 }, MetaLoss::Average),
            (EstimatorKind::Gpes { window: 3, period: 6 }, MetaLoss::Average),
            (EstimatorKind::Nres { window: 3 }, MetaLoss::Average),
        ] {
            let exact = exact(rule, &theta, loss).gradient;
            // What a value of theta does not do, the others' differences still blur.
            let length = exact.iter().map(|value| value * value).sum::<f64>().sqrt();
            let estimates: Vec<Vec<f64>> = (0..samples).map(|slot| estimate(kind, &config, &theta, slot)).collect();
            for (index, exact) in exact.iter().enumerate() {
                let (mean, error) = crate::laws::mean_and_error(
                    &estimates.iter().map(|estimate| estimate[index]).collect::<Vec<f64>>(),
                );
                assert!(
                    (mean - exact).abs() < 4.5 * error,
                    "{config:?} {kind:?} {index}: {mean} ± {error} is not {exact}"
                );
                assert!(error < 0.05 * length, "{config:?} {kind:?} {index}: too noisy to tell, {error} of {length}");
            }
        }
    }
}

#[test]
fn what_is_not_tiny_is_refused() {
    for horizon in [0, 1001] {
        let error = meta_gradient(&SmoothSgd, &quadratic(), &[0.0], horizon, MetaLoss::Last).unwrap_err();
        assert!(error.to_string().contains("1000 inner steps"), "{error}");
    }
    let longest = meta_gradient(&SmoothAdam, &quadratic(), &[-4.0, -5.0, -2.0, -3.5], 1000, MetaLoss::Average);
    assert!(longest.unwrap().gradient.iter().all(|value| value.is_finite()));
}

#[test]
fn the_first_loss_does_not_depend_on_theta() {
    let only = meta_gradient(&SmoothSgd, &quadratic(), &[0.0], 1, MetaLoss::Average).unwrap();
    let x = Tensor::new(&[1.0, -2.0, 0.5], &Device::Cpu).unwrap();
    assert_eq!(only.gradient, [0.0]);
    assert_eq!(only.loss, quadratic().loss(&x, 0).unwrap().to_scalar::<f64>().unwrap());
}
