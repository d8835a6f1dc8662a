//! How complex numbers lie in real tensors: stacked channels for activations, two tensors for parameters.

use candle_core::{DType, Device, Result, Tensor, bail};
use num_complex::Complex64;

use crate::layers::real::Real;
use crate::layers::{Tape, add, by_type, concat, host, narrow, permute, reshape, subtract, tensor};

/// A complex activation: a real tensor whose last axis holds all real parts, then all imaginary ones.
#[derive(Clone, Debug)]
pub struct ComplexTensor(Tensor);

impl ComplexTensor {
    /// Of a real tensor `[…, 2 · channels]` in which the channels are stacked already.
    ///
    /// # Errors
    /// If the last axis is missing or odd.
    pub fn from_stacked(stacked: Tensor) -> Result<Self> {
        match stacked.dims().last() {
            Some(last) if last % 2 == 0 => Ok(Self(stacked)),
            _ => bail!("complex: {:?} has no even last axis to hold real and imaginary parts", stacked.shape()),
        }
    }

    /// Of real and imaginary parts of one shape `[…, channels]`.
    ///
    /// # Errors
    /// If their shapes differ.
    pub fn from_parts(tape: &mut Tape, re: &Tensor, im: &Tensor) -> Result<Self> {
        if re.dims() != im.dims() || re.rank() == 0 {
            bail!("complex: real parts {:?} do not fit imaginary parts {:?}", re.shape(), im.shape());
        }
        concat(tape, &[re, im], re.rank() - 1).map(Self)
    }

    /// Of real numbers: the imaginary parts are 0.
    ///
    /// # Errors
    /// If the tensor has no axis.
    pub fn from_real(tape: &mut Tape, re: &Tensor) -> Result<Self> {
        Self::from_parts(tape, re, &re.zeros_like()?)
    }

    /// Of numbers in row-major order of `shape`, as f32 or f64.
    ///
    /// # Errors
    /// If the shape has another number of values or no axis, or the type is another one.
    pub fn from_numbers(numbers: &[Complex64], shape: &[usize], dtype: DType) -> Result<Self> {
        let part = |of: fn(&Complex64) -> f64| {
            Tensor::from_vec(numbers.iter().map(of).collect::<Vec<_>>(), shape, &Device::Cpu)?.to_dtype(dtype)
        };
        Self::from_parts(&mut Tape::default(), &part(|z| z.re)?, &part(|z| z.im)?)
    }

    /// The numbers in row-major order of `[…, channels]`.
    ///
    /// # Errors
    /// If the tensor is not contiguous f32 or f64.
    pub fn to_numbers(&self) -> Result<Vec<Complex64>> {
        by_type!("complex", self.dtype(), numbers::<_>(self))
    }

    /// The real tensor `[…, 2 · channels]`.
    pub fn stacked(&self) -> &Tensor {
        &self.0
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.0.dims().last().map_or(0, |last| last / 2)
    }

    /// The type of the parts.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Real and imaginary parts, `[…, channels]` each.
    ///
    /// # Errors
    /// If candle fails to copy them.
    pub fn parts(&self, tape: &mut Tape) -> Result<(Tensor, Tensor)> {
        let (axis, channels) = (self.0.rank() - 1, self.channels());
        Ok((narrow(tape, &self.0, axis, 0, channels)?, narrow(tape, &self.0, axis, channels, channels)?))
    }

    /// `[lanes, batch, …, channels]` as `[lanes, batch, … · channels]`, to go into a linear layer.
    ///
    /// # Errors
    /// If there are fewer than three axes.
    pub fn flatten(&self, tape: &mut Tape) -> Result<Self> {
        let &[lanes, batch, ref places @ .., _] = self.0.dims() else {
            bail!("complex flatten: {:?} has no lanes, batch and channels", self.0.shape());
        };
        let (places, channels) = (places.iter().product::<usize>(), self.channels());
        let split = reshape(tape, &self.0, &[lanes, batch, places, 2, channels])?;
        let parts_first = permute(tape, &split, &[0, 1, 3, 2, 4])?;
        reshape(tape, &parts_first, &[lanes, batch, 2 * places * channels]).map(Self)
    }
}

fn numbers<T: Real>(tensor: &ComplexTensor) -> Result<Vec<Complex64>> {
    let guard = tensor.0.storage_and_layout();
    let (values, channels) = (host::<T>(&guard)?, tensor.channels());
    Ok(rows(values, channels).flat_map(|(re, im)| re.iter().zip(im).map(|(&x, &y)| number(x, y))).collect())
}

/// A number of f64 parts: what is not a product of matrices is computed in f64, whatever the layers' type.
pub(super) fn number<T: Real>(re: T, im: T) -> Complex64 {
    Complex64::new(re.to_f64(), im.to_f64())
}

/// Each row of stacked channels as its real and imaginary parts.
pub(super) fn rows<T>(stacked: &[T], channels: usize) -> impl Iterator<Item = (&[T], &[T])> {
    // A chunk of 0 would panic; without channels there are no values either.
    stacked.chunks_exact((2 * channels).max(1)).map(move |row| row.split_at(channels))
}

/// As [`rows`], to write.
pub(super) fn rows_mut<T>(stacked: &mut [T], channels: usize) -> impl Iterator<Item = (&mut [T], &mut [T])> {
    stacked.chunks_exact_mut((2 * channels).max(1)).map(move |row| row.split_at_mut(channels))
}

/// A complex parameter: two real tensors `name.re` and `name.im` of one shape.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Real parts.
    pub re: Tensor,
    /// Imaginary parts.
    pub im: Tensor,
}

impl Pair {
    /// The one complex bias that the biases of two real layers R and I amount to, if y = (R(x.re) − I(x.im)) +
    /// j (R(x.im) + I(x.re)) as in complexPyTorch: b.re = b_R − b_I, b.im = b_R + b_I.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn of_two_real_biases(tape: &mut Tape, real: &Tensor, imaginary: &Tensor) -> Result<Self> {
        Ok(Self { re: subtract(tape, real, imaginary)?, im: add(tape, real, imaginary)? })
    }

    fn check(&self) -> Result<()> {
        let (re, im) = (&self.re, &self.im);
        if re.dims() != im.dims() || re.dtype() != im.dtype() {
            bail!(
                "complex parameter: real parts {:?} {:?} do not fit imaginary parts {:?} {:?}",
                re.dtype(),
                re.shape(),
                im.dtype(),
                im.shape()
            );
        }
        Ok(())
    }

    /// `[lanes, out]` side by side: the bias `[lanes, 2 · out]` of a real layer.
    pub(super) fn stack(&self, tape: &mut Tape) -> Result<Tensor> {
        self.check()?;
        concat(tape, &[&self.re, &self.im], self.re.rank() - 1)
    }

    /// `[lanes, …, in, out]` as the weights `[lanes, …, 2 · in, 2 · out]` of a real layer on stacked channels.
    pub(super) fn kernel(&self, tape: &mut Tape) -> Result<Tensor> {
        self.check()?;
        let dims = self.re.dims().to_vec();
        let Some(([.., inputs], outputs)) = dims.split_last().map(|(last, rest)| (rest, *last)) else {
            bail!("complex kernel: {:?} has no inputs and outputs", self.re.shape());
        };
        let sizes = (*inputs, outputs);
        let dtype = self.re.dtype();
        let output = by_type!("complex kernel", dtype, stack_kernel::<_>(sizes, &self.re, &self.im))?;
        Ok(tape.record_keeping("complex kernel", &[&self.re, &self.im], output, &[], move |grad, _| {
            by_type!("complex kernel", dtype, unstack_kernel::<_>(sizes, &dims, grad))
        }))
    }
}

/// `[[re, im], [−im, re]]` of each matrix.
fn stack_kernel<T: Real>((inputs, outputs): (usize, usize), re: &Tensor, im: &Tensor) -> Result<Tensor> {
    let mut dims = re.dims().to_vec();
    dims.iter_mut().rev().take(2).for_each(|size| *size *= 2);
    let (re, im) = (re.storage_and_layout(), im.storage_and_layout());
    let (re, im) = (host::<T>(&re)?, host::<T>(&im)?);
    let mut stacked = Vec::with_capacity(4 * re.len());
    let matrix = (inputs * outputs).max(1);
    for (re, im) in re.chunks_exact(matrix).zip(im.chunks_exact(matrix)) {
        for (re, im) in re.chunks_exact(outputs).zip(im.chunks_exact(outputs)) {
            stacked.extend_from_slice(re);
            stacked.extend_from_slice(im);
        }
        for (re, im) in re.chunks_exact(outputs).zip(im.chunks_exact(outputs)) {
            stacked.extend(im.iter().map(|&value| T::zero() - value));
            stacked.extend_from_slice(re);
        }
    }
    tensor(stacked, &dims)
}

/// The gradients of both parts: each occurs twice in the stacked matrix.
fn unstack_kernel<T: Real>(
    (inputs, outputs): (usize, usize),
    dims: &[usize],
    grad: &Tensor,
) -> Result<Vec<Option<Tensor>>> {
    let guard = grad.storage_and_layout();
    let grad = host::<T>(&guard)?;
    let (mut re, mut im) = (Vec::with_capacity(grad.len() / 4), Vec::with_capacity(grad.len() / 4));
    for matrix in grad.chunks_exact((4 * inputs * outputs).max(1)) {
        let (upper, lower) = matrix.split_at(2 * inputs * outputs);
        for (upper, lower) in upper.chunks_exact(2 * outputs).zip(lower.chunks_exact(2 * outputs)) {
            let ((of_re, of_im), (of_minus_im, of_re_again)) = (upper.split_at(outputs), lower.split_at(outputs));
            re.extend(of_re.iter().zip(of_re_again).map(|(&a, &b)| a + b));
            im.extend(of_im.iter().zip(of_minus_im).map(|(&a, &b)| a - b));
        }
    }
    Ok(vec![Some(tensor(re, dims)?), Some(tensor(im, dims)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, values};

    #[test]
    fn numbers_go_in_and_out_of_stacked_channels() {
        let numbers: Vec<Complex64> = (0..6).map(|i| Complex64::new(f64::from(i), -10.0 * f64::from(i))).collect();
        for dtype in [DType::F32, DType::F64] {
            let stacked = ComplexTensor::from_numbers(&numbers, &[1, 3, 2], dtype).unwrap();
            assert_eq!((stacked.channels(), stacked.dtype()), (2, dtype));
            assert_eq!(stacked.to_numbers().unwrap(), numbers);
            let values: Vec<f64> =
                stacked.stacked().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(values[..4], [0.0, 1.0, 0.0, -10.0]);
        }
    }

    #[test]
    fn flattening_keeps_real_parts_before_imaginary_ones() {
        let numbers: Vec<Complex64> = (0..12).map(|i| Complex64::new(f64::from(i), f64::from(-i))).collect();
        let images = ComplexTensor::from_numbers(&numbers, &[1, 2, 3, 1, 2], DType::F64).unwrap();
        let flat = images.flatten(&mut Tape::default()).unwrap();
        assert_eq!((flat.stacked().dims(), flat.to_numbers().unwrap()), (&[1, 2, 12][..], numbers));
        check("flatten", &[values(&[2, 2, 3, 1, 4], 0)], |tape, a| {
            Ok(ComplexTensor::from_stacked(a[0].clone())?.flatten(tape)?.stacked().clone())
        });
    }

    #[test]
    fn kernel_gradients_are_those_of_differences() {
        for shape in [&[2, 3, 4][..], &[2, 2, 1, 3, 2]] {
            check("complex kernel", &[values(shape, 0), values(shape, 1)], |tape, a| {
                Pair { re: a[0].clone(), im: a[1].clone() }.kernel(tape)
            });
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (a, b) = (values(&[1, 2, 3], 0), values(&[1, 3, 2], 1));
        assert!(ComplexTensor::from_stacked(a.clone()).unwrap_err().to_string().contains("even"));
        let mut tape = Tape::default();
        assert!(ComplexTensor::from_parts(&mut tape, &a, &b).unwrap_err().to_string().contains("do not fit"));
        let pair = Pair { re: a.clone(), im: b };
        assert!(pair.kernel(&mut tape).is_err() && pair.stack(&mut tape).is_err());
        let pair = Pair { re: a.clone(), im: a.to_dtype(DType::F32).unwrap() };
        assert!(pair.kernel(&mut tape).unwrap_err().to_string().contains("F32"));
    }
}
