//! What AdafacMLPLOpt and MLPNomLOpt share: a theta of decays and of one small network on 39 inputs.
//!
//! ```text
//!  g, p, momenta, second moments, factored second moments ─► normalise over the tensor ─┐
//!  time embedding (11) ─────────────────────────────────────────────────────────────────┴► 39-4-4-outputs
//! ```
//!
//! Theta: offsets of the decays (`momentum_decays` \[3\], `rms_decays` \[1\], `adafactor_decays` \[3\], all 0 at first),
//! and the network's weights in one of two layouts ([`WeightLayout`]).

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accumulators::Decays;
use super::channels::{Guards, InputRows, PLAIN};
use super::decays::{TIME_CHANNELS, moved_decay, time_embedding};
use super::fused::Step;
use super::initial::{Initial, ThetaTensors, zeros};
use super::network::{Activation, Layer, Network};
use super::{check_decays, check_range, lane_of};
use crate::optimizer::OptState;
use crate::params::{Layout, TensorSpec};
use crate::{Error, Result, Theta};

/// How theta holds the weights of the network of [`super::AdafacMlp`] and [`super::MlpNominal`]. The arithmetic is the
/// same; only the tensors of theta differ.
///
/// The reference (`AdafacMLPLOpt`, `MLPNomLOpt`) has three flags for it:
///
/// | `concat_weights` | `make_separate_weights` | layout |
/// |---|---|---|
/// | True (default) | any | [`Matrices`](Self::Matrices) |
/// | False | False (default) | [`Matrices`](Self::Matrices) |
/// | False | True | [`Scalars`](Self::Scalars) |
///
/// `split_weights` has no effect: the branch that reads it is only reached where `make_separate_weights` is True, and
/// is tested after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightLayout {
    /// `nn/~/w{layer}` `[inputs, outputs]` and `nn/~/b{layer}` `[outputs]`.
    #[default]
    Matrices,
    /// Each weight is its own scalar: `nn/~/w{layer}_{input}_{output}` and `nn/~/b{layer}_{output}`.
    Scalars,
}

/// Most weights that are scalars: each is a tensor with a name, which a few letters of settings should not be able to
/// multiply into hundreds of megabytes.
const MOST_SCALARS: usize = 8192;

/// Channels that are normalised; the time embedding follows.
const NORMALISED: usize = 28;

/// Inputs of the network.
const INPUTS: usize = NORMALISED + TIME_CHANNELS;

/// Where each channel stands among the inputs: g, p, m, rms, m·q, q, fac_g, row, col, 1/√row, 1/√col, fac_m.
const ROWS: InputRows<PLAIN> = {
    let mut element = [Some(0); PLAIN];
    let mut channel = 0;
    while channel < PLAIN {
        // fac_m stands behind the separable channels.
        element[channel] = Some(if channel < 13 { channel } else { channel + 12 });
        channel += 1;
    }
    InputRows { element, row: Some(13), col: Some(16), rsqrt_row: Some(19), rsqrt_col: Some(22) }
};

/// What is added inside roots.
const GUARDS: Guards = Guards { q: 1e-6, fac_m: 1e-6, normaliser: Some(1e-5) };

/// Shape of the network, and the decays at offset 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdafacNetwork {
    pub(super) hidden_size: usize,
    pub(super) hidden_layers: usize,
    pub(super) outputs: usize,
    pub(super) weights: WeightLayout,
    pub(super) momentum_decays: [f32; 3],
    pub(super) rms_decays: [f32; 1],
    pub(super) adafactor_decays: [f32; 3],
}

impl AdafacNetwork {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming the one that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        check_range("hidden_size", self.hidden_size, 1..=256)?;
        check_range("hidden_layers", self.hidden_layers, 1..=8)?;
        let weights: usize = self.layers().map(|(inputs, outputs)| (inputs + 1) * outputs).sum();
        if self.weights == WeightLayout::Scalars && weights > MOST_SCALARS {
            let reason = format!("as scalars, the network may have at most {MOST_SCALARS} weights");
            return Err(Error::setting("weights", reason, weights));
        }
        check_decays("initial_momentum_decays", &self.momentum_decays)?;
        check_decays("initial_rms_decays", &self.rms_decays)?;
        check_decays("initial_adafactor_decays", &self.adafactor_decays)
    }

    /// Inputs and outputs of each layer.
    fn layers(&self) -> impl Iterator<Item = (usize, usize)> {
        let Self { hidden_size, hidden_layers, outputs, .. } = *self;
        (0..=hidden_layers).map(move |layer| {
            let fan_in = if layer == 0 { INPUTS } else { hidden_size };
            (fan_in, if layer == hidden_layers { outputs } else { hidden_size })
        })
    }

    /// All tensors of theta.
    pub(super) fn tensors(&self) -> ThetaTensors {
        let mut tensors = vec![zeros("momentum_decays", [3]), zeros("rms_decays", [1]), zeros("adafactor_decays", [3])];
        for (layer, (fan_in, outputs)) in self.layers().enumerate() {
            let weights = Initial::TruncatedNormal { fan_in };
            match self.weights {
                WeightLayout::Matrices => {
                    tensors.push((TensorSpec::new(format!("nn/~/w{layer}"), [fan_in, outputs]), weights));
                    tensors.push(zeros(format!("nn/~/b{layer}"), [outputs]));
                }
                WeightLayout::Scalars => {
                    let places = (0..fan_in).flat_map(|input| (0..outputs).map(move |output| (input, output)));
                    tensors.extend(places.map(|(input, output)| {
                        (TensorSpec::new(format!("nn/~/w{layer}_{input}_{output}"), []), weights)
                    }));
                    tensors.extend((0..outputs).map(|output| zeros(format!("nn/~/b{layer}_{output}"), [])));
                }
            }
        }
        tensors
    }

    /// Theta unpacked, one a lane. `theta` has been checked against the layout of [`Self::tensors`].
    pub(super) fn unpack(&self, theta: &Theta) -> Vec<LaneTheta> {
        let gather = Gather::new(theta.layout());
        let moved = |initial: [f32; 3], offsets: &[f32]| std::array::from_fn(|a| moved_decay(initial[a], offsets[a]));
        (0..theta.lanes())
            .map(|lane| {
                let tensor = |name: &str| theta.tensor(lane, gather.index(name));
                let rms = moved_decay(self.rms_decays[0], tensor("rms_decays")[0]);
                let momentum = moved(self.momentum_decays, tensor("momentum_decays"));
                let decays = Decays::new(momentum, rms, moved(self.adafactor_decays, tensor("adafactor_decays")));
                let layers = self.layers().enumerate();
                let layers = layers
                    .map(|(layer, (inputs, outputs))| match self.weights {
                        WeightLayout::Matrices => DenseLayer {
                            w: tensor(&format!("nn/~/w{layer}")).to_vec(),
                            b: tensor(&format!("nn/~/b{layer}")).to_vec(),
                        },
                        WeightLayout::Scalars => DenseLayer {
                            w: (0..inputs * outputs)
                                .map(|i| tensor(&format!("nn/~/w{layer}_{}_{}", i / outputs, i % outputs))[0])
                                .collect(),
                            b: (0..outputs).map(|output| tensor(&format!("nn/~/b{layer}_{output}"))[0]).collect(),
                        },
                    })
                    .collect();
                LaneTheta { decays, layers }
            })
            .collect()
    }
}

/// Indices of theta's tensors by name; with a scalar a weight there may be many.
struct Gather<'a>(HashMap<&'a str, usize>);

impl<'a> Gather<'a> {
    fn new(layout: &'a Arc<Layout>) -> Self {
        Self(layout.tensors().iter().enumerate().map(|(index, tensor)| (tensor.name(), index)).collect())
    }

    fn index(&self, name: &str) -> usize {
        *self.0.get(name).expect("the layout was made from these names")
    }
}

/// An affine layer's own copy of its weights `[inputs, outputs]` and bias `[outputs]`.
#[derive(Debug)]
struct DenseLayer {
    w: Vec<f32>,
    b: Vec<f32>,
}

/// One lane of theta.
#[derive(Debug)]
pub(super) struct LaneTheta {
    /// Of all accumulators, with the offsets applied.
    pub(super) decays: Decays,
    layers: Vec<DenseLayer>,
}

impl LaneTheta {
    fn layer(&self, layer: usize) -> Layer<'_> {
        Layer { w: &self.layers[layer].w, b: &self.layers[layer].b }
    }

    /// The first layer's bias at a step: the time embedding, which is the same for all parameters, added in.
    pub(super) fn bias_at(&self, step: u32) -> Vec<f32> {
        self.layer(0).bias_with(NORMALISED, &time_embedding(step))
    }

    /// The network with this bias of the first layer.
    pub(super) fn network<'a>(&'a self, bias: &'a [f32]) -> Network<'a> {
        let last = self.layers.len() - 1;
        Network {
            first: Layer { b: bias, ..self.layer(0) },
            hidden: (1..last).map(|layer| self.layer(layer)).collect(),
            last: self.layer(last),
            activation: Activation::Relu,
        }
    }
}

/// The bias of the first layer of each lane of a state, at its step.
pub(super) fn biases(thetas: &[LaneTheta], state: &OptState) -> Vec<Vec<f32>> {
    (0..state.lanes()).map(|lane| thetas[lane_of(thetas.len(), lane)].bias_at(state.step[lane])).collect()
}

/// The network of each lane, with those biases.
pub(super) fn networks<'a>(thetas: &'a [LaneTheta], biases: &'a [Vec<f32>]) -> Vec<Network<'a>> {
    biases.iter().enumerate().map(|(lane, bias)| thetas[lane_of(thetas.len(), lane)].network(bias)).collect()
}

/// The step of one lane.
pub(super) fn step<'a>(theta: &'a LaneTheta, network: &'a Network<'a>) -> Step<'a, PLAIN> {
    Step { decays: &theta.decays, rows: &ROWS, guards: GUARDS, network, corrected: None, by_matrices: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_row_is_used_once() {
        assert_eq!(ROWS.used(), (0..NORMALISED).collect::<Vec<_>>());
    }
}
