//! When trajectories begin and end: pure functions of seeds, so that the coordinator can plan what workers will run.
//!
//! A *slot* is one place in every outer step. Under PES its lanes live through a sequence of trajectories, cut into
//! windows of `W` inner steps, one window an outer step. A trajectory that has run its horizon is reset; the reset itself
//! takes one place in the window and trains nothing (its mask is 0). If the last step is the window's last place, the
//! reset opens the next window:
//!
//! ```text
//!  outer step      0            1            2
//!  window      │t t t t t t│t t t R t t│t t t t t t│      W = 6, horizon 9: t trains, R resets
//!  trajectory   0 ─────────────── ┘1 ───────────────
//! ```
//!
//! Under Full ES every outer step is one whole trajectory.

use serde::{Deserialize, Serialize};

use crate::noise::Draws;
use crate::seed::Purpose;
use crate::{Error, Result, Seed};

/// Planned lengths of trajectories, in inner steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum HorizonSchedule {
    /// Always `steps`.
    Constant {
        /// Inner steps.
        steps: u32,
    },
    /// `⌊exp(U[ln min, ln max])⌋`, as in VeLO's meta-training.
    LogUniform {
        /// Shortest trajectory, in inner steps.
        min: u32,
        /// Longest trajectory, in inner steps.
        max: u32,
    },
}

impl HorizonSchedule {
    /// Shortest length that can be drawn.
    pub fn min(&self) -> u32 {
        match *self {
            Self::Constant { steps } => steps,
            Self::LogUniform { min, .. } => min,
        }
    }

    /// Longest length that can be drawn.
    pub fn max(&self) -> u32 {
        match *self {
            Self::Constant { steps } => steps,
            Self::LogUniform { max, .. } => max,
        }
    }

    /// Checks that lengths are at least 1 and ordered.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        if self.min() == 0 {
            return Err(Error::setting("estimator.horizon", "a trajectory has at least one inner step", 0));
        }
        if self.min() > self.max() {
            return Err(Error::setting(
                "estimator.horizon.min",
                format!("must not exceed max {}", self.max()),
                self.min(),
            ));
        }
        Ok(())
    }

    /// The length drawn from `seed`.
    pub fn sample(&self, seed: Seed) -> u32 {
        match *self {
            Self::Constant { steps } => steps,
            Self::LogUniform { min, max } => {
                log_uniform(min, max, Draws::new(seed.purpose(Purpose::Horizon)).uniform())
            }
        }
    }
}

/// One trajectory of a slot: what is trained, for how long, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trajectory {
    /// Number of this trajectory in its slot, from 0.
    pub index: u64,
    /// Place of its task family in the run's mixture.
    pub family: usize,
    /// Planned length in inner steps.
    pub horizon: u32,
    /// Outer step whose window trained its first inner step (the one after the reset's, if the reset was the last place
    /// of its window): the perturbations of outer steps `began..now` are what its state has been through.
    pub began: u64,
    /// Inner steps already trained when the window begins.
    pub inner_step: u32,
}

/// What a slot runs in one outer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The trajectory running when the window begins.
    pub current: Trajectory,
    /// The trajectory that replaces it, at its first step, if the reset falls in this window.
    pub next: Option<Trajectory>,
}

/// `⌊min·(max/min)^u⌋` for `u` in `[0, 1)`, with the power built from square roots: `exp` and `ln` differ in their last
/// bits between math libraries, `sqrt` and `·` do not, and a horizon must be the same on every host.
fn log_uniform(min: u32, max: u32, mut u: f64) -> u32 {
    let mut root = f64::from(max) / f64::from(min);
    let mut length = f64::from(min);
    for _ in 0..52 {
        root = root.sqrt();
        u *= 2.0;
        if u >= 1.0 {
            u -= 1.0;
            length *= root;
        }
    }
    (length.floor() as u32).clamp(min, max)
}

/// The windows of one slot, outer step by outer step.
#[derive(Clone, Debug)]
pub struct SlotSequence {
    seed: Seed,
    schedule: HorizonSchedule,
    /// Inner steps of a window; `None` when every outer step is a whole trajectory (Full ES).
    window: Option<u32>,
    /// Cumulative weights of the mixture, ending at 1.
    mixture: Vec<f64>,
    current: Trajectory,
    outer_step: u64,
}

impl SlotSequence {
    /// The sequence of slot `slot` of the run seeded `run`, at outer step 0. `weights` are the mixture's, in order.
    ///
    /// # Errors
    /// [`Error::Setting`] if the window is not shorter than the shortest horizon (at most one reset fits a window), or if
    /// the weights are empty, negative, not finite or all zero.
    pub fn new(run: Seed, slot: u32, schedule: HorizonSchedule, window: Option<u32>, weights: &[f64]) -> Result<Self> {
        schedule.validate()?;
        if let Some(window) = window {
            if window == 0 {
                return Err(Error::setting("estimator.window", "a window has at least one inner step", window));
            }
            if window >= schedule.min() {
                let reason = format!("must be shorter than the shortest horizon, {}", schedule.min());
                return Err(Error::setting("estimator.window", reason, window));
            }
        }
        let mixture = cumulative(weights)?;
        let seed = slot_seed(run, slot);
        let mut sequence = Self { seed, schedule, window, mixture, current: Trajectory::default(), outer_step: 0 };
        sequence.current = sequence.trajectory(0, 0);
        Ok(sequence)
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

    /// Inner steps that this window trains of the next trajectory; `None` if there is no reset in it. A window that ends
    /// with the trajectory's last step has none: the reset opens the next window.
    fn trained_after_reset(&self, window: u32) -> Option<u32> {
        let left = self.current.horizon - self.current.inner_step;
        (window > left).then(|| window - left - 1)
    }

    /// The next trajectory at its first step, when this window trains `trained` steps of it.
    fn successor(&self, trained: u32) -> Trajectory {
        self.trajectory(self.current.index + 1, self.outer_step + u64::from(trained == 0))
    }

    fn trajectory(&self, index: u64, began: u64) -> Trajectory {
        let seed = self.seed.fold_in(index);
        let u = Draws::new(seed.purpose(Purpose::Mixture)).uniform();
        let family = self.mixture.iter().position(|&bound| u < bound).unwrap_or(self.mixture.len() - 1);
        Trajectory { index, family, horizon: self.schedule.sample(seed), began, inner_step: 0 }
    }
}

/// Seed of everything slot `slot` draws about its trajectories.
fn slot_seed(run: Seed, slot: u32) -> Seed {
    run.purpose(Purpose::Horizon).fold_in(u64::from(slot))
}

/// Seed of the perturbation of one pair in one outer step.
pub fn perturbation_seed(run: Seed, outer_step: u64, slot: u32, pair: u32) -> Seed {
    run.purpose(Purpose::Perturbation).fold_in(outer_step).fold_in(u64::from(slot)).fold_in(u64::from(pair))
}

/// Seed of the task instance that one pair trains on during one trajectory of its slot.
pub fn task_seed(run: Seed, slot: u32, trajectory: u64, pair: u32) -> Seed {
    run.purpose(Purpose::Task).fold_in(u64::from(slot)).fold_in(trajectory).fold_in(u64::from(pair))
}

fn cumulative(weights: &[f64]) -> Result<Vec<f64>> {
    let total: f64 = weights.iter().sum();
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || !(total > 0.0 && total.is_finite()) {
        return Err(Error::setting(
            "tasks.weight",
            "weights are finite, none is negative and one is positive",
            format!("{weights:?}"),
        ));
    }
    let mut sum = 0.0;
    Ok(weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum / total
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(horizon: u32, window: u32) -> SlotSequence {
        SlotSequence::new(Seed::new(1), 0, HorizonSchedule::Constant { steps: horizon }, Some(window), &[1.0]).unwrap()
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
        for window in [1, 2, 5, 7] {
            let mut sequence = SlotSequence::new(Seed::new(5), 3, schedule, Some(window), &[1.0, 2.0]).unwrap();
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
        let mut sequence = SlotSequence::new(Seed::new(2), 0, schedule, None, &[1.0]).unwrap();
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
            let mut sequence = SlotSequence::new(Seed::new(run), slot, schedule, Some(5), &[1.0, 1.0]).unwrap();
            sequence.advance_to(400);
            sequence.window()
        };
        assert_eq!(plan(1, 1), plan(1, 1));
        assert_ne!(plan(1, 1), plan(1, 2));
        assert_ne!(plan(1, 1), plan(2, 1));
    }

    #[test]
    fn lengths_are_log_uniform() {
        let schedule = HorizonSchedule::LogUniform { min: 100, max: 10_000 };
        let lengths: Vec<u32> = (0..20_000).map(|seed| schedule.sample(Seed::new(seed))).collect();
        assert!(lengths.iter().all(|length| (100..=10_000).contains(length)));
        for (bound, share) in [(316, 0.25), (1000, 0.5), (3162, 0.75)] {
            let below = lengths.iter().filter(|&&length| length < bound).count() as f64 / 20_000.0;
            assert!((below - share).abs() < 0.02, "{below} below {bound}");
        }
        assert_eq!(log_uniform(100, 10_000, 0.5), 1000);
        assert_eq!((log_uniform(7, 7, 0.9), log_uniform(1, 9, 0.0)), (7, 1));
    }

    #[test]
    fn families_come_up_by_weight() {
        let sequence = |weights: &[f64]| {
            let schedule = HorizonSchedule::Constant { steps: 5 };
            let mut sequence = SlotSequence::new(Seed::new(3), 0, schedule, None, weights).unwrap();
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
    fn what_cannot_be_planned_is_refused() {
        let new = |schedule, window, weights: &[f64]| SlotSequence::new(Seed::new(0), 0, schedule, window, weights);
        let constant = |steps| HorizonSchedule::Constant { steps };
        let field = |result: Result<SlotSequence>| match result {
            Err(Error::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(new(constant(0), None, &[1.0])), "estimator.horizon");
        assert_eq!(field(new(HorizonSchedule::LogUniform { min: 9, max: 8 }, None, &[1.0])), "estimator.horizon.min");
        assert_eq!(field(new(constant(5), Some(0), &[1.0])), "estimator.window");
        assert_eq!(field(new(constant(5), Some(5), &[1.0])), "estimator.window");
        for weights in [&[] as &[f64], &[0.0], &[-1.0, 2.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(field(new(constant(5), Some(4), weights)), "tasks.weight");
        }
    }
}
