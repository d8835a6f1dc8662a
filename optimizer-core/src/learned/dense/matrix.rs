//! A matrix of weights in the order in which products read it.
//!
//! ```text
//!  [inputs, outputs]          ─►   panel 0: columns 0 … 31 of input 0, of input 1, …   panel 1: columns 32 … 63   …
//! ```
//!
//! Weights that are used for many steps are put in this order once: each product then is one stream through memory.

use super::tile::{PANEL, Product, Weights};
use crate::simd::dispatch;

/// Weights `[inputs, outputs]`, panel by panel.
#[derive(Clone, Debug)]
pub(in crate::learned) struct Matrix {
    /// `[panels, inputs, PANEL]`; zeros behind the last column.
    panels: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Matrix {
    /// Zeros.
    pub(in crate::learned) fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { panels: vec![0.0; outputs.div_ceil(PANEL) * inputs * PANEL], inputs, outputs }
    }

    /// Of row-major weights `[inputs, outputs]`.
    pub(in crate::learned) fn new(w: &[f32], outputs: usize) -> Self {
        let mut matrix = Self::zeros(w.len() / outputs, outputs);
        for (input, w) in w.chunks_exact(outputs).enumerate() {
            matrix.write(input, w);
        }
        matrix
    }

    /// Writes the weights `[outputs]` of one input.
    pub(in crate::learned) fn write(&mut self, input: usize, w: &[f32]) {
        for (panel, columns) in w.chunks(PANEL).enumerate() {
            let begin = (panel * self.inputs + input) * PANEL;
            self.panels[begin..begin + columns.len()].copy_from_slice(columns);
        }
    }

    /// The weights, input by input as in theta, in pieces.
    pub(in crate::learned) fn pieces(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.inputs).flat_map(move |input| {
            (0..self.outputs).step_by(PANEL).map(move |first| {
                let begin = first * self.inputs + input * PANEL;
                &self.panels[begin..begin + PANEL.min(self.outputs - first)]
            })
        })
    }

    /// Number of inputs.
    pub(in crate::learned) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs.
    pub(in crate::learned) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `x W`: `x` is `[rows, inputs]`; writes `y` `[rows, outputs]`. A row's result depends on that row alone, to the bit.
    pub(in crate::learned) fn product(&self, x: &[f32], y: &mut [f32]) {
        if self.outputs > 0 {
            let w = Weights::Panels(&self.panels);
            dispatch(Product { x, inputs: self.inputs, w, y, outputs: self.outputs });
        }
    }
}

/// Copies the columns of each input to the beginning of its place in a panel.
pub(super) fn fill_panel<'w>(panel: &mut [f32], columns: impl Fn(usize) -> &'w [f32]) {
    for (input, place) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        let columns = columns(input);
        place[..columns.len()].copy_from_slice(columns);
    }
}
