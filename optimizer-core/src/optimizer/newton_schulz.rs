//! Newton–Schulz: pulls all singular values of a matrix towards 1 by products alone.
//!
//! ```text
//!  X ← X / ‖X‖        A = X·Xᵀ     B = b·A + c·A·A     X ← a·X + B·X        (a, b, c) = (3.4445, −4.7750, 2.0315)
//!                     └───────────────── five times ────────────────┘
//! ```
//!
//! On the singular values this iterates `s ← a·s + b·s³ + c·s⁵`, whose slope at 0 is as steep as a quintic allows while
//! values near 1 stay near 1 (Keller Jordan's Muon, <https://kellerjordan.github.io/posts/muon/>). It is no true
//! orthogonalisation: values above 0.002 of the norm end between about 0.68 and 1.14.
//!
//! Of the two Gram matrices the smaller is formed. A matrix taller than wide has `A = Xᵀ·X` and `X·B`, which is the same
//! on the transpose, without moving a value.

use gemm::Parallelism;

/// Coefficients of X, A and A·A, of Muon and everything after it.
pub(crate) const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// What keeps the norm of a matrix of zeros from being divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Guard {
    /// `‖X‖ + eps`, as in Muon and Celo2.
    Add(f32),
    /// `max(‖X‖, eps)`, as in ELO; a NaN stays one.
    AtLeast(f32),
}

impl Guard {
    fn of(self, norm: f32) -> f32 {
        match self {
            Self::Add(eps) => norm + eps,
            Self::AtLeast(eps) if norm < eps => eps,
            Self::AtLeast(_) => norm,
        }
    }
}

/// The iteration, in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NewtonSchulz {
    /// Coefficients of X, A and A·A.
    pub(crate) coefficients: [f32; 3],
    /// How often it is repeated.
    pub(crate) iterations: u32,
    /// What the norm is guarded with.
    pub(crate) guard: Guard,
}

impl NewtonSchulz {
    /// Replaces each of the row-major `rows × columns` matrices in `values`, one after another.
    ///
    /// # Panics
    /// If `values` is not a whole number of matrices.
    pub(crate) fn apply(&self, values: &mut [f32], rows: usize, columns: usize) {
        let size = rows * columns;
        if size == 0 {
            assert!(values.is_empty(), "matrices without entries have no values");
            return;
        }
        assert_eq!(values.len() % size, 0, "values must be whole {rows}×{columns} matrices");
        let side = rows.min(columns);
        let mut scratch =
            Scratch { gram: vec![0.0; side * side], cubic: vec![0.0; side * side], moved: vec![0.0; size] };
        for matrix in values.chunks_exact_mut(size) {
            self.apply_one(matrix, rows, columns, &mut scratch);
        }
    }

    fn apply_one(&self, x: &mut [f32], rows: usize, columns: usize, scratch: &mut Scratch) {
        let [a, b, c] = self.coefficients;
        let Scratch { gram, cubic, moved } = scratch;
        let side = rows.min(columns);
        let square: f64 = x.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let norm = self.guard.of(square.sqrt() as f32);
        for value in x.iter_mut() {
            *value /= norm;
        }
        for _ in 0..self.iterations {
            let matrix = Matrix::new(x, rows, columns);
            let wide = if rows > columns { matrix.transposed() } else { matrix };
            multiply(gram, wide, wide.transposed());
            let symmetric = Matrix::new(gram, side, side);
            multiply(cubic, symmetric, symmetric);
            for (cubic, gram) in cubic.iter_mut().zip(&*gram) {
                *cubic = b * gram + c * *cubic;
            }
            let factor = Matrix::new(cubic, side, side);
            if rows > columns {
                multiply(moved, matrix, factor);
            } else {
                multiply(moved, factor, matrix);
            }
            for (x, moved) in x.iter_mut().zip(&*moved) {
                *x = a * *x + moved;
            }
        }
    }
}

/// Room for the products, shared by the matrices of one call.
struct Scratch {
    gram: Vec<f32>,
    cubic: Vec<f32>,
    moved: Vec<f32>,
}

/// A borrowed matrix, read row by row or, transposed, column by column.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a {rows}×{columns} matrix must have as many values");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// Longest inner size given to `gemm` at once: it cuts longer ones at a length that depends on the caches of the
/// machine, which would round differently on different hosts.
const INNER_BLOCK: usize = 512;

/// `out = left · right`, row-major, on the calling thread. No operand is empty.
fn multiply(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>) {
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    assert_eq!(inner, right.rows, "inner sizes of a product must agree");
    assert_eq!(out.len(), rows * columns, "the output of a {rows}×{columns} product must have as many values");
    for first in (0..inner).step_by(INNER_BLOCK) {
        let length = INNER_BLOCK.min(inner - first);
        let left_values = &left.values[first * left.column_stride..];
        let right_values = &right.values[first * right.row_stride..];
        #[expect(
            unsafe_code,
            reason = "gemm takes raw pointers; `Matrix::new` and the asserts above bound every access"
        )]
        // SAFETY: `Matrix::new` checks that rows, columns and strides address exactly the values of a live slice (a
        // transpose swaps both), and `first..first + length` lies within the columns of `left` and the rows of `right`,
        // which are as many. `out` is as long as the product and cannot alias, being borrowed mutably.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                length,
                out.as_mut_ptr(),
                1,
                columns as isize,
                first > 0,
                left_values.as_ptr(),
                left.column_stride as isize,
                left.row_stride as isize,
                right_values.as_ptr(),
                right.column_stride as isize,
                right.row_stride as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, noise};

    const MUON: NewtonSchulz = NewtonSchulz { coefficients: COEFFICIENTS, iterations: 5, guard: Guard::Add(1e-7) };

    fn random(seed: u64, size: usize) -> Vec<f32> {
        let mut values = vec![0.0; size];
        noise::normals(Seed::new(seed), 0, &mut values);
        values
    }

    fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    }

    /// The definition, with three loops in f64.
    fn by_definition(x: &[f32], rows: usize, columns: usize, iterations: u32) -> Vec<f64> {
        let product = |left: &[f64], right: &[f64], rows: usize, inner: usize, columns: usize| -> Vec<f64> {
            let entry = |i: usize, j: usize| (0..inner).map(|k| left[i * inner + k] * right[k * columns + j]).sum();
            (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect()
        };
        let norm = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x) / norm).collect();
        for _ in 0..iterations {
            let xt: Vec<f64> = (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect();
            let gram = product(&x, &xt, rows, columns, rows);
            let square = product(&gram, &gram, rows, rows, rows);
            let factor: Vec<f64> = gram.iter().zip(&square).map(|(a, aa)| -4.775 * a + 2.0315 * aa).collect();
            let moved = product(&factor, &x, rows, rows, columns);
            x.iter_mut().zip(moved).for_each(|(x, moved)| *x = 3.4445 * *x + moved);
        }
        x
    }

    #[test]
    fn agrees_with_the_definition_for_wide_tall_and_long_matrices() {
        for (rows, columns) in [(1, 1), (1, 9), (9, 1), (4, 4), (3, 17), (17, 3), (40, 33), (2, 530), (530, 2)] {
            let x = random(7, rows * columns);
            let expected = by_definition(&x, rows, columns, 5);
            let mut got = x;
            MUON.apply(&mut got, rows, columns);
            for (got, expected) in got.iter().zip(expected) {
                assert!((f64::from(*got) - expected).abs() < 2e-5, "{rows}×{columns}: {got} for {expected}");
            }
        }
    }

    #[test]
    fn the_transpose_gives_the_transpose() {
        for (rows, columns) in [(5, 12), (12, 5), (33, 40), (600, 2)] {
            let x = random(3, rows * columns);
            let mut turned = transposed(&x, rows, columns);
            let mut straight = x;
            MUON.apply(&mut straight, rows, columns);
            MUON.apply(&mut turned, columns, rows);
            for (turned, straight) in turned.iter().zip(transposed(&straight, rows, columns)) {
                assert!((turned - straight).abs() < 1e-5, "{rows}×{columns}: {turned} for {straight}");
            }
        }
    }

    #[test]
    fn a_batch_is_its_matrices() {
        let x = random(5, 3 * 24);
        let mut together = x.clone();
        MUON.apply(&mut together, 4, 6);
        for (alone, together) in x.chunks(24).zip(together.chunks(24)) {
            let mut alone = alone.to_vec();
            MUON.apply(&mut alone, 4, 6);
            assert_eq!(alone, together);
        }
    }

    #[test]
    fn singular_values_come_near_one() {
        // A diagonal matrix stays diagonal, and its entries are its singular values.
        let mut x = vec![0.0; 16];
        for (i, value) in [1.0, 0.3, 0.02, 0.004].into_iter().enumerate() {
            x[5 * i] = value;
        }
        MUON.apply(&mut x, 4, 4);
        for i in 0..4 {
            assert!((0.65..1.2).contains(&x[5 * i]), "{x:?}");
        }
    }

    #[test]
    fn guards_and_what_is_not_finite() {
        for guard in [Guard::Add(1e-8), Guard::AtLeast(1e-8)] {
            let ns = NewtonSchulz { guard, ..MUON };
            let mut zeros = vec![0.0; 6];
            ns.apply(&mut zeros, 2, 3);
            assert_eq!(zeros, [0.0; 6], "a matrix of zeros stays one");
            let mut broken = vec![1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0];
            ns.apply(&mut broken, 2, 3);
            assert!(broken.iter().all(|x| x.is_nan()), "a NaN reaches every entry");
            ns.apply(&mut [], 0, 3);
        }
        assert_eq!(Guard::Add(0.5).of(1.0), 1.5);
        assert_eq!((Guard::AtLeast(0.5).of(1.0), Guard::AtLeast(0.5).of(0.25)), (1.0, 0.5));
        assert!(Guard::AtLeast(0.5).of(f32::NAN).is_nan());
    }
}
