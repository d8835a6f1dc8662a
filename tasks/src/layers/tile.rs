//! Products of small f32 matrices, a tile of the output in registers at a time, without packing.
//!
//! ```text
//!              B  inner × columns, rows of whole vectors
//!             ┌────────┬────────┐
//!             │ b0  b1 │        │      for k: load two vectors of B's row k,
//!             └────────┴────────┘              broadcast one value of each of the tile's rows of A
//!    A ┌─ a0  ┌────────┐
//! rows │  a1  │ 8 × 32 │  output tile: 16 vectors, sums over k in order, by fused multiply-add
//!    × │  …   └────────┘
//! inner└─ a7
//! ```
//!
//! Inner problems are small: packing both operands, as libraries for large products do, costs as much as multiplying.
//! A is read where it lies, by any places, so transposes are free, and so are the windows of a convolution. B's rows must
//! be whole vectors: where they are not (10 classes, a transpose) they are copied, padded with zeros, once a product.
//!
//! A tile has as many values as the registers hold: 8 rows of two vectors with 32 registers of AVX-512, 4 rows of one
//! elsewhere. Each value of the output is `Σ_k a_k b_k` in the order of k, wherever its tile begins and however large that
//! is: it depends on its row of A and its column of B alone, on every processor.

use paceline_optimizer_core::simd::{Kernel, Simd, WIDTH, dispatch};

use super::Activation;
use super::matrix::{Even, Into, Matrix, Places};
use super::real::Real;

/// `out = left · right`, or as `into` says. Sizes are checked by the caller.
pub(super) fn multiply(
    out: &mut [f32],
    out_rows: impl Places,
    left: Matrix<'_, f32, impl Places, impl Places>,
    right: Matrix<'_, f32, impl Places>,
    into: Into<'_, f32>,
) {
    let Even { count: columns, stride } = right.columns();
    let rows = right.rows();
    if stride == 1 && columns.is_multiple_of(WIDTH) {
        dispatch(Product { out, out_rows, left, right: right.values(), rows, columns, into });
        return;
    }
    let padded = Even { count: rows.count(), stride: columns.next_multiple_of(WIDTH) };
    f32::with_scratch(padded.count * padded.stride, |space| {
        pad(space, right, padded.stride);
        dispatch(Product { out, out_rows, left, right: space, rows: padded, columns, into });
    });
}

/// Copies a matrix, however it lies, into rows of `stride` values with zeros at their ends.
fn pad(padded: &mut [f32], matrix: Matrix<'_, f32, impl Places>, stride: usize) {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    for (row, to) in padded.chunks_exact_mut(stride).enumerate() {
        let from = &matrix.values()[rows.at(row)..];
        if columns.stride == 1 {
            to[..columns.count].copy_from_slice(&from[..columns.count]);
        } else {
            to.iter_mut().zip(from.iter().step_by(columns.stride)).for_each(|(to, &from)| *to = from);
        }
        to[columns.count..].fill(0.0);
    }
}

struct Product<'a, O, R, C, K> {
    out: &'a mut [f32],
    out_rows: O,
    left: Matrix<'a, f32, R, C>,
    /// `[inner, columns]`, rows of whole vectors.
    right: &'a [f32],
    rows: K,
    columns: usize,
    into: Into<'a, f32>,
}

impl<O: Places, R: Places, C: Places, K: Places> Kernel for Product<'_, O, R, C, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        // What the tiles rely on, see `vector`.
        let padded = self.columns.next_multiple_of(WIDTH);
        assert!(self.rows.count() == 0 || self.rows.largest() + padded <= self.right.len());
        let mut column = 0;
        while column < self.columns {
            if self.columns - column > WIDTH && S::REGISTERS > LARGEST {
                self.strip::<S, 2>(s, column);
                column += 2 * WIDTH;
            } else {
                self.strip::<S, 1>(s, column);
                column += WIDTH;
            }
        }
    }
}

/// Vectors of the largest tile.
const LARGEST: usize = 8 * 2;

impl<O: Places, R: Places, C: Places, K: Places> Product<'_, O, R, C, K> {
    /// All rows of `V` vectors of columns.
    #[inline(always)]
    fn strip<S: Simd, const V: usize>(&mut self, s: S, column: usize) {
        let rows = self.left.rows().count();
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                8.. if S::REGISTERS > LARGEST => self.tile::<S, 8, V>(s, row, column),
                4.. => self.tile::<S, 4, V>(s, row, column),
                2.. => self.tile::<S, 2, V>(s, row, column),
                _ => self.tile::<S, 1, V>(s, row, column),
            }
        }
    }

    /// `N` rows from `first` on and `V` vectors, the last of which may be cut. Returns `N`.
    #[inline(always)]
    fn tile<S: Simd, const N: usize, const V: usize>(&mut self, s: S, first: usize, column: usize) -> usize {
        let width = (self.columns - column).min(V * WIDTH);
        // A sum of nothing has no values to begin at.
        let (inner, right) = (self.left.columns(), self.right.get(column..).unwrap_or(&[]));
        let mut lefts = [self.left.values(); N];
        for (row, left) in lefts.iter_mut().enumerate() {
            *left = left.get(self.left.rows().at(first + row)..).unwrap_or(&[]);
        }
        let mut sums = [[s.zero(); V]; N];
        if let Into::Add = self.into {
            for (row, sums) in sums.iter_mut().enumerate() {
                let out = &self.out[self.out_rows.at(first + row) + column..][..width];
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load_part(&out[v * WIDTH..]);
                }
            }
        }
        for k in 0..inner.count() {
            let (place, row) = (inner.at(k), self.rows.at(k));
            let mut rights = [s.zero(); V];
            for (v, to) in rights.iter_mut().enumerate() {
                *to = s.load(vector(right, row + v * WIDTH));
            }
            for (sums, left) in sums.iter_mut().zip(lefts) {
                let left = s.splat(value(left, place));
                for (sum, right) in sums.iter_mut().zip(rights) {
                    *sum = s.fma(left, right, *sum);
                }
            }
        }
        if let Into::Finish { bias, activation } = self.into {
            let mut biases = [s.zero(); V];
            for (v, to) in biases.iter_mut().enumerate() {
                *to = s.load_part(&bias[column..][..width][v * WIDTH..]);
            }
            for sums in &mut sums {
                for (sum, bias) in sums.iter_mut().zip(biases) {
                    *sum = s.add(*sum, bias);
                    if activation == Activation::Relu {
                        // NaN stays NaN.
                        *sum = s.select_less(*sum, s.zero(), s.zero(), *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let out = &mut self.out[self.out_rows.at(first + row) + column..][..width];
            for (v, sum) in sums.iter().enumerate() {
                s.store_part(*sum, &mut out[v * WIDTH..]);
            }
        }
        N
    }
}

#[expect(unsafe_code, reason = "checking every index of the innermost loop costs half its speed")]
#[inline(always)]
fn value(values: &[f32], index: usize) -> f32 {
    debug_assert!(index < values.len());
    // SAFETY: `Matrix::at` and `Matrix::new` have asserted that the largest place of a row and the largest of a column
    // lie inside together.
    unsafe { *values.get_unchecked(index) }
}

#[expect(unsafe_code, reason = "checking every index of the innermost loop costs half its speed")]
#[inline(always)]
fn vector(values: &[f32], index: usize) -> &[f32; WIDTH] {
    debug_assert!(index + WIDTH <= values.len());
    // SAFETY: `Product::run` has asserted that the last row's last vector lies inside; an array of f32 needs no more
    // alignment than one.
    unsafe { &*values.as_ptr().add(index).cast() }
}
