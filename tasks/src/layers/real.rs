//! The two number types of the layers: f32 for training, f64 for checking gradients.

use std::cell::RefCell;

use candle_core::WithDType;
use paceline_optimizer_core::simd;

use super::graph::sums::{self, Sums};
use super::matrix::{Into, Matrix, Places, multiply_f64};
use super::{elementwise, fused, tile};

/// A floating-point type that layers compute in.
pub(super) trait Real: WithDType + std::ops::Neg<Output = Self> {
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn exp_m1(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn abs(self) -> Self;
    fn is_nan(self) -> bool;
    /// `out = left · right`, or as `into` says; sizes are checked.
    fn multiply(
        out: &mut [Self],
        out_rows: impl Places,
        left: Matrix<'_, Self, impl Places, impl Places>,
        right: Matrix<'_, Self, impl Places>,
        into: Into<'_, Self>,
    );
    /// `to = grad` where `output > 0`, else 0.
    fn mask(to: &mut [Self], output: &[Self], grad: &[Self]);
    /// Adds rows, one after the other, to their sum.
    fn add_rows(sum: &mut [Self], rows: &[Self]);
    /// Adds weighted sums of rows along edges to the rows of `out`.
    fn add_sums(out: &mut [Self], sums: Sums<'_, Self>);
    /// `exp` of every value.
    fn exp_all(values: &mut [Self]);
    /// `tanh` of every value.
    fn tanh_all(values: &mut [Self]);
    /// The logistic function of every value.
    fn sigmoid_all(values: &mut [Self]);
    /// Runs `work` with a scratch buffer of `length` values, kept by this thread for the next call; calls may be nested.
    /// The values are whatever the last user left.
    fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! impl_real {
    ($type:ty, $multiply:path, $mask:path, $add_rows:path, $add_sums:path, $exp:path, $tanh:path, $sigmoid:path) => {
        impl Real for $type {
            fn exp(self) -> Self {
                <$type>::exp(self)
            }
            fn ln(self) -> Self {
                <$type>::ln(self)
            }
            fn ln_1p(self) -> Self {
                <$type>::ln_1p(self)
            }
            fn exp_m1(self) -> Self {
                <$type>::exp_m1(self)
            }
            fn sin(self) -> Self {
                <$type>::sin(self)
            }
            fn cos(self) -> Self {
                <$type>::cos(self)
            }
            fn abs(self) -> Self {
                <$type>::abs(self)
            }
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
            fn multiply(
                out: &mut [Self],
                out_rows: impl Places,
                left: Matrix<'_, Self, impl Places, impl Places>,
                right: Matrix<'_, Self, impl Places>,
                into: Into<'_, Self>,
            ) {
                $multiply(out, out_rows, left, right, into);
            }
            fn mask(to: &mut [Self], output: &[Self], grad: &[Self]) {
                $mask(to, output, grad);
            }
            fn add_rows(sum: &mut [Self], rows: &[Self]) {
                $add_rows(sum, rows);
            }
            fn add_sums(out: &mut [Self], sums: Sums<'_, Self>) {
                $add_sums(out, sums);
            }
            fn exp_all(values: &mut [Self]) {
                $exp(values);
            }
            fn tanh_all(values: &mut [Self]) {
                $tanh(values);
            }
            fn sigmoid_all(values: &mut [Self]) {
                $sigmoid(values);
            }
            fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Vec<Vec<$type>>> = const { RefCell::new(Vec::new()) };
                }
                // Taken out while in use: a nested call takes the next one.
                let mut buffer = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
                if buffer.len() < length {
                    buffer.resize(length, 0.0);
                }
                let result = work(&mut buffer[..length]);
                SCRATCH.with_borrow_mut(|buffers| buffers.push(buffer));
                result
            }
        }
    };
}

impl_real!(
    f32,
    tile::multiply,
    fused::mask_f32,
    fused::add_rows_f32,
    sums::add_sums_f32,
    simd::exp_all,
    simd::tanh_all,
    simd::sigmoid_all
);
impl_real!(
    f64,
    multiply_f64,
    fused::mask,
    fused::add_rows,
    sums::add_sums,
    elementwise::exp,
    elementwise::tanh,
    elementwise::sigmoid
);
