//! Pass 1 over a matrix: the means of the squared gradient along its factored axes.
//!
//! ```text
//!  a run (along the last axis)     row and column index stand still or count up
//!  g g g g g g │ g g g g g g       still:     Σ of the run, 16 sums side by side, added up in f64
//!                                  counting:  one f64 sum an index, to which each run adds
//! ```

use super::super::axes::Factored;
use super::clip;
use crate::parallel::{GRAIN, Split, by_grains, grains};
use crate::simd::{Kernel, Simd, WIDTH, dispatch};

/// Added to each square: never zero, so that roots of averages can be divided by.
const PAD: f32 = 1e-30;

/// Blocks of squares that are added up in f32.
const BLOCKS_OF_A_SUM: usize = 32;

/// Sums of the padded squares: one a row value, one a column value.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Over d0.
    pub(super) rows: Vec<f64>,
    /// Over d1.
    pub(super) cols: Vec<f64>,
    /// Those of the pieces of a large tensor.
    pieces: Vec<Sums>,
}

/// What has no elements of its own to be cut: a piece is known by its number.
struct Numbers;

impl Split for Numbers {
    fn split_at(self, _: usize) -> (Self, Self) {
        (Self, Self)
    }
}

impl Sums {
    /// Takes the sums of a gradient, clipped if `CLIP`.
    pub(super) fn take<const CLIP: bool>(&mut self, axes: &Factored, g: &[f32], shared: bool) {
        let runs = g.len() / axes.run_length();
        // A piece has its own sums: so few pieces that these are small beside the tensor.
        let least = GRAIN.max(4 * (axes.rows() + axes.cols()));
        let runs_of_a_piece = least.div_ceil(axes.run_length());
        let pieces = runs.div_ceil(runs_of_a_piece);
        if pieces <= 1 {
            self.clear(axes);
            return dispatch(Add::<CLIP> { sums: self, axes, g, first: 0 });
        }
        self.pieces.resize_with(pieces, Self::default);
        let values = runs_of_a_piece * axes.run_length();
        debug_assert_eq!(grains(pieces * GRAIN), pieces);
        by_grains(Numbers, &mut self.pieces, shared, &|_, start, piece: &mut Self| {
            let index = start / GRAIN;
            let end = g.len().min((index + 1) * values);
            piece.clear(axes);
            dispatch(Add::<CLIP> { sums: piece, axes, g: &g[index * values..end], first: index * runs_of_a_piece });
        });
        self.rows.clear();
        self.rows.resize(axes.rows(), 0.0);
        self.cols.clear();
        self.cols.resize(axes.cols(), 0.0);
        for piece in &self.pieces {
            self.rows.iter_mut().zip(&piece.rows).for_each(|(sum, piece)| *sum += piece);
            self.cols.iter_mut().zip(&piece.cols).for_each(|(sum, piece)| *sum += piece);
        }
    }

    fn clear(&mut self, axes: &Factored) {
        for (sums, size) in [(&mut self.rows, axes.rows()), (&mut self.cols, axes.cols())] {
            sums.clear();
            sums.resize(size, 0.0);
        }
    }
}

/// Adds the squares of the runs from `first` on.
struct Add<'a, const CLIP: bool> {
    sums: &'a mut Sums,
    axes: &'a Factored,
    g: &'a [f32],
    first: usize,
}

impl<const CLIP: bool> Kernel for Add<'_, CLIP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sums, axes, g, first } = self;
        let (rows, cols) = (&mut sums.rows[..], &mut sums.cols[..]);
        let length = axes.run_length();
        let (runs, row_step, col_step) = axes.run_series();
        let mut run = axes.run_at(first);
        let mut left = runs - first % runs;
        let mut number = first;
        for g in g.chunks_exact(length) {
            match axes.run_steps() {
                (0, _) => {
                    rows[run.row] += add_run::<S, CLIP, _>(s, g, [&mut cols[run.col..run.col + length]]);
                }
                (_, 0) => {
                    cols[run.col] += add_run::<S, CLIP, _>(s, g, [&mut rows[run.row..run.row + length]]);
                }
                _ => {
                    let sums = [&mut rows[run.row..run.row + length], &mut cols[run.col..run.col + length]];
                    add_run::<S, CLIP, _>(s, g, sums);
                }
            }
            number += 1;
            left -= 1;
            if left == 0 {
                (run, left) = (axes.run_at(number), runs);
            } else {
                run.row += row_step;
                run.col += col_step;
            }
        }
    }
}

/// Adds the squares of a run to the sums of their indices and gives the sum of all.
#[inline(always)]
fn add_run<S: Simd, const CLIP: bool, const N: usize>(s: S, g: &[f32], mut sums: [&mut [f64]; N]) -> f64 {
    let (mut total, mut of_blocks, mut blocks) = (0.0, s.zero(), 0);
    let mut start = 0;
    while start < g.len() {
        let count = WIDTH.min(g.len() - start);
        let x = clip::<S, CLIP>(s, s.load_part(&g[start..start + count]));
        let square = s.fma(x, x, s.splat(PAD));
        let mut values = [0.0; WIDTH];
        s.store(square, &mut values);
        for sums in &mut sums {
            let sums = &mut sums[start..start + count];
            match sums.first_chunk_mut::<WIDTH>() {
                Some(sums) => {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += f64::from(value);
                    }
                }
                None => {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += f64::from(value);
                    }
                }
            }
        }
        of_blocks = s.add(of_blocks, if count == WIDTH { square } else { s.first(square, count) });
        blocks += 1;
        if blocks == BLOCKS_OF_A_SUM {
            total += f64::from(s.sum(of_blocks));
            (of_blocks, blocks) = (s.zero(), 0);
        }
        start += WIDTH;
    }
    total + f64::from(s.sum(of_blocks))
}
