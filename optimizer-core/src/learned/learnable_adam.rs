//! Adam whose four settings are theta: the smallest learned optimizer.
//!
//! ```text
//!  lr = e^log_lr   β1 = 1 − e^one_minus_beta1   β2 = 1 − e^one_minus_beta2   eps = e^log_epsilon   (eps_root stays 1e-8)
//! ```

use std::sync::Arc;

use super::bound_rules::BoundRules;
use super::float::exact_exp;
use super::initial::{InitialTheta, scalar};
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_theta};
use crate::optimizer::{AdamRule, Decay, Optimizer};
use crate::params::Layout;
use crate::{Result, Seed, Theta};

/// The learnable settings in the order of theta (sorted by name).
const SETTINGS: [&str; 4] = ["log_epsilon", "log_lr", "one_minus_beta1", "one_minus_beta2"];

/// Logarithms of eps 1e-8, learning rate 0.001, 1 − β1 0.1 and 1 − β2 0.001. Written out, because an initial theta has
/// the same bits on every host, and `ln` is the platform's.
const INITIAL: [f32; 4] = [-18.420_681, -6.907_755_4, -std::f32::consts::LN_10, -6.907_755_4];

/// [`Adam`](crate::optimizer::Adam) with learnable learning rate, decays and epsilon: `LearnableAdam` of the
/// reference's `learned_optimizers/base.py` (google/learned_optimization @ 32186aa4).
///
/// Theta (4 values, natural logarithms): `log_epsilon`, `log_lr`, `one_minus_beta1` and `one_minus_beta2`, each \[\];
/// at first those of 1e-8, 0.001, 0.1 and 0.001. `epsilon_root` stays 1e-8. Slots: `m/NAME` and `v/NAME`, as the
/// tensor.
#[derive(Clone, Debug)]
pub struct LearnableAdam {
    theta: InitialTheta,
}

impl LearnableAdam {
    /// There is nothing to set.
    ///
    /// # Errors
    /// None at present; the signature is that of the other learned optimizers.
    pub fn new() -> Result<Self> {
        let settings = SETTINGS.into_iter().zip(INITIAL).map(|(name, value)| scalar(name, value));
        Ok(Self { theta: InitialTheta::new(settings.collect())? })
    }
}

impl LearnedOptimizer for LearnableAdam {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::LearnableAdam)
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    /// Learning rate 0.001, β1 0.9, β2 0.999, eps 1e-8; nothing is random.
    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(BoundRules::new(theta, rule)))
    }
}

/// Adam's numbers from one lane of theta.
fn rule(theta: &[f32]) -> AdamRule {
    let [eps, learning_rate, taken1, taken2] = std::array::from_fn(|index| exact_exp(theta[index]));
    let (beta1, beta2) = (Decay::traced(1.0 - taken1), Decay::traced(1.0 - taken2));
    AdamRule { learning_rate, beta1, beta2, eps, eps_root: 1e-8, weight_decay: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theta_begins_as_the_logarithms_of_adam_s_defaults() {
        for (written, setting) in INITIAL.into_iter().zip([1e-8_f32, 0.001, 0.1, 0.001]) {
            assert_eq!(written, f64::from(setting).ln() as f32);
        }
    }
}
