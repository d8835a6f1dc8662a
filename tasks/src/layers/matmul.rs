//! Batched matrix products, both factors with a gradient: what attention is made of.
//!
//! ```text
//!  [lanes | 1, batch, m, k] · [lanes | 1, batch, k, n] ─► [lanes, batch, m, n]     one gemm a matrix, in order
//!  out = A B      ∂A = ∂out Bᵀ      ∂B = Aᵀ ∂out
//! ```

use candle_core::{Result, Tensor, bail};

use super::matrix::{Into, Matrix, multiply};
use super::real::Real;
use super::slices::{block, block_mut};
use super::{Tape, by_type, host, tensor};

/// Which factors are transposed before they are multiplied (no value is moved).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transpose {
    /// The left factor is given as `[…, k, m]`.
    pub left: bool,
    /// The right factor is given as `[…, n, k]`.
    pub right: bool,
}

/// `left · right` for each matrix of `[lanes, batch, rows, columns]`: the result is `[lanes, batch, m, n]`. A factor
/// that all lanes share has a lane axis of 1 and is a constant.
///
/// # Errors
/// If shapes or types do not fit, a shared factor wants a gradient, or a tensor is not contiguous.
pub fn matmul(tape: &mut Tape, left: &Tensor, right: &Tensor, transpose: Transpose) -> Result<Tensor> {
    let sizes = Sizes::of(left, right, transpose)?;
    for factor in [left, right] {
        if factor.dim(0)? != sizes.lanes && tape.tracks(factor) {
            bail!("matmul: a factor that lanes share must be data, not something with a gradient");
        }
    }
    let output = by_type!("matmul", left.dtype(), forward::<_>(sizes, left, right))?;
    let (a, b) = (left.clone(), right.clone());
    Ok(tape.record_keeping("matmul", &[left, right], output, &[left, right], move |grad, wanted| {
        by_type!("matmul", a.dtype(), backward::<_>(sizes, &a, &b, grad, wanted))
    }))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    lanes: usize,
    batch: usize,
    rows: usize,
    inner: usize,
    columns: usize,
    transpose: Transpose,
}

impl Sizes {
    fn of(left: &Tensor, right: &Tensor, transpose: Transpose) -> Result<Self> {
        let misfit = |what: &str| -> Result<Self> {
            bail!("matmul: {what} of {:?} · {:?} with {transpose:?} do not fit", left.shape(), right.shape())
        };
        let (&[left_lanes, batch, a, b], &[right_lanes, right_batch, c, d]) = (left.dims(), right.dims()) else {
            return misfit("ranks (4 wanted)");
        };
        let (rows, inner) = if transpose.left { (b, a) } else { (a, b) };
        let (right_inner, columns) = if transpose.right { (d, c) } else { (c, d) };
        let lanes = left_lanes.max(right_lanes);
        if [left_lanes, right_lanes].iter().any(|&have| have != lanes && have != 1) {
            return misfit("lanes");
        }
        if batch != right_batch || inner != right_inner {
            return misfit("sizes");
        }
        if left.dtype() != right.dtype() {
            bail!("matmul: factors of types {:?} and {:?}", left.dtype(), right.dtype());
        }
        Ok(Self { lanes, batch, rows, inner, columns, transpose })
    }

    /// The `index`-th left matrix as the product sees it; a shared one comes back for every lane.
    fn left<'a, T: Copy>(&self, values: &'a [T], index: usize) -> Matrix<'a, T> {
        let size = self.rows * self.inner;
        let index = if values.len() == self.batch * size { index % self.batch } else { index };
        let values = block(values, index, size);
        if self.transpose.left {
            Matrix::new(values, self.inner, self.rows).transposed()
        } else {
            Matrix::new(values, self.rows, self.inner)
        }
    }

    /// As [`Sizes::left`], of the right ones.
    fn right<'a, T: Copy>(&self, values: &'a [T], index: usize) -> Matrix<'a, T> {
        let size = self.inner * self.columns;
        let index = if values.len() == self.batch * size { index % self.batch } else { index };
        let values = block(values, index, size);
        if self.transpose.right {
            Matrix::new(values, self.columns, self.inner).transposed()
        } else {
            Matrix::new(values, self.inner, self.columns)
        }
    }
}

fn forward<T: Real>(sizes: Sizes, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (left, right) = (left.storage_and_layout(), right.storage_and_layout());
    let (left, right) = (host::<T>(&left)?, host::<T>(&right)?);
    let size = sizes.rows * sizes.columns;
    let mut output = vec![T::zero(); sizes.lanes * sizes.batch * size];
    for index in 0..sizes.lanes * sizes.batch {
        let out = block_mut(&mut output, index, size);
        multiply(out, sizes.left(left, index), sizes.right(right, index), Into::Overwrite);
    }
    tensor(output, &[sizes.lanes, sizes.batch, sizes.rows, sizes.columns])
}

fn backward<T: Real>(
    sizes: Sizes,
    left: &Tensor,
    right: &Tensor,
    grad: &Tensor,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let (left_guard, right_guard) = (left.storage_and_layout(), right.storage_and_layout());
    let grad_guard = grad.storage_and_layout();
    let (lefts, rights, grads) = (host::<T>(&left_guard)?, host::<T>(&right_guard)?, host::<T>(&grad_guard)?);
    let (rows, columns) = (sizes.rows, sizes.columns);
    let grad_of = |index| Matrix::new(block(grads, index, rows * columns), rows, columns);
    // (X Y)ᵀ = Yᵀ Xᵀ: the gradient of a transposed factor is the transposed product, written as it is stored.
    let product = |out: &mut [T], first: Matrix<'_, T>, second: Matrix<'_, T>, transposed: bool| {
        if transposed {
            multiply(out, second.transposed(), first.transposed(), Into::Overwrite);
        } else {
            multiply(out, first, second, Into::Overwrite);
        }
    };
    let of_left = wanted[0].then(|| {
        let mut out = vec![T::zero(); lefts.len()];
        for (index, out) in out.chunks_exact_mut((rows * sizes.inner).max(1)).enumerate() {
            product(out, grad_of(index), sizes.right(rights, index).transposed(), sizes.transpose.left);
        }
        tensor(out, left.dims())
    });
    let of_right = wanted[1].then(|| {
        let mut out = vec![T::zero(); rights.len()];
        for (index, out) in out.chunks_exact_mut((columns * sizes.inner).max(1)).enumerate() {
            product(out, sizes.left(lefts, index).transposed(), grad_of(index), sizes.transpose.right);
        }
        tensor(out, right.dims())
    });
    Ok(vec![of_left.transpose()?, of_right.transpose()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    /// All four, with the shapes of factors for `[3, 4] · [4, 5]`.
    fn cases() -> impl Iterator<Item = (Transpose, [usize; 2], [usize; 2])> {
        [(false, false), (false, true), (true, false), (true, true)].into_iter().map(|(left, right)| {
            (Transpose { left, right }, if left { [4, 3] } else { [3, 4] }, if right { [5, 4] } else { [4, 5] })
        })
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (transpose, [a, b], [c, d]) in cases() {
            let (left, right) = (values(&[2, 3, a, b], 0), values(&[2, 3, c, d], 1));
            check("matmul", &[left.clone(), right.clone()], |tape, x| matmul(tape, &x[0], &x[1], transpose));
            let shared = values(&[1, 3, a, b], 2);
            check("shared left", &[right], |tape, x| matmul(tape, &shared, &x[0], transpose));
            let shared = values(&[1, 3, c, d], 2);
            check("shared right", &[left], |tape, x| matmul(tape, &x[0], &shared, transpose));
        }
        let arguments = [values(&[3, 2, 5, 7], 0), values(&[1, 2, 7, 4], 1)];
        lanes_are_independent(&arguments, |tape, x| matmul(tape, &x[0], &x[1], Transpose::default()));
    }

    #[test]
    fn values_are_those_of_candle() {
        for (transpose, [a, b], [c, d]) in cases() {
            let (left, right) = (values(&[2, 3, a, b], 0), values(&[2, 3, c, d], 1));
            let flip = |tensor: &Tensor, flip: bool| {
                if flip { tensor.transpose(2, 3).unwrap().contiguous().unwrap() } else { tensor.clone() }
            };
            let expected = flip(&left, transpose.left).matmul(&flip(&right, transpose.right)).unwrap();
            close("matmul", &matmul(&mut Tape::default(), &left, &right, transpose).unwrap(), &expected, 1e-12);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let mut tape = Tape::default();
        let mut error = |left: &[usize], right: &[usize]| {
            let (left, right) = (values(left, 0), values(right, 1));
            matmul(&mut tape, &left, &right, Transpose::default()).unwrap_err().to_string()
        };
        assert!(error(&[2, 1, 3, 4], &[2, 1, 5, 3]).contains("sizes of [2, 1, 3, 4] · [2, 1, 5, 3]"));
        assert!(error(&[2, 1, 3, 4], &[3, 1, 4, 3]).contains("lanes"));
        assert!(error(&[2, 3, 4], &[2, 1, 4, 3]).contains("ranks"));
        let (left, right) = (values(&[1, 1, 3, 4], 0), values(&[2, 1, 4, 3], 1));
        tape.variable(&left);
        let error = matmul(&mut tape, &left, &right, Transpose::default()).unwrap_err().to_string();
        assert!(error.contains("must be data"), "{error}");
    }
}
