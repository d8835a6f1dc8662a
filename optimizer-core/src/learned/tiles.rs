//! Products of a layer's weights with four vectors of elements at a time, so that a weight is loaded once for 64 of them.
//!
//! ```text
//!            4 vectors of 16 elements
//!  4 units │ sums in registers │  ◄─ Σ over inputs: one weight a unit · one value an element
//! ```
//!
//! A sum runs over the inputs in order, whatever the size of a tile.

use crate::simd::{Simd, WIDTH};

/// Vectors of a tile.
pub(super) const TILE: usize = 4;

/// What one input, or unit, has for the elements of a tile.
pub(super) type Row = [[f32; WIDTH]; TILE];

/// `into_u ← b_u + Σ_i w_iu from_i`, `w` `[inputs, units]`.
#[inline(always)]
pub(super) fn affine<S: Simd>(s: S, w: &[f32], bias: &[f32], from: &[Row], into: &mut [Row]) {
    for (row, &bias) in into.iter_mut().zip(bias) {
        *row = [[bias; WIDTH]; TILE];
    }
    product(s, w, from, into);
}

/// `into_u ← into_u + Σ_i w_iu from_i`, `w` `[inputs, units]`.
#[inline(always)]
pub(super) fn product<S: Simd>(s: S, w: &[f32], from: &[Row], into: &mut [Row]) {
    if S::REGISTERS >= 32 {
        product_by::<S, 4, TILE>(s, w, from, into);
    } else {
        product_by::<S, 2, 2>(s, w, from, into);
    }
}

/// By `U` units and `V` vectors at a time.
#[inline(always)]
fn product_by<S: Simd, const U: usize, const V: usize>(s: S, w: &[f32], from: &[Row], into: &mut [Row]) {
    let units = into.len();
    let mut first = 0;
    while first + U <= units {
        for vectors in (0..TILE).step_by(V) {
            tile::<S, U, V>(s, w, from, into, first, vectors);
        }
        first += U;
    }
    while first < units {
        for vectors in (0..TILE).step_by(V) {
            tile::<S, 1, V>(s, w, from, into, first, vectors);
        }
        first += 1;
    }
}

#[inline(always)]
fn tile<S: Simd, const U: usize, const V: usize>(
    s: S,
    w: &[f32],
    from: &[Row],
    into: &mut [Row],
    first: usize,
    vectors: usize,
) {
    let units = into.len();
    let into = &mut into[first..first + U];
    let mut sums = [[s.zero(); V]; U];
    for (sums, row) in sums.iter_mut().zip(&*into) {
        for (sum, values) in sums.iter_mut().zip(&row[vectors..vectors + V]) {
            *sum = s.load(values);
        }
    }
    for (w, row) in w.chunks_exact(units).zip(from) {
        let w: &[f32; U] = w[first..].first_chunk().expect("as many weights as units");
        let mut x = [s.zero(); V];
        for (x, values) in x.iter_mut().zip(&row[vectors..vectors + V]) {
            *x = s.load(values);
        }
        for (sums, &w) in sums.iter_mut().zip(w) {
            let w = s.splat(w);
            for (sum, &x) in sums.iter_mut().zip(&x) {
                *sum = s.fma(w, x, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(into) {
        for (sum, values) in sums.iter().zip(&mut row[vectors..vectors + V]) {
            s.store(*sum, values);
        }
    }
}
