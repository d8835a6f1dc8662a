//! Pairs through real inner loops: determinism, replay, divergence, cancelling.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paceline_optimizer_core::estimator::{EstimatorConfig, EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::schedule::{HorizonSchedule, SlotSequence, Window, perturbation_seed, task_seed};
use paceline_optimizer_core::task::{Split, TaskFamily};
use paceline_optimizer_core::unroll::{
    PairId, PairOutcome, Particle, UnrollContext, earlier_windows, full_es_pair, replay_pair, window_pair,
};
use paceline_optimizer_core::{Error, Seed, Theta, noise};

use crate::toy::{Descent, Quadratic};

pub(crate) struct Setup {
    optimizer: Descent,
    pub(crate) estimator: EstimatorConfig,
    families: [Arc<dyn TaskFamily>; 2],
    cancelled: AtomicBool,
    progress: AtomicU64,
}

impl Setup {
    pub(crate) fn new(kind: EstimatorKind, horizon: HorizonSchedule) -> Self {
        Self {
            optimizer: Descent::new(),
            estimator: EstimatorConfig::new(kind, 0.2, horizon),
            families: [Arc::new(Quadratic::new()), Arc::new(Quadratic::with_ceiling(500.0))],
            cancelled: AtomicBool::new(false),
            progress: AtomicU64::new(0),
        }
    }

    pub(crate) fn context(&self) -> UnrollContext<'_> {
        UnrollContext {
            run: Seed::new(21),
            optimizer: &self.optimizer,
            estimator: &self.estimator,
            families: &self.families,
            trainer: None,
            cancelled: &self.cancelled,
            progress: &self.progress,
        }
    }

    pub(crate) fn sequence(&self, slot: u32) -> SlotSequence {
        SlotSequence::new(Seed::new(21), slot, &self.estimator, 100, &[1.0, 1.0]).unwrap()
    }

    /// A theta that moves from outer step to outer step, as it does while meta-training.
    pub(crate) fn theta(&self, outer_step: u64) -> Theta {
        self.optimizer.theta(-2.0 + 0.03 * outer_step as f32)
    }

    fn pes(&self, slot: u32, outer_step: u64, window: &Window, particle: Option<Particle>) -> (PairOutcome, Particle) {
        let pair = PairId { outer_step, slot, pair: 1 };
        window_pair(&self.context(), &self.theta(outer_step), pair, window, particle).unwrap()
    }

    /// The particle before `outer_step`, from seeds and thetas alone.
    fn rebuild(&self, slot: u32, outer_step: u64, window: &Window) -> Option<Particle> {
        let earlier = earlier_windows(&self.estimator, &window.current, outer_step).unwrap();
        earlier.fold(None, |particle, earlier| {
            let pair = PairId { outer_step: earlier.outer_step, slot, pair: 1 };
            Some(replay_pair(&self.context(), &self.theta(earlier.outer_step), pair, &earlier, particle).unwrap())
        })
    }
}

fn bits(outcome: &PairOutcome) -> [u64; 4] {
    let report = outcome.report;
    [report.fresh, report.carried, report.loss_plus, report.loss_minus].map(f64::to_bits)
}

#[test]
fn a_rebuilt_particle_is_the_kept_one_to_the_bit() {
    for (window, horizon) in [
        (3, HorizonSchedule::Constant { steps: 6 }), // ends with a window: the reset opens the next one
        (4, HorizonSchedule::Constant { steps: 7 }), // the reset is a window's last place
        (4, HorizonSchedule::Constant { steps: 9 }),
        (5, HorizonSchedule::LogUniform { min: 6, max: 40 }),
    ] {
        for kind in [
            EstimatorKind::Pes { window },
            EstimatorKind::Gpes { window, period: 2 * window },
            EstimatorKind::Nres { window },
            EstimatorKind::TruncatedEs { window },
        ] {
            let mut setup = Setup::new(kind, horizon.clone());
            setup.estimator.initial_offset = 3;
            let mut sequence = setup.sequence(2);
            let mut kept = None;
            let mut carried = 0;
            for outer_step in 0..40 {
                let plan = sequence.window();
                let (through, particle) = setup.pes(2, outer_step, &plan, kept.take());
                let (rebuilt, same_particle) = setup.pes(2, outer_step, &plan, setup.rebuild(2, outer_step, &plan));
                assert_eq!(bits(&through), bits(&rebuilt), "{horizon:?}, {kind:?}, outer step {outer_step}");
                assert_eq!(through, rebuilt);
                assert_eq!(particle, same_particle, "{horizon:?}, outer step {outer_step}");
                sequence.advance();
                assert_eq!(particle.trajectory, sequence.window().current, "the particle stands where the plan says");
                carried += u32::from(through.report.carried != 0.0);
                if let EstimatorKind::TruncatedEs { .. } = kind {
                    assert_eq!(
                        particle.state.select(&[0]),
                        particle.state.select(&[1]),
                        "both signs go on from one state"
                    );
                }
                kept = Some(particle);
            }
            match kind {
                EstimatorKind::TruncatedEs { .. } => assert_eq!(carried, 0),
                _ => assert!(carried > 20, "the windows carry differences: {carried}"),
            }
        }
    }
}

#[test]
fn a_particle_that_stands_elsewhere_is_not_used() {
    let setup = Setup::new(EstimatorKind::Pes { window: 3 }, HorizonSchedule::Constant { steps: 20 });
    let mut sequence = setup.sequence(0);
    let (_, stale) = setup.pes(0, 0, &sequence.window(), None);
    sequence.advance_to(4);
    for particle in [Some(stale), None] {
        let pair = PairId { outer_step: 4, slot: 0, pair: 1 };
        let result = window_pair(&setup.context(), &setup.theta(4), pair, &sequence.window(), particle);
        assert!(matches!(&result, Err(Error::Setting { field, .. }) if field == "particle"), "{result:?}");
    }
}

#[test]
fn equal_places_give_equal_bits_and_other_places_other_numbers() {
    let setup = Setup::new(EstimatorKind::FullEs { loss: MetaLoss::Average }, HorizonSchedule::Constant { steps: 12 });
    let window = setup.sequence(0).window();
    let run = |outer_step, slot, pair| {
        let pair = PairId { outer_step, slot, pair };
        bits(&full_es_pair(&setup.context(), &setup.theta(0), pair, &window).unwrap())
    };
    assert_eq!(run(3, 1, 0), run(3, 1, 0));
    for other in [(4, 1, 0), (3, 2, 0), (3, 1, 1)] {
        assert_ne!(run(other.0, other.1, other.2), run(3, 1, 0));
    }
}

#[test]
fn signs_share_task_weights_and_batches() {
    // With a vanishing sigma both lanes do the same, so nothing but common random numbers can make the losses equal.
    let mut setup = Setup::new(EstimatorKind::FullEs { loss: MetaLoss::Last }, HorizonSchedule::Constant { steps: 12 });
    setup.estimator.sigma = 1e-30;
    let pair = PairId { outer_step: 0, slot: 0, pair: 0 };
    let outcome = full_es_pair(&setup.context(), &setup.theta(0), pair, &setup.sequence(0).window()).unwrap();
    assert_eq!(outcome.report.loss_plus, outcome.report.loss_minus);
    assert_eq!((outcome.report.fresh, outcome.diverged_lanes, outcome.inner_steps), (0.0, 0, 24));
    assert_eq!(setup.progress.load(Ordering::Relaxed), 24);
}

/// A learning rate so large that at least one sign overflows f32 within the unroll.
#[test]
fn a_diverged_lane_scores_the_ceiling_and_is_counted() {
    let mut setup = Setup::new(EstimatorKind::FullEs { loss: MetaLoss::Last }, HorizonSchedule::Constant { steps: 60 });
    setup.estimator.sigma = 3.0;
    let theta = setup.optimizer.theta(0.0);
    let window = setup.sequence(0).window();
    let ceiling = setup.families[window.current.family].normalise(f64::NAN);
    let mut one_lane = 0;
    for outer_step in 0..20 {
        let pair = PairId { outer_step, slot: 0, pair: 0 };
        let outcome = full_es_pair(&setup.context(), &theta, pair, &window).unwrap();
        let at_ceiling = [outcome.report.loss_plus, outcome.report.loss_minus].map(|loss| loss == ceiling);
        assert!(outcome.report.fresh.is_finite());
        if outcome.diverged_lanes == 1 {
            one_lane += 1;
            // The other lane is not disturbed: it has learned something.
            let other = outcome.report.loss_plus.min(outcome.report.loss_minus);
            assert!(at_ceiling.contains(&true) && other < ceiling, "{outcome:?}");
        }
        assert_eq!(outcome.inner_steps, 120);
    }
    assert!(one_lane > 5, "the case is exercised: {one_lane}");
}

#[test]
fn divergence_lasts_until_the_trajectory_ends() {
    let mut setup = Setup::new(EstimatorKind::Pes { window: 10 }, HorizonSchedule::Constant { steps: 45 });
    setup.estimator.sigma = 1e-3;
    let mut sequence = setup.sequence(0);
    let mut kept: Option<Particle> = None;
    let (mut lasted, mut recovered) = (0, 0);
    for outer_step in 0..20 {
        let plan = sequence.window();
        // A rate that overflows in every second trajectory's first window only.
        let wild = plan.current.inner_step == 0 || plan.next.is_some_and(|next| next.index % 2 == 0);
        let theta = setup.optimizer.theta(if wild { 20.0 } else { -3.0 });
        let before = kept.as_ref().map(|particle| particle.diverged);
        let pair = PairId { outer_step, slot: 0, pair: 0 };
        let (outcome, particle) = window_pair(&setup.context(), &theta, pair, &plan, kept).unwrap();
        let ceiling = setup.families[plan.current.family].normalise(f64::NAN);
        if before == Some([true; 2]) && plan.next.is_none() && plan.current.inner_step > 0 {
            lasted += 1;
            assert_eq!((outcome.diverged_lanes, outcome.report.loss_plus, outcome.report.carried), (2, ceiling, 0.0));
        }
        if before == Some([true; 2]) && plan.next.is_some() && !wild {
            recovered += 1;
            assert_eq!((outcome.diverged_lanes, particle.diverged), (0, [false; 2]));
        }
        assert!(particle.state.params.tensor(0).iter().all(|value| value.is_finite()));
        kept = Some(particle);
        sequence.advance();
    }
    assert!(lasted >= 3 && recovered >= 1, "both are exercised: {lasted}, {recovered}");
}

#[test]
fn cancelling_stops_between_steps() {
    let setup = Setup::new(EstimatorKind::Pes { window: 3 }, HorizonSchedule::Constant { steps: 20 });
    setup.cancelled.store(true, Ordering::Relaxed);
    let pair = PairId { outer_step: 0, slot: 0, pair: 0 };
    let plan = setup.sequence(0).window();
    let result = window_pair(&setup.context(), &setup.theta(0), pair, &plan, None);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(setup.progress.load(Ordering::Relaxed), 0);
}

#[test]
fn work_that_does_not_fit_is_refused() {
    let setup = Setup::new(EstimatorKind::Pes { window: 3 }, HorizonSchedule::Constant { steps: 20 });
    let pair = PairId { outer_step: 0, slot: 0, pair: 0 };
    let mut window = setup.sequence(0).window();
    let result = full_es_pair(&setup.context(), &setup.theta(0), pair, &window);
    assert!(matches!(result, Err(Error::Setting { .. })), "{result:?}");
    window.current.family = 2;
    let result = window_pair(&setup.context(), &setup.theta(0), pair, &window, None);
    assert!(matches!(&result, Err(Error::Setting { field, .. }) if field == "window.family"), "{result:?}");
}

/// Everything that a pair of the whole unroll is told by a choice of loss.
fn last_losses(loss: MetaLoss, loss_from: LossFrom) -> [f64; 2] {
    let mut setup = Setup::new(EstimatorKind::FullEs { loss }, HorizonSchedule::Constant { steps: 6 });
    setup.estimator.loss_from = loss_from;
    let pair = PairId { outer_step: 0, slot: 0, pair: 0 };
    let report = full_es_pair(&setup.context(), &setup.theta(0), pair, &setup.sequence(0).window()).unwrap().report;
    [report.loss_plus, report.loss_minus]
}

/// The losses of the last weights on the batches named, from a training by hand.
fn by_hand(split: Split, batches: impl Iterator<Item = u64>) -> [f64; 2] {
    let setup = Setup::new(EstimatorKind::Nres { window: 2 }, HorizonSchedule::Constant { steps: 6 });
    let sequence = setup.sequence(0);
    let current = sequence.window().current;
    let mut epsilon = [0.0; 2];
    noise::normals(perturbation_seed(Seed::new(21), 0, 0, 0), 0, &mut epsilon);
    let theta = setup.theta(0).antithetic(0.2, &epsilon).unwrap();
    let optimizer = setup.optimizer.bind(theta).unwrap();
    let family = &setup.families[current.family];
    let mut lanes = family.bind(&[task_seed(Seed::new(21), 0, 0, 0); 2]).unwrap();
    let mut state = optimizer.init(lanes.init_params().unwrap(), &[6; 2]).unwrap();
    for batch in 0..6 {
        let (losses, grads) = lanes.loss_and_grads(&state.params, batch).unwrap();
        state = optimizer.update(state, &grads, &losses).unwrap();
    }
    let (mut sums, mut count) = ([0.0; 2], 0.0);
    for batch in batches {
        let scores = lanes.evaluate(&state.params, split, batch).unwrap();
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += family.normalise(score.loss.into()));
        count += 1.0;
    }
    sums.map(|sum| sum / count)
}

const FRESH: u64 = 1 << 40;

#[test]
fn the_loss_that_counts_is_the_one_asked_for() {
    let last = |from| last_losses(MetaLoss::Last, from);
    assert_eq!(last(LossFrom::SameData), by_hand(Split::Train, [5].into_iter()));
    assert_eq!(last(LossFrom::Train), by_hand(Split::Train, [FRESH + 5].into_iter()));
    assert_eq!(last(LossFrom::InnerValid), by_hand(Split::InnerValid, [5].into_iter()));
    assert_eq!(last(LossFrom::OuterValid), by_hand(Split::OuterValid, [5].into_iter()));
    let different = [LossFrom::TrainingBatch, LossFrom::SameData, LossFrom::Train].map(last);
    assert!(different[0] != different[1] && different[1] != different[2], "{different:?}");
}

#[test]
fn a_recomputed_loss_is_the_mean_over_fresh_batches() {
    let recomputed = |from| last_losses(MetaLoss::LastRecompute { batches: 7 }, from);
    assert_eq!(recomputed(LossFrom::TrainingBatch), by_hand(Split::Train, FRESH..FRESH + 7));
    assert_eq!(recomputed(LossFrom::OuterValid), by_hand(Split::OuterValid, FRESH..FRESH + 7));
}

#[test]
fn a_lane_that_diverged_scores_the_ceiling_on_held_out_data_too() {
    for loss in [MetaLoss::Last, MetaLoss::LastRecompute { batches: 3 }] {
        let mut setup = Setup::new(EstimatorKind::FullEs { loss }, HorizonSchedule::Constant { steps: 60 });
        setup.estimator = EstimatorConfig { sigma: 3.0, loss_from: LossFrom::OuterValid, ..setup.estimator };
        let window = setup.sequence(0).window();
        let ceiling = setup.families[window.current.family].normalise(f64::NAN);
        let mut one_lane = 0;
        for outer_step in 0..20 {
            let pair = PairId { outer_step, slot: 0, pair: 0 };
            let outcome = full_es_pair(&setup.context(), &setup.optimizer.theta(0.0), pair, &window).unwrap();
            let losses = [outcome.report.loss_plus, outcome.report.loss_minus];
            let at_ceiling = losses.iter().filter(|loss| **loss == ceiling).count();
            assert!(at_ceiling >= outcome.diverged_lanes as usize, "{outcome:?}");
            one_lane += u32::from(outcome.diverged_lanes == 1);
        }
        assert!(one_lane > 5, "the case is exercised: {one_lane}");
    }
}
