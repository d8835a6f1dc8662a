//! Copies with another order of axes.
//!
//! ```text
//!  candle [out, in], strides (in, 1)                        reference [in, out]
//!  │ a b c │      axes 1 0: walk in, then out              │ a d │
//!  │ d e f │      dims (3, stride 1) (2, stride 3)         │ b e │
//!                                                          │ c f │
//! ```
//!
//! A gradient may be a view with any strides, so reading it and changing its axes is one walk.

use candle_core::{CpuStorage, Device, Storage, Tensor};

use crate::Result;

/// Side of a tile. Columns of a large matrix lie a power of two apart, so only as many of them stay in the first-level
/// cache as it has ways: of 1024² values, tiles of 8 are permuted in 0.9 ns each, of 32 in 2.6, without tiles in 3.4.
const TILE: usize = 8;

/// An axis to walk: its length, and how far apart its values lie in the source.
type Dim = (usize, usize);

/// Copies `tensor` with its axes in the order of `axes`, row-major.
///
/// # Errors
/// [`crate::Error::Candle`] if the device fails.
pub(super) fn read(tensor: &Tensor, axes: &[usize], out: &mut [f32]) -> Result<()> {
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let Storage::Cpu(CpuStorage::F32(values)) = &*storage {
            let dims: Vec<Dim> = axes.iter().map(|&axis| (layout.dims()[axis], layout.stride()[axis])).collect();
            copy(&values[layout.start_offset()..], &dims, out);
            return Ok(());
        }
    }
    // Another device: its values come as a row-major copy.
    let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    let strides = row_major(tensor.dims());
    let dims: Vec<Dim> = axes.iter().map(|&axis| (tensor.dims()[axis], strides[axis])).collect();
    copy(&values, &dims, out);
    Ok(())
}

/// The inverse of [`read`]: values whose axes are in the order of `axes`, back in the order of `shape`.
pub(super) fn restore(values: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let permuted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let strides = row_major(&permuted);
    let mut dims: Vec<Dim> = shape.iter().map(|&len| (len, 0)).collect();
    for (&axis, stride) in axes.iter().zip(strides) {
        dims[axis].1 = stride;
    }
    let mut out = vec![0.0; values.len()];
    copy(values, &dims, &mut out);
    out
}

/// Strides of a row-major tensor.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Fills `out`, row-major in `dims`.
fn copy(source: &[f32], dims: &[Dim], out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let Some((&(width, step), outer)) = dims.split_last() else {
        out[0] = source[0];
        return;
    };
    // The axis along which the source is contiguous, to be walked in step with the last one.
    let along = if step == 1 { None } else { outer.iter().rposition(|&(len, stride)| stride == 1 && len > 1) };
    let strides = row_major(&dims.iter().map(|&(len, _)| len).collect::<Vec<_>>());
    let (height, rise) = along.map_or((1, 0), |axis| (outer[axis].0, strides[axis]));
    let others = (0..outer.len()).filter(|&axis| Some(axis) != along);
    let walked: Vec<(usize, usize, usize)> = others.map(|axis| (outer[axis].0, outer[axis].1, strides[axis])).collect();
    each_offset(&walked, 0, 0, &mut |from, to| {
        let (source, out) = (&source[from..], &mut out[to..]);
        if step == 1 {
            out[..width].copy_from_slice(&source[..width]);
            return;
        }
        for top in (0..height).step_by(TILE) {
            for left in (0..width).step_by(TILE) {
                for y in top..height.min(top + TILE) {
                    for x in left..width.min(left + TILE) {
                        out[y * rise + x] = source[y + x * step];
                    }
                }
            }
        }
    });
}

/// Calls `visit` with the offsets, in source and target, of every index of some axes `(length, source, target stride)`.
fn each_offset(axes: &[(usize, usize, usize)], from: usize, to: usize, visit: &mut impl FnMut(usize, usize)) {
    match axes.split_first() {
        None => visit(from, to),
        Some((&(len, source, target), rest)) => {
            for index in 0..len {
                each_offset(rest, from + index * source, to + index * target, visit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Tensor {
        let size: usize = shape.iter().product();
        Tensor::from_vec((0..size).map(|i| i as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn axes_are_permuted_as_candle_would() {
        for (shape, axes) in [
            (vec![], vec![]),
            (vec![7], vec![0]),
            (vec![3, 2], vec![1, 0]),
            (vec![70, 45], vec![1, 0]),
            (vec![1, 45], vec![1, 0]),
            (vec![45, 1], vec![1, 0]),
            (vec![6, 5, 3], vec![2, 1, 0]),
            (vec![6, 5, 3, 2], vec![2, 3, 1, 0]),
            (vec![6, 5, 1, 1], vec![2, 3, 1, 0]),
            (vec![40, 37, 3, 3], vec![2, 3, 1, 0]),
            (vec![6, 5, 3, 2], vec![0, 1, 2, 3]),
            (vec![4, 0, 3], vec![2, 1, 0]),
        ] {
            let tensor = counted(&shape);
            let expected = tensor.permute(axes.clone()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut out = vec![-1.0; expected.len()];
            read(&tensor, &axes, &mut out).unwrap();
            assert_eq!(out, expected, "{shape:?} {axes:?}");
            let back = restore(&out, &shape, &axes);
            assert_eq!(back, tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), "{shape:?} {axes:?}");
        }
    }

    #[test]
    fn views_are_read_through_their_strides() {
        let base = counted(&[9, 8, 5]);
        for view in [
            base.transpose(0, 2).unwrap(),
            base.narrow(1, 2, 3).unwrap(),
            base.narrow(0, 4, 5).unwrap().transpose(1, 2).unwrap(),
            counted(&[8, 1]).broadcast_as((6, 8, 5)).unwrap(),
            counted(&[5]).broadcast_as((6, 8, 5)).unwrap(),
        ] {
            let axes = [2, 0, 1];
            let expected = view.permute(axes).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut out = vec![-1.0; expected.len()];
            read(&view, &axes, &mut out).unwrap();
            assert_eq!(out, expected, "{:?}", view.layout());
        }
    }
}
