//! The windows of a slot, one after another.

use std::sync::Arc;

use super::{HorizonSchedule, Mixture, Trajectory, Window};
use crate::estimator::EstimatorConfig;
use crate::noise::Draws;
use crate::optimizer::Schedule;
use crate::seed::Purpose;
use crate::{Result, Seed};

/// The windows of one slot, outer step by outer step.
#[derive(Clone, Debug)]
pub struct SlotSequence {
    seed: Seed,
    schedule: HorizonSchedule,
    /// Outer steps of the run, which schedules of lengths may refer to.
    outer_steps: u64,
    /// Inner steps of a window; `None` when every outer step is a whole trajectory (Full ES).
    window: Option<u32>,
    mixture: Arc<Mixture>,
    current: Trajectory,
    outer_step: u64,
}

impl SlotSequence {
    /// The sequence of slot `slot` of the run seeded `run`, at outer step 0 of `outer_steps`. `weights` are the
    /// mixture's, one a task family in order, on any scale: numbers, or schedules of the outer step in which a
    /// trajectory begins.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the estimator's settings are out of range (at most one reset fits a window), or what
    /// [`Mixture::new`] says of the weights.
    pub fn new<W: Clone + Into<Schedule>>(
        run: Seed,
        slot: u32,
        estimator: &EstimatorConfig,
        outer_steps: u64,
        weights: &[W],
    ) -> Result<Self> {
        let mixture = Mixture::new(weights.iter().cloned().map(Into::into).collect(), outer_steps)?;
        Self::of_mixture(run, slot, estimator, outer_steps, &Arc::new(mixture))
    }

    /// [`SlotSequence::new`] for many slots of one mixture, which was checked once.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the estimator's settings are out of range.
    pub fn of_mixture(
        run: Seed,
        slot: u32,
        estimator: &EstimatorConfig,
        outer_steps: u64,
        mixture: &Arc<Mixture>,
    ) -> Result<Self> {
        estimator.validate()?;
        let (seed, schedule, window) = (slot_seed(run, slot), estimator.horizon.clone(), estimator.window());
        let (mixture, current) = (Arc::clone(mixture), Trajectory::default());
        let mut sequence = Self { seed, schedule, outer_steps, window, mixture, current, outer_step: 0 };
        sequence.current = sequence.trajectory(0, 0);
        sequence.current.offset = sequence.initial_offset(estimator.initial_offset);
        Ok(sequence)
    }

    /// By how many inner steps the slot's first trajectory ends early: uniform below `most`, as far as a window leaves
    /// room for the one reset it may hold.
    fn initial_offset(&self, most: u32) -> u32 {
        let room = self.window.map_or(0, |window| self.current.horizon - window);
        match most.min(room) {
            0 => 0,
            choices => Draws::new(self.seed.purpose(Purpose::Offset)).below(choices),
        }
    }

    /// The outer step this sequence stands at.
    pub fn outer_step(&self) -> u64 {
        self.outer_step
    }

    /// What the slot runs in this outer step.
    pub fn window(&self) -> Window {
        let next =
            self.window.and_then(|window| self.trained_after_reset(window)).map(|trained| self.successor(trained));
        Window { current: self.current, next }
    }

    /// Moves to the next outer step.
    pub fn advance(&mut self) {
        self.current = self.advanced();
        self.outer_step += 1;
    }

    /// Moves to `outer_step`, which must not lie behind.
    pub fn advance_to(&mut self, outer_step: u64) {
        debug_assert!(outer_step >= self.outer_step, "a slot's sequence only moves forward");
        while self.outer_step < outer_step {
            self.advance();
        }
    }

    /// The trajectory standing at the beginning of the next outer step.
    fn advanced(&self) -> Trajectory {
        let Some(window) = self.window else {
            return self.trajectory(self.current.index + 1, self.outer_step + 1);
        };
        match self.trained_after_reset(window) {
            None => Trajectory { inner_step: self.current.inner_step + window, ..self.current },
            Some(trained) => Trajectory { inner_step: trained, ..self.successor(trained) },
        }
    }

    /// Inner steps that this window trains of the next trajectory; `None` if there is no reset in it. A window that
    /// ends with the trajectory's last step has none: the reset opens the next window.
    fn trained_after_reset(&self, window: u32) -> Option<u32> {
        let left = self.current.length() - self.current.inner_step;
        (window > left).then(|| window - left - 1)
    }

    /// The next trajectory at its first step, when this window trains `trained` steps of it.
    fn successor(&self, trained: u32) -> Trajectory {
        self.trajectory(self.current.index + 1, self.outer_step + u64::from(trained == 0))
    }

    fn trajectory(&self, index: u64, began: u64) -> Trajectory {
        let seed = self.seed.fold_in(index);
        let u = Draws::new(seed.purpose(Purpose::Mixture)).uniform();
        let family = self.mixture.family(u, began);
        let horizon = self.schedule.sample(seed, began, self.outer_steps);
        Trajectory { index, family, horizon, offset: 0, began, inner_step: 0 }
    }
}

/// Seed of everything slot `slot` draws about its trajectories.
fn slot_seed(run: Seed, slot: u32) -> Seed {
    run.purpose(Purpose::Horizon).fold_in(u64::from(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::estimator::{EstimatorKind, MetaLoss};
    use crate::schedule::Window;

    fn estimator(horizon: HorizonSchedule, window: Option<u32>) -> EstimatorConfig {
        let whole = EstimatorKind::FullEs { loss: MetaLoss::Average };
        let kind = window.map_or(whole, |window| EstimatorKind::Pes { window });
        EstimatorConfig::new(kind, 0.1, horizon)
    }

    fn try_new(run: u64, slot: u32, estimator: &EstimatorConfig, weights: &[f64]) -> Result<SlotSequence> {
        SlotSequence::new(Seed::new(run), slot, estimator, 1000, weights)
    }

    fn sequence(horizon: u32, window: u32) -> SlotSequence {
        try_new(1, 0, &estimator(HorizonSchedule::Constant { steps: horizon }, Some(window)), &[1.0]).unwrap()
    }

    /// `(index, began, inner_step)` of the current trajectory and `(index, began)` of the next.
    type Scene = ((u64, u64, u32), Option<(u64, u64)>);

    /// The first windows, one after another.
    fn story(horizon: u32, window: u32, windows: usize) -> Vec<Scene> {
        let mut sequence = sequence(horizon, window);
        (0..windows)
            .map(|_| {
                let Window { current, next } = sequence.window();
                sequence.advance();
                ((current.index, current.began, current.inner_step), next.map(|next| (next.index, next.began)))
            })
            .collect()
    }

    #[test]
    fn the_picture_of_the_module() {
        assert_eq!(
            story(9, 6, 4),
            [
                ((0, 0, 0), None),
                ((0, 0, 6), Some((1, 1))),
                ((1, 1, 2), None),
                ((1, 1, 8), Some((2, 3))), // t R t t t t
            ]
        );
    }

    #[test]
    fn a_reset_on_the_last_place_begins_the_next_trajectory_in_the_next_window() {
        // W = 4, horizon 7: │t t t t│t t t R│t t t t│t t t R│
        assert_eq!(story(7, 4, 3), [((0, 0, 0), None), ((0, 0, 4), Some((1, 2))), ((1, 2, 0), None)]);
    }

    #[test]
    fn a_window_that_ends_with_the_last_step_leaves_the_reset_to_the_next() {
        // W = 3, horizon 6: │t t t│t t t│R t t│t t t│t R t│
        assert_eq!(
            story(6, 3, 5),
            [
                ((0, 0, 0), None),
                ((0, 0, 3), None),
                ((0, 0, 6), Some((1, 2))),
                ((1, 2, 2), None),
                ((1, 2, 5), Some((2, 4))),
            ]
        );
    }

    #[test]
    fn every_trajectory_trains_its_horizon_and_every_window_its_places() {
        let schedule = HorizonSchedule::LogUniform { min: 8, max: 90 };
        for window in [2, 3, 5, 7] {
            let mut sequence = try_new(5, 3, &estimator(schedule.clone(), Some(window)), &[1.0, 2.0]).unwrap();
            let mut resets = 0;
            for outer_step in 0..500 {
                assert_eq!(sequence.outer_step(), outer_step);
                let Window { current, next } = sequence.window();
                assert!(current.inner_step <= current.horizon && (8..=90).contains(&current.horizon));
                assert!(current.began <= outer_step);
                sequence.advance();
                let after = sequence.window().current;
                match next {
                    None => {
                        assert_eq!(after, Trajectory { inner_step: current.inner_step + window, ..current });
                    }
                    Some(next) => {
                        resets += 1;
                        let trained = window - (current.horizon - current.inner_step) - 1;
                        assert_eq!(after, Trajectory { inner_step: trained, ..next });
                        assert_eq!(next.began, if trained == 0 { outer_step + 1 } else { outer_step });
                    }
                }
            }
            assert_eq!(sequence.window().current.index, resets);
        }
    }

    #[test]
    fn a_full_es_step_is_a_whole_trajectory() {
        let schedule = HorizonSchedule::LogUniform { min: 2, max: 50 };
        let mut sequence = try_new(2, 0, &estimator(schedule, None), &[1.0]).unwrap();
        for outer_step in 0..20 {
            let Window { current, next } = sequence.window();
            assert_eq!((current.index, current.began, current.inner_step, next), (outer_step, outer_step, 0, None));
            sequence.advance();
        }
    }

    #[test]
    fn equal_seeds_plan_equal_work_and_other_slots_other_work() {
        let plan = |run, slot| {
            let schedule = HorizonSchedule::LogUniform { min: 10, max: 1000 };
            let mut sequence = try_new(run, slot, &estimator(schedule, Some(5)), &[1.0, 1.0]).unwrap();
            sequence.advance_to(400);
            sequence.window()
        };
        assert_eq!(plan(1, 1), plan(1, 1));
        assert_ne!(plan(1, 1), plan(1, 2));
        assert_ne!(plan(1, 1), plan(2, 1));
    }

    #[test]
    fn a_random_initial_offset_staggers_the_first_ends_only() {
        let mut estimator = estimator(HorizonSchedule::Constant { steps: 100 }, Some(10));
        estimator.initial_offset = 1000;
        let offsets: Vec<u32> = (0..2000)
            .map(|slot| {
                let mut sequence = try_new(4, slot, &estimator, &[1.0]).unwrap();
                let first = sequence.window().current;
                assert_eq!((first.horizon, first.inner_step), (100, 0), "what the optimizer is told does not change");
                let mut trained = 0;
                while sequence.window().next.is_none() {
                    sequence.advance();
                    trained += 10;
                }
                let Window { current, next } = sequence.window();
                assert_eq!((current.length(), next.unwrap().offset), (100 - first.offset, 0));
                assert!(trained <= current.length() && current.length() < trained + 10);
                first.offset
            })
            .collect();
        // Uniform over 0..90: no further than one window before the end.
        assert!(offsets.iter().all(|offset| *offset < 90));
        let mean = offsets.iter().map(|&offset| f64::from(offset)).sum::<f64>() / 2000.0;
        assert!((mean - 44.5).abs() < 3.0, "{mean}");
        estimator.initial_offset = 1;
        assert_eq!(try_new(4, 0, &estimator, &[1.0]).unwrap().window().current.offset, 0);
    }

    #[test]
    fn families_come_up_by_weight() {
        let sequence = |weights: &[f64]| {
            let schedule = HorizonSchedule::Constant { steps: 5 };
            let mut sequence = try_new(3, 0, &estimator(schedule, None), weights).unwrap();
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..8000 {
                counts[sequence.window().current.family] += 1;
                sequence.advance();
            }
            counts
        };
        let counts = sequence(&[1.0, 0.0, 3.0]);
        assert_eq!(counts[1], 0, "a family of weight 0 is never drawn");
        assert!(counts[0].abs_diff(2000) < 200, "{counts:?}");
    }

    #[test]
    fn numbers_draw_what_they_always_drew() {
        let schedule = HorizonSchedule::LogUniform { min: 6, max: 30 };
        let mut sequence = try_new(11, 2, &estimator(schedule, Some(5)), &[1.0, 0.5, 2.0]).unwrap();
        let families: String = (0..60)
            .map(|_| {
                sequence.advance();
                sequence.window().current.family.to_string()
            })
            .collect();
        // Recorded before weights could be schedules: a run that was begun must go on as it was planned.
        assert_eq!(families, "200222222221111111122222222222222221122222220022000221111221");
    }

    #[test]
    fn a_trajectory_is_drawn_by_the_weights_of_the_step_in_which_it_begins() {
        let first_half = Schedule::PiecewiseConstant { init_value: 1.0, boundaries: vec![500], scales: vec![0.0] };
        let then = Schedule::PiecewiseLinear { times: vec![499, 500], values: vec![0.0, 1.0] };
        let schedule = HorizonSchedule::LogUniform { min: 6, max: 90 };
        let pes = estimator(schedule, Some(5));
        let mut sequence = SlotSequence::new(Seed::new(3), 1, &pes, 1000, &[first_half, then]).unwrap();
        for _ in 0..1000 {
            let Window { current, next } = sequence.window();
            for trajectory in std::iter::once(current).chain(next) {
                assert_eq!(trajectory.family, usize::from(trajectory.began >= 500), "{trajectory:?}");
            }
            sequence.advance();
        }
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let new = |schedule, window, weights: &[f64]| try_new(0, 0, &estimator(schedule, window), weights);
        let constant = |steps| HorizonSchedule::Constant { steps };
        let field = |result: Result<SlotSequence>| match result {
            Err(Error::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(new(constant(0), None, &[1.0])), "estimator.horizon");
        assert_eq!(field(new(HorizonSchedule::LogUniform { min: 9, max: 8 }, None, &[1.0])), "estimator.horizon.min");
        assert_eq!(field(new(constant(5), Some(0), &[1.0])), "estimator.window");
        assert_eq!(field(new(constant(5), Some(5), &[1.0])), "estimator.window");
        assert_eq!(field(new(constant(5), Some(4), &[])), "tasks");
        for weights in [&[0.0] as &[f64], &[-1.0, 2.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(field(new(constant(5), Some(4), weights)), "tasks[0].weight");
        }
    }
}
