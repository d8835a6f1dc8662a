//! Matrix products on slices, always on the calling thread: f32 by our own [tiles](super::tile), f64, which only checks
//! gradients, by the `gemm` crate.

use gemm::Parallelism;

use super::real::Real;

/// A borrowed matrix: `rows × columns` values, read row by row or, transposed, column by column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a, T> {
    pub(super) values: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix.
    pub(super) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a {rows}×{columns} matrix must have as many values");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transpose, without moving values.
    pub(super) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// What a product does with the values already in its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// Forgets them (they may be anything, NaN included).
    Overwrite,
    /// Adds to them.
    Add,
}

/// `out = left · right`, or `out += left · right`; `out` is row-major.
pub(super) fn multiply<T: Real>(out: &mut [T], left: Matrix<'_, T>, right: Matrix<'_, T>, into: Into) {
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    assert_eq!(inner, right.rows, "inner sizes of a product must agree");
    assert_eq!(out.len(), rows * columns, "the output of a {rows}×{columns} product must have as many values");
    crate::cost::spend(2.0 * rows as f64 * columns as f64 * inner as f64);
    if inner == 0 || out.is_empty() {
        // An empty sum.
        if into == Into::Overwrite {
            out.fill(T::zero());
        }
        return;
    }
    T::multiply(out, left, right, into);
}

/// A product of f64 by the `gemm` crate.
pub(super) fn multiply_f64(out: &mut [f64], left: Matrix<'_, f64>, right: Matrix<'_, f64>, into: Into) {
    let inner = left.columns;
    for first in (0..inner).step_by(INNER_BLOCK) {
        let block = first..inner.min(first + INNER_BLOCK);
        let into = if first == 0 { into } else { Into::Add };
        multiply_block(out, left, right, block, into);
    }
}

/// Longest inner size given to `gemm` at once. It would itself cut longer ones at a length that depends on the caches
/// of the machine, and so round differently on different hosts; up to 512 it never cuts.
const INNER_BLOCK: usize = 512;

/// The part of a product that sums over the `inner` columns of `left`.
fn multiply_block(
    out: &mut [f64],
    left: Matrix<'_, f64>,
    right: Matrix<'_, f64>,
    inner: std::ops::Range<usize>,
    into: Into,
) {
    let (rows, columns) = (left.rows, right.columns);
    // Empty matrices have no values to point at.
    if rows == 0 || columns == 0 {
        return;
    }
    let (left_values, right_values) =
        (&left.values[inner.start * left.column_stride..], &right.values[inner.start * right.row_stride..]);
    #[expect(
        unsafe_code,
        reason = "gemm takes raw pointers; `Matrix::new` and the asserts of `multiply` bound every access"
    )]
    // SAFETY: `left` and `right` come from `Matrix::new`, so rows, columns and strides address exactly the values of a
    // live slice (a transpose swaps both), and `inner` is a range of the columns of `left` and rows of `right`, which
    // are as many. `out` is as long as the product (both are checked by `multiply`) and cannot alias, being borrowed
    // mutably.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner.len(),
            out.as_mut_ptr(),
            1,
            columns as isize,
            into == Into::Add,
            left_values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right_values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around those of a tile, operands plain and transposed, in the type that training uses: to the bit.
    #[test]
    fn tiles_are_sums_in_order_wherever_they_begin() {
        let value = |i: usize| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.6;
        for (rows, inner, columns) in [
            (1, 1, 1),
            (7, 3, 10),
            (8, 5, 16),
            (9, 64, 32),
            (33, 9, 17),
            (16, 300, 48),
            (3, 2, 65),
            (5, 0, 4),
            (4, 1, 20),
            (20, 3, 1),
        ] {
            let left: Vec<f32> = (0..rows * inner).map(value).collect();
            let right: Vec<f32> = (0..inner * columns).map(|i| value(i + 5)).collect();
            let left_t: Vec<f32> = (0..inner * rows).map(|i| left[(i % rows) * inner + i / rows]).collect();
            let right_t: Vec<f32> = (0..inner * columns).map(|i| right[(i % inner) * columns + i / inner]).collect();
            let expected = |start: f32| -> Vec<f32> {
                let sum = |i: usize, j: usize| {
                    (0..inner).fold(start, |sum, k| left[i * inner + k].mul_add(right[k * columns + j], sum))
                };
                (0..rows * columns).map(|place| sum(place / columns, place % columns)).collect()
            };
            let plain = (Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns));
            let transposed =
                (Matrix::new(&left_t, inner, rows).transposed(), Matrix::new(&right_t, columns, inner).transposed());
            for (left, right) in [plain, transposed, (plain.0, transposed.1), (transposed.0, plain.1)] {
                let mut out = vec![f32::NAN; rows * columns];
                multiply(&mut out, left, right, Into::Overwrite);
                assert_eq!(out, expected(0.0), "{rows} {inner} {columns}");
                out.fill(0.25);
                multiply(&mut out, left, right, Into::Add);
                assert_eq!(out, expected(0.25), "{rows} {inner} {columns}");
            }
        }
    }

    fn naive(left: &[f64], right: &[f64], rows: usize, inner: usize, columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; rows * columns];
        for i in 0..rows {
            for j in 0..columns {
                out[i * columns + j] = (0..inner).map(|k| left[i * inner + k] * right[k * columns + j]).sum();
            }
        }
        out
    }

    #[test]
    fn products_agree_with_three_loops_for_plain_and_transposed_operands() {
        let value = |i: usize| ((i * 37 + 11) % 23) as f64 - 11.0;
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 2), (17, 4, 9), (1, 30, 7), (8, 16, 1), (5, 1030, 3)] {
            let left: Vec<f64> = (0..rows * inner).map(value).collect();
            let right: Vec<f64> = (0..inner * columns).map(|i| value(i + 5)).collect();
            let left_t: Vec<f64> = (0..inner * rows).map(|i| left[(i % rows) * inner + i / rows]).collect();
            let expected = naive(&left, &right, rows, inner, columns);

            let mut out = vec![f64::NAN; rows * columns];
            multiply(&mut out, Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns), Into::Overwrite);
            assert_eq!(out, expected);
            multiply(
                &mut out,
                Matrix::new(&left_t, inner, rows).transposed(),
                Matrix::new(&right, inner, columns),
                Into::Add,
            );
            assert_eq!(out, expected.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
        }
    }
}
