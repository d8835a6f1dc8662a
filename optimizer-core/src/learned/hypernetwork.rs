//! From the features of all tensors to each tensor's control of the bank and its rate.
//!
//! ```text
//!  X [tensors, F] ─► relu(X W1 + b1) ─ max over tensors ─┐
//!        └─────────► X W2 + b2 ──────────────────────────┴─(+)─► LSTM (own state a tensor) ─┬─► control [tensors, K]
//!                                                                                           └─► rate [tensors]
//! ```

use crate::learned::dense::affine;
use crate::learned::float::{at_least, maximum};
use crate::learned::lstm::{self, LstmState};
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
    /// Next state, `[tensors, H]` each.
    pub(super) state: LstmState,
    /// Weights of the bank, `[tensors, K]`.
    pub(super) control: Vec<f32>,
    /// Factor of the step, may be negative.
    pub(super) rate: Vec<f32>,
}

impl Hypernetwork<'_> {
    /// One step for all tensors of a lane: `features` `[tensors, F]`, `hidden` and `cell` `[tensors, H]`.
    pub(super) fn advise(&self, features: &[f32], hidden: &[f32], cell: &[f32]) -> Advice {
        let mixed = self.mixing.as_ref().map(|layers| mix(features, layers));
        let inputs = mixed.as_deref().unwrap_or(features);
        let state = lstm::step(inputs, hidden, cell, self.lstm.w, self.lstm.b);
        let control = affine(&state.hidden, self.controls.w, self.controls.b);
        let rate = affine(&state.hidden, self.step_size.w, self.step_size.b);
        Advice { state, control, rate }
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
