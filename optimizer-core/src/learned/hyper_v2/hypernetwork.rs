//! From the features of all tensors to each tensor's control of the bank and its rate.
//!
//! ```text
//!  X [tensors, F] ─► relu(X W1 + b1) ─ max over tensors ─┐
//!        └─────────► X W2 + b2 ──────────────────────────┴─(+)─► LSTM (own state a tensor) ─┬─► control [tensors, K]
//!                                                                                           └─► rate [tensors]
//! ```

use super::dense::affine;
use crate::learned::float::{at_least, maximum, sigmoid, tanh};
use crate::learned::network::Layer;

/// Weights of one lane.
#[derive(Debug)]
pub(super) struct Hypernetwork<'a> {
    /// The relu layer that is pooled over tensors and the layer it is added to, if layers are mixed.
    pub(super) mixing: Option<[Layer<'a>; 2]>,
    /// Gates i, g, f, o from `[x, h]`.
    pub(super) lstm: Layer<'a>,
    /// Head for the bank.
    pub(super) controls: Layer<'a>,
    /// Head for the rate.
    pub(super) step_size: Layer<'a>,
}

/// What the LSTM says.
#[derive(Debug)]
pub(super) struct Advice {
    /// Next hidden state, `[tensors, H]`.
    pub(super) hidden: Vec<f32>,
    /// Next cell state, `[tensors, H]`.
    pub(super) cell: Vec<f32>,
    /// Weights of the bank, `[tensors, K]`.
    pub(super) control: Vec<f32>,
    /// Factor of the step, may be negative.
    pub(super) rate: Vec<f32>,
}

impl Hypernetwork<'_> {
    /// One step for all tensors of a lane: `features` `[tensors, F]`, `hidden` and `cell` `[tensors, H]`.
    pub(super) fn advise(&self, tensors: usize, features: &[f32], hidden: &[f32], cell: &[f32]) -> Advice {
        let mixed = self.mixing.as_ref().map(|layers| mix(features, layers));
        let inputs = mixed.as_deref().unwrap_or(features);
        let (hidden, cell) = advance(tensors, inputs, hidden, cell, self.lstm);
        let control = affine(&hidden, self.controls.w, self.controls.b);
        let rate = affine(&hidden, self.step_size.w, self.step_size.b);
        Advice { hidden, cell, control, rate }
    }
}

/// `X W2 + b2 + max over tensors of relu(X W1 + b1)`.
fn mix(features: &[f32], [pooled, own]: &[Layer<'_>; 2]) -> Vec<f32> {
    let width = own.b.len();
    let mut most = vec![0.0; width];
    for row in affine(features, pooled.w, pooled.b).chunks_exact(width) {
        for (most, &value) in most.iter_mut().zip(row) {
            *most = maximum(*most, at_least(value, 0.0));
        }
    }
    let mut mixed = affine(features, own.w, own.b);
    for row in mixed.chunks_exact_mut(width) {
        for (value, most) in row.iter_mut().zip(&most) {
            *value += most;
        }
    }
    mixed
}

/// One step of the LSTM with a forget bias of 1: the next hidden and cell state.
fn advance(tensors: usize, inputs: &[f32], hidden: &[f32], cell: &[f32], lstm: Layer<'_>) -> (Vec<f32>, Vec<f32>) {
    let size = lstm.b.len() / 4;
    let joined: Vec<f32> = inputs
        .chunks_exact(inputs.len() / tensors)
        .zip(hidden.chunks_exact(size))
        .flat_map(|(x, h)| x.iter().chain(h))
        .copied()
        .collect();
    let mut next_cell = cell.to_vec();
    let mut next_hidden = hidden.to_vec();
    let gates = affine(&joined, lstm.w, lstm.b);
    let rows = next_hidden.chunks_exact_mut(size).zip(next_cell.chunks_exact_mut(size));
    for (gates, (hidden, cell)) in gates.chunks_exact(4 * size).zip(rows) {
        let [input, new, forget, output] = std::array::from_fn(|gate| &gates[gate * size..(gate + 1) * size]);
        for j in 0..size {
            cell[j] = sigmoid(forget[j] + 1.0) * cell[j] + sigmoid(input[j]) * tanh(new[j]);
            hidden[j] = sigmoid(output[j]) * tanh(cell[j]);
        }
    }
    (next_hidden, next_cell)
}
