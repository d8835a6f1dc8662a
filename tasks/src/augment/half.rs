//! Half precision: parameters and gradients of eight bits.
//!
//! ```text
//!  w ─► bf16(w) ─► inner task, in f32 ─► g ─► bf16(g)
//! ```
//!
//! An emulation of `ConvertFloatDType` of the reference: parameters and gradients are rounded to bfloat16 (to the nearest,
//! ties to even), while the forward and backward pass inside, the data and the loss stay f32, and the optimizer keeps its
//! parameters in f32. What training meets is the coarse gradient at the coarse point; the rounding inside of a network is
//! not there.

use std::fmt;

use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Params, Result, Seed};

use super::change::Change;

/// Parameters and gradients in bfloat16.
#[derive(Clone, Copy)]
pub(super) struct Half;

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half precision")
    }
}

impl Change for Half {
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        Cost { flop: inner.flop + 2.0 * parameters as f64, bytes: inner.bytes + 4.0 * parameters as f64 }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, _: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(HalfLanes(inner)))
    }
}

struct HalfLanes<'a>(Box<dyn TaskLanes + 'a>);

/// The nearest bfloat16; of two equally near the even one. NaN stays NaN, what is too large becomes infinite.
fn bf16(value: f32) -> f32 {
    if value.is_nan() {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

fn rounded(mut params: Params) -> Params {
    for index in 0..params.layout().len() {
        params.tensor_mut(index).iter_mut().for_each(|value| *value = bf16(*value));
    }
    params
}

impl TaskLanes for HalfLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        Ok(rounded(self.0.init_params()?))
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let (losses, grads) = self.0.loss_and_grads(&rounded(params.clone()), batch)?;
        Ok((losses, rounded(grads)))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.0.evaluate(&rounded(params.clone()), split, batch)
    }

    fn state(&self) -> Option<&Params> {
        self.0.state()
    }

    fn restore(&mut self, state: Params) -> Result<()> {
        self.0.restore(state)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use paceline_optimizer_core::noise::Draws;

    use super::*;

    #[test]
    fn rounding_is_that_of_bfloat16() {
        let mut draws = Draws::new(Seed::new(4));
        let mut values: Vec<f32> = (0..4000).map(|_| f32::from_bits(draws.word())).filter(|x| !x.is_nan()).collect();
        // Ties of an even and an odd neighbour, the largest that stays finite and the next, zeros, subnormals.
        values.extend([0x3F80_8000, 0x3F81_8000, 0x7F7F_7FFF, 0x7F7F_8000, 0, 0x8000_0000, 1].map(f32::from_bits));
        values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN]);
        let tensor = Tensor::new(&values[..], &Device::Cpu).unwrap();
        let expected = tensor.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        for (value, expected) in values.into_iter().zip(expected) {
            assert_eq!(bf16(value).to_bits(), expected.to_bits(), "{value:e}");
        }
        assert!(bf16(f32::NAN).is_nan() && bf16(f32::from_bits(0x7F80_0001)).is_nan());
    }
}
