//! [`LearnedOptimizer`] where a generic training loop wants a `candle_nn::Optimizer`.
//!
//! | method of the trait | here |
//! |---|---|
//! | `backward_step(loss)` | passes the loss on |
//! | `step(grads)` | refused by an optimizer that needs the loss; the others get NaN for it |
//! | `learning_rate()` | NaN where there is none |
//! | `set_learning_rate(lr)` | where there is none, the next step fails and says so: the method itself cannot |

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::{LearnedOptimizer, MissingGradients};
use crate::Error;
use crate::optimizer::Optimizer;

/// What `candle_nn::Optimizer::new` is given beside the variables.
#[derive(Debug)]
pub struct Config {
    /// The optimizer.
    pub optimizer: Box<dyn Optimizer>,
    /// Number of steps that are planned.
    pub num_steps: u32,
    /// What to do for a variable without a gradient.
    pub missing_gradients: MissingGradients,
}

impl candle_nn::Optimizer for LearnedOptimizer {
    type Config = Config;

    /// Roles are inferred from ranks alone, since a list has no names. [`LearnedOptimizer::new`] knows those of a
    /// `VarMap`.
    fn new(vars: Vec<Var>, config: Config) -> candle_core::Result<Self> {
        let optimizer = Self::new(config.optimizer, vars, config.num_steps)?;
        Ok(optimizer.with_missing_gradients(config.missing_gradients))
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        if self.optimizer.needs_loss() {
            return Err(Error::NeedsLoss { optimizer: self.optimizer.name() }.into());
        }
        // NaN shows itself, should the optimizer read it after all.
        self.advance(f32::NAN, grads)?;
        Ok(self.write_variables()?)
    }

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        Ok(Self::backward_step(self, loss)?)
    }

    fn learning_rate(&self) -> f64 {
        Self::learning_rate(self).unwrap_or(f64::NAN)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.refused = Self::set_learning_rate(self, learning_rate).err();
    }
}
