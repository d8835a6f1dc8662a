//! Multi-head self-attention, composed of the other layers.
//!
//! ```text
//!  x ─┬─► query ─► heads ─┐
//!     ├─► key ───► heads ─┴─► Q Kᵀ / √size ─► softmax ─► P ─┐
//!     └─► value ─► heads ─────────────────────────────────── P V ─► heads side by side ─► output
//! ```
//!
//! (Vaswani et al., arXiv 1706.03762, section 3.2; here every product has a bias, as in Haiku's layer.)

use candle_core::{Result, Tensor, bail};

use super::{Activation, Mask, Tape, Transpose, dense, matmul, permute, reshape, scale, softmax};

/// An affine map: `weight` `[lanes, in, out]`, `bias` `[lanes, out]`.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// The matrix.
    pub weight: &'a Tensor,
    /// What is added.
    pub bias: &'a Tensor,
}

/// The maps of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionWeights<'a> {
    /// `channels` to `heads · size`.
    pub query: Affine<'a>,
    /// `channels` to `heads · size`.
    pub key: Affine<'a>,
    /// `channels` to `heads · value size`.
    pub value: Affine<'a>,
    /// `heads · value size` to the channels of the result.
    pub output: Affine<'a>,
}

/// Self-attention over time: `input` `[lanes | 1, batch, time, channels]` to `[lanes, batch, time, out]`; with
/// [`Mask::Causal`] each time sees itself and the past.
///
/// # Errors
/// If the widths of the maps do not divide by the number of heads, or shapes or types do not fit.
pub fn attention(
    tape: &mut Tape,
    input: &Tensor,
    weights: &AttentionWeights<'_>,
    heads: usize,
    mask: Mask,
) -> Result<Tensor> {
    let (_, batch, time, _) = input.dims4()?;
    let lanes = weights.query.weight.dim(0)?;
    // [lanes, batch, time, heads · size] ─► [lanes, batch · heads, time, size]
    let split = |tape: &mut Tape, map: Affine<'_>| -> Result<Tensor> {
        let width = map.weight.dim(2)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            bail!("attention: a width of {width} does not divide into {heads} heads");
        }
        let mapped = dense(tape, input, map.weight, map.bias, Activation::Identity)?;
        let apart = reshape(tape, &mapped, &[lanes, batch, time, heads, width / heads])?;
        let by_head = permute(tape, &apart, &[0, 1, 3, 2, 4])?;
        reshape(tape, &by_head, &[lanes, batch * heads, time, width / heads])
    };
    let query = split(tape, weights.query)?;
    let key = split(tape, weights.key)?;
    let value = split(tape, weights.value)?;
    let size = query.dim(3)?;
    // Scaled before the product: time × size values instead of time × time.
    let query = scale(tape, &query, 1.0 / (size as f64).sqrt())?;
    let logits = matmul(tape, &query, &key, Transpose { left: false, right: true })?;
    let probabilities = softmax(tape, &logits, mask)?;
    let mixed = matmul(tape, &probabilities, &value, Transpose::default())?;
    let value_size = value.dim(3)?;
    let by_head = reshape(tape, &mixed, &[lanes, batch, heads, time, value_size])?;
    let by_time = permute(tape, &by_head, &[0, 1, 3, 2, 4])?;
    let joined = reshape(tape, &by_time, &[lanes, batch, time, heads * value_size])?;
    dense(tape, &joined, weights.output.weight, weights.output.bias, Activation::Identity)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    /// Input, then weights and biases of query, key, value and output: 2 heads of 3, values of 2.
    fn arguments(lanes: usize) -> Vec<Tensor> {
        let mut arguments = vec![values(&[lanes, 2, 4, 5], 0)];
        for (salt, (inputs, outputs)) in [(5, 6), (5, 6), (5, 4), (4, 3)].into_iter().enumerate() {
            arguments.push((values(&[lanes, inputs, outputs], 2 * salt + 1) * 0.3).unwrap());
            arguments.push(values(&[lanes, outputs], 2 * salt + 2));
        }
        arguments
    }

    fn run(tape: &mut Tape, x: &[Tensor], mask: Mask) -> Result<Tensor> {
        let map = |i: usize| Affine { weight: &x[i], bias: &x[i + 1] };
        let weights = AttentionWeights { query: map(1), key: map(3), value: map(5), output: map(7) };
        attention(tape, &x[0], &weights, 2, mask)
    }

    #[test]
    fn gradients_are_those_of_differences() {
        // A bias of the keys moves all logits of a row alike, so its gradient is 0: it is given, not checked.
        for mask in [Mask::None, Mask::Causal] {
            let all = arguments(2);
            let without: Vec<Tensor> =
                all.iter().enumerate().filter(|&(i, _)| i != 4).map(|(_, x)| x.clone()).collect();
            check("attention", &without, |tape, x| {
                let whole = [&x[..4], &all[4..5], &x[4..]].concat();
                run(tape, &whole, mask)
            });
            lanes_are_independent(&arguments(3), |tape, x| run(tape, x, mask));
        }
    }

    #[test]
    fn values_are_those_of_candle_head_by_head() {
        let x = arguments(1);
        let of = |i: usize| x[i].get(0).unwrap();
        let linear =
            |input: &Tensor, i: usize| input.broadcast_matmul(&of(i)).unwrap().broadcast_add(&of(i + 1)).unwrap();
        for (mask, ahead) in [(Mask::None, 0.0), (Mask::Causal, f64::NEG_INFINITY)] {
            let hidden: Vec<f64> = (0..16).map(|i| if i % 4 > i / 4 { ahead } else { 0.0 }).collect();
            let hidden = Tensor::from_vec(hidden, (4, 4), &Device::Cpu).unwrap();
            let heads: Vec<Tensor> = (0..2)
                .map(|head| {
                    let part = |i: usize, size: usize| {
                        linear(&of(0), i).narrow(2, head * size, size).unwrap().contiguous().unwrap()
                    };
                    let (query, key, value) = (part(1, 3), part(3, 3), part(5, 2));
                    let logits =
                        (query.matmul(&key.t().unwrap().contiguous().unwrap()).unwrap() / 3.0_f64.sqrt()).unwrap();
                    let masked = logits.broadcast_add(&hidden).unwrap();
                    candle_nn::ops::softmax(&masked, 2).unwrap().matmul(&value).unwrap()
                })
                .collect();
            let expected = linear(&Tensor::cat(&heads, 2).unwrap(), 7);
            close("attention", &run(&mut Tape::default(), &x, mask).unwrap().get(0).unwrap(), &expected, 1e-12);
        }
    }

    #[test]
    fn heads_that_do_not_divide_are_refused() {
        let x = arguments(1);
        let map = |i: usize| Affine { weight: &x[i], bias: &x[i + 1] };
        let weights = AttentionWeights { query: map(1), key: map(3), value: map(5), output: map(7) };
        let error = attention(&mut Tape::default(), &x[0], &weights, 4, Mask::None).unwrap_err().to_string();
        assert!(error.contains("width of 6 does not divide into 4 heads"), "{error}");
    }
}
