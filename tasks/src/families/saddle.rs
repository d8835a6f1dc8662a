//! `saddle`: places without slope that are no minima.
//!
//! ```text
//!  strict    ½(u² − v²) + ¼v⁴ + ¼          one way down on either side; minima at v = ±1
//!  monkey    ⅓(u³ − 3uv²) + ¼(u² + v²)² + 1/12     no curvature at all at the saddle; three ways down, minima at radius 1
//!  plateau   u² / (1 + u²)                 flat everywhere but around the minimum
//! ```
//!
//! Each is the mean over pairs of coordinates (the plateau over single ones), bounded below by 0. A task starts near the
//! saddle; on a plateau `start` should be large.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::settings::{FamilySettings, refuse};
use super::surface::{Placing, Surface};
use crate::Error;

/// Which flat place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Curved up one way and down the other.
    #[default]
    Strict,
    /// The monkey saddle, with a quartic below it.
    Monkey,
    /// Flat far from the minimum.
    Plateau,
}

/// Settings of `saddle`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Saddle {
    /// Which flat place.
    form: Form,
    /// Coordinates; even for saddles, which are made of pairs.
    dim: usize,
    /// Whether each task turns the axes.
    rotate: bool,
    /// Deviation of the centre from 0.
    centre: f64,
    /// Deviation of the start from the centre.
    start: f64,
    /// Deviation of a batch's tilt.
    noise: f64,
}

impl Default for Saddle {
    fn default() -> Self {
        Self { form: Form::Strict, dim: 8, rotate: true, centre: 1.0, start: 0.1, noise: 0.001 }
    }
}

impl FamilySettings for Saddle {
    const NAME: &'static str = "saddle";
    const SUMMARY: &'static str = "leave a saddle point or a plateau";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { form, dim, rotate, centre, start, noise } = self;
        if form != Form::Plateau && dim % 2 == 1 {
            return Err(refuse::<Self>(format!("dim must be even, for a saddle is made of pairs (got {dim})")));
        }
        Placing { dim, rotate, centre, start, noise }.family::<Self>(form)
    }
}

impl Form {
    /// Value and gradient of a pair.
    fn pair(self, u: f64, v: f64) -> (f64, [f64; 2]) {
        match self {
            Self::Strict => (0.5 * (u * u - v * v) + 0.25 * v.powi(4) + 0.25, [u, v * v * v - v]),
            Self::Monkey => {
                let square = u * u + v * v;
                let value = (u * u * u - 3.0 * u * v * v) / 3.0 + 0.25 * square * square + 1.0 / 12.0;
                (value, [u * u - v * v + square * u, -2.0 * u * v + square * v])
            }
            Self::Plateau => {
                let (a, b) = (1.0 + u * u, 1.0 + v * v);
                // u²/(1 + u²), so that an infinite u gives NaN: diverged, not on a plateau.
                (u * u / a + v * v / b, [2.0 * u / (a * a), 2.0 * v / (b * b)])
            }
        }
    }
}

impl Surface for Form {
    fn evaluate(&self, z: &[f64], gradient: &mut [f64]) -> f64 {
        let pairs = z.len() as f64 / 2.0;
        let mut sum = 0.0;
        for (z, gradient) in z.chunks(2).zip(gradient.chunks_mut(2)) {
            let (value, slope) = self.pair(z[0], z.get(1).copied().unwrap_or(0.0));
            sum += value;
            gradient.iter_mut().zip(slope).for_each(|(g, slope)| *g = slope / pairs);
        }
        sum / pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::surface::check_gradient;

    #[test]
    fn gradients_are_those_of_differences() {
        check_gradient(&Form::Strict, 4);
        check_gradient(&Form::Monkey, 4);
        check_gradient(&Form::Plateau, 3);
    }

    #[test]
    fn saddles_are_flat_at_the_centre_and_their_minima_are_where_the_text_says() {
        for (form, minimum) in [(Form::Strict, [0.0, -1.0]), (Form::Monkey, [-1.0, 0.0]), (Form::Plateau, [0.0, 0.0])] {
            for (at, value) in [([0.0, 0.0], form.pair(0.0, 0.0).0), (minimum, 0.0)] {
                let mut gradient = [0.0; 2];
                let got = form.evaluate(&at, &mut gradient);
                assert!((got - value).abs() < 1e-15, "{form:?} at {at:?}: {got}");
                assert!(gradient.iter().all(|g| g.abs() < 1e-15), "{form:?} at {at:?}: {gradient:?}");
            }
        }
        // Downhill along the third way of the monkey saddle.
        let (x, y) = (0.5, 0.75_f64.sqrt());
        assert!(Form::Monkey.evaluate(&[x, y], &mut [0.0; 2]).abs() < 1e-12);
    }
}
