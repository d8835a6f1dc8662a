//! What follows the affine part of a layer, fused into it.

use paceline_optimizer_core::simd::{Kernel, Simd, WIDTH, dispatch};

use super::real::Real;

/// What follows the affine part of a layer, fused into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`; its derivative at 0 is 0, and NaN stays NaN.
    Relu,
}

impl Activation {
    /// Adds `bias` to each row of `out` and applies the activation.
    pub(super) fn finish<T: Real>(self, out: &mut [T], bias: &[T]) {
        let zero = T::zero();
        for row in out.chunks_exact_mut(bias.len()) {
            match self {
                Self::Identity => row.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias),
                Self::Relu => row.iter_mut().zip(bias).for_each(|(value, &bias)| {
                    let sum = *value + bias;
                    // Not `if sum > 0`: that would turn NaN into 0 and hide a diverged lane.
                    *value = if sum <= zero { zero } else { sum };
                }),
            }
        }
    }

    /// Turns the gradient of the output into the gradient before the activation, and adds its rows to `grad_bias`.
    pub(super) fn gradient<T: Real>(self, before: &mut [T], output: &[T], grad: &[T], grad_bias: &mut [T]) {
        match self {
            Self::Identity => before.copy_from_slice(grad),
            Self::Relu => T::mask(before, output, grad),
        }
        T::add_rows(grad_bias, before);
    }
}

/// `to = grad` where `output > 0`, else 0: the loop for any type.
pub(super) fn mask<T: Real>(to: &mut [T], output: &[T], grad: &[T]) {
    for ((to, &output), &grad) in to.iter_mut().zip(output).zip(grad) {
        *to = if output > T::zero() { grad } else { T::zero() };
    }
}

/// Adds rows, one after the other, to their sum: the loop for any type.
pub(super) fn add_rows<T: Real>(sum: &mut [T], rows: &[T]) {
    for row in rows.chunks_exact(sum.len().max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
    }
}

/// As [`mask`], in vectors.
pub(super) fn mask_f32(to: &mut [f32], output: &[f32], grad: &[f32]) {
    assert!(to.len() == output.len() && to.len() == grad.len(), "gradients have the size of outputs");
    dispatch(Mask { to, output, grad });
}

struct Mask<'a> {
    to: &'a mut [f32],
    output: &'a [f32],
    grad: &'a [f32],
}

impl Kernel for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.to.len() / WIDTH * WIDTH;
        let (to, to_rest) = self.to.split_at_mut(whole);
        let (output, output_rest) = self.output.split_at(whole);
        let (grad, grad_rest) = self.grad.split_at(whole);
        for ((to, output), grad) in
            to.chunks_exact_mut(WIDTH).zip(output.chunks_exact(WIDTH)).zip(grad.chunks_exact(WIDTH))
        {
            let masked = s.select_less(s.zero(), s.load_part(output), s.load_part(grad), s.zero());
            s.store_part(masked, to);
        }
        mask(to_rest, output_rest, grad_rest);
    }
}

/// As [`add_rows`], in vectors where a row is made of them.
pub(super) fn add_rows_f32(sum: &mut [f32], rows: &[f32]) {
    if sum.is_empty() || !sum.len().is_multiple_of(WIDTH) {
        return add_rows(sum, rows);
    }
    dispatch(AddRows { sum, rows });
}

struct AddRows<'a> {
    sum: &'a mut [f32],
    rows: &'a [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (sum, row) in self.sum.chunks_exact_mut(WIDTH).zip(row.chunks_exact(WIDTH)) {
                let total = s.add(s.load_part(sum), s.load_part(row));
                s.store_part(total, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_loops_agree_to_the_bit() {
        let value = |i: usize| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.6;
        for columns in [1, 10, 16, 33, 48] {
            let output: Vec<f32> = (0..5 * columns).map(|i| [value(i), 0.0, f32::NAN][i % 3]).collect();
            let grad: Vec<f32> = (0..5 * columns).map(|i| value(i + 3)).collect();
            let (mut vectors, mut loops) = (vec![1.0; 5 * columns], vec![2.0; 5 * columns]);
            mask_f32(&mut vectors, &output, &grad);
            mask(&mut loops, &output, &grad);
            assert_eq!(vectors, loops);
            let (mut sum, mut by_loop) = (vec![0.1; columns], vec![0.1; columns]);
            add_rows_f32(&mut sum, &grad);
            add_rows(&mut by_loop, &grad);
            assert_eq!(sum, by_loop);
        }
    }
}
