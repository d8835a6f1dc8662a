//! A matrix of weights in the order in which products read it.
//!
//! ```text
//!  [inputs, outputs]          ─►   panel 0: columns 0 … 31 of input 0, of input 1, …   panel 1: columns 32 … 63   …
//! ```
//!
//! Weights that are used for many steps are put in this order once: each product then is one stream through memory.

use std::ops::Range;

use super::tile::{PANEL, Product, Weights};
use crate::simd::dispatch;

/// Inputs whose weights are put in order at a time: what they take fits in a cache.
const ROWS: usize = 32;

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
        for (block, w) in w.chunks(ROWS * outputs).enumerate() {
            matrix.write(block * ROWS, w, |place, columns| place.copy_from_slice(&w[columns]));
        }
        matrix
    }

    /// Of `w + scale · e` for each scale, row-major `[inputs, outputs]`: `draw` writes the values of e from a place on.
    pub(in crate::learned) fn sums<const N: usize>(
        w: &[f32],
        outputs: usize,
        scales: [f32; N],
        draw: impl Fn(usize, &mut [f32]),
    ) -> [Self; N] {
        let mut matrices = [(); N].map(|()| Self::zeros(w.len() / outputs, outputs));
        let mut drawn = vec![0.0; (ROWS * outputs).min(w.len())];
        for (block, w) in w.chunks(ROWS * outputs).enumerate() {
            let e = &mut drawn[..w.len()];
            draw(block * ROWS * outputs, e);
            for (matrix, scale) in matrices.iter_mut().zip(scales) {
                matrix.write(block * ROWS, w, |place, columns| {
                    let sums = w[columns.clone()].iter().zip(&e[columns]);
                    place.iter_mut().zip(sums).for_each(|(place, (w, e))| *place = w + scale * e);
                });
            }
        }
        matrices
    }

    /// Has the columns of some inputs from `first` on written, panel by panel: `fill` is told where they stand in `rows`,
    /// row-major. (Input by input, one would write to all panels in turn, whose distance may be that of a cache's sets.)
    fn write(&mut self, first: usize, rows: &[f32], fill: impl Fn(&mut [f32], Range<usize>)) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        for (panel, column) in (0..outputs).step_by(PANEL).enumerate() {
            let places = self.panels[(panel * inputs + first) * PANEL..].chunks_exact_mut(PANEL);
            for (begin, place) in (column..rows.len()).step_by(outputs).zip(places) {
                let columns = PANEL.min(outputs - column);
                fill(&mut place[..columns], begin..begin + columns);
            }
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
