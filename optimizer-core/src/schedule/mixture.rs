//! Which family a trajectory trains: a draw by weights that may follow the outer steps.
//!
//! ```text
//!  weight   quadratic ────╲            share of the trajectories that begin in an outer step
//!                          ╲────────
//!           conv      ─────╱────────   (a curriculum: a number, or a schedule, for each entry)
//!                     0    steps/2   steps
//! ```

use crate::optimizer::Schedule;
use crate::{Error, Result};

/// Most outer steps of a run whose weights are scheduled: every one of them is checked before the run begins.
pub const MOST_CURRICULUM_STEPS: u64 = 1_000_000;

/// The weights of a mixture, checked at every outer step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    weights: Vec<Schedule>,
    /// Outer steps of the run.
    outer_steps: u64,
    /// Cumulative weights, ending at 1, if they never change.
    constant: Option<Vec<f64>>,
}

impl Mixture {
    /// The mixture of a run of `outer_steps` steps. Weights are relative to each other, on any scale, one a family in
    /// order.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the entry (`tasks[1].weight`) and the first outer step at which its weight is negative or
    /// not finite, or at which all are zero; naming `tasks` if there is no entry.
    pub fn new(weights: Vec<Schedule>, outer_steps: u64) -> Result<Self> {
        for (index, weight) in weights.iter().enumerate() {
            weight.validate(&field(index))?;
        }
        let scheduled = weights.iter().position(|weight| !is_constant(weight));
        let mut mixture = Self { weights, outer_steps, constant: None };
        let Some(first) = scheduled else {
            mixture.check(0, 0)?;
            mixture.constant = Some(cumulative(&mixture.weights_at(0)));
            return Ok(mixture);
        };
        if outer_steps > MOST_CURRICULUM_STEPS {
            let reason = format!("can follow the outer steps in a run of at most {MOST_CURRICULUM_STEPS} of them");
            return Err(Error::setting(field(first), reason, format!("{outer_steps} outer steps")));
        }
        for outer_step in 0..outer_steps.max(1) {
            mixture.check(outer_step, first)?;
        }
        Ok(mixture)
    }

    /// The weights of trajectories that begin in `outer_step`; after the last step those of the last.
    pub fn weights_at(&self, outer_step: u64) -> Vec<f64> {
        let outer_step = outer_step.min(self.outer_steps.saturating_sub(1));
        self.weights.iter().map(|weight| weight.value(outer_step, self.outer_steps)).collect()
    }

    /// The family that the number `u` in `[0, 1)` stands for, for a trajectory that begins in `outer_step`.
    pub(super) fn family(&self, u: f64, outer_step: u64) -> usize {
        match &self.constant {
            Some(bounds) => place(bounds, u),
            None => place(&cumulative(&self.weights_at(outer_step)), u),
        }
    }

    /// Refuses the weights of one step. Where no entry is at fault alone, `named` is the one that is named.
    fn check(&self, outer_step: u64, named: usize) -> Result<()> {
        let weights = self.weights_at(outer_step);
        let at = match self.weights.iter().all(is_constant) {
            true => String::new(),
            false => format!(" at every outer step; at step {outer_step} it is not"),
        };
        if let Some(index) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            let reason = format!("must be a finite number, at least 0{at}");
            return Err(Error::setting(field(index), reason, weights[index]));
        }
        let total: f64 = weights.iter().sum();
        if total > 0.0 && total.is_finite() {
            return Ok(());
        }
        let named = if weights.is_empty() { "tasks".to_owned() } else { field(named) };
        let reason = match total > 0.0 {
            true => format!("must have a finite sum with the other weights{at}"),
            false => format!("must be above 0, or another weight must{at}"),
        };
        Err(Error::setting(named, reason, format!("{weights:?}")))
    }
}

fn field(index: usize) -> String {
    format!("tasks[{index}].weight")
}

fn is_constant(weight: &Schedule) -> bool {
    matches!(weight, Schedule::Constant { .. })
}

/// Bounds of each family's part of `[0, 1)`: the last positive one is 1 to the bit, as it is the same sum divided by itself.
fn cumulative(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum / total
        })
        .collect()
}

fn place(bounds: &[f64], u: f64) -> usize {
    bounds.iter().position(|&bound| u < bound).unwrap_or(bounds.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn linear(init_value: f64, end_value: f64, steps: u64) -> Schedule {
        Schedule::Linear { init_value, end_value, steps }
    }

    fn refused(weights: Vec<Schedule>, outer_steps: u64) -> (String, String) {
        match Mixture::new(weights, outer_steps) {
            Err(Error::Setting { field, reason, .. }) => (field, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_curriculum_moves_from_one_family_to_the_other() {
        let step_down = Schedule::PiecewiseConstant { init_value: 1.0, boundaries: vec![50], scales: vec![0.0] };
        let mixture = Mixture::new(vec![step_down, linear(0.0, 1.0, 100)], 100).unwrap();
        assert_eq!(mixture.family(0.999, 0), 0, "the second has weight 0 at first");
        assert_eq!([0.6, 0.7].map(|u| mixture.family(u, 49)), [0, 1], "bound 1/1.49");
        assert_eq!(mixture.family(0.0, 50), 1, "the first has weight 0 from there on");
        assert_eq!(mixture.weights_at(u64::MAX), mixture.weights_at(99), "after the end as at the end");
    }

    #[test]
    fn weights_that_cannot_be_drawn_from_are_refused_by_entry_and_step() {
        let to_zero = || linear(1.0, 0.0, 10);
        for (weights, steps, field, said) in [
            (vec![], 9, "tasks", "above 0"),
            (vec![0.0.into()], 9, "tasks[0].weight", "above 0"),
            (vec![2.0.into(), (-1.0).into()], 9, "tasks[1].weight", "at least 0"),
            (vec![f64::NAN.into()], 9, "tasks[0].weight", "finite"),
            (vec![f64::MAX.into(), f64::MAX.into()], 9, "tasks[0].weight", "finite sum"),
            (vec![1.0.into(), linear(1.0, -1.0, 10)], 20, "tasks[1].weight", "at step 6 it is not"),
            (vec![0.0.into(), to_zero()], 20, "tasks[1].weight", "at step 10 it is not"),
            (vec![linear(1.0, 2.0, 0)], 20, "tasks[0].weight.steps", "at least 1"),
            (vec![1.0.into(), to_zero()], MOST_CURRICULUM_STEPS + 1, "tasks[1].weight", "at most 1000000"),
        ] {
            let (named, reason) = refused(weights.clone(), steps);
            assert_eq!(named, field, "{weights:?}");
            assert!(reason.contains(said), "{weights:?}: {reason}");
        }
        assert!(Mixture::new(vec![0.0.into(), to_zero()], 10).is_ok(), "the run ends before the weight is 0");
        assert!(Mixture::new(vec![1.0.into()], u64::MAX).is_ok(), "numbers need no walk through the run");
    }

    proptest! {
        /// A schedule that happens to stand still draws what the number draws: one rule for both.
        #[test]
        fn a_level_curriculum_draws_what_numbers_draw(
            weights in proptest::collection::vec(0.01..9.0_f64, 1..6), u in 0.0..1.0_f64, step in 0..50_u64,
        ) {
            let numbers = Mixture::new(weights.iter().map(|&weight| weight.into()).collect(), 50).unwrap();
            let point = |&weight: &f64| Schedule::PiecewiseLinear { times: vec![0], values: vec![weight] };
            let level = Mixture::new(weights.iter().map(point).collect(), 50).unwrap();
            prop_assert_eq!(numbers.family(u, step), level.family(u, step));
        }

        /// Each family gets the part of [0, 1) that is its share, and none at weight 0.
        #[test]
        fn parts_are_shares(weights in proptest::collection::vec(0..5_u32, 1..6), u in 0.0..1.0_f64) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let total: u32 = weights.iter().sum();
            let mixture = Mixture::new(weights.iter().map(|&weight| f64::from(weight).into()).collect(), 1).unwrap();
            let family = mixture.family(u, 0);
            let below: u32 = weights[..family].iter().sum();
            prop_assert!(weights[family] > 0);
            let share = |sum: u32| f64::from(sum) / f64::from(total);
            prop_assert!(share(below) <= u && u < share(below + weights[family]));
        }
    }
}
