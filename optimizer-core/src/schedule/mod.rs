//! When trajectories begin and end: pure functions of seeds, so that the coordinator can plan what workers will run.
//!
//! A *slot* is one place in every outer step. Under an estimator that runs windows its lanes live through a sequence of trajectories, cut into
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

mod horizon;
mod mixture;
mod sequence;

pub use horizon::HorizonSchedule;
pub use mixture::{MOST_CURRICULUM_STEPS, Mixture};
pub use sequence::SlotSequence;

use crate::Seed;
use crate::seed::Purpose;

/// One trajectory of a slot: what is trained, for how long, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trajectory {
    /// Number of this trajectory in its slot, from 0.
    pub index: u64,
    /// Place of its task family in the run's mixture.
    pub family: usize,
    /// Planned length in inner steps, an input of some learned optimizers.
    pub horizon: u32,
    /// Inner steps by which it ends before its horizon: 0, but for the first trajectory of a slot where an estimator
    /// asks for a random initial offset.
    pub offset: u32,
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

impl Trajectory {
    /// Inner steps after which it ends.
    pub fn length(&self) -> u32 {
        self.horizon.saturating_sub(self.offset)
    }
}

impl Window {
    /// Inner steps that this window of `width` places trains of each of its trajectories; of the whole current one if
    /// `width` is `None` (Full ES). The place of the reset trains nothing.
    pub fn trained(&self, width: Option<u32>) -> (u32, u32) {
        let left = self.current.length().saturating_sub(self.current.inner_step);
        match (width, self.next) {
            (None, _) => (left, 0),
            (Some(width), None) => (width.min(left), 0),
            (Some(width), Some(_)) => (width.min(left), width.saturating_sub(left).saturating_sub(1)),
        }
    }

    /// Place in the mixture of the family that this window trains: of the trajectory that has more of its places, of the
    /// current one if both have as many.
    pub fn family(&self, width: Option<u32>) -> usize {
        match (self.trained(width), self.next) {
            ((current, after), Some(next)) if after > current => next.family,
            _ => self.current.family,
        }
    }
}

/// Seed of the perturbation of one pair in one outer step, all counted from 0.
pub fn perturbation_seed(run: Seed, outer_step: u64, slot: u32, pair: u32) -> Seed {
    run.purpose(Purpose::Perturbation).fold_in(outer_step).fold_in(u64::from(slot)).fold_in(u64::from(pair))
}

/// Seed of the task instance that one pair trains on during one trajectory of its slot, the same for both lanes: common
/// random numbers. Slots, trajectories and pairs are counted from 0.
pub fn task_seed(run: Seed, slot: u32, trajectory: u64, pair: u32) -> Seed {
    run.purpose(Purpose::Task).fold_in(u64::from(slot)).fold_in(trajectory).fold_in(u64::from(pair))
}

/// Seed of the family that all pairs of a slot train on during one trajectory, where the mixture's entry is a family of
/// families ([`crate::task::TaskFamily::draw`]): lanes of one lease share shapes. Counted from 0.
pub fn member_seed(run: Seed, slot: u32, trajectory: u64) -> Seed {
    run.purpose(Purpose::Member).fold_in(u64::from(slot)).fold_in(trajectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_belongs_to_the_family_that_has_more_of_its_places() {
        let current = Trajectory { family: 1, horizon: 20, offset: 2, inner_step: 12, ..Trajectory::default() };
        let next = Some(Trajectory { family: 4, horizon: 30, ..Trajectory::default() });
        let whole = Window { current, next: None };
        assert_eq!((whole.trained(Some(6)), whole.family(Some(6))), ((6, 0), 1));
        for (width, trained, family) in [(7, (6, 0), 1), (13, (6, 6), 1), (14, (6, 7), 4)] {
            let window = Window { current, next };
            assert_eq!((window.trained(Some(width)), window.family(Some(width))), (trained, family), "{width}");
        }
        let reset_first = Window { current: Trajectory { inner_step: 18, ..current }, next };
        assert_eq!((reset_first.trained(Some(6)), reset_first.family(Some(6))), ((0, 5), 4));
        assert_eq!((whole.trained(None), whole.family(None)), ((6, 0), 1), "to its end");
    }
}
