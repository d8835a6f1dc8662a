//! The input channels of a per-parameter network, block by block, never as whole-tensor arrays.
//!
//! Most channels belong to an element (gradient, momenta, …). The row and column values of the factored second moments
//! are *separable*: they are the same for all elements of a row or of a column, so they are kept as short tables and
//! enter the network as a sum of two looked-up numbers.
//!
//! ```text
//!  element channels    g │ p │ m ×3 │ rms │ m·q ×3 │ q │ fac_g ×3 │ fac_m ×3 │ [clip(g) │ g·q]        q = 1/√(rms + ε)
//!  separable channels  row ×3 │ 1/√(row + 1e-8) ×3 │ col ×3 │ 1/√(col + 1e-8) ×3
//! ```
//!
//! `fac_g` and `fac_m` are the gradient and the momenta divided by the root of the factored second moment.

use std::ops::Range;

use super::accumulators::{Accumulators, Corrected, SecondMoment, TIMESCALES};
use super::axes::{Factored, Place, Places, Slice};
use super::first_layer::FirstLayer;
use super::float::{mean, rsqrt, safe_rsqrt};
use super::network::{Inputs, Layer, Walk, mean_squares};
use crate::simd::{self, Simd};

/// Number of element channels without the two in brackets.
pub(super) const PLAIN: usize = 16;

/// Number of element channels with `clip(g, ±0.1)` and `g·q`.
pub(super) const CLIPPED: usize = 18;

/// Index of `q` among the element channels.
pub(super) const Q: usize = 9;

/// Index of the parameter among the element channels.
pub(super) const P: usize = 1;

/// Which input row of the network's first layer belongs to which channel; `None` for a channel that is no input.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputRows<const E: usize> {
    /// One an element channel, in the order of the module's picture.
    pub(super) element: [Option<usize>; E],
    /// First of the three rows of `row`.
    pub(super) row: Option<usize>,
    /// First of the three rows of `col`.
    pub(super) col: Option<usize>,
    /// First of the three rows of `1/√(row + 1e-8)`.
    pub(super) rsqrt_row: Option<usize>,
    /// First of the three rows of `1/√(col + 1e-8)`.
    pub(super) rsqrt_col: Option<usize>,
}

#[cfg(test)]
impl<const E: usize> InputRows<E> {
    /// All rows that some channel stands in, in order.
    pub(super) fn used(&self) -> Vec<usize> {
        let separable = [self.row, self.col, self.rsqrt_row, self.rsqrt_col];
        let separable = separable.into_iter().flatten().flat_map(|first| first..first + TIMESCALES);
        let mut used: Vec<usize> = self.element.into_iter().flatten().chain(separable).collect();
        used.sort_unstable();
        used
    }
}

/// What is added inside roots so that nothing is divided by zero; the optimizers differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Guards {
    /// In `q`.
    pub(super) q: f32,
    /// In `fac_m` below rank 2.
    pub(super) fac_m: f32,
    /// In the normalisers of channels; without it channels are not normalised.
    pub(super) normaliser: Option<f32>,
}

impl Guards {
    /// Those of HyperV2 and Celo.
    pub(super) const HYPER_V2: Self = Self { q: 1e-6, fac_m: 0.0, normaliser: Some(1e-5) };
}

/// One tensor in one lane: what its channels are computed from.
#[derive(Debug)]
pub(super) struct Channels<'a> {
    g: &'a [f32],
    m: &'a [f32],
    rms: &'a [f32],
    factors: Factors<'a>,
    guards: Guards,
}

/// What divides `fac_g` and `fac_m`.
#[derive(Debug)]
pub(super) enum Factors<'a> {
    /// Rank ≥ 2: tables `[3, rows]` and `[3, columns]` whose product is the factor of an element.
    Factored {
        /// The axes.
        axes: &'a Factored,
        /// `v_row`, `[3, rows]`.
        row: &'a [f32],
        /// `v_col`, `[3, columns]`.
        col: &'a [f32],
        /// `1/√(v_row / mean_d1 v_row)`, guarded.
        row_factor: Vec<f32>,
        /// `1/√v_col`, guarded.
        col_factor: Vec<f32>,
        /// The two factors of `fac_m`, if they are not those of `fac_g`.
        for_momentum: Option<[Vec<f32>; 2]>,
    },
    /// Rank < 2: from the full second moment.
    Full {
        /// `v_diag`, `[3, size]`.
        v: &'a [f32],
    },
}

/// Normalisers `1/√(ε + mean x²)` of all channels of a slice.
#[derive(Clone, Debug)]
pub(super) struct Normalisers<const E: usize> {
    /// One an element channel.
    pub(super) element: [f32; E],
    /// `row` and `1/√(row + 1e-8)`: three each.
    pub(super) row: [f32; 2 * TIMESCALES],
    /// `col` and `1/√(col + 1e-8)`: three each.
    pub(super) col: [f32; 2 * TIMESCALES],
}

/// `1/√(v + 1e-8)`: the separable channel of a second moment.
#[inline(always)]
pub(super) fn rsqrt_moment(v: f32) -> f32 {
    rsqrt(v + 1e-8)
}

impl<'a> Channels<'a> {
    /// From a gradient and accumulators that it has already entered.
    pub(super) fn new(g: &'a [f32], accumulators: &'a Accumulators<'_>, guards: Guards) -> Self {
        let factors = match &accumulators.second {
            SecondMoment::Full { v } => Factors::Full { v },
            SecondMoment::Factored { axes, row, col } => {
                let [row_factor, col_factor] = factors(axes, row, col);
                Factors::Factored { axes, row, col, row_factor, col_factor, for_momentum: None }
            }
        };
        Self { g, m: accumulators.m, rms: accumulators.rms, factors, guards }
    }

    /// The same channels from accumulators whose bias is corrected. The gradient is still divided by the uncorrected
    /// ones, and so is everything below rank 2.
    pub(super) fn with_corrected(self, corrected: &'a Corrected) -> Self {
        let factors = match self.factors {
            Factors::Factored { axes, row_factor, col_factor, .. } => {
                let (row, col) = (&corrected.row, &corrected.col);
                let for_momentum = Some(factors(axes, row, col));
                Factors::Factored { axes, row, col, row_factor, col_factor, for_momentum }
            }
            full @ Factors::Full { .. } => full,
        };
        Self { m: &corrected.m, rms: &corrected.rms, factors, ..self }
    }

    /// What divides the factored channels.
    pub(super) fn factors(&self) -> &Factors<'a> {
        &self.factors
    }

    /// The matrices of the tensor's last two axes; below rank 2, the whole tensor.
    pub(super) fn matrices(&self) -> Vec<Slice> {
        match &self.factors {
            Factors::Factored { axes, .. } => axes.matrices().collect(),
            Factors::Full { .. } => vec![self.whole()],
        }
    }

    /// The whole tensor as one slice.
    pub(super) fn whole(&self) -> Slice {
        match &self.factors {
            Factors::Factored { axes, .. } => axes.whole(),
            Factors::Full { .. } => Slice { elements: 0..self.g.len(), rows: 0..0, cols: 0..0 },
        }
    }

    /// Factors of the gradient and of the momentum of one timescale.
    #[inline(always)]
    fn factor<S: Simd>(
        &self,
        s: S,
        a: usize,
        start: usize,
        length: usize,
        places: Option<&(Place, Place)>,
    ) -> (S::Vector, S::Vector) {
        match (&self.factors, places) {
            (Factors::Factored { axes, row_factor, col_factor, for_momentum, .. }, Some((row, col))) => {
                let (first_row, first_col) = (a * axes.rows(), a * axes.cols());
                let for_gradient = s.mul(row.load(s, &row_factor[first_row..]), col.load(s, &col_factor[first_col..]));
                let for_momentum = match for_momentum {
                    Some([row_factor, col_factor]) => {
                        s.mul(row.load(s, &row_factor[first_row..]), col.load(s, &col_factor[first_col..]))
                    }
                    None => for_gradient,
                };
                (for_gradient, for_momentum)
            }
            (Factors::Full { v }, _) => {
                let v = part(s, v, a * self.g.len() + start, length);
                let guarded = s.at_least(s.add(v, s.splat(1e-9)), s.splat(1e-9));
                (simd::rsqrt(s, guarded), simd::rsqrt(s, s.add(v, s.splat(self.guards.fac_m))))
            }
            (Factors::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }

    /// A first layer normalised over the whole tensor, whose parameters are `p`.
    pub(super) fn first_layer<const E: usize>(
        &self,
        p: &[f32],
        layer: Layer<'a>,
        rows: &InputRows<E>,
    ) -> FirstLayer<'a, E> {
        let (mut first, whole) = (FirstLayer::unfolded(layer, &self.factors), self.whole());
        first.refold(rows, &self.normalisers(p, &whole, &mut Walk::new::<E>(self)), &whole);
        first
    }

    /// Normalisers of all channels over a slice, the next of a walk; `p` are all parameters of the tensor.
    pub(super) fn normalisers<const E: usize>(
        &self,
        p: &[f32],
        slice: &Slice,
        walk: &mut Walk<'_, Self>,
    ) -> Normalisers<E> {
        let Some(guard) = self.guards.normaliser else {
            return Normalisers { element: [1.0; E], row: [1.0; 2 * TIMESCALES], col: [1.0; 2 * TIMESCALES] };
        };
        let normaliser = |mean_square: f32| rsqrt(guard + mean_square);
        let element = mean_squares(p, walk, slice.elements.len()).map(normaliser);
        // A row value stands behind equally many elements as every other, so its mean over rows is that over elements.
        let separable = |v: &[f32], range: &Range<usize>| {
            let mut normalisers = [0.0; 2 * TIMESCALES];
            for (a, v) in v.chunks_exact(v.len() / TIMESCALES).enumerate() {
                let v = &v[range.clone()];
                normalisers[a] = normaliser(mean(v, |v| v * v));
                normalisers[TIMESCALES + a] = normaliser(mean(v, |v| rsqrt_moment(v) * rsqrt_moment(v)));
            }
            normalisers
        };
        let (row, col) = match &self.factors {
            Factors::Factored { row, col, .. } => (separable(row, &slice.rows), separable(col, &slice.cols)),
            Factors::Full { v } => (separable(v, &slice.elements), separable(v, &slice.elements)),
        };
        Normalisers { element, row, col }
    }
}

impl<const E: usize> Inputs<E> for Channels<'_> {
    fn len(&self) -> usize {
        self.g.len()
    }

    fn places(&self) -> Option<Places<'_>> {
        match &self.factors {
            Factors::Factored { axes, .. } => Some(axes.places()),
            Factors::Full { .. } => None,
        }
    }

    #[inline(always)]
    fn element<S: Simd>(
        &self,
        s: S,
        p: S::Vector,
        start: usize,
        length: usize,
        places: Option<&(Place, Place)>,
    ) -> [S::Vector; E] {
        let size = self.g.len();
        let mut x = [s.zero(); E];
        let (g, rms) = (part(s, self.g, start, length), part(s, self.rms, start, length));
        let q = simd::rsqrt(s, s.add(rms, s.splat(self.guards.q)));
        (x[0], x[P], x[5], x[Q]) = (g, p, rms, q);
        for a in 0..TIMESCALES {
            let m = part(s, self.m, a * size + start, length);
            let (for_gradient, for_momentum) = self.factor(s, a, start, length, places);
            (x[2 + a], x[6 + a]) = (m, s.mul(m, q));
            (x[10 + a], x[13 + a]) = (s.mul(g, for_gradient), s.mul(m, for_momentum));
        }
        if E == CLIPPED {
            x[E - 2] = s.at_most(s.at_least(g, s.splat(-0.1)), s.splat(0.1));
            x[E - 1] = s.mul(g, q);
        }
        x
    }
}

/// Values `start..start + length`, zeros behind them.
#[inline(always)]
pub(super) fn part<S: Simd>(s: S, values: &[f32], start: usize, length: usize) -> S::Vector {
    s.load_part(&values[start..start + length])
}

/// The two tables whose product divides `fac_g` and `fac_m`: `[3, rows]` and `[3, columns]`.
fn factors(axes: &Factored, row: &[f32], col: &[f32]) -> [Vec<f32>; 2] {
    [row_factors(axes, row), col.iter().copied().map(safe_rsqrt).collect()]
}

/// `1/√(v_row / (mean over d1 of v_row + 1e-9))`, guarded, `[3, rows]`.
fn row_factors(axes: &Factored, row: &[f32]) -> Vec<f32> {
    let [before, along, after] = axes.row_split;
    let mut factors = row.to_vec();
    if factors.is_empty() {
        return factors;
    }
    for block in factors.chunks_exact_mut(along * after).take(TIMESCALES * before) {
        for inner in 0..after {
            let sum: f64 = (0..along).map(|k| f64::from(block[k * after + inner])).sum();
            let mean = (sum / along as f64) as f32;
            for k in 0..along {
                let value = &mut block[k * after + inner];
                *value = safe_rsqrt(*value / (mean + 1e-9));
            }
        }
    }
    factors
}
