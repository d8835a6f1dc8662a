//! How the outputs of a per-parameter network become a step.

use super::channels::Q;
use super::check_finite;
use super::float::{BLOCK, Block, each, exp, minimum};
use super::fused::{Moved, Said};
use super::network::{Mover, Outputs};
use crate::simd::{self, Simd};
use crate::{Error, Result};

/// How direction and magnitude become a step:
/// `step = rate · (direction · (scale · exp(exp_mult · magnitude)) · step_mult)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepRule {
    /// Factor of the whole step, may be negative.
    pub(super) rate: f32,
    /// Scale of the tensor's parameters, or 1.
    pub(super) scale: f32,
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Factor of the direction.
    pub(super) step_mult: f32,
    /// Divide the step by the root of the second moment.
    pub(super) precondition: bool,
}

impl StepRule {
    /// `step = direction · exp(exp_mult · magnitude) · step_mult`.
    pub(super) fn plain(exp_mult: f32, step_mult: f32) -> Self {
        Self { rate: 1.0, scale: 1.0, exp_mult, step_mult, precondition: false }
    }

    /// The step of a block, without its division by the root of the second moment.
    #[inline(always)]
    pub(super) fn step(&self, direction: &Block, magnitude: &Block) -> Block {
        let size = each(*magnitude, |magnitude| self.scale * exp(self.exp_mult * magnitude));
        let mut step = *direction;
        for j in 0..BLOCK {
            step[j] = self.rate * (direction[j] * size[j] * self.step_mult);
        }
        step
    }
}

/// `p ← p − step`, where a network's first two outputs are direction and magnitude.
impl<const E: usize> Mover<E> for StepRule {
    #[inline(always)]
    fn moved<S: Simd>(&mut self, s: S, block: &Outputs<'_, S, E>) -> S::Vector {
        let size = s.mul(s.splat(self.scale), simd::exp(s, s.mul(s.splat(self.exp_mult), block.outputs[1])));
        let step = s.mul(s.mul(block.outputs[0], size), s.splat(self.step_mult));
        let mut step = s.mul(s.splat(self.rate), step);
        if self.precondition {
            step = s.mul(step, block.x[Q]);
        }
        s.sub(block.p, step)
    }
}

impl<const E: usize> Moved<E, 2> for StepRule {
    #[inline(always)]
    fn moved<S: Simd>(&self, s: S, said: &Said<'_, S, E, 2>) -> S::Vector {
        let size = s.mul(s.splat(self.scale), simd::exp(s, s.mul(s.splat(self.exp_mult), said.outputs[1])));
        let step = s.mul(s.mul(said.outputs[0], size), s.splat(self.step_mult));
        let mut step = s.mul(s.splat(self.rate), step);
        if self.precondition {
            step = s.mul(step, said.x[Q]);
        }
        s.sub(said.p, step)
    }
}

/// The settings that decide a [`StepRule`], in HyperV2 and Celo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepSettings {
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Factor of the direction.
    pub(super) step_mult: f32,
    /// Multiply steps by the root mean square of the tensor.
    pub(super) param_scale_mult: bool,
    /// Bound that root mean square by this times the root of the tensor's size.
    pub(super) clip_param_scale_amount: Option<f32>,
    /// Divide the step by the root of the second moment.
    pub(super) precondition: bool,
}

impl StepSettings {
    /// # Errors
    /// [`Error::Setting`] naming the setting that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        check_finite("exp_mult", self.exp_mult)?;
        check_finite("step_mult", self.step_mult)?;
        match self.clip_param_scale_amount {
            Some(amount) if !(amount > 0.0 && amount.is_finite()) => {
                Err(Error::setting("clip_param_scale_amount", "must be a positive number", amount))
            }
            _ => Ok(()),
        }
    }

    /// The rule for a tensor of this many parameters, of this mean square.
    pub(super) fn rule(&self, rate: f32, size: usize, mean_square: f32) -> StepRule {
        let mut scale = 1.0;
        if self.param_scale_mult {
            scale = parameter_scale(mean_square);
            if let Some(amount) = self.clip_param_scale_amount {
                scale = minimum(scale, amount * (size as f32).sqrt());
            }
        }
        let &Self { exp_mult, step_mult, precondition, .. } = self;
        StepRule { rate, scale, exp_mult, step_mult, precondition }
    }
}

/// The scale of a tensor whose parameters have this mean square: its root, guarded.
pub(super) fn parameter_scale(mean_square: f32) -> f32 {
    (mean_square + 1e-9).sqrt()
}
