//! Elementary functions of many values: f32 by vectors, with bits that do not depend on a library; f64, which only checks
//! gradients, by the library.

use paceline_optimizer_core::simd::{self, Kernel, Simd, WIDTH, dispatch};

/// A function of one vector.
trait Function {
    fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector;
}

struct Exp;
struct Tanh;
struct Sigmoid;

impl Function for Exp {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector {
        simd::exp(s, x)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector {
        simd::tanh(s, x)
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: S::Vector) -> S::Vector {
        simd::sigmoid(s, x)
    }
}

/// Replaces every value by its image.
struct Map<'a, F>(&'a mut [f32], std::marker::PhantomData<F>);

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (vectors, rest) = self.0.as_chunks_mut::<WIDTH>();
        for values in vectors {
            s.store(F::of(s, s.load(values)), values);
        }
        s.store_part(F::of(s, s.load_part(rest)), rest);
    }
}

pub(super) fn exp(values: &mut [f32]) {
    dispatch(Map::<Exp>(values, std::marker::PhantomData));
}

pub(super) fn tanh(values: &mut [f32]) {
    dispatch(Map::<Tanh>(values, std::marker::PhantomData));
}

pub(super) fn sigmoid(values: &mut [f32]) {
    dispatch(Map::<Sigmoid>(values, std::marker::PhantomData));
}

pub(super) fn exp_f64(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = value.exp());
}

pub(super) fn tanh_f64(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = value.tanh());
}

pub(super) fn sigmoid_f64(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
}
