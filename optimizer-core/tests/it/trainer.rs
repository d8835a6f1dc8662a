//! All pairs of a slot handed to a trainer: the same reports and particles, to the bit, as pair by pair.

use std::sync::atomic::{AtomicU64, Ordering};

use paceline_optimizer_core::Result;
use paceline_optimizer_core::estimator::{EstimatorKind, LossFrom, MetaLoss};
use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::schedule::HorizonSchedule;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{
    LaneTrainer, PairId, Pairs, Particle, Training, UnrollContext, check_losses, earlier_windows, full_es_pair,
    full_es_pairs, replay_pairs, window_pair, window_pairs,
};

use crate::unroll::Setup;

const PAIRS: u32 = 3;

/// Trains lanes by the family's and the optimizer's own arithmetic, in the order a device would: all lanes a step.
#[derive(Debug, Default)]
struct Plain {
    calls: AtomicU64,
}

impl LaneTrainer for Plain {
    fn knows(&self, _: &dyn TaskFamily, _: &dyn LearnedOptimizer) -> std::result::Result<(), String> {
        Ok(())
    }

    fn train(&self, training: &Training<'_>, state: &mut OptState, diverged: &mut [bool]) -> Result<Vec<f32>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let optimizer = training.optimizer.bind(training.thetas.made()?)?;
        let mut tasks = training.family.bind(training.seeds)?;
        let (lanes, steps) = (diverged.len(), training.steps as usize);
        let mut losses = vec![f32::NAN; lanes * steps];
        for step in 0..steps {
            let (loss, grads) = tasks.loss_and_grads(&state.params, training.first_batch + step as u64)?;
            assert!(loss.iter().all(|loss| loss.is_finite()), "these tests do not diverge");
            *state = optimizer.update(state.clone(), &grads, &loss)?;
            for (lane, loss) in loss.iter().enumerate() {
                losses[lane * steps + step] = *loss;
            }
        }
        Ok(losses)
    }
}

/// The same work, trained by `trainer`.
fn on<'a>(setup: &'a Setup, trainer: &'a dyn LaneTrainer) -> UnrollContext<'a> {
    UnrollContext { trainer: Some(trainer), ..setup.context() }
}

fn slot(outer_step: u64) -> Pairs {
    Pairs { outer_step, slot: 2, pairs: 0..PAIRS }
}

#[test]
fn windows_of_all_pairs_are_those_of_each() {
    for (window, horizon) in [
        (3, HorizonSchedule::Constant { steps: 6 }),
        (4, HorizonSchedule::Constant { steps: 7 }),
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
            let (mut sequence, trainer) = (setup.sequence(2), Plain::default());
            let mut kept: Option<Vec<Particle>> = None;
            for outer_step in 0..12 {
                let (plan, theta) = (sequence.window(), setup.theta(outer_step));
                let together = window_pairs(
                    &on(&setup, &trainer),
                    &theta,
                    &slot(outer_step),
                    &plan,
                    kept.clone().unwrap_or_default(),
                )
                .unwrap();
                for (pair, together) in (0..PAIRS).zip(&together) {
                    let id = PairId { outer_step, slot: 2, pair };
                    let particle = kept.as_ref().map(|kept| kept[pair as usize].clone());
                    let alone = window_pair(&setup.context(), &theta, id, &plan, particle).unwrap();
                    assert_eq!(*together, alone, "{kind:?}, {horizon:?}, outer step {outer_step}, pair {pair}");
                }
                kept = Some(together.into_iter().map(|(_, particle)| particle).collect());
                sequence.advance();
                // A lost trajectory comes back.
                let next = sequence.window().current;
                if next.inner_step > 0 {
                    let earlier = earlier_windows(&setup.estimator, &next, outer_step + 1).unwrap();
                    let rebuilt = earlier.fold(None, |particles: Option<Vec<Particle>>, earlier| {
                        let theta = setup.theta(earlier.outer_step);
                        let slot = slot(earlier.outer_step);
                        let (context, before) = (on(&setup, &trainer), particles.unwrap_or_default());
                        Some(replay_pairs(&context, &theta, &slot, &earlier, before).unwrap())
                    });
                    assert_eq!(rebuilt, kept, "{kind:?}, {horizon:?}, after outer step {outer_step}");
                }
            }
        }
    }
}

#[test]
fn whole_unrolls_of_all_pairs_are_those_of_each() {
    for loss in [MetaLoss::Average, MetaLoss::Min, MetaLoss::Last, MetaLoss::LastRecompute { batches: 3 }] {
        let setup = Setup::new(EstimatorKind::FullEs { loss }, HorizonSchedule::Constant { steps: 8 });
        let (window, theta, trainer) = (setup.sequence(2).window(), setup.theta(4), Plain::default());
        let together = full_es_pairs(&on(&setup, &trainer), &theta, &slot(4), &window).unwrap();
        let alone: Vec<_> = (0..PAIRS)
            .map(|pair| {
                full_es_pair(&setup.context(), &theta, PairId { outer_step: 4, slot: 2, pair }, &window).unwrap()
            })
            .collect();
        assert_eq!(together, alone, "{loss:?}");
        // Of the last place alone the loss counts: it is trained by itself.
        let calls = if loss == MetaLoss::Last { 2 } else { 1 };
        assert_eq!(trainer.calls.into_inner(), calls, "a whole unroll is one call");
    }
}

#[test]
fn losses_with_batches_of_their_own_are_refused() {
    assert!(check_losses(LossFrom::TrainingBatch).is_ok());
    let mut setup = Setup::new(EstimatorKind::Pes { window: 3 }, HorizonSchedule::Constant { steps: 6 });
    setup.estimator.loss_from = LossFrom::OuterValid;
    let window = setup.sequence(2).window();
    let refused = window_pairs(&on(&setup, &Plain::default()), &setup.theta(0), &slot(0), &window, vec![]);
    assert!(refused.unwrap_err().to_string().contains("estimator.loss_from"));
}
