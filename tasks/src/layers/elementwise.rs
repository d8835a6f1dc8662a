//! Elementary functions of many f64, which only checks gradients, by the library. (Those of f32 are
//! `optimizer_core::simd`'s, whose bits do not depend on a library.)

pub(super) fn exp(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = value.exp());
}

pub(super) fn tanh(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = value.tanh());
}

pub(super) fn sigmoid(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
}
