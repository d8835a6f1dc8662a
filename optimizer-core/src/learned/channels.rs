//! The input channels of a per-parameter network.
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

use super::accumulators::TIMESCALES;
use super::float::rsqrt;
use crate::simd::Simd;

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

/// Values `start..start + length`, zeros behind them.
#[inline(always)]
pub(super) fn part<S: Simd>(s: S, values: &[f32], start: usize, length: usize) -> S::Vector {
    s.load_part(&values[start..start + length])
}
