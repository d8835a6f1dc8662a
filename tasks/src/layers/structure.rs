//! Moving and combining values: reshape, permute, cut, join, add, multiply.
//!
//! ```text
//!  forward                        backward
//!  permute ─► contiguous copy     the inverse permutation
//!  narrow  ─► a part              zeros around the gradient of the part
//!  concat  ─► parts side by side  the parts of the gradient
//!  add, multiply, broadcasting    sums over the axes that were stretched
//! ```
//!
//! The forward values are candle's. Results are contiguous, as layers want them.

use candle_core::{Result, Tensor, bail};

use super::Tape;

/// The same values under another shape.
///
/// # Errors
/// If the number of values differs.
pub fn reshape(tape: &mut Tape, input: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (output, dims) = (input.reshape(shape)?, input.dims().to_vec());
    Ok(tape.record_keeping("reshape", &[input], output, &[], move |grad, _| Ok(vec![Some(grad.reshape(dims)?)])))
}

/// Axis `i` of the result is axis `axes[i]` of the input.
///
/// # Errors
/// If `axes` is no permutation of the input's axes.
pub fn permute(tape: &mut Tape, input: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let output = input.permute(axes)?.contiguous()?;
    let mut inverse = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    Ok(tape.record_keeping("permute", &[input], output, &[], move |grad, _| {
        Ok(vec![Some(grad.permute(inverse)?.contiguous()?)])
    }))
}

/// Entries `start..start + length` of an axis.
///
/// # Errors
/// If they do not lie in the axis.
pub fn narrow(tape: &mut Tape, input: &Tensor, axis: usize, start: usize, length: usize) -> Result<Tensor> {
    let whole = input.dim(axis)?;
    if length == whole && start == 0 {
        return Ok(input.clone());
    }
    let output = input.narrow(axis, start, length)?.contiguous()?;
    Ok(tape.record_keeping("narrow", &[input], output, &[], move |grad, _| {
        Ok(vec![Some(grad.pad_with_zeros(axis, start, whole - start - length)?.contiguous()?)])
    }))
}

/// The inputs side by side along an axis.
///
/// # Errors
/// If there are none, or their other axes differ.
pub fn concat(tape: &mut Tape, inputs: &[&Tensor], axis: usize) -> Result<Tensor> {
    let [first, rest @ ..] = inputs else { bail!("concat: nothing to join") };
    if rest.is_empty() {
        return Ok((*first).clone());
    }
    let output = Tensor::cat(inputs, axis)?.contiguous()?;
    let lengths = inputs.iter().map(|input| input.dim(axis)).collect::<Result<Vec<_>>>()?;
    Ok(tape.record_keeping("concat", inputs, output, &[], move |grad, wanted| {
        let mut start = 0;
        let parts = lengths.into_iter().zip(wanted).map(|(length, &wanted)| {
            start += length;
            wanted.then(|| grad.narrow(axis, start - length, length)?.contiguous()).transpose()
        });
        parts.collect()
    }))
}

/// `left + right`; axes of length 1 are stretched, missing leading axes added.
///
/// # Errors
/// If shapes do not broadcast.
pub fn add(tape: &mut Tape, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let output = left.broadcast_add(right)?;
    let (left_dims, right_dims) = (left.dims().to_vec(), right.dims().to_vec());
    Ok(tape.record_keeping("add", &[left, right], output, &[], move |grad, wanted| {
        Ok(vec![when(wanted[0], || reduce(grad, &left_dims))?, when(wanted[1], || reduce(grad, &right_dims))?])
    }))
}

/// `left − right`, as [`add`].
///
/// # Errors
/// As [`add`].
pub fn subtract(tape: &mut Tape, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let negative = scale(tape, right, -1.0)?;
    add(tape, left, &negative)
}

/// `left · right` entry by entry, broadcasting as [`add`].
///
/// # Errors
/// As [`add`].
pub fn multiply(tape: &mut Tape, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let output = left.broadcast_mul(right)?;
    let (a, b) = (left.clone(), right.clone());
    Ok(tape.record_keeping("multiply", &[left, right], output, &[left, right], move |grad, wanted| {
        let of_left = when(wanted[0], || reduce(&grad.broadcast_mul(&b)?, a.dims()))?;
        Ok(vec![of_left, when(wanted[1], || reduce(&grad.broadcast_mul(&a)?, b.dims()))?])
    }))
}

/// `factor · input`.
///
/// # Errors
/// If the tensor is not a float tensor.
pub fn scale(tape: &mut Tape, input: &Tensor, factor: f64) -> Result<Tensor> {
    let output = input.affine(factor, 0.0)?;
    Ok(tape.record_keeping("scale", &[input], output, &[], move |grad, _| Ok(vec![Some(grad.affine(factor, 0.0)?)])))
}

/// `compute`, where it is wanted.
fn when(wanted: bool, compute: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    wanted.then(compute).transpose()
}

/// Sums a gradient over the axes along which an operand of shape `dims` was stretched.
fn reduce(grad: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let added = grad.rank() - dims.len();
    let mut sum = grad.clone();
    for axis in 0..grad.rank() {
        let before = if axis < added { 1 } else { dims[axis - added] };
        if before != sum.dim(axis)? {
            sum = sum.sum_keepdim(axis)?;
        }
    }
    sum.reshape(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, values};

    #[test]
    fn gradients_are_those_of_differences() {
        let (a, b) = (values(&[2, 3, 4], 0), values(&[2, 3, 4], 1));
        check("reshape", std::slice::from_ref(&a), |tape, x| reshape(tape, &x[0], &[4, 6]));
        check("permute", std::slice::from_ref(&a), |tape, x| permute(tape, &x[0], &[1, 2, 0]));
        check("narrow", std::slice::from_ref(&a), |tape, x| narrow(tape, &x[0], 1, 1, 2));
        check("all of it", std::slice::from_ref(&a), |tape, x| {
            let whole = narrow(tape, &x[0], 1, 0, 3)?;
            scale(tape, &whole, -2.5)
        });
        check("concat", &[a.clone(), values(&[2, 1, 4], 2)], |tape, x| concat(tape, &[&x[0], &x[1], &x[0]], 1));
        check("add", &[a.clone(), b.clone()], |tape, x| add(tape, &x[0], &x[1]));
        check("subtract", &[a.clone(), values(&[1, 4], 4)], |tape, x| subtract(tape, &x[0], &x[1]));
        check("multiply", &[a.clone(), b], |tape, x| multiply(tape, &x[0], &x[1]));
        for shape in [&[2, 3, 1][..], &[1, 1, 4], &[4], &[3, 1], &[1]] {
            check("broadcast add", &[a.clone(), values(shape, 1)], |tape, x| add(tape, &x[0], &x[1]));
            check("broadcast multiply", &[values(shape, 1), a.clone()], |tape, x| multiply(tape, &x[0], &x[1]));
        }
    }

    #[test]
    fn permuting_moves_values_where_it_says() {
        let moved = permute(&mut Tape::default(), &values(&[2, 3], 0), &[1, 0]).unwrap();
        let straight = values(&[2, 3], 0).to_vec2::<f64>().unwrap();
        let moved = moved.to_vec2::<f64>().unwrap();
        assert!((0..2).all(|i| (0..3).all(|j| moved[j][i] == straight[i][j])));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (a, b) = (values(&[2, 3], 0), values(&[2, 4], 1));
        let mut tape = Tape::default();
        assert!(concat(&mut tape, &[], 0).unwrap_err().to_string().contains("nothing"));
        assert!(add(&mut tape, &a, &b).is_err() && multiply(&mut tape, &a, &b).is_err());
        assert!(narrow(&mut tape, &a, 1, 2, 2).is_err() && reshape(&mut tape, &a, &[5]).is_err());
    }
}
