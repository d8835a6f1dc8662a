//! A stretch of the elements of one tensor in one lane, and what is read of sixteen of them.

use super::super::accumulators::TIMESCALES;
use super::super::channels::{CLIPPED, P, Q, part};
use super::clip;
use crate::parallel::Split;
use crate::simd::{self, Simd, WIDTH};

/// Parameters, gradient and accumulators of a stretch.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    pub(super) p: &'a mut [f32],
    pub(super) g: &'a [f32],
    pub(super) m: [&'a mut [f32]; TIMESCALES],
    pub(super) rms: &'a mut [f32],
    /// Below rank 2: the second moments.
    pub(super) v: Option<[&'a mut [f32]; TIMESCALES]>,
}

/// Splits each of three slices.
fn split_three(slices: [&mut [f32]; 3], middle: usize) -> [[&mut [f32]; 3]; 2] {
    let [a, b, c] = slices;
    let ((a, x), (b, y), (c, z)) = (a.split_at_mut(middle), b.split_at_mut(middle), c.split_at_mut(middle));
    [[a, b, c], [x, y, z]]
}

impl Split for Elements<'_> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let Self { p, g, m, rms, v } = self;
        let (p, p_behind) = p.split_at_mut(middle);
        let (g, g_behind) = g.split_at(middle);
        let [m, m_behind] = split_three(m, middle);
        let (rms, rms_behind) = rms.split_at_mut(middle);
        let (v, v_behind) = match v.map(|v| split_three(v, middle)) {
            Some([v, behind]) => (Some(v), Some(behind)),
            None => (None, None),
        };
        let behind = Self { p: p_behind, g: g_behind, m: m_behind, rms: rms_behind, v: v_behind };
        (Self { p, g, m, rms, v }, behind)
    }
}

/// What moments have collected; they are divided by it before they become channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collected {
    pub(super) momentum: [f32; TIMESCALES],
    pub(super) rms: f32,
    pub(super) second: [f32; TIMESCALES],
}

/// How channels are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    /// Added inside the root of `q`.
    pub(super) q: f32,
    /// Added to full second moments in the factor of the momenta.
    pub(super) fac_m: f32,
    pub(super) collected: Option<Collected>,
}

/// Elements `at..at + count` of a stretch, in registers.
#[derive(Clone, Copy)]
pub(super) struct Loaded<S: Simd> {
    pub(super) p: S::Vector,
    pub(super) g: S::Vector,
    pub(super) m: [S::Vector; TIMESCALES],
    pub(super) rms: S::Vector,
}

impl<S: Simd> Loaded<S> {
    /// Whole vectors are loaded without a look at `count`.
    #[inline(always)]
    pub(super) fn new<const CLIP: bool>(s: S, elements: &Elements<'_>, at: usize, count: usize) -> Self {
        // No closure, which would be compiled without the instructions of its caller.
        Self {
            p: part(s, elements.p, at, count),
            g: clip::<S, CLIP>(s, part(s, elements.g, at, count)),
            m: [
                part(s, elements.m[0], at, count),
                part(s, elements.m[1], at, count),
                part(s, elements.m[2], at, count),
            ],
            rms: part(s, elements.rms, at, count),
        }
    }

    /// The element channels, in the order of [`channels`](super::super::channels); `factors` are three of the gradient
    /// and three of the momenta.
    #[inline(always)]
    pub(super) fn channels<const E: usize, const CORRECT: bool>(
        self,
        s: S,
        recipe: &Recipe,
        factors: [[S::Vector; TIMESCALES]; 2],
    ) -> [S::Vector; E] {
        let Self { p, g, mut m, mut rms } = self;
        if CORRECT && let Some(collected) = &recipe.collected {
            for (m, collected) in m.iter_mut().zip(collected.momentum) {
                *m = s.mul(*m, s.splat(1.0 / collected));
            }
            rms = s.mul(rms, s.splat(1.0 / collected.rms));
        }
        let mut x = [s.zero(); E];
        let q = simd::rsqrt(s, s.add(rms, s.splat(recipe.q)));
        (x[0], x[P], x[5], x[Q]) = (g, p, rms, q);
        for a in 0..TIMESCALES {
            (x[2 + a], x[6 + a]) = (m[a], s.mul(m[a], q));
            (x[10 + a], x[13 + a]) = (s.mul(g, factors[0][a]), s.mul(m[a], factors[1][a]));
        }
        if E == CLIPPED {
            x[E - 2] = s.at_most(s.at_least(g, s.splat(-0.1)), s.splat(0.1));
            x[E - 1] = s.mul(g, q);
        }
        x
    }
}

/// Factors of elements `at..` from a stretch's: three of the gradient, and three of the momenta if they are others.
#[inline(always)]
pub(super) fn load_factors<S: Simd, const N: usize>(
    s: S,
    factors: &[[f32; N]; 2 * TIMESCALES],
    at: usize,
    others: bool,
) -> [[S::Vector; TIMESCALES]; 2] {
    let mut of_gradient = [s.zero(); TIMESCALES];
    for (factor, factors) in of_gradient.iter_mut().zip(&factors[..TIMESCALES]) {
        *factor = part(s, factors, at, WIDTH);
    }
    let mut of_momenta = of_gradient;
    if others {
        for (factor, factors) in of_momenta.iter_mut().zip(&factors[TIMESCALES..]) {
            *factor = part(s, factors, at, WIDTH);
        }
    }
    [of_gradient, of_momenta]
}

/// Factors of elements below rank 2 with second moments `v`, of the gradient and of the momenta.
#[inline(always)]
pub(super) fn full_factors<S: Simd>(s: S, v: S::Vector, fac_m: f32) -> (S::Vector, S::Vector) {
    let guarded = s.at_least(s.add(v, s.splat(1e-9)), s.splat(1e-9));
    (simd::rsqrt(s, guarded), simd::rsqrt(s, s.add(v, s.splat(fac_m))))
}

/// `1/√(v + 1e-8)`.
#[inline(always)]
pub(super) fn root<S: Simd>(s: S, v: S::Vector) -> S::Vector {
    simd::rsqrt(s, s.add(v, s.splat(1e-8)))
}
