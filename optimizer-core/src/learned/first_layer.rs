//! The first layer of a per-parameter network with the normalisers of its channels multiplied in.
//!
//! ```text
//!  z = bias + Σ_e (w_e · normaliser_e) · channel_e  +  row table [d1 …] + column table [d0 …]
//!             element channels                         separable channels, already summed up
//! ```
//!
//! Inputs that are equal for all parameters of a tensor (time) belong into the bias: see [`Layer::bias_with`].

use super::accumulators::TIMESCALES;
use super::axes::Place;
use super::channels::{Factors, InputRows, Normalisers, rsqrt_moment};
use super::float::{BLOCK, Block, each, load};
use super::network::Layer;

/// A first layer for one tensor: normalisers multiplied in, the separable part reduced to what an element needs.
#[derive(Debug)]
pub(super) struct FirstLayer<'a, const E: usize> {
    bias: &'a [f32],
    /// `[units, E]`.
    element: Vec<f32>,
    separable: Separable<'a>,
}

/// What the separable channels add to each unit.
#[derive(Debug)]
enum Separable<'a> {
    /// There are none.
    Nothing,
    /// Rank ≥ 2: one number a row and one a column, `[units, rows]` and `[units, columns]`.
    Factored { row: Vec<f32>, col: Vec<f32> },
    /// Rank < 2: rows and columns are both the full second moment, so their weights add up: `[units, 6]`.
    Full { v: &'a [f32], w: Vec<[f32; 2 * TIMESCALES]> },
}

impl<'a, const E: usize> FirstLayer<'a, E> {
    /// A layer whose first `E` input rows belong to the element channels in order.
    pub(super) fn plain(layer: Layer<'a>, normalisers: &[f32; E]) -> Self {
        let element = weights(layer, &std::array::from_fn(|row| row), normalisers);
        Self { bias: layer.b, element, separable: Separable::Nothing }
    }

    /// A layer that also reads the separable channels.
    pub(super) fn fold(
        layer: Layer<'a>,
        rows: &InputRows<E>,
        normalisers: &Normalisers<E>,
        factors: &Factors<'a>,
    ) -> Self {
        let units = layer.outputs();
        let weight = |input: usize, unit: usize| layer.w[input * units + unit];
        let separable_weights = |first: usize, first_rsqrt: usize, normalisers: &[f32; 2 * TIMESCALES], unit: usize| {
            let mut w = *normalisers;
            for a in 0..TIMESCALES {
                w[a] *= weight(first + a, unit);
                w[TIMESCALES + a] *= weight(first_rsqrt + a, unit);
            }
            w
        };
        let row_weights = |unit| separable_weights(rows.row, rows.rsqrt_row, &normalisers.row, unit);
        let col_weights = |unit| separable_weights(rows.col, rows.rsqrt_col, &normalisers.col, unit);
        let separable = match *factors {
            Factors::Factored { row, col, .. } => Separable::Factored {
                row: separable_table(row, (0..units).map(row_weights)),
                col: separable_table(col, (0..units).map(col_weights)),
            },
            Factors::Full { v, .. } => {
                let both = |unit| {
                    let (mut w, col) = (row_weights(unit), col_weights(unit));
                    for (w, col) in w.iter_mut().zip(col) {
                        *w += col;
                    }
                    w
                };
                Separable::Full { v, w: (0..units).map(both).collect() }
            }
        };
        Self { bias: layer.b, element: weights(layer, &rows.element, &normalisers.element), separable }
    }

    /// Number of units.
    pub(super) fn units(&self) -> usize {
        self.bias.len()
    }

    /// What all units sum up, for a block of elements with channels `x`, written to `z` (one block a unit).
    #[inline(always)]
    pub(super) fn evaluate(
        &self,
        x: &[Block; E],
        start: usize,
        length: usize,
        places: Option<&(Place, Place)>,
        z: &mut [Block],
    ) {
        let moments = self.moments(start, length);
        for ((unit, z), w) in z.iter_mut().enumerate().zip(self.element.chunks_exact(E)) {
            *z = weigh(self.base(unit, &moments, places), w, x);
        }
    }

    /// Second moments of a block and their roots, for tensors below rank 2.
    #[inline(always)]
    fn moments(&self, start: usize, length: usize) -> [Block; 2 * TIMESCALES] {
        let mut x = [[0.0; BLOCK]; 2 * TIMESCALES];
        if let Separable::Full { v, .. } = self.separable {
            for a in 0..TIMESCALES {
                x[a] = load(v, a * (v.len() / TIMESCALES) + start, length);
                x[TIMESCALES + a] = each(x[a], rsqrt_moment);
            }
        }
        x
    }

    /// Bias and separable part of one unit.
    #[inline(always)]
    fn base(&self, unit: usize, moments: &[Block; 2 * TIMESCALES], places: Option<&(Place, Place)>) -> Block {
        match (&self.separable, places) {
            (Separable::Factored { row, col }, Some((row_place, col_place))) => {
                let units = self.bias.len();
                let mut sum = row_place.load(&row[unit * (row.len() / units)..]);
                let col = col_place.load(&col[unit * (col.len() / units)..]);
                for j in 0..BLOCK {
                    sum[j] += self.bias[unit] + col[j];
                }
                sum
            }
            (Separable::Full { w, .. }, _) => weigh([self.bias[unit]; BLOCK], &w[unit], moments),
            (Separable::Nothing, _) => [self.bias[unit]; BLOCK],
            (Separable::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }
}

/// Weights of the element channels times their normalisers, `[units, E]`.
fn weights<const E: usize>(layer: Layer<'_>, rows: &[usize; E], normalisers: &[f32; E]) -> Vec<f32> {
    let units = layer.outputs();
    let channels = rows.iter().zip(normalisers);
    (0..units)
        .flat_map(|unit| channels.clone().map(move |(row, normaliser)| layer.w[row * units + unit] * normaliser))
        .collect()
}

/// For each unit (weights `w`) and each entry of `v` `[3, entries]`: `Σ_a w_a v_a + w_{3+a}/√(v_a + 1e-8)`.
fn separable_table(v: &[f32], weights: impl Iterator<Item = [f32; 2 * TIMESCALES]>) -> Vec<f32> {
    let entries = v.len() / TIMESCALES;
    let roots: Vec<f32> = v.iter().copied().map(rsqrt_moment).collect();
    let mut table = Vec::new();
    for w in weights {
        let first = table.len();
        table.resize(first + entries, 0.0);
        for (source, w) in [(v, &w[..TIMESCALES]), (&roots, &w[TIMESCALES..])] {
            for (source, w) in source.chunks_exact(entries).zip(w) {
                for (sum, x) in table[first..].iter_mut().zip(source) {
                    *sum += w * x;
                }
            }
        }
    }
    table
}

/// `sum + Σ_i w_i x_i`.
#[inline(always)]
fn weigh(mut sum: Block, w: &[f32], x: &[Block]) -> Block {
    for (&w, x) in w.iter().zip(x) {
        for j in 0..BLOCK {
            sum[j] += w * x[j];
        }
    }
    sum
}
