//! Factored axes: which two axes of a tensor a factored second moment is averaged over, and where a row or a column
//! value of an element lies.
//!
//! ```text
//!              d1 ─►                          d0: the largest axis, d1: the second largest
//!          ┌──────────────┐                   v_row: mean over d0, so the shape without d0
//!      d0  │ element i, j │ v_col[i]          v_col: mean over d1, so the shape without d1
//!      ▼   └──────────────┘
//!            v_row[j]                         all other axes (kernel height, width) stay
//! ```
//!
//! Elements are walked in row-major order. Along the last axis a row index either stands still (the axis is d0) or
//! counts up, and so does a column index: such a stretch is a [`Run`].

use std::ops::Range;

/// The factored axes of one tensor of rank ≥ 2.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factored {
    shape: Vec<usize>,
    row_strides: Vec<usize>,
    col_strides: Vec<usize>,
    /// Shape of `v_row`: without the largest axis.
    pub(crate) row_shape: Vec<usize>,
    /// Shape of `v_col`: without the second largest axis.
    pub(crate) col_shape: Vec<usize>,
    /// Number of elements behind one row value: the size of d0.
    pub(crate) row_count: usize,
    /// Number of elements behind one column value: the size of d1.
    pub(crate) col_count: usize,
    /// Where d1 lies within `v_row`: entries before, along and after it.
    pub(crate) row_split: [usize; 3],
}

/// Which axes of a tensor of this shape a factored second moment is averaged over: the largest and the second largest.
/// Ties go to the later axis (a stable ascending sort); there is no least size. `None` below rank 2.
pub fn factored_axes(shape: &[usize]) -> Option<[usize; 2]> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| shape[axis]);
    let [.., d1, d0] = axes[..] else { return None };
    Some([d0, d1])
}

/// Elements along the last axis, with the row and column index of the first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    /// Row index of the first element.
    pub(crate) row: usize,
    /// Column index of the first element.
    pub(crate) col: usize,
}

impl Factored {
    /// The [`factored_axes`] of `shape`.
    pub(crate) fn of(shape: &[usize]) -> Option<Self> {
        let [d0, d1] = factored_axes(shape)?;
        let (row_shape, row_strides) = without(shape, d0);
        let (col_shape, col_strides) = without(shape, d1);
        let d1_in_row = if d1 > d0 { d1 - 1 } else { d1 };
        let row_split = [
            row_shape[..d1_in_row].iter().product(),
            row_shape[d1_in_row],
            row_shape[d1_in_row + 1..].iter().product(),
        ];
        let (row_count, col_count) = (shape[d0], shape[d1]);
        Some(Self {
            shape: shape.to_vec(),
            row_strides,
            col_strides,
            row_shape,
            col_shape,
            row_count,
            col_count,
            row_split,
        })
    }

    /// Number of row values.
    pub(super) fn rows(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// Number of column values.
    pub(super) fn cols(&self) -> usize {
        self.col_shape.iter().product()
    }

    /// Length of every run.
    pub(crate) fn run_length(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// What one element further along a run adds to the row and to the column index: 0 or 1.
    pub(crate) fn run_steps(&self) -> (usize, usize) {
        (self.row_strides[self.shape.len() - 1], self.col_strides[self.shape.len() - 1])
    }

    /// The runs of the tensor in row-major order.
    pub(crate) fn runs(&self) -> Runs<'_> {
        let outer = self.shape.len() - 1;
        let left = self.shape[..outer].iter().product();
        Runs { axes: self, index: vec![0; outer], next: Run { row: 0, col: 0 }, left }
    }

    /// Row and column index of the first element of a run.
    pub(super) fn run_at(&self, run: usize) -> Run {
        let mut left = run;
        let mut first = Run { row: 0, col: 0 };
        for axis in (0..self.shape.len() - 1).rev() {
            let index = left % self.shape[axis];
            left /= self.shape[axis];
            first.row += index * self.row_strides[axis];
            first.col += index * self.col_strides[axis];
        }
        first
    }

    /// How many runs follow one another along the last axis but one, and what each adds to the row and column index.
    pub(super) fn run_series(&self) -> (usize, usize, usize) {
        let axis = self.shape.len() - 2;
        (self.shape[axis], self.row_strides[axis], self.col_strides[axis])
    }

    /// The tensor as one slice.
    pub(super) fn whole(&self) -> Slice {
        Slice { elements: 0..self.shape.iter().product(), rows: 0..self.rows(), cols: 0..self.cols() }
    }

    /// The matrices of the last two axes, in row-major order.
    pub(super) fn matrices(&self) -> impl Iterator<Item = Slice> + '_ {
        let last = self.shape.len() - 2..self.shape.len();
        let size: usize = self.shape[last.clone()].iter().product();
        // The axes that stay in the rows (or columns) of second moments are their last ones, so their values lie together.
        let count = |strides: &[usize]| -> usize {
            last.clone().filter(|&axis| strides[axis] > 0).map(|axis| self.shape[axis]).product()
        };
        let (rows, cols) = (count(&self.row_strides), count(&self.col_strides));
        let firsts = self.runs().step_by(self.shape[last.start].max(1)).enumerate();
        firsts.map(move |(index, first)| Slice {
            elements: index * size..(index + 1) * size,
            rows: first.row..first.row + rows,
            cols: first.col..first.col + cols,
        })
    }
}

/// Consecutive elements, and the rows and columns of second moments they meet. Each of those stands behind equally many
/// of the elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slice {
    /// The elements.
    pub(super) elements: Range<usize>,
    /// Row values.
    pub(super) rows: Range<usize>,
    /// Column values.
    pub(super) cols: Range<usize>,
}

/// The shape without `axis`, and the strides of its row-major layout seen from the full shape (0 along `axis`).
fn without(shape: &[usize], axis: usize) -> (Vec<usize>, Vec<usize>) {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for other in (0..shape.len()).rev().filter(|&other| other != axis) {
        strides[other] = stride;
        stride *= shape[other];
    }
    let rest = shape.iter().enumerate().filter(|&(other, _)| other != axis).map(|(_, &size)| size).collect();
    (rest, strides)
}

/// Iterator over [`Run`]s: an odometer over all axes but the last.
#[derive(Debug)]
pub(crate) struct Runs<'a> {
    axes: &'a Factored,
    index: Vec<usize>,
    next: Run,
    left: usize,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        self.left = self.left.checked_sub(1)?;
        let run = self.next;
        for axis in (0..self.index.len()).rev() {
            self.index[axis] += 1;
            self.next.row += self.axes.row_strides[axis];
            self.next.col += self.axes.col_strides[axis];
            if self.index[axis] < self.axes.shape[axis] {
                break;
            }
            self.next.row -= self.index[axis] * self.axes.row_strides[axis];
            self.next.col -= self.index[axis] * self.axes.col_strides[axis];
            self.index[axis] = 0;
        }
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row and column index of every element, from the definition.
    fn by_definition(shape: &[usize], d0: usize, d1: usize) -> Vec<(usize, usize)> {
        let size: usize = shape.iter().product();
        let flatten = |index: &[usize], skip: usize| {
            (0..shape.len()).filter(|&axis| axis != skip).fold(0, |flat, axis| flat * shape[axis] + index[axis])
        };
        (0..size)
            .map(|mut flat| {
                let mut index = vec![0; shape.len()];
                for axis in (0..shape.len()).rev() {
                    index[axis] = flat % shape[axis];
                    flat /= shape[axis];
                }
                (flatten(&index, d0), flatten(&index, d1))
            })
            .collect()
    }

    fn by_runs(axes: &Factored) -> Vec<(usize, usize)> {
        let (row_step, col_step) = axes.run_steps();
        let of_run = |run: Run| (0..axes.run_length()).map(move |j| (run.row + j * row_step, run.col + j * col_step));
        axes.runs().flat_map(of_run).collect()
    }

    #[test]
    fn a_run_is_found_by_its_number_and_leads_to_the_next() {
        for shape in [vec![6, 5], vec![2, 1, 4, 3], vec![3, 3, 2, 4], vec![5, 40, 33], vec![1, 1]] {
            let axes = Factored::of(&shape).unwrap();
            let (series, row_step, col_step) = axes.run_series();
            let runs: Vec<Run> = axes.runs().collect();
            for (number, run) in runs.iter().enumerate() {
                assert_eq!(axes.run_at(number), *run, "shape {shape:?}");
                if (number + 1) % series != 0 {
                    let next = Run { row: run.row + row_step, col: run.col + col_step };
                    assert_eq!(runs[number + 1], next, "shape {shape:?}");
                }
            }
        }
    }

    #[test]
    fn axes_are_the_two_largest_and_ties_go_to_the_later() {
        for (shape, d0, d1) in [
            (vec![6, 5], 0, 1),
            (vec![5, 6], 1, 0),
            (vec![4, 4], 1, 0),
            (vec![1, 5], 1, 0),
            (vec![10, 1], 0, 1),
            (vec![2, 1, 4, 3], 2, 3),
            (vec![3, 3, 2, 4], 3, 1),
            (vec![4, 4, 1, 1], 1, 0),
            (vec![3, 3, 64, 64], 3, 2),
            (vec![64, 32], 0, 1),
            (vec![2, 40], 1, 0),
            (vec![5, 40, 33], 1, 2),
        ] {
            let axes = Factored::of(&shape).unwrap();
            assert_eq!(by_runs(&axes), by_definition(&shape, d0, d1), "shape {shape:?}");
            assert_eq!((axes.row_count, axes.col_count), (shape[d0], shape[d1]));
            assert_eq!(axes.row_split.iter().product::<usize>(), axes.rows());
            assert_eq!(axes.row_split[1], shape[d1]);
        }
    }

    #[test]
    fn matrices_meet_the_rows_and_columns_of_their_elements() {
        for shape in [vec![6, 5], vec![3, 3, 2, 4], vec![64, 8, 3], vec![5, 2, 3], vec![2, 40, 3, 40], vec![1, 1, 1]] {
            let axes = Factored::of(&shape).unwrap();
            let size: usize = shape.iter().product();
            let places = by_runs(&axes);
            let mut next = 0;
            for slice in axes.matrices() {
                assert_eq!(slice.elements.start, next, "shape {shape:?}");
                next = slice.elements.end;
                let places = &places[slice.elements.clone()];
                for row in slice.rows.clone() {
                    let behind = places.iter().filter(|place| place.0 == row).count();
                    assert_eq!(behind * slice.rows.len(), places.len(), "shape {shape:?}, row {row}");
                }
                for col in slice.cols.clone() {
                    let behind = places.iter().filter(|place| place.1 == col).count();
                    assert_eq!(behind * slice.cols.len(), places.len(), "shape {shape:?}, column {col}");
                }
            }
            assert_eq!(next, size, "shape {shape:?}");
        }
    }

    #[test]
    fn vectors_and_scalars_are_not_factored() {
        assert_eq!(Factored::of(&[]), None);
        assert_eq!(Factored::of(&[7]), None);
    }
}
