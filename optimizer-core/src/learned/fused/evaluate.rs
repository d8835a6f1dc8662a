//! Pass 3: the network says where each element goes.
//!
//! ```text
//!  z_u = units_u (of row and column, bias in it) + Σ_e w_eu x_e ─► hidden layers ─► outputs ─► p
//! ```
//!
//! Networks of four and of eight units live in registers; others go by tiles of four vectors, so that each weight is
//! loaded once for 64 elements.

use super::super::accumulators::TIMESCALES;
use super::super::channels::CLIPPED;
use super::super::network::{Activation, Layer};
use super::elements::{Elements, Loaded, Recipe, full_factors, load_factors, root};
use super::tables::Lookup;
use super::{Factors, STRETCH, Stretch};
use crate::simd::{Kernel, Simd, WIDTH};

/// Sixteen elements and what the network says about them. Beyond the end of a stretch the values hold no sense.
pub(in crate::learned) struct Said<'a, S: Simd, const E: usize, const O: usize> {
    /// Parameters, or what stands for them.
    pub(in crate::learned) p: S::Vector,
    /// Element channels, not normalised.
    pub(in crate::learned) x: &'a [S::Vector; E],
    /// The first outputs.
    pub(in crate::learned) outputs: [S::Vector; O],
}

/// What becomes of an element.
pub(in crate::learned) trait Moved<const E: usize, const O: usize>: Sync {
    /// The new parameters.
    fn moved<S: Simd>(&self, s: S, said: &Said<'_, S, E, O>) -> S::Vector;
}

/// The network of one tensor, with the normalisers in the weights of its first layer.
#[derive(Debug)]
pub(super) struct Folded<'a, const E: usize> {
    /// `[E, units]`.
    pub(super) element: &'a [f32],
    /// Bias of the first layer.
    pub(super) bias: &'a [f32],
    /// Below rank 2: weights of the full second moments and their roots, `[6, units]`.
    pub(super) full: &'a [f32],
    pub(super) hidden: &'a [Layer<'a>],
    pub(super) last: Layer<'a>,
    pub(super) activation: Activation,
}

/// Some elements and all that decides where they go.
pub(super) struct Grain<'a, 'e, M, const E: usize> {
    pub(super) elements: Elements<'e>,
    /// Number of the first one in the tensor.
    pub(super) start: usize,
    /// For rank ≥ 2.
    pub(super) lookup: Option<Lookup<'a>>,
    pub(super) network: &'a Folded<'a, E>,
    pub(super) recipe: &'a Recipe,
    pub(super) mover: &'a M,
    /// Room for six factors and for each unit.
    pub(super) stretches: &'e mut [Stretch],
}

/// Over the elements of a grain; `H` units a layer.
pub(super) struct Evaluate<'a, 'e, M, const E: usize, const H: usize, const O: usize, const CORRECT: bool>(
    pub(super) Grain<'a, 'e, M, E>,
);

impl<M, const E: usize, const H: usize, const O: usize, const CORRECT: bool> Kernel
    for Evaluate<'_, '_, M, E, H, O, CORRECT>
where
    M: Moved<E, O>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Grain { elements, start, lookup, network, recipe, mover, stretches } = self.0;
        let (factors, units) = stretches.split_first_chunk_mut().expect("room for six factors");
        let units: &mut [Stretch; H] = units.try_into().expect("room for each unit");
        let (element, _) = network.element.as_chunks::<H>();
        let element: &[[f32; H]; E] = element.try_into().expect("one row of weights a channel");
        let mut last = [[0.0; H]; O];
        for (o, last) in last.iter_mut().enumerate() {
            for (weight, row) in last.iter_mut().zip(network.last.w.chunks_exact(network.last.outputs())) {
                *weight = row[o];
            }
        }
        let size = elements.g.len();
        let mut done = 0;
        while done < size {
            let count = STRETCH.min(size - done);
            let others = spread(s, &elements, start, done, count, lookup.as_ref(), network, recipe, factors, units);
            let mut at = 0;
            while at < count {
                let inside = WIDTH.min(count - at);
                let loaded = if E == CLIPPED {
                    Loaded::new::<true>(s, &elements, done + at, inside)
                } else {
                    Loaded::new::<false>(s, &elements, done + at, inside)
                };
                let factors = load_factors(s, factors, at, others || CORRECT);
                let x = loaded.channels::<E, CORRECT>(s, recipe, factors);
                let mut z = [s.zero(); H];
                for (z, units) in z.iter_mut().zip(&*units) {
                    *z = s.load_part(&units[at..at + WIDTH]);
                }
                for (x, w) in x.iter().zip(element) {
                    for (z, &w) in z.iter_mut().zip(w) {
                        *z = s.fma(s.splat(w), *x, *z);
                    }
                }
                for z in &mut z {
                    *z = network.activation.of(s, *z);
                }
                for layer in network.hidden {
                    z = dense(s, layer, &z);
                    for z in &mut z {
                        *z = network.activation.of(s, *z);
                    }
                }
                let mut outputs = [s.zero(); O];
                for ((output, last), &b) in outputs.iter_mut().zip(&last).zip(network.last.b) {
                    *output = s.splat(b);
                    for (&w, z) in last.iter().zip(z) {
                        *output = s.fma(s.splat(w), z, *output);
                    }
                }
                let moved = mover.moved(s, &Said { p: loaded.p, x: &x, outputs });
                s.store_part(moved, &mut elements.p[done + at..done + at + inside]);
                at += WIDTH;
            }
            done += count;
        }
    }
}

/// A layer between layers of the same width.
#[inline(always)]
fn dense<S: Simd, const H: usize>(s: S, layer: &Layer<'_>, z: &[S::Vector; H]) -> [S::Vector; H] {
    let mut next = [s.zero(); H];
    for (next, &b) in next.iter_mut().zip(layer.b) {
        *next = s.splat(b);
    }
    for (z, w) in z.iter().zip(layer.w.as_chunks::<H>().0) {
        for (next, &w) in next.iter_mut().zip(w) {
            *next = s.fma(s.splat(w), *z, *next);
        }
    }
    next
}

/// Sets the factors of a stretch and what rows, columns and the bias add to each unit. Whether the momenta have factors
/// of their own.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the two kernels below differ in nothing else")]
pub(super) fn spread<S: Simd, const E: usize>(
    s: S,
    elements: &Elements<'_>,
    start: usize,
    done: usize,
    count: usize,
    lookup: Option<&Lookup<'_>>,
    network: &Folded<'_, E>,
    recipe: &Recipe,
    factors: &mut Factors,
    units: &mut [Stretch],
) -> bool {
    if let Some(lookup) = lookup {
        lookup.spread(s, start + done, count, factors, units);
        return false;
    }
    let Some(v) = &elements.v else { unreachable!("below rank 2 second moments are full") };
    let width = units.len();
    let mut at = 0;
    while at < count {
        let here = done + at..done + count.min(at + WIDTH);
        let mut moments = [s.zero(); 2 * TIMESCALES];
        for a in 0..TIMESCALES {
            moments[a] = s.load_part(&v[a][here.clone()]);
            moments[TIMESCALES + a] = root(s, moments[a]);
            let (of_gradient, of_momentum) = full_factors(s, moments[a], recipe.fac_m);
            s.store_part(of_gradient, &mut factors[a][at..at + WIDTH]);
            s.store_part(of_momentum, &mut factors[TIMESCALES + a][at..at + WIDTH]);
        }
        for (unit, into) in units.iter_mut().enumerate() {
            let mut sum = s.splat(network.bias[unit]);
            for (i, moment) in moments.iter().enumerate() {
                sum = s.fma(s.splat(network.full[i * width + unit]), *moment, sum);
            }
            s.store_part(sum, &mut into[at..at + WIDTH]);
        }
        at += WIDTH;
    }
    true
}
