//! Table look-up: each token its vector. The backward pass adds gradients to the rows in the order of the tokens.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::slices::{block, block_mut, lane_of};
use super::{Tape, by_type, host, tensor};

/// Rows of `table` `[lanes, vocabulary, channels]` for the ids of `[lanes | 1, batch, time]`, row by row: the result is
/// `[lanes, batch, time, channels]`. `shape` is `[batch, time]`.
///
/// # Errors
/// If there are not as many ids as the shape says, for one lane or for all, or an id names no row.
pub fn embedding(tape: &mut Tape, table: &Tensor, ids: &Arc<Vec<u32>>, shape: [usize; 2]) -> Result<Tensor> {
    let (lanes, vocabulary, channels) = table.dims3()?;
    let [batch, time] = shape;
    let count = batch * time;
    if count == 0 || (ids.len() != count && ids.len() != lanes * count) {
        bail!("embedding: {} ids for {lanes} lanes of {batch}×{time}", ids.len());
    }
    if let Some(place) = ids.iter().position(|&id| id as usize >= vocabulary) {
        bail!("embedding: id {} at place {place} names no row of a table of {vocabulary}", ids[place]);
    }
    let output = by_type!("embedding", table.dtype(), forward::<_>(table, ids, shape))?;
    let (dtype, dims, ids) = (table.dtype(), table.dims().to_vec(), Arc::clone(ids));
    debug_assert_eq!(output.dims(), [lanes, batch, time, channels]);
    Ok(tape.record_keeping("embedding", &[table], output, &[], move |grad, _| {
        by_type!("embedding", dtype, backward::<_>(&dims, &ids, count, grad)).map(|gradient| vec![Some(gradient)])
    }))
}

fn forward<T: Real>(table: &Tensor, ids: &[u32], [batch, time]: [usize; 2]) -> Result<Tensor> {
    let guard = table.storage_and_layout();
    let values = host::<T>(&guard)?;
    let (lanes, vocabulary, channels) = table.dims3()?;
    let mut output = Vec::with_capacity(lanes * batch * time * channels);
    for lane in 0..lanes {
        let rows = block(values, lane, vocabulary * channels);
        for &id in lane_of(ids, lane, batch * time) {
            output.extend_from_slice(block(rows, id as usize, channels));
        }
    }
    tensor(output, &[lanes, batch, time, channels])
}

fn backward<T: Real>(dims: &[usize], ids: &[u32], count: usize, grad: &Tensor) -> Result<Tensor> {
    let guard = grad.storage_and_layout();
    let grads = host::<T>(&guard)?;
    let (size, channels) = (dims[1] * dims[2], dims[2]);
    let mut table = vec![T::zero(); dims[0] * size];
    for lane in 0..dims[0] {
        let rows = block_mut(&mut table, lane, size);
        for (place, &id) in lane_of(ids, lane, count).iter().enumerate() {
            let grad = block(grads, lane * count + place, channels);
            block_mut(rows, id as usize, channels).iter_mut().zip(grad).for_each(|(sum, &grad)| *sum += grad);
        }
    }
    tensor(table, dims)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    #[test]
    fn gradients_are_those_of_differences_with_ids_that_come_twice() {
        let table = values(&[2, 4, 3], 0);
        for ids in [vec![3, 0, 3, 3, 1, 0], vec![3, 0, 3, 3, 1, 0, 2, 2, 0, 1, 1, 1]] {
            let ids = Arc::new(ids);
            check("embedding", std::slice::from_ref(&table), |tape, x| embedding(tape, &x[0], &ids, [2, 3]));
        }
        let ids = Arc::new(vec![3, 0, 3, 3, 1, 0]);
        lanes_are_independent(&[values(&[3, 4, 5], 0)], |tape, x| embedding(tape, &x[0], &ids, [2, 3]));
    }

    #[test]
    fn values_are_those_of_candle() {
        let (table, ids) = (values(&[2, 4, 3], 0), [3_u32, 0, 2, 3, 1, 0]);
        let got = embedding(&mut Tape::default(), &table, &Arc::new(ids.to_vec()), [2, 3]).unwrap();
        let ids = Tensor::from_vec(ids.to_vec(), (2, 3), &Device::Cpu).unwrap();
        for lane in 0..2 {
            let layer = candle_nn::Embedding::new(table.get(lane).unwrap(), 3);
            close("embedding", &got.get(lane).unwrap(), &candle_nn::Module::forward(&layer, &ids).unwrap(), 0.0);
        }
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        let run = |ids: Vec<u32>| {
            let table = values(&[2, 4, 3], 0);
            embedding(&mut Tape::default(), &table, &Arc::new(ids), [1, 3]).unwrap_err().to_string()
        };
        assert!(run(vec![0, 4, 1]).contains("id 4 at place 1"));
        assert!(run(vec![0, 1]).contains("2 ids for 2 lanes of 1×3"));
    }
}
