//! Adam over theta, in portable arithmetic.
//!
//! ```text
//!  m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
//!  theta ← theta − lr · [ m̂ / (√(v̂ + eps_root) + eps) + weight_decay · theta ],   m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
//! ```
//!
//! Arithmetic is f64 and uses `+ − · / √` only, which are exact to the last bit everywhere (`powf` and `powi` are not);
//! moments are kept in f32, as theta is.

use super::ThetaOptimizer;

/// The `update`-th move of theta (from 1) along `gradient`, in place.
pub(super) fn step(
    settings: &ThetaOptimizer,
    update: u64,
    gradient: impl Iterator<Item = f64>,
    theta: &mut [f32],
    moment1: &mut [f32],
    moment2: &mut [f32],
) {
    let ThetaOptimizer { learning_rate, beta1, beta2, eps, eps_root, weight_decay } = *settings;
    let correction1 = 1.0 - power(beta1, update);
    let correction2 = 1.0 - power(beta2, update);
    for (((theta, moment1), moment2), g) in theta.iter_mut().zip(moment1).zip(moment2).zip(gradient) {
        let m = beta1 * f64::from(*moment1) + (1.0 - beta1) * g;
        let v = beta2 * f64::from(*moment2) + (1.0 - beta2) * g * g;
        *moment1 = m as f32;
        *moment2 = v as f32;
        let direction = (m / correction1) / ((v / correction2 + eps_root).sqrt() + eps);
        let value = f64::from(*theta);
        *theta = (value - learning_rate * (direction + weight_decay * value)) as f32;
    }
}

/// `base` to the power `exponent` by squaring.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers() {
        assert_eq!(power(0.5, 10), 1.0 / 1024.0);
        assert_eq!((power(0.9, 0), power(0.0, 3), power(0.999, u64::MAX)), (1.0, 0.0, 0.0));
        assert!((power(0.999, 1000) - 0.367_695_424_770_963_9).abs() < 1e-14);
    }

    #[test]
    fn two_updates_by_hand() {
        let settings =
            ThetaOptimizer { learning_rate: 0.1, beta1: 0.5, beta2: 0.75, eps: 0.5, eps_root: 0.0, weight_decay: 0.0 };
        let (mut theta, mut m, mut v) = ([1.0], [0.0], [0.0]);
        step(&settings, 1, [2.0].into_iter(), &mut theta, &mut m, &mut v);
        // m = 1, v = 1; corrected 2 and 4; 2 / (2 + 0.5) = 0.8
        assert_eq!((m, v), ([1.0], [1.0]));
        assert!((theta[0] - 0.92).abs() < 1e-6);
        step(&settings, 2, [-1.0].into_iter(), &mut theta, &mut m, &mut v);
        // m = 0.5 − 0.5 = 0: theta stays; v = 0.75 + 0.25
        assert_eq!((m, v), ([0.0], [1.0]));
        assert!((theta[0] - 0.92).abs() < 1e-6);
    }

    #[test]
    fn the_root_is_padded_and_decay_is_decoupled() {
        let settings =
            ThetaOptimizer { learning_rate: 0.1, beta1: 0.0, beta2: 0.0, eps: 0.0, eps_root: 9.0, weight_decay: 0.5 };
        let (mut theta, mut m, mut v) = ([2.0], [0.0], [0.0]);
        step(&settings, 1, [4.0].into_iter(), &mut theta, &mut m, &mut v);
        // 4 / √(16 + 9) = 0.8; 0.1 · (0.8 + 0.5 · 2) = 0.18
        assert!((theta[0] - 1.82).abs() < 1e-6, "{theta:?}");
    }
}
