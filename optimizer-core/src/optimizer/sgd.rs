//! Gradient descent.
use super::{OptState, Optimizer};
use crate::Result;
use crate::params::Params;
/// SGD.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
}
/// SGD with momentum.
#[derive(Clone, Copy, Debug)]
pub struct Sgdm {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the trace.
    pub momentum: f32,
}
impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn init(&self, _params: Params, _horizon: &[u32]) -> Result<OptState> {
        unimplemented!()
    }
    fn update(&self, _state: OptState, _grads: &Params, _losses: &[f32]) -> Result<OptState> {
        unimplemented!()
    }
}
impl Optimizer for Sgdm {
    fn name(&self) -> &'static str {
        "sgdm"
    }
    fn init(&self, _params: Params, _horizon: &[u32]) -> Result<OptState> {
        unimplemented!()
    }
    fn update(&self, _state: OptState, _grads: &Params, _losses: &[f32]) -> Result<OptState> {
        unimplemented!()
    }
}
