//! Node features as compressed sparse rows.

use std::ops::Range;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;

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
    pub(crate) fn empty(columns: usize) -> Self {
        Self { columns, offsets: vec![0], indices: Vec::new(), values: Vec::new() }
    }

    /// Adds a row whose entries at the ascending columns `indices` are all `value`.
    pub(crate) fn push_constant(&mut self, indices: &[u32], value: f32) {
        debug_assert!(indices.is_sorted() && indices.last().is_none_or(|&last| (last as usize) < self.columns));
        self.indices.extend_from_slice(indices);
        self.values.resize(self.indices.len(), value);
        self.offsets.push(self.indices.len());
    }

    /// Full rows, one after the other.
    pub(crate) fn full(columns: usize, values: Vec<f32>) -> Self {
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

    /// Dropout: entries are left out with probability `rate` in `[0, 1)`, by `seed`, and the others grow by `1 / (1 −
    /// rate)`. One word a stored entry is drawn: what is zero stays zero either way (as Kipf and Welling's code does).
    #[must_use]
    pub(crate) fn dropped(&self, rate: f64, seed: Seed) -> Self {
        const BLOCK: usize = 256;
        // No word is between a number and the next integer. It may be 2³².
        let limit = (rate * (1_u64 << 32) as f64).ceil() as u64;
        let grown = (1.0 / (1.0 - rate)) as f32;
        let mut draws = Draws::new(seed);
        let mut words = [0; BLOCK];
        let total = self.indices.len();
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let (mut indices, mut values) = (vec![0; total], vec![0.0; total]);
        let (mut entry, mut count) = (0, 0);
        for row in 0..self.rows() {
            let (of_row, values_of_row) = self.row(row);
            for (&index, &value) in of_row.iter().zip(values_of_row) {
                if entry % BLOCK == 0 {
                    draws.fill_words(&mut words[..BLOCK.min(total - entry)]);
                }
                // Written in any case, and over again if dropped: no processor can guess which way a branch would go.
                indices[count] = index;
                values[count] = grown * value;
                count += usize::from(u64::from(words[entry % BLOCK]) >= limit);
                entry += 1;
            }
            offsets.push(count);
        }
        indices.truncate(count);
        values.truncate(count);
        let mut kept = Self { columns: self.columns, offsets, indices, values };
        // They live as long as a step, when memory is scarce.
        kept.indices.shrink_to_fit();
        kept.values.shrink_to_fit();
        kept
    }

    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.offsets) + size_of_val(&*self.indices) + size_of_val(&*self.values)
    }

    /// All `[nodes, columns]` values.
    #[cfg(test)]
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

    #[test]
    fn dropout_leaves_entries_out_and_keeps_the_mean() {
        let full = Features::full(50, vec![0.5; 200 * 50]);
        let dropped = full.dropped(0.25, Seed::new(1));
        assert_eq!(dropped, full.dropped(0.25, Seed::new(1)));
        assert_ne!(dropped, full.dropped(0.25, Seed::new(2)));
        assert_eq!((dropped.rows(), dropped.columns()), (200, 50));
        // Binomial of mean 7500 and deviation 43: five deviations.
        assert!(dropped.values.len().abs_diff(7_500) < 217, "{}", dropped.values.len());
        assert!(dropped.values.iter().all(|&value| value == 0.5 * (4.0_f64 / 3.0) as f32));
        for row in 0..200 {
            let (indices, values) = dropped.row(row);
            assert!(indices.len() == values.len() && indices.is_sorted_by(|a, b| a < b));
        }
        assert_eq!(full.dropped(0.0, Seed::new(1)), full);
        let mut draws = Draws::new(Seed::new(1));
        let words: Vec<f64> = (0..200 * 50).map(|_| f64::from(draws.word())).collect();
        let entries: Vec<u32> =
            (0..50).filter(|&column| words[199 * 50 + column as usize] / 2_f64.powi(32) >= 0.25).collect();
        assert_eq!(dropped.row(199).0, entries);
        let mut sparse = Features::empty(4);
        sparse.push_constant(&[], 1.0);
        sparse.push_constant(&[2], 1.0);
        assert!((0..20).all(|seed| matches!(sparse.dropped(0.5, Seed::new(seed)).row(1).0, [] | [2])));
    }
}
