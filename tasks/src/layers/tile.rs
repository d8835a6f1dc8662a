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
//! A is read where it lies, by any strides, so transposes are free. B's rows must be whole vectors: where they are not
//! (10 classes, a transpose) they are copied, padded with zeros, once a product.
//!
//! Each value of the output is `Σ_k a_k b_k` in the order of k, wherever its tile begins: it depends on its row of A and
//! its column of B alone, on every processor.

use paceline_optimizer_core::simd::{Kernel, Simd, WIDTH, dispatch};

use super::matrix::{Into, Matrix};
use super::real::Real;

/// Rows of a tile.
const ROWS: usize = 8;

/// `out = left · right` or `out += left · right`. Sizes are checked by the caller.
pub(super) fn multiply(out: &mut [f32], left: Matrix<'_, f32>, right: Matrix<'_, f32>, into: Into) {
    let columns = right.columns;
    if right.column_stride == 1 && columns.is_multiple_of(WIDTH) {
        dispatch(Product { out, left, right: right.values, right_stride: right.row_stride, columns, into });
        return;
    }
    let stride = columns.next_multiple_of(WIDTH);
    f32::with_scratch(right.rows * stride, |padded| {
        pad(padded, right, stride);
        dispatch(Product { out, left, right: padded, right_stride: stride, columns, into });
    });
}

/// Copies a matrix, however it lies, into rows of `stride` values with zeros at their ends.
fn pad(padded: &mut [f32], matrix: Matrix<'_, f32>, stride: usize) {
    if matrix.column_stride == 1 {
        for (row, to) in padded.chunks_exact_mut(stride).enumerate() {
            to[..matrix.columns].copy_from_slice(&matrix.values[row * matrix.row_stride..][..matrix.columns]);
            to[matrix.columns..].fill(0.0);
        }
        return;
    }
    // Transposed: one column lies together.
    padded.fill(0.0);
    for (column, values) in matrix.values.chunks(matrix.column_stride).take(matrix.columns).enumerate() {
        for (row, &value) in values.iter().take(matrix.rows).enumerate() {
            padded[row * stride + column] = value;
        }
    }
}

struct Product<'a> {
    /// `[rows, columns]`.
    out: &'a mut [f32],
    left: Matrix<'a, f32>,
    /// `[inner, right_stride]`, rows of whole vectors.
    right: &'a [f32],
    right_stride: usize,
    columns: usize,
    into: Into,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { out, left, right, right_stride, columns, into } = self;
        let (rows, inner) = (left.rows, left.columns);
        if rows == 0 || columns == 0 {
            return;
        }
        // What the tiles rely on, see `tile`.
        let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
        assert!(inner == 0 || last(rows, left.row_stride) + last(inner, left.column_stride) < left.values.len());
        assert!(inner == 0 || (inner - 1) * right_stride + columns.next_multiple_of(WIDTH) <= right.len());
        let a = Operand { values: left.values, row_stride: left.row_stride, inner_stride: left.column_stride, inner };
        let mut column = 0;
        while column < columns {
            let vectors = (columns - column).div_ceil(WIDTH).min(2);
            let width = (columns - column).min(2 * WIDTH);
            for first in (0..rows).step_by(ROWS) {
                let b = &right[column..];
                let out = &mut out[first * columns + column..];
                match (rows - first, vectors) {
                    (ROWS.., 2) => tile::<S, ROWS, 2>(s, out, columns, width, a, first, b, right_stride, into),
                    (ROWS.., _) => tile::<S, ROWS, 1>(s, out, columns, width, a, first, b, right_stride, into),
                    (rest, vectors) => {
                        for row in 0..rest {
                            let out = &mut out[row * columns..];
                            match vectors {
                                2 => tile::<S, 1, 2>(s, out, columns, width, a, first + row, b, right_stride, into),
                                _ => tile::<S, 1, 1>(s, out, columns, width, a, first + row, b, right_stride, into),
                            }
                        }
                    }
                }
            }
            column += vectors * WIDTH;
        }
    }
}

/// The left operand of a product.
#[derive(Clone, Copy)]
struct Operand<'a> {
    values: &'a [f32],
    row_stride: usize,
    inner_stride: usize,
    inner: usize,
}

/// `R` rows and `V` vectors of the output: rows from `first` on, `width` columns of them. `b` begins at the tile's columns.
#[expect(clippy::too_many_arguments, reason = "the inside of a loop")]
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    s: S,
    out: &mut [f32],
    out_stride: usize,
    width: usize,
    a: Operand<'_>,
    first: usize,
    b: &[f32],
    b_stride: usize,
    into: Into,
) {
    let mut sums = [[s.zero(); V]; R];
    if into == Into::Add {
        for (row, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.load_part(&out[row * out_stride + v * WIDTH..row * out_stride + width]);
            }
        }
    }
    for k in 0..a.inner {
        let mut right = [s.zero(); V];
        for (v, right) in right.iter_mut().enumerate() {
            *right = s.load(vector(b, k * b_stride + v * WIDTH));
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let left = s.splat(value(a.values, (first + row) * a.row_stride + k * a.inner_stride));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = s.fma(left, right, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            s.store_part(*sum, &mut out[row * out_stride + v * WIDTH..row * out_stride + width.min((v + 1) * WIDTH)]);
        }
    }
}

#[expect(unsafe_code, reason = "checking every index of the innermost loop costs half its speed")]
#[inline(always)]
fn value(values: &[f32], index: usize) -> f32 {
    debug_assert!(index < values.len());
    // SAFETY: `Product::run` has asserted that the last row's last value lies inside, and strides are not negative.
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
