//! Lane-batched layers on candle tensors, each with its own backward pass on a [`Tape`].
//!
//! Every operand carries the lanes first, and a lane never meets another one:
//!
//! ```text
//!   images  [lanes | 1, batch, height, width, channels]     ─┐
//!   weights [lanes, …]                                       ├─► one product a lane ─► [lanes, batch, …]
//!   biases  [lanes, out]                                    ─┘
//! ```
//!
//! Data that all lanes share have a lane axis of 1. They are constants: the backward pass computes no gradient of a
//! tensor that nobody tracks, which saves the most expensive product of a first layer.
//!
//! Why not candle's own layers: in candle 0.11 the gradients of max pooling and of padded average pooling are wrong,
//! its convolution runs at a tenth of the speed of ours, and `relu'(0)` is 1 (here 0, as in
//! JAX). All layers compute in f32, and in f64 so that their gradients can be checked against finite differences.

pub mod complex;

mod conv;
mod cross_entropy;
mod fused;
mod grouped;

mod linear;
mod matrix;
mod pool;
mod real;
mod structure;
mod tape;
mod tile;
mod windows;

mod activation;
mod attention;
mod batch_norm;
mod dense;
mod dropout;
mod elementwise;
mod embedding;
mod erfc;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "no family learns its edge weights yet; golden vectors hold those layers"
    )
)]
pub(crate) mod graph;
mod layer_norm;
mod loss;
mod matmul;
mod mean;
mod penalty;
mod quantised_normal;
mod recurrent;
mod sample;
mod slices;
mod softmax;

#[cfg(test)]
pub(crate) mod gradcheck;

pub use conv::{Conv2d, conv2d};
pub use cross_entropy::{correct, cross_entropy, token_cross_entropy};
pub use fused::Activation;
pub use grouped::grouped_conv2d;
pub use linear::linear;
pub use pool::{Border, Window, avg_pool2d, avg_pool2d_bordered, max_pool2d};
pub use structure::{add, concat, multiply, narrow, permute, reshape, scale, subtract};
pub use tape::{Gradients, Tape};

pub use activation::{Nonlinearity, nonlinearity};
pub use attention::{Affine, AttentionWeights, attention};
pub use batch_norm::{Moments, batch_norm, batch_norm_by};
pub use dense::dense;
pub use dropout::dropout;
pub use embedding::embedding;
pub use layer_norm::layer_norm;
pub use loss::{binary_cross_entropy, log_mean_squared_error, mean_squared_error};
pub use matmul::{Transpose, matmul};
pub use mean::{mean, sum};
pub use penalty::half_squares;
pub use quantised_normal::quantised_normal;
pub use recurrent::{Cell, RecurrentWeights, recurrent};
pub use sample::{kl_to_standard_normal, reparametrise};
pub use softmax::{Mask, softmax};

use candle_core::{DType, Device, Layout, Result, Storage, Tensor, WithDType, bail};
use real::Real;

/// The values of a contiguous CPU tensor, through the guard of its storage.
fn host<'a, T: WithDType>((storage, layout): &'a (impl std::ops::Deref<Target = Storage>, &Layout)) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("layers take contiguous tensors, got strides {:?} for shape {:?}", layout.stride(), layout.shape());
    };
    match &**storage {
        Storage::Cpu(storage) => Ok(&T::cpu_storage_as_slice(storage)?[start..end]),
        Storage::Cuda(_) | Storage::Metal(_) => bail!("layers run on the CPU"),
    }
}

/// A CPU tensor of these values.
fn tensor<T: Real>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// How many lanes a product has: those of the weights. The input has as many, or one that all share.
fn check_lanes(layer: &str, tape: &Tape, input: &Tensor, weight: &Tensor) -> Result<()> {
    let (have, want) = (input.dim(0)?, weight.dim(0)?);
    if have != want && have != 1 {
        bail!("{layer}: the input has {have} lanes and the weights {want}");
    }
    if have != want && tape.tracks(input) {
        bail!("{layer}: an input that lanes share must be data, not something with a gradient");
    }
    if input.dtype() != weight.dtype() {
        bail!("{layer}: the input is {:?} and the weights {:?}", input.dtype(), weight.dtype());
    }
    Ok(())
}

/// Refuses a type that layers do not compute in.
fn unsupported<R>(layer: &str, dtype: DType) -> Result<R> {
    bail!("{layer}: computes in f32 and f64, not in {dtype:?}")
}

/// Picks the generic body for the type of a tensor.
macro_rules! by_type {
    ($layer:expr, $dtype:expr, $body:ident :: <_>($($argument:expr),* $(,)?)) => {
        match $dtype {
            candle_core::DType::F32 => $body::<f32>($($argument),*),
            candle_core::DType::F64 => $body::<f64>($($argument),*),
            other => $crate::layers::unsupported($layer, other),
        }
    };
}
use by_type;
