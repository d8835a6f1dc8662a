//! `quadratic`: bowls, round or narrow, with a random centre and rotation.
//!
//! ```text
//!  f(z) = mean of λᵢ zᵢ²      λ from 1 down to 1 / condition, log-spaced       |Ax − b|² with A = Λ^½ Qᵀ, b = A c
//!  log     ln(1 + f / 1e-3)   steep at the bottom, flat far away
//! ```
//!
//! The reference's quadratics (`tasks/quadratics.py`): plain, logarithmic, noisy, with random centres.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::settings::{FamilySettings, refuse};
use super::surface::{Placing, Surface};
use crate::Error;
use crate::log_uniform::LogUniform;

/// Where the logarithmic form turns from a bowl into a funnel.
const FLOOR: f64 = 1e-3;

/// Shape of the bowl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// The quadratic form.
    #[default]
    Plain,
    /// Its logarithm.
    Log,
}

/// Settings of `quadratic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Quadratic {
    /// Coordinates.
    dim: usize,
    /// Shape of the bowl.
    form: Form,
    /// Largest curvature over the smallest.
    condition: f64,
    /// Whether each task turns the axes.
    rotate: bool,
    /// Deviation of the centre from 0.
    centre: f64,
    /// Deviation of the start from the centre.
    start: f64,
    /// Deviation of a batch's tilt.
    noise: f64,
}

impl Default for Quadratic {
    fn default() -> Self {
        Self { dim: 10, form: Form::Plain, condition: 100.0, rotate: true, centre: 1.0, start: 1.0, noise: 0.01 }
    }
}

impl FamilySettings for Quadratic {
    const NAME: &'static str = "quadratic";
    const SUMMARY: &'static str = "find the bottom of a random, ill-conditioned, slightly noisy bowl";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { dim, form, condition, rotate, centre, start, noise } = self;
        if !(1.0..=1e12).contains(&condition) {
            return Err(refuse::<Self>(format!("condition must be 1 to 1e12 (got {condition})")));
        }
        let placing = Placing { dim, rotate, centre, start, noise };
        placing.family::<Self>(Bowl::new(dim, form, condition))
    }
}

struct Bowl {
    form: Form,
    condition: f64,
    /// Curvatures over 2, by coordinate.
    weights: Vec<f64>,
}

impl Bowl {
    fn new(dim: usize, form: Form, condition: f64) -> Self {
        let law = LogUniform::new(1.0 / condition, 1.0);
        let share = |index: usize| 1.0 - index as f64 / (dim.max(2) - 1) as f64;
        let weight = |index| if index == 0 { 1.0 } else { law.at_share(share(index)) };
        Self { form, condition, weights: (0..dim).map(weight).collect() }
    }
}

impl std::fmt::Debug for Bowl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let form = if self.form == Form::Log { "logarithmic bowl" } else { "bowl" };
        write!(f, "{form} of condition {}", self.condition)
    }
}

impl Surface for Bowl {
    fn evaluate(&self, z: &[f64], gradient: &mut [f64]) -> f64 {
        let count = z.len() as f64;
        let mean = z.iter().zip(&self.weights).map(|(z, w)| w * z * z).sum::<f64>() / count;
        let (value, slope) = match self.form {
            Form::Plain => (mean, 1.0),
            Form::Log => ((mean / FLOOR).ln_1p(), 1.0 / (FLOOR + mean)),
        };
        for ((g, z), w) in gradient.iter_mut().zip(z).zip(&self.weights) {
            *g = slope * 2.0 * w * z / count;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::surface::check_gradient;

    #[test]
    fn gradients_are_those_of_differences() {
        check_gradient(&Bowl::new(5, Form::Plain, 30.0), 5);
        check_gradient(&Bowl::new(4, Form::Log, 1.0), 4);
    }

    #[test]
    fn the_condition_is_the_ratio_of_curvatures() {
        let weights = Bowl::new(5, Form::Plain, 1e4).weights;
        for (weight, expected) in weights.iter().zip([1.0, 0.1, 0.01, 1e-3, 1e-4]) {
            assert!((weight / expected - 1.0).abs() < 1e-8, "{weights:?}");
        }
        assert_eq!(Bowl::new(3, Form::Plain, 1.0).weights, [1.0; 3]);
    }
}
