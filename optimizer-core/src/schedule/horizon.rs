//! Planned lengths of trajectories.

use serde::{Deserialize, Serialize};

use crate::noise::Draws;
use crate::optimizer::Schedule;
use crate::seed::Purpose;
use crate::{Error, Result, Seed};

/// Planned lengths of trajectories, in inner steps: the schedules of the reference's
/// `outer_trainers/truncation_schedule.py` (google/learned_optimization @ 32186aa4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum HorizonSchedule {
    /// Always `steps` (`ConstantTruncationSchedule`).
    Constant {
        /// Inner steps.
        steps: u32,
    },
    /// `⌊exp(U[ln min, ln max])⌋`, natural logarithms, as in VeLO's meta-training (arXiv 2211.09760;
    /// `LogUniformLengthSchedule`).
    LogUniform {
        /// Shortest trajectory, in inner steps.
        min: u32,
        /// Longest trajectory, in inner steps.
        max: u32,
    },
    /// A length that follows the outer steps, with normal noise: `⌊length(outer step) + N(0, deviation²)⌋`, cut to
    /// `[min, max]` (`ScheduledTruncationSchedule` of the JAX reference, which cuts below 10 only).
    Scheduled {
        /// Mean length, in inner steps, as a function of the outer step in which a trajectory begins.
        length: Schedule,
        /// Standard deviation of the noise, inner steps.
        #[serde(default)]
        deviation: f64,
        /// Shortest trajectory, in inner steps.
        min: u32,
        /// Longest trajectory, in inner steps.
        max: u32,
    },
    /// Log-uniform between two bounds that follow the outer steps, both cut to `[min, max]`: a curriculum from short
    /// trajectories to long ones (`LogUniformLengthSchedule` of two schedules).
    ScheduledLogUniform {
        /// Lower bound, in inner steps, as a function of the outer step in which a trajectory begins.
        shortest: Schedule,
        /// Upper bound likewise; where it lies below the lower one, that one counts.
        longest: Schedule,
        /// Shortest trajectory, in inner steps.
        min: u32,
        /// Longest trajectory, in inner steps.
        max: u32,
    },
}

impl HorizonSchedule {
    /// Shortest length that can be drawn, in inner steps.
    pub fn min(&self) -> u32 {
        match *self {
            Self::Constant { steps } => steps,
            Self::LogUniform { min, .. } | Self::Scheduled { min, .. } | Self::ScheduledLogUniform { min, .. } => min,
        }
    }

    /// Longest length that can be drawn, in inner steps.
    pub fn max(&self) -> u32 {
        match *self {
            Self::Constant { steps } => steps,
            Self::LogUniform { max, .. } | Self::Scheduled { max, .. } | Self::ScheduledLogUniform { max, .. } => max,
        }
    }

    /// Checks that lengths are at least 1 and ordered, and schedules well-formed.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the setting below `estimator.horizon`.
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
        match self {
            Self::Constant { .. } | Self::LogUniform { .. } => Ok(()),
            Self::Scheduled { length, deviation, .. } => {
                if !(deviation.is_finite() && *deviation >= 0.0) {
                    let reason = "must be finite and not negative";
                    return Err(Error::setting("estimator.horizon.deviation", reason, deviation));
                }
                length.validate("estimator.horizon.length")
            }
            Self::ScheduledLogUniform { shortest, longest, .. } => {
                shortest.validate("estimator.horizon.shortest")?;
                longest.validate("estimator.horizon.longest")
            }
        }
    }

    /// The length, in inner steps, drawn from `seed` for a trajectory that begins in `outer_step` of a run of
    /// `outer_steps`; the latter is what schedules relative to the whole run refer to.
    ///
    /// # Panics
    /// Possibly, if [`HorizonSchedule::validate`] refuses the settings.
    pub fn sample(&self, seed: Seed, outer_step: u64, outer_steps: u64) -> u32 {
        let mut draws = Draws::new(seed.purpose(Purpose::Horizon));
        match self {
            Self::Constant { steps } => *steps,
            Self::LogUniform { min, max } => log_uniform(*min, *max, draws.uniform()),
            Self::Scheduled { length, deviation, min, max } => {
                let length = length.value(outer_step, outer_steps) + deviation * f64::from(draws.normal());
                whole(length, *min, *max)
            }
            Self::ScheduledLogUniform { shortest, longest, min, max } => {
                let bound = |schedule: &Schedule| whole(schedule.value(outer_step, outer_steps), *min, *max);
                let shortest = bound(shortest);
                log_uniform(shortest, bound(longest).max(shortest), draws.uniform())
            }
        }
    }
}

/// `⌊length⌋` cut to a range.
fn whole(length: f64, min: u32, max: u32) -> u32 {
    // The cast saturates, and a value that is not a number becomes 0.
    (length.floor() as u32).clamp(min, max)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(schedule: &HorizonSchedule, outer_step: u64) -> Vec<u32> {
        (0..20_000).map(|seed| schedule.sample(Seed::new(seed), outer_step, 1000)).collect()
    }

    fn mean(lengths: &[u32]) -> f64 {
        lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / lengths.len() as f64
    }

    #[test]
    fn lengths_are_log_uniform() {
        let lengths = lengths(&HorizonSchedule::LogUniform { min: 100, max: 10_000 }, 0);
        assert!(lengths.iter().all(|length| (100..=10_000).contains(length)));
        for (bound, share) in [(316, 0.25), (1000, 0.5), (3162, 0.75)] {
            let below = lengths.iter().filter(|&&length| length < bound).count() as f64 / 20_000.0;
            assert!((below - share).abs() < 0.02, "{below} below {bound}");
        }
        assert_eq!(log_uniform(100, 10_000, 0.5), 1000);
        assert_eq!((log_uniform(7, 7, 0.9), log_uniform(1, 9, 0.0)), (7, 1));
    }

    #[test]
    fn a_scheduled_length_follows_the_outer_steps() {
        let length = Schedule::Linear { init_value: 100.0, end_value: 300.0, steps: 1000 };
        let schedule = HorizonSchedule::Scheduled { length: length.clone(), deviation: 20.0, min: 50, max: 320 };
        for (outer_step, expected) in [(0, 100.0), (500, 200.0)] {
            let lengths = lengths(&schedule, outer_step);
            // Rounding down costs half a step.
            assert!((mean(&lengths) + 0.5 - expected).abs() < 0.6, "{} at {outer_step}", mean(&lengths));
            let within = lengths.iter().filter(|&&length| (f64::from(length) - expected).abs() < 20.0).count();
            assert!((within as f64 / 20_000.0 - 0.683).abs() < 0.02, "{within} within a deviation");
        }
        let cut = lengths(&schedule, 1000);
        assert_eq!(cut.iter().max(), Some(&320), "cut above");
        let exact = HorizonSchedule::Scheduled { length, deviation: 0.0, min: 150, max: 320 };
        assert_eq!(lengths(&exact, 0), vec![150; 20_000], "cut below");
        assert_eq!(exact.sample(Seed::new(1), 750, 1000), 250);
    }

    #[test]
    fn log_uniform_bounds_follow_the_outer_steps() {
        let schedule = HorizonSchedule::ScheduledLogUniform {
            shortest: Schedule::Constant { value: 10.0 },
            longest: Schedule::Linear { init_value: 5.0, end_value: 1000.0, steps: 100 },
            min: 8,
            max: 400,
        };
        assert_eq!(lengths(&schedule, 0), vec![10; 20_000], "the upper bound still lies below the lower one");
        let late = lengths(&schedule, 100);
        assert!(late.iter().all(|length| (10..=400).contains(length)));
        let middle = late.iter().filter(|&&length| length < 63).count() as f64 / 20_000.0;
        assert!((middle - 0.5).abs() < 0.02, "{middle}");
    }

    #[test]
    fn schedules_that_make_no_sense_are_refused() {
        let linear = |init_value| Schedule::Linear { init_value, end_value: 3.0, steps: 9 };
        let scheduled = |length, deviation| HorizonSchedule::Scheduled { length, deviation, min: 5, max: 9 };
        let field = |schedule: HorizonSchedule| match schedule.validate() {
            Err(Error::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert!(scheduled(linear(1.0), 2.0).validate().is_ok());
        assert_eq!(field(scheduled(linear(1.0), -2.0)), "estimator.horizon.deviation");
        assert_eq!(field(scheduled(linear(f64::NAN), 2.0)), "estimator.horizon.length.init_value");
        let (shortest, longest) = (linear(1.0), linear(f64::INFINITY));
        let between = HorizonSchedule::ScheduledLogUniform { shortest, longest, min: 5, max: 9 };
        assert_eq!(field(between), "estimator.horizon.longest.init_value");
    }
}
