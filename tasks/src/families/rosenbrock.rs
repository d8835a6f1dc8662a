//! `rosenbrock`: a bent, narrow valley (Rosenbrock, The Computer Journal 1960).
//!
//! ```text
//!  f(z) = mean over i of (uᵢ₊₁ − uᵢ²)² + (1 − uᵢ)² / steepness        u = 1 + z
//! ```
//!
//! A chain of any length, divided by its steepness: across the valley the curvature is of order 1, and along it that much
//! smaller. The minimum, 0, is at the frame's centre.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Family;
use super::settings::{FamilySettings, refuse};
use super::surface::{Placing, Surface};
use crate::Error;

/// Settings of `rosenbrock`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rosenbrock {
    /// Coordinates.
    dim: usize,
    /// Curvature across the valley over that along it.
    steepness: f64,
    /// Whether each task turns the axes.
    rotate: bool,
    /// Deviation of the centre from 0.
    centre: f64,
    /// Deviation of the start from the centre.
    start: f64,
    /// Deviation of a batch's tilt.
    noise: f64,
}

impl Default for Rosenbrock {
    fn default() -> Self {
        Self { dim: 4, steepness: 100.0, rotate: false, centre: 0.5, start: 0.7, noise: 0.001 }
    }
}

impl FamilySettings for Rosenbrock {
    const NAME: &'static str = "rosenbrock";
    const SUMMARY: &'static str = "follow a bent, narrow valley to its lowest point";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { dim, steepness, rotate, centre, start, noise } = self;
        if !(1.0..=1e9).contains(&steepness) {
            return Err(refuse::<Self>(format!("steepness must be 1 to 1e9 (got {steepness})")));
        }
        Placing { dim, rotate, centre, start, noise }.family::<Self>(Valley { steepness })
    }
}

#[derive(Debug)]
struct Valley {
    steepness: f64,
}

impl Surface for Valley {
    fn evaluate(&self, z: &[f64], gradient: &mut [f64]) -> f64 {
        let links = (z.len() - 1) as f64;
        let mut sum = 0.0;
        for index in 0..z.len() - 1 {
            let (u, next) = (1.0 + z[index], 1.0 + z[index + 1]);
            let (across, along) = (next - u * u, 1.0 - u);
            sum += across * across + along * along / self.steepness;
            gradient[index] += (-4.0 * across * u - 2.0 * along / self.steepness) / links;
            gradient[index + 1] += 2.0 * across / links;
        }
        sum / links
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::surface::check_gradient;

    #[test]
    fn gradients_are_those_of_differences_and_the_centre_is_the_minimum() {
        for dim in [2, 5] {
            check_gradient(&Valley { steepness: 20.0 }, dim);
            let mut gradient = vec![0.0; dim];
            assert_eq!(Valley { steepness: 20.0 }.evaluate(&vec![0.0; dim], &mut gradient), 0.0);
            assert!(gradient.iter().all(|g| *g == 0.0));
        }
        // Rosenbrock's own starting point, (−1.2, 1), and value, 24.2.
        assert!((100.0 * Valley { steepness: 100.0 }.evaluate(&[-2.2, 0.0], &mut [0.0; 2]) - 24.2).abs() < 1e-12);
    }
}
