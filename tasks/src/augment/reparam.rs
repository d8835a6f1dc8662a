//! Reparametrised weights: the same function on other scales.
//!
//! ```text
//!  optimizer's w' ──► w = s · w' ──► loss        s = exp U[ln a, ln b], by the task's seed:
//!  gradient  s · g ◄── g ◄──────────┘            one a task (global), one a tensor, or one a value (parameter)
//! ```
//!
//! `ReparamWeights` of the reference. The function that is trained, its initial values and its minimum stay what they
//! were (`w' = w / s` at first); what changes is its conditioning, so that no learning rate fits all tasks. The scales of
//! single parameters are drawn again at each use instead of being kept.

use std::fmt;
use std::sync::Arc;

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Params, Result, Seed};
use serde::{Deserialize, Serialize};

use super::change::{Change, task_seed};
use crate::log_uniform::LogUniform;

/// What has a scale of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Nothing: the weights stay as they are.
    None,
    /// All weights of a task together.
    Global,
    /// Each tensor.
    Tensor,
    /// Each value.
    Parameter,
}

/// Weights on scales of their own.
#[derive(Clone, Copy)]
pub(super) struct Reparam {
    /// What has a scale.
    pub(super) level: Level,
    /// Smallest and largest scale.
    pub(super) range: [f64; 2],
    /// Place in the list.
    pub(super) place: u64,
}

impl fmt::Debug for Reparam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.range;
        let level = match self.level {
            Level::None => return f.write_str("weights as they are"),
            Level::Global => "all weights together",
            Level::Tensor => "each tensor",
            Level::Parameter => "each weight",
        };
        write!(f, "{level} scaled by {low:e} to {high:e}")
    }
}

impl Change for Reparam {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        // A scale drawn anew, for weights and for gradients, is a word of Philox and a product of square roots.
        let operations = if self.level == Level::Parameter { 100.0 } else { 2.0 };
        let parameters = parameters as f64;
        Cost { flop: inner.flop + operations * parameters, bytes: inner.bytes + 4.0 * parameters }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        let seeds = seeds.iter().map(|&seed| task_seed(seed, self.place)).collect();
        let [low, high] = self.range;
        Ok(Box::new(ReparamLanes { inner, seeds, level: self.level, law: LogUniform::new(low, high) }))
    }
}

struct ReparamLanes<'a> {
    inner: Box<dyn TaskLanes + 'a>,
    seeds: Vec<Seed>,
    level: Level,
    law: LogUniform,
}

impl ReparamLanes<'_> {
    /// `change(value, scale)` of every value.
    fn changed(&self, mut params: Params, change: impl Fn(f32, f64) -> f32 + Copy) -> Params {
        let layout = Arc::clone(params.layout());
        for index in 0..layout.len() {
            for (lane, &seed) in self.seeds.iter().enumerate().take(params.lanes()) {
                let values = params.lane_mut(index, lane).iter_mut();
                let mut of_task = Draws::new(seed);
                let mut of_tensor = Draws::new(seed.fold_in(1 + index as u64));
                match self.level {
                    Level::None => {}
                    Level::Global | Level::Tensor => {
                        let draws = if self.level == Level::Global { &mut of_task } else { &mut of_tensor };
                        let scale = self.law.at(draws.word());
                        values.for_each(|value| *value = change(*value, scale));
                    }
                    Level::Parameter => {
                        values.for_each(|value| *value = change(*value, self.law.at(of_tensor.word())));
                    }
                }
            }
        }
        params
    }
}

/// `value · scale`: from the optimizer's weights to the task's, and from the task's gradient to the optimizer's.
fn times(value: f32, scale: f64) -> f32 {
    (f64::from(value) * scale) as f32
}

impl TaskLanes for ReparamLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        let params = self.inner.init_params()?;
        Ok(self.changed(params, |value, scale| (f64::from(value) / scale) as f32))
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let (losses, grads) = self.inner.loss_and_grads(&self.changed(params.clone(), times), batch)?;
        Ok((losses, self.changed(grads, times)))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.inner.evaluate(&self.changed(params.clone(), times), split, batch)
    }

    fn state(&self) -> Option<&Params> {
        self.inner.state()
    }

    fn restore(&mut self, state: Params) -> Result<()> {
        self.inner.restore(state)
    }
}
