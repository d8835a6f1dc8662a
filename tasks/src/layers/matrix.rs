//! Matrices that lie anywhere in a slice, and their products, always on the calling thread: f32, which trains, by
//! [tiles](super::tile), f64, which only checks gradients, by three loops.

use super::Activation;
use super::real::Real;

/// Where the rows of a matrix lie, or its columns: the value of row `i` and column `j` is the one at `rows.at(i) +
/// columns.at(j)`.
pub(super) trait Places: Copy {
    /// How many there are.
    fn count(self) -> usize;
    /// Where one of them begins.
    fn at(self, index: usize) -> usize;
    /// The largest of them; 0 if there is none.
    fn largest(self) -> usize;
}

/// Places at equal distances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Even {
    pub(super) count: usize,
    pub(super) stride: usize,
}

impl Places for Even {
    #[inline(always)]
    fn count(self) -> usize {
        self.count
    }
    #[inline(always)]
    fn at(self, index: usize) -> usize {
        index * self.stride
    }
    #[inline(always)]
    fn largest(self) -> usize {
        self.count.saturating_sub(1) * self.stride
    }
}

/// Places one by one, as those of the windows of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    places: &'a [u32],
    largest: u32,
}

impl<'a> Listed<'a> {
    pub(super) fn new(places: &'a [u32]) -> Self {
        Self { places, largest: places.iter().copied().max().unwrap_or(0) }
    }
}

impl Places for Listed<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.places.len()
    }
    #[inline(always)]
    fn at(self, index: usize) -> usize {
        self.places[index] as usize
    }
    #[inline(always)]
    fn largest(self) -> usize {
        self.largest as usize
    }
}

/// A borrowed matrix. Values may belong to many of its entries, as pixels to many windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a, T, R = Even, C = Even> {
    values: &'a [T],
    rows: R,
    columns: C,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix.
    pub(super) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a {rows}×{columns} matrix must have as many values");
        Self { values, rows: Even { count: rows, stride: columns }, columns: Even { count: columns, stride: 1 } }
    }
}

impl<'a, T: Copy, R: Places, C: Places> Matrix<'a, T, R, C> {
    /// The entries at these places. All lie inside of `values`.
    pub(super) fn at(values: &'a [T], rows: R, columns: C) -> Self {
        let empty = rows.count() == 0 || columns.count() == 0;
        assert!(empty || rows.largest() + columns.largest() < values.len(), "a matrix must lie inside of its values");
        Self { values, rows, columns }
    }

    /// The transpose, without moving values.
    pub(super) fn transposed(self) -> Matrix<'a, T, C, R> {
        Matrix { values: self.values, rows: self.columns, columns: self.rows }
    }

    #[inline(always)]
    pub(super) fn values(self) -> &'a [T] {
        self.values
    }
    #[inline(always)]
    pub(super) fn rows(self) -> R {
        self.rows
    }
    #[inline(always)]
    pub(super) fn columns(self) -> C {
        self.columns
    }

    fn value(self, row: usize, column: usize) -> T {
        self.values[self.rows.at(row) + self.columns.at(column)]
    }
}

/// What a product does with its output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Into<'a, T> {
    /// Forgets what was there (anything, NaN included).
    Overwrite,
    /// Adds to what was there.
    Add,
    /// As `Overwrite`, then adds a bias to every row and applies an activation.
    Finish { bias: &'a [T], activation: Activation },
}

/// `out = left · right`, or as `into` says; `out` is row-major. Each value is a sum in the order of the inner index.
pub(super) fn multiply<T: Real>(
    out: &mut [T],
    left: Matrix<'_, T, impl Places, impl Places>,
    right: Matrix<'_, T, impl Places>,
    into: Into<'_, T>,
) {
    let (rows, columns) = (left.rows.count(), right.columns.count);
    assert_eq!(out.len(), rows * columns, "the output of a {rows}×{columns} product must have as many values");
    multiply_to(out, Even { count: rows, stride: columns }, left, right, into);
}

/// As [`multiply`], with the rows of the output at these places; values between them stay as they are.
pub(super) fn multiply_to<T: Real>(
    out: &mut [T],
    out_rows: impl Places,
    left: Matrix<'_, T, impl Places, impl Places>,
    right: Matrix<'_, T, impl Places>,
    into: Into<'_, T>,
) {
    let (rows, columns, inner) = (left.rows.count(), right.columns.count, left.columns.count());
    assert_eq!(inner, right.rows.count(), "inner sizes of a product must agree");
    assert_eq!(out_rows.count(), rows, "the output must have as many rows as the left factor");
    if let Into::Finish { bias, .. } = into {
        assert_eq!(bias.len(), columns, "a bias has a value a column");
    }
    crate::cost::spend(2.0 * rows as f64 * columns as f64 * inner as f64);
    if rows > 0 && columns > 0 {
        T::multiply(out, out_rows, left, right, into);
    }
}

/// A product of f64; sizes are checked.
pub(super) fn multiply_f64(
    out: &mut [f64],
    out_rows: impl Places,
    left: Matrix<'_, f64, impl Places, impl Places>,
    right: Matrix<'_, f64, impl Places>,
    into: Into<'_, f64>,
) {
    for row in 0..out_rows.count() {
        let out = &mut out[out_rows.at(row)..][..right.columns.count];
        if !matches!(into, Into::Add) {
            out.fill(0.0);
        }
        for k in 0..right.rows.count() {
            let factor = left.value(row, k);
            out.iter_mut().enumerate().for_each(|(column, sum)| *sum += factor * right.value(k, column));
        }
        if let Into::Finish { bias, activation } = into {
            activation.finish(out, bias);
        }
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
            (3, 0, 40),
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
