//! The bank of K per-parameter networks and their combination.
//!
//! In theta each array of the network exists K times, `[K, …]`. Here the K networks lie one after the other, so that the
//! network of a tensor is one product `control [K] · bank [K, weights]`, times a factor over K.

use super::dense::Matrix;
use super::initial::{Initial, ThetaTensors};
use super::inputs::InputGroups;
use super::network::{Activation, Layer, Network};
use super::theta_tensor;
use crate::Theta;
use crate::params::TensorSpec;

/// Direction, magnitude and an output that nothing reads.
const OUTPUTS: usize = 3;

/// The layers of a per-parameter network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NetworkShape {
    /// What enters the first layer.
    pub(super) inputs: InputGroups,
    /// Units of a hidden layer.
    pub(super) units: usize,
    /// Hidden layers.
    pub(super) hidden_layers: usize,
    /// What follows each of them.
    pub(super) activation: Activation,
}

impl NetworkShape {
    /// The network's tensors in theta, each with a leading axis of `banks` if there is a bank. A unit's fan-in is the
    /// number of all channels, whatever group they belong to.
    pub(super) fn tensors(&self, banks: Option<usize>) -> ThetaTensors {
        let shaped = |name: String, shape: &[usize]| {
            let shape: Vec<usize> = banks.iter().chain(shape).copied().collect();
            TensorSpec::new(format!("ff_mod_stack/~/{name}"), shape)
        };
        let mut tensors = Vec::new();
        let fan_in = self.inputs.channels();
        for (group, width) in self.inputs.widths().enumerate() {
            let weights = shaped(format!("w0__{group}"), &[width, self.units]);
            tensors.push((weights, Initial::TruncatedNormal { fan_in }));
        }
        tensors.push((shaped("b0".into(), &[self.units]), Initial::Constant(0.0)));
        for layer in 1..=self.hidden_layers {
            let outputs = if layer == self.hidden_layers { OUTPUTS } else { self.units };
            let weights = shaped(format!("w{layer}"), &[self.units, outputs]);
            tensors.push((weights, Initial::TruncatedNormal { fan_in: self.units }));
            tensors.push((shaped(format!("b{layer}"), &[outputs]), Initial::Constant(0.0)));
        }
        tensors
    }

    /// The arrays of the network in one lane of theta, layer by layer, weights before bias.
    fn arrays<'t>(&self, theta: &'t Theta, lane: usize) -> Vec<&'t [f32]> {
        let first = (0..self.inputs.widths().count()).map(|group| format!("w0__{group}")).chain(["b0".to_owned()]);
        let rest = (1..=self.hidden_layers).flat_map(|layer| [format!("w{layer}"), format!("b{layer}")]);
        first.chain(rest).map(|name| theta_tensor(theta, lane, &format!("ff_mod_stack/~/{name}"))).collect()
    }

    /// The network whose weights lie one after the other, as in a row of [`combine`].
    pub(super) fn network<'a>(&self, mut weights: &'a [f32]) -> Network<'a> {
        let mut layer = |inputs: usize, outputs: usize| {
            let (w, rest) = weights.split_at(inputs * outputs);
            let (b, rest) = rest.split_at(outputs);
            weights = rest;
            Layer { w, b }
        };
        let first = layer(self.inputs.channels(), self.units);
        let hidden = (1..self.hidden_layers).map(|_| layer(self.units, self.units)).collect();
        Network { first, hidden, last: layer(self.units, OUTPUTS), activation: self.activation }
    }
}

/// The networks of one theta lane.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    /// `[K, weights]`.
    values: Vec<f32>,
    banks: usize,
}

impl Bank {
    /// Gathers the networks of one lane of theta.
    pub(super) fn gather(shape: &NetworkShape, banks: usize, theta: &Theta, lane: usize) -> Self {
        let arrays = shape.arrays(theta, lane);
        let values = (0..banks)
            .flat_map(|bank| {
                arrays.iter().flat_map(move |array| {
                    let size = array.len() / banks;
                    &array[bank * size..(bank + 1) * size]
                })
            })
            .copied()
            .collect();
        Self { values, banks }
    }

    /// The weights of all networks, `[K, weights]`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// As a matrix `[K, weights]` that many controls are multiplied with.
    pub(super) fn matrix(&self) -> Matrix {
        Matrix::new(&self.values, self.values.len() / self.banks)
    }
}

/// The weights of the networks of all lanes, `[lanes, tensors, weights]`, for controls `[lanes, tensors, K]`: the mean over
/// the lane's bank, times `factor`. There is one bank `[K, weights]` for all lanes, or one each.
pub(super) fn combine(banks: &[Matrix], control: &[f32], factor: f32) -> Vec<f32> {
    let (networks, outputs) = (banks[0].inputs(), banks[0].outputs());
    let factor = factor / networks as f32;
    let mut weights = vec![0.0; control.len() / networks * outputs];
    let rows = control.len() / networks / banks.len();
    let of_banks =
        weights.chunks_exact_mut((rows * outputs).max(1)).zip(control.chunks_exact((rows * networks).max(1)));
    for (bank, (weights, control)) in banks.iter().zip(of_banks) {
        bank.product(control, weights);
        weights.iter_mut().for_each(|weight| *weight *= factor);
    }
    weights
}
