//! Gradient descent whose settings are theta, without and with heavy-ball momentum.
//!
//! ```text
//!  lr = e^log_lr          momentum = 1 − e^one_minus_momentum
//!  p ← p − lr · g         a ← g + momentum · a,  p ← p − lr · a
//! ```
//!
//! Source: `LearnableSGD`, `LearnableSGDM` of google/learned_optimization @ 32186aa4.

use std::sync::Arc;

use super::bound_rules::BoundRules;
use super::float::exact_exp;
use super::initial::{InitialTheta, scalar};
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_theta};
use crate::optimizer::{Optimizer, SgdRule, SgdmRule};
use crate::params::Layout;
use crate::{Result, Seed, Theta};

/// Logarithm of the initial learning rate, 0.01. Written out, because an initial theta has the same bits on every host,
/// and `ln` is the platform's.
const LOG_LR: f32 = -4.605_170_2;

/// Logarithm of 1 − 0.9.
const ONE_MINUS_MOMENTUM: f32 = -std::f32::consts::LN_10;

/// Gradient descent with a learnable learning rate, `p ← p − e^log_lr · g`: `LearnableSGD` of the reference's
/// `learned_optimizers/base.py` (google/learned_optimization @ 32186aa4).
///
/// Theta (1 value): `log_lr` \[\], a natural logarithm, at first that of 0.01. No slots.
#[derive(Clone, Debug)]
pub struct LearnableSgd {
    theta: InitialTheta,
}

/// Gradient descent with momentum, both settings learnable, `a ← g + (1 − e^one_minus_momentum) · a`,
/// `p ← p − e^log_lr · a`: `LearnableSGDM` of the reference's `learned_optimizers/base.py`.
///
/// Theta (2 values, natural logarithms): `log_lr` \[\] and `one_minus_momentum` \[\], at first those of 0.01 and of
/// 0.1. Slot: `trace/NAME`, as the tensor.
#[derive(Clone, Debug)]
pub struct LearnableSgdm {
    theta: InitialTheta,
}

impl LearnableSgd {
    /// There is nothing to set.
    ///
    /// # Errors
    /// None at present; the signature is that of the other learned optimizers.
    pub fn new() -> Result<Self> {
        Ok(Self { theta: InitialTheta::new(vec![scalar("log_lr", LOG_LR)])? })
    }
}

impl LearnableSgdm {
    /// There is nothing to set.
    ///
    /// # Errors
    /// None at present; the signature is that of the other learned optimizers.
    pub fn new() -> Result<Self> {
        let settings = vec![scalar("log_lr", LOG_LR), scalar("one_minus_momentum", ONE_MINUS_MOMENTUM)];
        Ok(Self { theta: InitialTheta::new(settings)? })
    }
}

impl LearnedOptimizer for LearnableSgd {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::LearnableSgd)
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    /// Learning rate 0.01; nothing is random.
    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(BoundRules::new(theta, |theta| SgdRule { learning_rate: exact_exp(theta[0]) })))
    }
}

impl LearnedOptimizer for LearnableSgdm {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::LearnableSgdm)
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    /// Learning rate 0.01, momentum 0.9; nothing is random.
    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(BoundRules::new(theta, |theta| {
            let [learning_rate, taken] = std::array::from_fn(|index| exact_exp(theta[index]));
            SgdmRule { learning_rate, momentum: 1.0 - taken }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theta_begins_as_the_logarithms_of_the_reference_s_defaults() {
        assert_eq!(LOG_LR, 0.01_f64.ln() as f32);
        assert_eq!(ONE_MINUS_MOMENTUM, 0.1_f64.ln() as f32);
    }
}
