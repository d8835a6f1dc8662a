//! Theta of a Haiku MLP (`hk.nets.MLP`): `MODULE/~/linear_0`, `MODULE/~/linear_1`, …, each with `/w` and `/b`.

use super::initial::{ThetaTensors, linear};
use super::network::Layer;
use super::theta_layer;
use crate::Theta;

fn module(mlp: &str, layer: usize) -> String {
    format!("{mlp}/~/linear_{layer}")
}

/// The tensors of an MLP with `hidden_layers` layers of `hidden_size` units.
pub(super) fn mlp_tensors(
    mlp: &str,
    inputs: usize,
    hidden_size: usize,
    hidden_layers: usize,
    outputs: usize,
) -> ThetaTensors {
    let layers = (0..=hidden_layers).flat_map(|layer| {
        let fan_in = if layer == 0 { inputs } else { hidden_size };
        linear(&module(mlp, layer), fan_in, if layer == hidden_layers { outputs } else { hidden_size })
    });
    layers.collect()
}

/// The layers of an MLP in one lane, in order.
pub(super) fn mlp_layers<'a>(theta: &'a Theta, lane: usize, mlp: &str, hidden_layers: usize) -> Vec<Layer<'a>> {
    (0..=hidden_layers).map(|layer| theta_layer(theta, lane, &module(mlp, layer))).collect()
}
