//! From the features of all tensors to each tensor's control of the bank and its rate.
//!
//! ```text
//!  X [tensors, F] ─► relu(X W1 + b1) ─ max over tensors ─┐
//!        └─────────► X W2 + b2 ──────────────────────────┴─(+)─► LSTM (own state a tensor) ─┬─► control [tensors, K]
//!                                                                                           └─► rate [tensors]
//! ```

use super::float::{at_least, maximum};
use super::lane_theta::LaneLayer;
use super::lstm::{self, LstmState};

/// Weights of some lanes.
#[derive(Debug)]
pub(super) struct Hypernetwork<'a> {
    /// The relu layer that is pooled over tensors and the layer it is added to, if layers are mixed.
    pub(super) mixing: Option<[LaneLayer<'a>; 2]>,
    /// Gates i, g, f, o from `[x, h]`.
    pub(super) lstm: LaneLayer<'a>,
    /// Head for the bank.
    pub(super) controls: LaneLayer<'a>,
    /// Head for the rate.
    pub(super) step_size: LaneLayer<'a>,
}

/// What the LSTM says.
#[derive(Debug)]
pub(super) struct Advice {
    /// Next state, `[lanes, tensors, H]` each.
    pub(super) state: LstmState,
    /// Weights of the bank, `[lanes, tensors, K]`.
    pub(super) control: Vec<f32>,
    /// Factor of the step, may be negative, `[lanes, tensors]`.
    pub(super) rate: Vec<f32>,
}

impl Hypernetwork<'_> {
    /// One step for all tensors of all lanes: `features` `[lanes, tensors, F]`, `hidden` and `cell` `[lanes, tensors, H]`.
    /// Lanes go together where they share weights; each gets what it would get alone.
    pub(super) fn advise(&self, lanes: usize, features: &[f32], hidden: &[f32], cell: &[f32]) -> Advice {
        let mixed = self.mixing.as_ref().map(|layers| mix(lanes, features, layers));
        let inputs = mixed.as_deref().unwrap_or(features);
        let size = self.lstm.outputs() / 4;
        let state = lstm::step_by(inputs, hidden, cell, size, |joined| self.lstm.apply(lanes, joined));
        let control = self.controls.apply(lanes, &state.hidden);
        let rate = self.step_size.apply(lanes, &state.hidden);
        Advice { state, control, rate }
    }
}

/// `X W2 + b2 + max over a lane's tensors of relu(X W1 + b1)`.
fn mix(lanes: usize, features: &[f32], [pooled, own]: &[LaneLayer<'_>; 2]) -> Vec<f32> {
    let width = own.outputs();
    let candidates = pooled.apply(lanes, features);
    let mut mixed = own.apply(lanes, features);
    let length = (mixed.len() / lanes).max(1);
    for (candidates, mixed) in candidates.chunks_exact(length).zip(mixed.chunks_exact_mut(length)) {
        let mut most = vec![0.0; width];
        for row in candidates.chunks_exact(width) {
            for (most, &value) in most.iter_mut().zip(row) {
                *most = maximum(*most, at_least(value, 0.0));
            }
        }
        for row in mixed.chunks_exact_mut(width) {
            for (value, most) in row.iter_mut().zip(&most) {
                *value += most;
            }
        }
    }
    mixed
}
