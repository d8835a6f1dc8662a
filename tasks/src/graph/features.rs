//! Node features as compressed sparse rows.

use std::ops::Range;

/// Features `[nodes, columns]`; a row's columns ascend. Rows of procedural graphs are full.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Features {
    columns: usize,
    /// Entries of row `r` are `offsets[r]..offsets[r + 1]`.
    offsets: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl Features {
    /// No rows yet, of this many columns.
    pub(super) fn empty(columns: usize) -> Self {
        Self { columns, offsets: vec![0], indices: Vec::new(), values: Vec::new() }
    }

    /// Adds a row whose entries at the ascending columns `indices` are all `value`.
    pub(super) fn push_constant(&mut self, indices: &[u32], value: f32) {
        debug_assert!(indices.is_sorted() && indices.last().is_none_or(|&last| (last as usize) < self.columns));
        self.indices.extend_from_slice(indices);
        self.values.resize(self.indices.len(), value);
        self.offsets.push(self.indices.len());
    }

    /// Full rows, one after the other.
    pub(super) fn full(columns: usize, values: Vec<f32>) -> Self {
        let rows = values.len() / columns;
        assert_eq!(rows * columns, values.len(), "whole rows");
        let indices = (0..rows).flat_map(|_| 0..columns as u32).collect();
        Self { columns, offsets: (0..=rows).map(|row| row * columns).collect(), indices, values }
    }

    /// Number of nodes.
    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of features of a node.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns and values of a node's features that are not zero.
    pub(crate) fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let entries: Range<usize> = self.offsets[row]..self.offsets[row + 1];
        (&self.indices[entries.clone()], &self.values[entries])
    }

    /// All `[nodes, columns]` values.
    pub(crate) fn to_dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.rows() * self.columns];
        for (row, values) in dense.chunks_exact_mut(self.columns).enumerate() {
            let (indices, entries) = self.row(row);
            indices.iter().zip(entries).for_each(|(&index, &entry)| values[index as usize] = entry);
        }
        dense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut features = Features::empty(4);
        features.push_constant(&[1, 3], 0.5);
        features.push_constant(&[], 1.0);
        features.push_constant(&[0], 1.0);
        assert_eq!((features.rows(), features.columns()), (3, 4));
        assert_eq!(features.row(0), (&[1, 3][..], &[0.5, 0.5][..]));
        assert_eq!(features.to_dense(), [0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let values: Vec<f32> = (0..6_u8).map(f32::from).collect();
        let full = Features::full(3, values.clone());
        assert_eq!(full.row(1), (&[0, 1, 2][..], &[3.0, 4.0, 5.0][..]));
        assert_eq!(full.to_dense(), values);
    }
}
