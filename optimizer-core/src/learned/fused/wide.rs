//! Pass 3 for networks of any width: tiles of four vectors of elements, so that a weight is loaded once for 64 of them.
//!
//! ```text
//!  channels [E, 64] ─► units [H, 64] ─► hidden [H, 64] ─► outputs [O, 64]       each product by tiles of registers
//! ```

use super::super::channels::CLIPPED;
use super::super::tiles::{Row, TILE, affine, product};
use super::STRETCH;
use super::elements::{Loaded, load_factors};
use super::evaluate::{Grain, Moved, Said, spread};
use crate::simd::{Kernel, Simd, WIDTH};

/// [`Evaluate`](super::evaluate::Evaluate), whatever the width of the layers.
pub(super) struct EvaluateWide<'a, 'e, M, const E: usize, const O: usize, const CORRECT: bool>(
    pub(super) Grain<'a, 'e, M, E>,
);

impl<M, const E: usize, const O: usize, const CORRECT: bool> Kernel for EvaluateWide<'_, '_, M, E, O, CORRECT>
where
    M: Moved<E, O>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Grain { elements, start, lookup, network, recipe, mover, stretches } = self.0;
        let (factors, units) = stretches.split_first_chunk_mut().expect("room for six factors");
        let width = network.bias.len();
        let (mut z, mut next) = (vec![Row::default(); width], vec![Row::default(); width]);
        let mut channels = [Row::default(); E];
        let mut outputs = vec![Row::default(); network.last.outputs()];
        let size = elements.g.len();
        let mut done = 0;
        while done < size {
            let count = STRETCH.min(size - done);
            let others = spread(s, &elements, start, done, count, lookup.as_ref(), network, recipe, factors, units);
            let mut first = 0;
            while first < count {
                let vectors = (count - first).div_ceil(WIDTH).min(TILE);
                for i in 0..vectors {
                    let at = first + i * WIDTH;
                    let loaded = load::<S, E>(s, &elements, done + at, WIDTH.min(count - at));
                    let factors = load_factors(s, factors, at, others || CORRECT);
                    let x: [S::Vector; E] = loaded.channels::<E, CORRECT>(s, recipe, factors);
                    for (row, x) in channels.iter_mut().zip(x) {
                        s.store(x, &mut row[i]);
                    }
                    for (z, units) in z.iter_mut().zip(&*units) {
                        z[i].copy_from_slice(&units[at..at + WIDTH]);
                    }
                }
                product(s, network.element, &channels, &mut z);
                network.activation.of_rows(s, &mut z);
                for layer in network.hidden {
                    affine(s, layer.w, layer.b, &z, &mut next);
                    network.activation.of_rows(s, &mut next);
                    std::mem::swap(&mut z, &mut next);
                }
                affine(s, network.last.w, network.last.b, &z, &mut outputs);
                for i in 0..vectors {
                    let at = first + i * WIDTH;
                    let inside = WIDTH.min(count - at);
                    let loaded = load::<S, E>(s, &elements, done + at, inside);
                    let mut x = [s.zero(); E];
                    for (x, row) in x.iter_mut().zip(&channels) {
                        *x = s.load(&row[i]);
                    }
                    let mut said = [s.zero(); O];
                    for (said, row) in said.iter_mut().zip(&outputs) {
                        *said = s.load(&row[i]);
                    }
                    let moved = mover.moved(s, &Said { p: loaded.p, x: &x, outputs: said });
                    s.store_part(moved, &mut elements.p[done + at..done + at + inside]);
                }
                first += TILE * WIDTH;
            }
            done += count;
        }
    }
}

#[inline(always)]
fn load<S: Simd, const E: usize>(s: S, elements: &super::elements::Elements<'_>, at: usize, count: usize) -> Loaded<S> {
    if E == CLIPPED {
        Loaded::new::<true>(s, elements, at, count)
    } else {
        Loaded::new::<false>(s, elements, at, count)
    }
}
