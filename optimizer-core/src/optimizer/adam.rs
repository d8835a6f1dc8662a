//! Adam and AdamW.
use super::{OptState, Optimizer};
use crate::Result;
use crate::params::Params;
/// Adam.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    learning_rate: f32,
}
impl Adam {
    /// Reference defaults.
    pub fn new(learning_rate: f32) -> Self {
        Self { learning_rate }
    }
}
impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn init(&self, _params: Params, _horizon: &[u32]) -> Result<OptState> {
        unimplemented!()
    }
    fn update(&self, _state: OptState, _grads: &Params, _losses: &[f32]) -> Result<OptState> {
        unimplemented!("{}", self.learning_rate)
    }
}
/// AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    learning_rate: f32,
    weight_decay: f32,
}
impl AdamW {
    /// Reference defaults.
    pub fn new(learning_rate: f32, weight_decay: f32) -> Self {
        Self { learning_rate, weight_decay }
    }
}
impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adam_w"
    }
    fn init(&self, _params: Params, _horizon: &[u32]) -> Result<OptState> {
        unimplemented!()
    }
    fn update(&self, _state: OptState, _grads: &Params, _losses: &[f32]) -> Result<OptState> {
        unimplemented!("{} {}", self.learning_rate, self.weight_decay)
    }
}
