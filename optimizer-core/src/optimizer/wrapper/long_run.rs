//! A run of any length for an optimizer that was trained on runs up to some length.

use super::{GradientAccumulation, WeightDecay};
use crate::Result;
use crate::optimizer::Optimizer;

/// The longest run that VeLO was meta-trained for, in steps.
pub const LONGEST_RUN: u32 = 150_000;

/// `base` for `num_steps` steps: beyond [`LONGEST_RUN`] it steps every `⌈num_steps / LONGEST_RUN⌉`-th time, with the mean
/// of the gradients so far, and a `weight_decay` above 0 is an L2 penalty around it all (the reference's
/// `prefab.LearnedOptimizer`; it recommends about 1e-6).
///
/// ```
/// use paceline_optimizer_core::learned::{HyperV2Config, LearnedOptimizerConfig};
/// use paceline_optimizer_core::optimizer::wrapper::for_run;
/// # use paceline_optimizer_core::Seed;
///
/// # fn main() -> paceline_optimizer_core::Result<()> {
/// let hyper = LearnedOptimizerConfig::HyperV2(HyperV2Config::default()).build()?;
/// # let theta = hyper.init_theta(Seed::new(0));
/// let optimizer = for_run(hyper.bind(theta)?, 400_000, 1e-6)?;
/// assert_eq!(optimizer.name(), "weight_decay");
/// assert_eq!(optimizer.inner()[0].name(), "gradient_accumulation");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`crate::Error::Setting`] if the weight decay is negative or not finite.
pub fn for_run(base: Box<dyn Optimizer>, num_steps: u32, weight_decay: f64) -> Result<Box<dyn Optimizer>> {
    let gradients = num_steps.div_ceil(LONGEST_RUN);
    let paced = if gradients > 1 { Box::new(GradientAccumulation::new(base, gradients)?) } else { base };
    Ok(if weight_decay == 0.0 { paced } else { Box::new(WeightDecay::new(paced, weight_decay, true)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{Adam, OptimizerConfig};
    use crate::{Error, Layout, Params, TensorSpec};

    /// Names from the outside to the inside, and the horizon that the innermost sees.
    fn of(num_steps: u32, weight_decay: f64) -> (Vec<&'static str>, u32) {
        let adam = OptimizerConfig::Adam(Adam::new(0.1)).build().unwrap();
        let optimizer = for_run(adam, num_steps, weight_decay).unwrap();
        let params = Params::zeros(&Layout::new(vec![TensorSpec::new("x", [])]).unwrap(), 1);
        let horizon = optimizer.init(params, &[num_steps]).unwrap().horizon[0];
        let mut names = vec![optimizer.name()];
        let mut inner = optimizer.inner();
        while let Some(next) = inner.pop() {
            names.push(next.name());
            inner = next.inner();
        }
        (names, horizon)
    }

    #[test]
    fn long_runs_accumulate_and_weights_decay_outside() {
        assert_eq!(of(150_000, 0.0), (vec!["adam"], 150_000));
        assert_eq!(of(150_001, 0.0), (vec!["gradient_accumulation", "adam"], 75_000));
        assert_eq!(of(9, 1e-6), (vec!["weight_decay", "adam"], 9));
        assert_eq!(of(450_001, 1e-6), (vec!["weight_decay", "gradient_accumulation", "adam"], 112_500));
        let adam = OptimizerConfig::Adam(Adam::new(0.1)).build().unwrap();
        assert!(matches!(for_run(adam, 9, -1.0), Err(Error::Setting { field, .. }) if field == "weight_decay"));
    }
}
