//! Products of a few rows with many weights, in tiles that stay in registers.
//!
//! ```text
//!                 V vectors of columns
//!               ┌───────────────┐          for each input k:
//!     w [k, …]  │ ▒▒▒▒▒▒▒▒▒▒▒▒▒ │            load V vectors of w
//!               ├───────────────┤            for each of R rows: splat x, V fused multiply-adds
//!  x   ░        │               │
//!  [R] ░        │  accumulators │          a panel of w is used for all rows while it lies in a cache,
//!      ░        │               │          and the next panel follows it in memory
//!               └───────────────┘
//! ```
//!
//! An output is one chain of fused multiply-adds over the inputs in order, from zero. So its bits depend on its row and
//! its weights alone: not on the tile, the other rows or the instruction set.

use crate::simd::{Kernel, Simd, WIDTH};

/// Columns of a panel.
pub(super) const PANEL: usize = 2 * WIDTH;

/// Most rows of a tile with 32 registers: 16 accumulators. (More rows were slower when measured.)
const MOST_ROWS: usize = 8;

/// Most rows of a tile with one vector a row, where registers are few.
const MOST_ROWS_OF_FEW: usize = 6;

/// Weights as the kernel reads them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weights<'a> {
    /// Panel after panel, each `[inputs, PANEL]`; the last is filled up with zeros.
    Panels(&'a [f32]),
    /// `[inputs, outputs]`, row-major.
    Rows(&'a [f32]),
}

/// `y = x W` for `x` `[rows, inputs]` and `y` `[rows, outputs]`, which is overwritten.
#[derive(Debug)]
pub(super) struct Product<'a> {
    pub(super) x: &'a [f32],
    pub(super) inputs: usize,
    pub(super) w: Weights<'a>,
    pub(super) y: &'a mut [f32],
    pub(super) outputs: usize,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { x, inputs, w, y, outputs } = self;
        let rows = y.len() / outputs;
        let most = if S::REGISTERS >= 32 { MOST_ROWS } else { MOST_ROWS_OF_FEW };
        let blocks = Blocks { rows, count: rows.div_ceil(most) };
        let x = blocks.interleaved(x, inputs);
        let mut padded = Vec::new();
        for first in (0..outputs).step_by(PANEL) {
            let columns = PANEL.min(outputs - first);
            let (w, stride) = match w {
                Weights::Panels(panels) => (&panels[first * inputs..(first + PANEL) * inputs], PANEL),
                Weights::Rows(w) if columns == PANEL => (&w[first..], outputs),
                Weights::Rows(w) => {
                    padded.resize(inputs * PANEL, 0.0);
                    super::matrix::fill_panel(&mut padded, |input| &w[input * outputs + first..(input + 1) * outputs]);
                    (&padded[..], PANEL)
                }
            };
            for (begin, rows) in blocks.iter() {
                let x = &x[begin * inputs..(begin + rows) * inputs];
                let y = &mut y[begin * outputs + first..];
                let place = Place { w, stride, y, outputs, columns };
                if S::REGISTERS >= 32 && columns > WIDTH {
                    wide(simd, rows, x, place);
                } else {
                    narrow(simd, rows, x, place);
                }
            }
        }
    }
}

/// Rows cut into nearly equal blocks.
#[derive(Clone, Copy)]
struct Blocks {
    rows: usize,
    count: usize,
}

impl Blocks {
    /// First row and number of rows of each block.
    #[inline(always)]
    fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { rows, count } = self;
        (0..count).map(move |block| {
            let (begin, end) = (rows * block / count, rows * (block + 1) / count);
            (begin, end - begin)
        })
    }

    /// `x` `[rows, inputs]`, in each block `[inputs, rows of it]`: one stream instead of one a row, whose distance may be a
    /// power of two.
    fn interleaved(self, x: &[f32], inputs: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        for (begin, rows) in self.iter() {
            let block = begin * inputs..(begin + rows) * inputs;
            let (x, out) = (&x[block.clone()], &mut out[block]);
            if rows == MOST_ROWS {
                let x: [&[f32]; MOST_ROWS] = std::array::from_fn(|row| &x[row * inputs..(row + 1) * inputs]);
                for (input, out) in out.as_chunks_mut::<MOST_ROWS>().0.iter_mut().enumerate() {
                    *out = std::array::from_fn(|row| x[row][input]);
                }
                continue;
            }
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                for (out, x) in out.chunks_exact_mut(rows).zip(x) {
                    out[row] = *x;
                }
            }
        }
        out
    }
}

/// A panel of weights and where its outputs go.
struct Place<'a> {
    /// Rows of at least `columns` rounded up to the tile, `stride` apart.
    w: &'a [f32],
    stride: usize,
    /// Rows `outputs` apart.
    y: &'a mut [f32],
    outputs: usize,
    columns: usize,
}

/// Two vectors a row.
#[inline(always)]
fn wide<S: Simd>(simd: S, rows: usize, x: &[f32], place: Place<'_>) {
    match rows {
        1 => tile::<S, 1, 2>(simd, x, place),
        2 => tile::<S, 2, 2>(simd, x, place),
        3 => tile::<S, 3, 2>(simd, x, place),
        4 => tile::<S, 4, 2>(simd, x, place),
        5 => tile::<S, 5, 2>(simd, x, place),
        6 => tile::<S, 6, 2>(simd, x, place),
        7 => tile::<S, 7, 2>(simd, x, place),
        8 => tile::<S, 8, 2>(simd, x, place),
        _ => unreachable!("a block has at most {MOST_ROWS} rows"),
    }
}

/// One vector a row, twice if there are more columns.
#[inline(always)]
fn narrow<S: Simd>(simd: S, rows: usize, x: &[f32], place: Place<'_>) {
    let Place { w, stride, y, outputs, columns } = place;
    for first in (0..columns).step_by(WIDTH) {
        let columns = WIDTH.min(columns - first);
        let place = Place { w: &w[first..], stride, y: &mut y[first..], outputs, columns };
        match rows {
            1 => tile::<S, 1, 1>(simd, x, place),
            2 => tile::<S, 2, 1>(simd, x, place),
            3 => tile::<S, 3, 1>(simd, x, place),
            4 => tile::<S, 4, 1>(simd, x, place),
            5 => tile::<S, 5, 1>(simd, x, place),
            6 => tile::<S, 6, 1>(simd, x, place),
            7 => tile::<S, 7, 1>(simd, x, place),
            8 => tile::<S, 8, 1>(simd, x, place),
            _ => unreachable!("a block has at most {MOST_ROWS} rows"),
        }
    }
}

/// R rows by V vectors of columns.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(simd: S, x: &[f32], place: Place<'_>) {
    let Place { w, stride, y, outputs, columns } = place;
    let mut sums = [[simd.zero(); V]; R];
    for (input, x) in x.as_chunks::<R>().0.iter().enumerate() {
        let row = w[input * stride..input * stride + V * WIDTH].as_chunks::<WIDTH>().0;
        let mut weights = [simd.zero(); V];
        for v in 0..V {
            weights[v] = simd.load(&row[v]);
        }
        for r in 0..R {
            let x = simd.splat(x[r]);
            for v in 0..V {
                sums[r][v] = simd.fma(x, weights[v], sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let y = &mut y[r * outputs..r * outputs + columns];
        for (y, sums) in y.chunks_mut(WIDTH).zip(sums) {
            simd.store_part(*sums, y);
        }
    }
}
