//! The first layer of a per-parameter network with the normalisers of its channels multiplied in.
//!
//! ```text
//!  z = bias + Σ_e (w_e · normaliser_e) · channel_e
//! ```
//!
//! Inputs that are equal for all parameters of a tensor (time) belong into the bias: see [`Layer::bias_with`].

use super::network::Layer;

/// A first layer for one tensor, normalisers multiplied in.
#[derive(Debug)]
pub(super) struct FirstLayer<'a, const E: usize> {
    layer: Layer<'a>,
    /// `[E, units]`.
    element: Vec<f32>,
}

impl<'a, const E: usize> FirstLayer<'a, E> {
    /// A layer whose first `E` input rows belong to the channels in order.
    pub(super) fn new(layer: Layer<'a>, normalisers: &[f32; E]) -> Self {
        let rows = layer.w.chunks_exact(layer.outputs()).zip(normalisers);
        Self { layer, element: rows.flat_map(|(w, normaliser)| w.iter().map(move |w| w * normaliser)).collect() }
    }

    /// The bias of each unit.
    pub(super) fn bias(&self) -> &'a [f32] {
        self.layer.b
    }

    /// The weights of the channels, `[E, units]`.
    pub(super) fn weights(&self) -> &[f32] {
        &self.element
    }
}
