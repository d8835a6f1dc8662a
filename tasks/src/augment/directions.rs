//! Gradients known in a few random directions only, as those of evolution strategies are.
//!
//! ```text
//!  g ← Σⱼ ⟨g, vⱼ⟩ vⱼ     (or the sign of the product)     vⱼ: `count` random unit vectors of all parameters
//! ```
//!
//! `SubsampleDirections` of the reference. The directions come from the seed of the task and the number of the batch. They
//! are not orthogonal, and the sum is not divided by anything: with few directions the gradient is short, by a factor of
//! about `count / parameters` along itself, as in the reference.

use std::fmt;

use paceline_optimizer_core::task::{Cost, TaskLanes};
use paceline_optimizer_core::{Result, Seed, noise};

use super::change::{Change, GradientChange, GradientLanes};
use super::gradient::NORMAL;

/// A gradient in `count` random directions.
#[derive(Clone, Copy)]
pub(super) struct Directions {
    /// Number of directions.
    pub(super) count: u32,
    /// Whether only the sign of each product is known.
    pub(super) sign: bool,
    /// Place in the list.
    pub(super) place: u64,
}

impl fmt::Debug for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.sign { "signs of the gradient" } else { "the gradient" };
        write!(f, "{what} in {} random directions", self.count)
    }
}

impl GradientChange for Directions {
    fn change(self, gradient: &mut [&mut [f32]], step: Seed) {
        let flat: Vec<f64> = gradient.iter().flat_map(|values| values.iter()).map(|&value| f64::from(value)).collect();
        let (mut sum, mut direction) = (vec![0.0_f64; flat.len()], vec![0.0; flat.len()]);
        for index in 0..self.count {
            noise::normals(step.fold_in(u64::from(index)), 0, &mut direction);
            let (mut product, mut squares) = (0.0, 0.0);
            for (&value, &normal) in flat.iter().zip(&direction) {
                product += value * f64::from(normal);
                squares += f64::from(normal).powi(2);
            }
            // ⟨g, ε/‖ε‖⟩ ε/‖ε‖. A vector of zeros points nowhere.
            if squares == 0.0 {
                continue;
            }
            let along = if self.sign { sign(product) / squares.sqrt() } else { product / squares };
            sum.iter_mut().zip(&direction).for_each(|(sum, &normal)| *sum += along * f64::from(normal));
        }
        let values = gradient.iter_mut().flat_map(|values| values.iter_mut());
        values.zip(sum).for_each(|(value, sum)| *value = sum as f32);
    }
}

/// −1, 0 or 1; NaN stays NaN.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

impl Change for Directions {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        let parameters = parameters as f64;
        let flop = f64::from(self.count) * (NORMAL + 6.0) * parameters;
        Cost { flop: inner.flop + flop, bytes: inner.bytes + 24.0 * parameters }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(GradientLanes { inner, seeds: seeds.to_vec(), place: self.place, change: *self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(gradient: &[f32], directions: Directions, seed: u64) -> Vec<f32> {
        let mut values = gradient.to_vec();
        let (left, right) = values.split_at_mut(gradient.len() / 2);
        directions.change(&mut [left, right], Seed::new(seed));
        values
    }

    #[test]
    fn many_directions_sum_to_the_gradient_times_their_number_over_the_dimension() {
        let gradient = [1.0, -2.0, 0.5, 3.0];
        let all = changed(&gradient, Directions { count: 40_000, sign: false, place: 0 }, 1);
        for (got, expected) in all.iter().zip(gradient) {
            // E[v vᵀ] = I/4. The deviation of a mean of 40 000 is about 0.01.
            assert!((f64::from(*got) / 10_000.0 - f64::from(expected)).abs() < 0.1, "{all:?}");
        }
    }

    #[test]
    fn one_direction_is_a_projection_and_its_sign_a_unit_vector() {
        let gradient = [1.0, -2.0, 0.5, 3.0];
        let length = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        let one = changed(&gradient, Directions { count: 1, sign: false, place: 0 }, 2);
        let product: f64 = one.iter().zip(gradient).map(|(&a, b)| f64::from(a) * f64::from(b)).sum();
        assert!((product - length(&one)).abs() < 1e-6, "a projection is orthogonal to the rest");
        let sign = changed(&gradient, Directions { count: 1, sign: true, place: 0 }, 2);
        assert!((length(&sign) - 1.0).abs() < 1e-6);
        let along: f64 = one.iter().zip(&sign).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((along - length(&one).sqrt()).abs() < 1e-6, "the same direction");
        assert_eq!(changed(&[0.0; 4], Directions { count: 3, sign: true, place: 0 }, 2), [0.0; 4]);
        assert!(changed(&[f32::NAN, 0.0], Directions { count: 1, sign: true, place: 0 }, 2)[1].is_nan());
    }
}
