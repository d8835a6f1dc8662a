//! When trajectories begin and end: pure functions of seeds, so that the coordinator can plan what workers will run.
//!
//! A *slot* is one place in every outer step. Under PES its lanes live through a sequence of trajectories, cut into
//! windows of `W` inner steps, one window an outer step. A trajectory that has run its horizon is reset; the reset itself
//! takes one place in the window and trains nothing (its mask is 0):
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
    /// Outer step whose window trained its first inner step.
    pub began: u64,
    /// Inner steps already trained when the window begins.
    pub inner_step: u32,
}

/// What a slot runs in one outer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The trajectory running when the window begins.
    pub current: Trajectory,
    /// The trajectory that replaces it, if it ends inside this window.
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
        let next = self.advanced();
        Window {
            current: self.current,
            next: (next.index != self.current.index && self.window.is_some()).then_some(self.replacement()),
        }
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
        let left = self.current.horizon - self.current.inner_step;
        if window <= left {
            // The window ends with (or before) the trajectory's last step: a reset, if due, opens the next window.
            return Trajectory { inner_step: self.current.inner_step + window, ..self.current };
        }
        let trained = window - left - 1; // one place of the window goes to the reset
        let mut next = self.replacement();
        next.inner_step = trained;
        if trained == 0 {
            next.began = self.outer_step + 1;
        }
        next
    }

    /// The trajectory that follows the current one inside this window, at its first step.
    fn replacement(&self) -> Trajectory {
        self.trajectory(self.current.index + 1, self.outer_step)
    }

    fn trajectory(&self, index: u64, began: u64) -> Trajectory {
        let seed = self.seed.fold_in(index);
        let u = Draws::new(seed.purpose(Purpose::Mixture)).uniform();
        let family = self.mixture.iter().position(|&bound| u < bound).unwrap_or(self.mixture.len() - 1);
        Trajectory { index, family, horizon: self.schedule.sample(seed), began, inner_step: 0 }
    }
}

/// Seed of everything slot `slot` draws about its trajectories.
pub fn slot_seed(run: Seed, slot: u32) -> Seed {
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
