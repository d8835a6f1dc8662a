//! Parts of flat values: which block of them belongs to a lane.

/// The `index`-th block of `size` values.
pub(super) fn block<T>(values: &[T], index: usize, size: usize) -> &[T] {
    &values[index * size..(index + 1) * size]
}

/// The `index`-th block of `size` values, to write.
pub(super) fn block_mut<T>(values: &mut [T], index: usize, size: usize) -> &mut [T] {
    &mut values[index * size..(index + 1) * size]
}

/// The block of `size` values of one lane, or the only block there is, which all lanes share.
pub(super) fn lane_of<T>(values: &[T], lane: usize, size: usize) -> &[T] {
    block(values, if values.len() == size { 0 } else { lane }, size)
}

/// Swaps the first two axes of `[rows, columns, size]` values: batch-major to time-major and back.
pub(super) fn swap_axes<T: Copy>(to: &mut [T], from: &[T], [rows, columns, size]: [usize; 3]) {
    for row in 0..rows {
        for column in 0..columns {
            block_mut(to, column * rows + row, size).copy_from_slice(block(from, row * columns + column, size));
        }
    }
}
