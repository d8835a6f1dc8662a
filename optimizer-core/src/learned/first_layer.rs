//! The first layer of a per-parameter network with the normalisers of its channels multiplied in.
//!
//! ```text
//!  z = bias + Σ_e (w_e · normaliser_e) · channel_e  +  row table [d1 …] + column table [d0 …]
//!             element channels                         separable channels, already summed up
//! ```
//!
//! Inputs that are equal for all parameters of a tensor (time) belong into the bias: see [`Layer::bias_with`].

use std::ops::Range;

use super::accumulators::TIMESCALES;
use super::axes::{Place, Slice};
use super::channels::{Factors, InputRows, Normalisers, rsqrt_moment};
use super::network::Layer;
use crate::simd::{self, Simd};

/// A first layer for one tensor, or for one slice of it after another: normalisers multiplied in, the separable part
/// reduced to what an element needs.
#[derive(Debug)]
pub(super) struct FirstLayer<'a, const E: usize> {
    layer: Layer<'a>,
    /// `[units, E]`.
    element: Vec<f32>,
    separable: Separable<'a>,
}

/// What the separable channels add to each unit.
#[derive(Debug)]
enum Separable<'a> {
    /// There are none.
    Nothing,
    /// Rank ≥ 2: one number a row and one a column. Only those of the slice are set.
    Factored { row: Table<'a>, col: Table<'a> },
    /// Rank < 2: rows and columns are both the full second moment, so their weights add up: `[units, 6]`.
    Full { v: &'a [f32], w: Vec<[f32; 2 * TIMESCALES]> },
}

impl<'a, const E: usize> FirstLayer<'a, E> {
    /// A layer whose first `E` input rows belong to the element channels in order.
    pub(super) fn plain(layer: Layer<'a>, normalisers: &[f32; E]) -> Self {
        let mut first = Self { layer, element: vec![0.0; layer.outputs() * E], separable: Separable::Nothing };
        first.weigh_elements(&std::array::from_fn(Some), normalisers);
        first
    }

    /// A layer that also reads the separable channels, to be folded before use.
    pub(super) fn unfolded(layer: Layer<'a>, factors: &Factors<'a>) -> Self {
        let units = layer.outputs();
        let separable = match *factors {
            Factors::Factored { row, col, .. } => {
                Separable::Factored { row: Table::new(row, units), col: Table::new(col, units) }
            }
            Factors::Full { v } => Separable::Full { v, w: vec![[0.0; 2 * TIMESCALES]; units] },
        };
        Self { layer, element: vec![0.0; units * E], separable }
    }

    /// Multiplies the normalisers of a slice in.
    pub(super) fn refold(&mut self, rows: &InputRows<E>, normalisers: &Normalisers<E>, slice: &Slice) {
        self.weigh_elements(&rows.element, &normalisers.element);
        let layer = self.layer;
        let weights = |first: Option<usize>, first_rsqrt: Option<usize>, mut w: [f32; 2 * TIMESCALES], unit: usize| {
            for a in 0..TIMESCALES {
                w[a] *= weight(layer, first.map(|first| first + a), unit);
                w[TIMESCALES + a] *= weight(layer, first_rsqrt.map(|first| first + a), unit);
            }
            w
        };
        let row_weights = |unit| weights(rows.row, rows.rsqrt_row, normalisers.row, unit);
        let col_weights = |unit| weights(rows.col, rows.rsqrt_col, normalisers.col, unit);
        match &mut self.separable {
            Separable::Nothing => {}
            Separable::Factored { row, col } => {
                row.fill(row_weights, &slice.rows);
                col.fill(col_weights, &slice.cols);
            }
            Separable::Full { w, .. } => {
                for (unit, w) in w.iter_mut().enumerate() {
                    *w = row_weights(unit);
                    for (w, col) in w.iter_mut().zip(col_weights(unit)) {
                        *w += col;
                    }
                }
            }
        }
    }

    /// Weights of the element channels times their normalisers.
    fn weigh_elements(&mut self, rows: &[Option<usize>; E], normalisers: &[f32; E]) {
        for (unit, element) in self.element.chunks_exact_mut(E).enumerate() {
            for ((element, row), normaliser) in element.iter_mut().zip(rows).zip(normalisers) {
                *element = weight(self.layer, *row, unit) * normaliser;
            }
        }
    }

    /// Number of units.
    pub(super) fn units(&self) -> usize {
        self.layer.outputs()
    }

    /// What all units sum up, for a block of elements with channels `x`, written to `z` (one vector a unit).
    #[inline(always)]
    pub(super) fn evaluate<S: Simd>(
        &self,
        s: S,
        x: &[S::Vector; E],
        start: usize,
        length: usize,
        places: Option<&(Place, Place)>,
        z: &mut [S::Vector],
    ) {
        let moments = self.moments(s, start, length);
        for ((unit, z), w) in z.iter_mut().enumerate().zip(self.element.as_chunks::<E>().0) {
            *z = weigh(s, self.base(s, unit, &moments, places), w, x);
        }
    }

    /// Second moments of a block and their roots, for tensors below rank 2.
    #[inline(always)]
    fn moments<S: Simd>(&self, s: S, start: usize, length: usize) -> [S::Vector; 2 * TIMESCALES] {
        let mut x = [s.zero(); 2 * TIMESCALES];
        if let Separable::Full { v, .. } = &self.separable {
            for a in 0..TIMESCALES {
                x[a] = s.load_part(&v[a * (v.len() / TIMESCALES) + start..][..length]);
                x[TIMESCALES + a] = simd::rsqrt(s, s.add(x[a], s.splat(1e-8)));
            }
        }
        x
    }

    /// Bias and separable part of one unit.
    #[inline(always)]
    fn base<S: Simd>(
        &self,
        s: S,
        unit: usize,
        moments: &[S::Vector; 2 * TIMESCALES],
        places: Option<&(Place, Place)>,
    ) -> S::Vector {
        let bias = s.splat(self.layer.b[unit]);
        match (&self.separable, places) {
            (Separable::Factored { row, col }, Some((row_place, col_place))) => {
                let col = col_place.load(s, col.unit(unit));
                s.add(row_place.load(s, row.unit(unit)), s.add(bias, col))
            }
            (Separable::Full { w, .. }, _) => weigh(s, bias, &w[unit], moments),
            (Separable::Nothing, _) => bias,
            (Separable::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }
}

/// The weight of an input row, 0 for a channel that is no input.
fn weight(layer: Layer<'_>, row: Option<usize>, unit: usize) -> f32 {
    row.map_or(0.0, |row| layer.w[row * layer.outputs() + unit])
}

/// `Σ_a w_a v_a + w_{3+a}/√(v_a + 1e-8)` for each unit (weights `w`) and each entry of `v` `[3, entries]`.
#[derive(Debug)]
struct Table<'a> {
    v: &'a [f32],
    roots: Vec<f32>,
    /// `[units, entries]`.
    values: Vec<f32>,
}

impl<'a> Table<'a> {
    fn new(v: &'a [f32], units: usize) -> Self {
        let roots = v.iter().copied().map(rsqrt_moment).collect();
        Self { v, roots, values: vec![0.0; units * (v.len() / TIMESCALES)] }
    }

    fn entries(&self) -> usize {
        self.v.len() / TIMESCALES
    }

    /// One unit's entries.
    #[inline(always)]
    fn unit(&self, unit: usize) -> &[f32] {
        &self.values[unit * self.entries()..]
    }

    /// Sets a range of entries, from the weights of each unit.
    fn fill(&mut self, weights: impl Fn(usize) -> [f32; 2 * TIMESCALES], range: &Range<usize>) {
        let entries = self.entries();
        for (unit, values) in self.values.chunks_exact_mut(entries).enumerate() {
            let values = &mut values[range.clone()];
            values.fill(0.0);
            let w = weights(unit);
            for (source, w) in [(self.v, &w[..TIMESCALES]), (&self.roots, &w[TIMESCALES..])] {
                for (source, w) in source.chunks_exact(entries).zip(w) {
                    for (sum, x) in values.iter_mut().zip(&source[range.clone()]) {
                        *sum += w * x;
                    }
                }
            }
        }
    }
}

/// `sum + Σ_i w_i x_i`.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(s: S, mut sum: S::Vector, w: &[f32; N], x: &[S::Vector; N]) -> S::Vector {
    for (&w, &x) in w.iter().zip(x) {
        sum = s.fma(s.splat(w), x, sum);
    }
    sum
}
