//! Gradients of length 1, and noisy gradients.
//!
//! ```text
//!  normalise_gradient   g ← g / ‖g‖                       over all tensors; no gradient stays none
//!  gradient_noise       g ← g + deviation · rms(g) · ε    ε standard normal, by task and batch
//! ```
//!
//! The noise is relative to the root mean square of the lane's gradient: tasks differ by orders of magnitude in their
//! gradients, and a recipe names one number for all of them.

use std::fmt;

use paceline_optimizer_core::task::{Cost, TaskLanes};
use paceline_optimizer_core::{Result, Seed, noise};

use super::change::{Change, GradientChange, GradientLanes, squared_length};

/// Gradients of length 1 (`NormalizeTaskGradient` of the reference).
#[derive(Clone, Copy)]
pub(super) struct Normalise;

impl fmt::Debug for Normalise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gradients of length 1")
    }
}

impl GradientChange for Normalise {
    fn change(self, gradient: &mut [&mut [f32]], _: Seed) {
        let length = squared_length(gradient).sqrt();
        // Also of a length that is not a number: such a gradient becomes NaN throughout.
        if length != 0.0 {
            let scaled = |value: &mut f32| *value = (f64::from(*value) / length) as f32;
            gradient.iter_mut().flat_map(|values| values.iter_mut()).for_each(scaled);
        }
    }
}

impl Change for Normalise {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        Cost { flop: inner.flop + 3.0 * parameters as f64, bytes: inner.bytes + 4.0 * parameters as f64 }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(GradientLanes { inner, seeds: seeds.to_vec(), place: 0, change: *self }))
    }
}

/// Normal noise on gradients.
#[derive(Clone, Copy)]
pub(super) struct Noise {
    /// Standard deviation, in units of the gradient's root mean square.
    pub(super) deviation: f64,
    /// Place in the list.
    pub(super) place: u64,
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradient noise {}", self.deviation)
    }
}

impl GradientChange for Noise {
    fn change(self, gradient: &mut [&mut [f32]], step: Seed) {
        let size: usize = gradient.iter().map(|values| values.len()).sum();
        let deviation = self.deviation * (squared_length(gradient) / size.max(1) as f64).sqrt();
        let mut first = 0;
        for values in gradient {
            let mut normals = vec![0.0; values.len()];
            noise::normals(step, first, &mut normals);
            first += values.len() as u64;
            let noisy = |(value, normal): (&mut f32, f32)| {
                *value = (f64::from(*value) + deviation * f64::from(normal)) as f32;
            };
            values.iter_mut().zip(normals).for_each(noisy);
        }
    }
}

impl Change for Noise {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        let parameters = parameters as f64;
        Cost { flop: inner.flop + (NORMAL + 4.0) * parameters, bytes: inner.bytes + 8.0 * parameters }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(GradientLanes { inner, seeds: seeds.to_vec(), place: self.place, change: *self }))
    }
}

/// Operations counted for one normal: ten rounds of Philox and a table, shared by four.
pub(super) const NORMAL: f64 = 20.0;
