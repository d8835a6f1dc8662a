//! Numbers over rows (bins, bands, coefficients) and frames (time).

/// `rows × frames` numbers, row-major: one row is one bin, band or coefficient over time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid<T> {
    rows: usize,
    frames: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> Grid<T> {
    /// All zero.
    pub(crate) fn zeros(rows: usize, frames: usize) -> Self {
        Self { rows, frames, values: vec![T::default(); rows * frames] }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// All numbers, row after row.
    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    /// One row over time.
    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.values[row * self.frames..(row + 1) * self.frames]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.values[row * self.frames..(row + 1) * self.frames]
    }

    /// The number at a row and a frame.
    pub(crate) fn at(&self, row: usize, frame: usize) -> T {
        self.row(row)[frame]
    }

    pub(crate) fn set(&mut self, row: usize, frame: usize, value: T) {
        self.row_mut(row)[frame] = value;
    }

    /// Every number through `change`.
    pub(crate) fn map<U>(&self, change: impl FnMut(T) -> U) -> Grid<U> {
        Grid { rows: self.rows, frames: self.frames, values: self.values.iter().copied().map(change).collect() }
    }

    /// Every pair of numbers of two grids of one shape through `join`.
    pub(crate) fn zip<U: Copy, V>(&self, other: &Grid<U>, join: impl Fn(T, U) -> V) -> Grid<V> {
        debug_assert_eq!((self.rows, self.frames), (other.rows, other.frames));
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| join(a, b)).collect();
        Grid { rows: self.rows, frames: self.frames, values }
    }
}
