//! The input channels of a per-parameter network, block by block, never as whole-tensor arrays.
//!
//! Most channels belong to an element (gradient, momenta, …). The row and column values of the factored second moments
//! are *separable*: they are the same for all elements of a row or of a column, so they are kept as short tables and
//! enter the network as a sum of two looked-up numbers.
//!
//! ```text
//!  element channels    g │ p │ m ×3 │ rms │ m·q ×3 │ q │ fac_g ×3 │ fac_m ×3 │ [clip(g) │ g·q]        q = 1/√(rms + 1e-6)
//!  separable channels  row ×3 │ 1/√(row + 1e-8) ×3 │ col ×3 │ 1/√(col + 1e-8) ×3
//! ```
//!
//! `fac_g` and `fac_m` are the gradient and the momenta divided by the root of the factored second moment.

use super::accumulators::{Accumulators, SecondMoment, TIMESCALES};
use super::axes::{Factored, Place, Places};
use super::float::{BLOCK, Block, each, load, mean, normaliser, rsqrt, safe_rsqrt};
use super::network::{Inputs, element_normalisers};

/// Number of element channels without the two in brackets.
pub(super) const PLAIN: usize = 16;

/// Number of element channels with `clip(g, ±0.1)` and `g·q`.
pub(super) const CLIPPED: usize = 18;

/// Index of `q` among the element channels.
pub(super) const Q: usize = 9;

/// Which input row of the network's first layer belongs to which channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputRows<const E: usize> {
    /// One a element channel, in the order of the module's picture.
    pub(super) element: [usize; E],
    /// First of the three rows of `row`.
    pub(super) row: usize,
    /// First of the three rows of `col`.
    pub(super) col: usize,
    /// First of the three rows of `1/√(row + 1e-8)`.
    pub(super) rsqrt_row: usize,
    /// First of the three rows of `1/√(col + 1e-8)`.
    pub(super) rsqrt_col: usize,
}

/// One tensor in one lane: what its channels are computed from.
#[derive(Debug)]
pub(super) struct Channels<'a> {
    g: &'a [f32],
    m: &'a [f32],
    rms: &'a [f32],
    factors: Factors<'a>,
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
    },
    /// Rank < 2: from the full second moment.
    Full {
        /// `v_diag`, `[3, size]`.
        v: &'a [f32],
        /// Added inside the root of `fac_m`: 0 in HyperV2, 1e-6 in AdafacMLPLOpt.
        momentum_eps: f32,
    },
}

/// Normalisers `1/√(1e-5 + mean x²)` of all channels of a tensor.
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
    pub(super) fn new(g: &'a [f32], accumulators: &'a Accumulators<'_>, momentum_eps: f32) -> Self {
        let factors = match &accumulators.second {
            SecondMoment::Full { v } => Factors::Full { v, momentum_eps },
            SecondMoment::Factored { axes, row, col } => {
                let row_factor = row_factors(axes, row);
                let col_factor = col.iter().copied().map(safe_rsqrt).collect();
                Factors::Factored { axes, row, col, row_factor, col_factor }
            }
        };
        Self { g, m: accumulators.m, rms: accumulators.rms, factors }
    }

    /// What divides the factored channels.
    pub(super) fn factors(&self) -> &Factors<'a> {
        &self.factors
    }

    /// What `fac_g` and `fac_m` multiply with at timescale `a`.
    #[inline(always)]
    fn factor(&self, a: usize, start: usize, length: usize, places: Option<&(Place, Place)>) -> (Block, Block) {
        match (&self.factors, places) {
            (Factors::Factored { axes, row_factor, col_factor, .. }, Some((row, col))) => {
                let mut factor = row.load(&row_factor[a * axes.rows()..]);
                let col = col.load(&col_factor[a * axes.cols()..]);
                for j in 0..BLOCK {
                    factor[j] *= col[j];
                }
                (factor, factor)
            }
            (Factors::Full { v, momentum_eps }, _) => {
                let v = load(v, a * self.g.len() + start, length);
                (each(v, |v| safe_rsqrt(v + 1e-9)), each(v, |v| rsqrt(v + momentum_eps)))
            }
            (Factors::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }

    /// Normalisers of all channels over the whole tensor, whose parameters are `p`.
    pub(super) fn normalisers<const E: usize>(&self, p: &[f32]) -> Normalisers<E> {
        let element = element_normalisers(self, p);
        // A row value stands behind equally many elements as every other, so its mean over rows is that over elements.
        let separable = |v: &[f32]| {
            let mut normalisers = [0.0; 2 * TIMESCALES];
            for (a, v) in v.chunks_exact(v.len() / TIMESCALES).enumerate() {
                normalisers[a] = normaliser(mean(v, |v| v * v));
                normalisers[TIMESCALES + a] = normaliser(mean(v, |v| rsqrt_moment(v) * rsqrt_moment(v)));
            }
            normalisers
        };
        let (row, col) = match &self.factors {
            Factors::Factored { row, col, .. } => (separable(row), separable(col)),
            Factors::Full { v, .. } => (separable(v), separable(v)),
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
    fn element(&self, p: &Block, start: usize, length: usize, places: Option<&(Place, Place)>) -> [Block; E] {
        let size = self.g.len();
        let mut x = [[0.0; BLOCK]; E];
        let g = load(self.g, start, length);
        let rms = load(self.rms, start, length);
        let q = each(rms, |rms| rsqrt(rms + 1e-6));
        (x[0], x[1], x[5], x[Q]) = (g, *p, rms, q);
        for a in 0..TIMESCALES {
            let m = load(self.m, a * size + start, length);
            x[2 + a] = m;
            for j in 0..BLOCK {
                x[6 + a][j] = m[j] * q[j];
            }
            let (for_gradient, for_momentum) = self.factor(a, start, length, places);
            for j in 0..BLOCK {
                x[10 + a][j] = g[j] * for_gradient[j];
                x[13 + a][j] = m[j] * for_momentum[j];
            }
        }
        if E == CLIPPED {
            for j in 0..BLOCK {
                x[E - 2][j] = g[j].clamp(-0.1, 0.1);
                x[E - 1][j] = g[j] * q[j];
            }
        }
        x
    }
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
