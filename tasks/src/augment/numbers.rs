//! Settings that a member of a family may draw.
//!
//! ```text
//!  sigma = 0.01                                 the same for every member
//!  sigma = { uniform = [0.001, 0.1] }           U[a, b]
//!  sigma = { log_uniform = [0.001, 0.1] }       exp U[ln a, ln b]
//!  pairs = { one_of = [1, 2, 4] }               each as likely; one that is named twice is twice as likely
//! ```

use paceline_optimizer_core::noise::Draws;
use serde::{Deserialize, Serialize};

use crate::log_uniform::LogUniform;

/// A value, or some to choose from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Choice<T> {
    /// This one.
    Fixed(T),
    /// One of these, each as likely.
    OneOf {
        /// At least one.
        one_of: Vec<T>,
    },
}

impl<T: Copy> Choice<T> {
    /// Whether members differ in it.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self, Self::OneOf { one_of } if one_of.len() > 1)
    }

    /// Every value it may take.
    pub(super) fn values(&self) -> &[T] {
        match self {
            Self::Fixed(value) => std::slice::from_ref(value),
            Self::OneOf { one_of } => one_of,
        }
    }

    /// The value of a member.
    pub(super) fn draw(&self, draws: &mut Draws) -> T {
        let values = self.values();
        values[draws.below(values.len() as u32) as usize]
    }

    /// The value of a typical member.
    pub(super) fn typical(&self) -> T {
        self.values()[self.values().len() / 2]
    }
}

/// A number, or a distribution of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Number {
    /// This one.
    Fixed(f64),
    /// One of these, each as likely.
    OneOf {
        /// At least one.
        one_of: Vec<f64>,
    },
    /// Uniform between two bounds.
    Uniform {
        /// Lower and upper bound.
        uniform: [f64; 2],
    },
    /// Log-uniform between two bounds.
    LogUniform {
        /// Lower and upper bound, above 0.
        log_uniform: [f64; 2],
    },
}

impl Number {
    /// Whether members differ in it.
    pub(super) fn is_drawn(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::OneOf { one_of } => one_of.len() > 1,
            Self::Uniform { uniform: [low, high] } | Self::LogUniform { log_uniform: [low, high] } => low < high,
        }
    }

    /// The number of a member.
    pub(super) fn draw(&self, draws: &mut Draws) -> f64 {
        match self {
            Self::Fixed(value) => *value,
            Self::OneOf { one_of } => one_of[draws.below(one_of.len() as u32) as usize],
            Self::Uniform { .. } | Self::LogUniform { .. } => self.at(draws.uniform()),
        }
    }

    /// The number of a typical member: the middle.
    pub(super) fn typical(&self) -> f64 {
        match self {
            Self::OneOf { one_of } => one_of[one_of.len() / 2],
            _ => self.at(0.5),
        }
    }

    /// The quantile of a distribution with bounds.
    fn at(&self, share: f64) -> f64 {
        match self {
            Self::Fixed(value) => *value,
            Self::OneOf { one_of } => one_of[0],
            Self::Uniform { uniform: [low, high] } => low + (high - low) * share,
            Self::LogUniform { log_uniform: [low, high] } => LogUniform::new(*low, *high).at_share(share),
        }
    }

    /// Why it may not stand in a setting that takes numbers from `low` to `high`, `whole` ones or any. Bounded
    /// distributions of whole numbers are rounded.
    ///
    /// # Errors
    /// A sentence without its subject.
    pub(super) fn check(&self, low: f64, high: f64, whole: bool) -> Result<(), String> {
        let named: &[f64] = match self {
            Self::Fixed(value) => std::slice::from_ref(value),
            Self::OneOf { one_of } => one_of,
            Self::Uniform { uniform } => uniform,
            Self::LogUniform { log_uniform } => log_uniform,
        };
        if named.is_empty() {
            return Err("has nothing in one_of to choose from".into());
        }
        let listed = matches!(self, Self::Fixed(_) | Self::OneOf { .. });
        let fits = |value: f64| (low..=high).contains(&value) && !(whole && listed && value.fract() != 0.0);
        if let Some(value) = named.iter().find(|value| !fits(**value)) {
            let kind = if whole { "a whole number" } else { "a number" };
            return Err(format!("must be {kind} from {low} to {high} (got {value})"));
        }
        match self {
            Self::Uniform { uniform: [a, b] } | Self::LogUniform { log_uniform: [a, b] } if a > b => {
                Err(format!("must name its lower bound first (got [{a}, {b}])"))
            }
            Self::LogUniform { log_uniform: [a, _] } if *a <= 0.0 => {
                Err(format!("must have bounds above 0 to be log-uniform (got {a})"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Seed;

    use super::*;

    #[test]
    fn draws_have_their_laws() {
        let mut draws = Draws::new(Seed::new(1));
        let mut sample = |number: &Number| (0..20_000).map(|_| number.draw(&mut draws)).collect::<Vec<_>>();
        let below = |values: &[f64], bound: f64| values.iter().filter(|value| **value < bound).count() as f64 / 2e4;
        let uniform = sample(&Number::Uniform { uniform: [1.0, 3.0] });
        assert!((below(&uniform, 1.5) - 0.25).abs() < 0.02 && uniform.iter().all(|x| (1.0..=3.0).contains(x)));
        let log = sample(&Number::LogUniform { log_uniform: [1e-3, 1e-1] });
        assert!((below(&log, 1e-2) - 0.5).abs() < 0.02 && log.iter().all(|x| (1e-3..=1e-1).contains(x)));
        let listed = sample(&Number::OneOf { one_of: vec![1.0, 1.0, 8.0] });
        assert!((below(&listed, 2.0) - 2.0 / 3.0).abs() < 0.02);
        assert_eq!(Number::Fixed(0.5).draw(&mut draws), 0.5);
        assert!((Number::LogUniform { log_uniform: [1e-3, 1e-1] }.typical() - 1e-2).abs() < 1e-12);
    }
}
