//! Pass 2: a gradient enters the accumulators of a stretch, and the squares of all channels are added up.

use std::ops::Range;

use super::super::accumulators::{Decays, TIMESCALES};
use super::super::channels::CLIPPED;
use super::elements::{Elements, Loaded, Recipe, full_factors, load_factors, root};
use super::tables::Lookup;
use super::{Factors, STRETCH, Stretch, clip};
use crate::simd::{Kernel, Simd, WIDTH};

/// Sums of squares over a grain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Squares<const E: usize> {
    /// Of the element channels.
    pub(super) element: [f64; E],
    /// Below rank 2: of the full second moments and of their roots.
    pub(super) full: [f64; 2 * TIMESCALES],
}

impl<const E: usize> Default for Squares<E> {
    fn default() -> Self {
        Self { element: [0.0; E], full: [0.0; 2 * TIMESCALES] }
    }
}

impl<const E: usize> Squares<E> {
    /// Adds those of a grain.
    pub(super) fn add(&mut self, grain: &Self) {
        self.element.iter_mut().zip(&grain.element).for_each(|(sum, grain)| *sum += grain);
        self.full.iter_mut().zip(&grain.full).for_each(|(sum, grain)| *sum += grain);
    }
}

/// Over the elements of a grain.
pub(super) struct Accumulate<'a, 'e, const E: usize, const CORRECT: bool> {
    pub(super) elements: Elements<'e>,
    /// Number of the first one in the tensor.
    pub(super) start: usize,
    /// For rank ≥ 2.
    pub(super) lookup: Option<Lookup<'a>>,
    pub(super) decays: &'a Decays,
    pub(super) recipe: &'a Recipe,
    /// Room for six factors.
    pub(super) factors: &'e mut [Stretch],
}

impl<const E: usize, const CORRECT: bool> Kernel for Accumulate<'_, '_, E, CORRECT> {
    type Output = Squares<E>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Squares<E> {
        let Self { mut elements, start, lookup, decays, recipe, factors } = self;
        let factors: &mut Factors = factors.try_into().expect("room for six factors");
        let mut squares = Squares::default();
        let size = elements.g.len();
        let mut done = 0;
        while done < size {
            let count = STRETCH.min(size - done);
            let others = match &lookup {
                Some(lookup) => {
                    lookup.spread(s, start + done, count, factors, &mut []);
                    CORRECT
                }
                None => {
                    let full = &mut squares.full;
                    roll_full::<S, E>(s, &mut elements, done..done + count, decays, recipe, factors, full);
                    true
                }
            };
            let mut sums = [s.zero(); E];
            let mut at = 0;
            while at + WIDTH <= count {
                let loaded = enter::<S, E>(s, &mut elements, done + at, WIDTH, decays);
                let x = loaded.channels::<E, CORRECT>(s, recipe, load_factors(s, factors, at, others));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = s.fma(x, x, *sum);
                }
                at += WIDTH;
            }
            if at < count {
                let loaded = enter::<S, E>(s, &mut elements, done + at, count - at, decays);
                let x = loaded.channels::<E, CORRECT>(s, recipe, load_factors(s, factors, at, others));
                for (sum, x) in sums.iter_mut().zip(x) {
                    // What lies beyond the end holds no sense.
                    let x = s.first(x, count - at);
                    *sum = s.fma(x, x, *sum);
                }
            }
            for (total, sum) in squares.element.iter_mut().zip(sums) {
                *total += f64::from(s.sum(sum));
            }
            done += count;
        }
        squares
    }
}

/// Momenta and second moment of some elements take up their gradient.
#[inline(always)]
fn enter<S: Simd, const E: usize>(
    s: S,
    elements: &mut Elements<'_>,
    at: usize,
    count: usize,
    decays: &Decays,
) -> Loaded<S> {
    // Networks with the clipped channels belong to optimizers that clip the gradient.
    let mut loaded = if E == CLIPPED {
        Loaded::new::<true>(s, elements, at, count)
    } else {
        Loaded::new::<false>(s, elements, at, count)
    };
    for (a, decay) in decays.momentum.iter().enumerate() {
        loaded.m[a] = s.fma(s.splat(decay.take), loaded.g, s.mul(s.splat(decay.keep), loaded.m[a]));
        s.store_part(loaded.m[a], &mut elements.m[a][at..at + count]);
    }
    let square = s.mul(loaded.g, loaded.g);
    loaded.rms = s.fma(s.splat(decays.rms.take), square, s.mul(s.splat(decays.rms.keep), loaded.rms));
    s.store_part(loaded.rms, &mut elements.rms[at..at + count]);
    loaded
}

/// Full second moments take up the squares of a stretch; its factors are set, the squares of the moments added.
#[inline(always)]
fn roll_full<S: Simd, const E: usize>(
    s: S,
    elements: &mut Elements<'_>,
    range: Range<usize>,
    decays: &Decays,
    recipe: &Recipe,
    factors: &mut Factors,
    totals: &mut [f64; 2 * TIMESCALES],
) {
    let Elements { g, v: Some(v), .. } = elements else { unreachable!("below rank 2 second moments are full") };
    let mut sums = [s.zero(); 2 * TIMESCALES];
    let mut at = 0;
    while at < range.len() {
        let inside = WIDTH.min(range.len() - at);
        let here = range.start + at..range.start + at + inside;
        let g = s.load_part(&g[here.clone()]);
        let g = if E == CLIPPED { clip::<S, true>(s, g) } else { g };
        let square = s.fma(g, g, s.splat(1e-30));
        for (a, decay) in decays.second.iter().enumerate() {
            let v = &mut v[a][here.clone()];
            let moment = s.fma(s.splat(decay.take), square, s.mul(s.splat(decay.keep), s.load_part(v)));
            s.store_part(moment, v);
            let (of_gradient, of_momentum) = full_factors(s, moment, recipe.fac_m);
            s.store_part(of_gradient, &mut factors[a][at..at + WIDTH]);
            s.store_part(of_momentum, &mut factors[TIMESCALES + a][at..at + WIDTH]);
            for (i, x) in [(a, moment), (TIMESCALES + a, root(s, moment))] {
                let x = s.first(x, inside);
                sums[i] = s.fma(x, x, sums[i]);
            }
        }
        at += WIDTH;
    }
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += f64::from(s.sum(sum));
    }
}
