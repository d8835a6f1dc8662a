//! What depends on the row or on the column of an element alone: short tables, made once a step.
//!
//! ```text
//!               factors                       moments                      units (after pass 2)
//!  row [3, R]   1/√(v_row / mean_d1 v_row)    v_row, 1/√(v_row + 1e-8)     Σ weights · normaliser · moments   [H, R]
//!  col [3, C]   1/√v_col                      v_col, 1/√(v_col + 1e-8)     the same                           [H, C]
//!               └ product: of an element ┘                                 └ sum: of an element ┘
//! ```
//!
//! Each table is followed by room for a vector, so that one may be read from any of its entries.

use std::ops::Range;

use super::super::accumulators::TIMESCALES;
use super::super::axes::Factored;
use super::super::channels::rsqrt_moment;
use super::super::float::safe_rsqrt;
use crate::optimizer::Decay;
use crate::simd::{Kernel, Simd, WIDTH, dispatch};

/// The tables of rows, or of columns.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Entries of a table.
    entries: usize,
    /// Of the gradient, then those of the momenta if they are others: `[3 or 6, stride]`.
    factors: Vec<f32>,
    /// `[6, stride]`.
    moments: Vec<f32>,
    /// `[units, stride]`.
    units: Vec<f32>,
}

/// Blocks whose squares are added up in f32.
const BLOCKS_OF_A_SUM: usize = 32;

impl Tables {
    /// From the table's second moments `v` `[3, entries]`, which take up the means `sums / count`. `split` is
    /// [`Factored::row_split`] for rows, `None` for columns. `collected` are what the moments have collected, if their
    /// bias is to be corrected.
    pub(super) fn enter(
        &mut self,
        v: &mut [f32],
        sums: &[f64],
        count: usize,
        decays: &[Decay; TIMESCALES],
        split: Option<&Factored>,
        collected: Option<[f32; TIMESCALES]>,
    ) {
        let kinds = if collected.is_some() { 2 } else { 1 };
        self.entries = sums.len();
        self.factors.resize(kinds * TIMESCALES * self.stride(), 0.0);
        self.moments.resize(2 * TIMESCALES * self.stride(), 0.0);
        dispatch(Enter { tables: self, v, sums, count, decays, split, collected });
    }

    /// From one table to the next.
    pub(super) fn stride(&self) -> usize {
        self.entries.next_multiple_of(WIDTH) + WIDTH
    }

    /// `mean x²` of each of the six moments over a range.
    pub(super) fn mean_squares(&self, range: &Range<usize>) -> [f32; 2 * TIMESCALES] {
        dispatch(MeanSquares { tables: self, range })
    }

    /// Sets a range of the units' tables: `bias_u + Σ_i weights(u)_i moments_i`.
    pub(super) fn weigh(
        &mut self,
        range: &Range<usize>,
        units: usize,
        weights: impl Fn(usize) -> (f32, [f32; 2 * TIMESCALES]),
    ) {
        let stride = self.stride();
        self.units.resize(units * stride, 0.0);
        let moments = &self.moments[range.start..];
        for (unit, units) in self.units.chunks_exact_mut(stride).enumerate() {
            let (bias, weights) = weights(unit);
            dispatch(Weigh { units: &mut units[range.clone()], moments, stride, bias, weights });
        }
    }
}

struct Enter<'a> {
    tables: &'a mut Tables,
    v: &'a mut [f32],
    sums: &'a [f64],
    count: usize,
    decays: &'a [Decay; TIMESCALES],
    split: Option<&'a Factored>,
    collected: Option<[f32; TIMESCALES]>,
}

impl Kernel for Enter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { tables, v, sums, count, decays, split, collected } = self;
        let (entries, stride) = (tables.entries, tables.stride());
        for a in 0..TIMESCALES {
            let v = &mut v[a * entries..(a + 1) * entries];
            let decay = decays[a];
            for (v, &sum) in v.iter_mut().zip(sums) {
                *v = decay.keep * *v + decay.take * (sum / count as f64) as f32;
            }
            let factors = &mut tables.factors[a * stride..][..entries];
            factors.copy_from_slice(v);
            to_factors(factors, split);
            let (values, roots) = tables.moments.split_at_mut(TIMESCALES * stride);
            let (values, roots) = (&mut values[a * stride..][..entries], &mut roots[a * stride..][..entries]);
            values.copy_from_slice(v);
            if let Some(collected) = collected {
                for value in values.iter_mut() {
                    *value /= collected[a];
                }
                let factors = &mut tables.factors[(TIMESCALES + a) * stride..][..entries];
                factors.copy_from_slice(values);
                to_factors(factors, split);
            }
            for (root, &value) in roots.iter_mut().zip(&*values) {
                *root = rsqrt_moment(value);
            }
        }
    }
}

/// Second moments of one timescale become factors.
#[inline(always)]
fn to_factors(v: &mut [f32], split: Option<&Factored>) {
    let Some(axes) = split else {
        for v in v {
            *v = safe_rsqrt(*v);
        }
        return;
    };
    let [_, along, after] = axes.row_split;
    for block in v.chunks_exact_mut((along * after).max(1)) {
        for inner in 0..after {
            // Four sums, so that one need not wait for the other.
            let mut sums = [0.0; 4];
            for k in 0..along {
                sums[k % 4] += f64::from(block[k * after + inner]);
            }
            let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
            let mean = (sum / along as f64) as f32 + 1e-9;
            if after == 1 {
                for value in &mut *block {
                    *value = safe_rsqrt(*value / mean);
                }
            } else {
                for k in 0..along {
                    let value = &mut block[k * after + inner];
                    *value = safe_rsqrt(*value / mean);
                }
            }
        }
    }
}

struct MeanSquares<'a> {
    tables: &'a Tables,
    range: &'a Range<usize>,
}

impl Kernel for MeanSquares<'_> {
    type Output = [f32; 2 * TIMESCALES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; 2 * TIMESCALES] {
        let Self { tables, range } = self;
        let mut means = [0.0; 2 * TIMESCALES];
        for (table, mean) in tables.moments.chunks_exact(tables.stride()).zip(&mut means) {
            let table = &table[range.clone()];
            let (mut total, mut of_blocks, mut blocks, mut start) = (0.0, s.zero(), 0, 0);
            while start < table.len() {
                let x = s.load_part(&table[start..table.len().min(start + WIDTH)]);
                of_blocks = s.fma(x, x, of_blocks);
                blocks += 1;
                start += WIDTH;
                if blocks == BLOCKS_OF_A_SUM {
                    total += f64::from(s.sum(of_blocks));
                    (of_blocks, blocks) = (s.zero(), 0);
                }
            }
            total += f64::from(s.sum(of_blocks));
            *mean = (total / table.len() as f64) as f32;
        }
        means
    }
}

struct Weigh<'a> {
    units: &'a mut [f32],
    moments: &'a [f32],
    stride: usize,
    bias: f32,
    weights: [f32; 2 * TIMESCALES],
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { units, moments, stride, bias, weights } = self;
        for (block, units) in units.chunks_mut(WIDTH).enumerate() {
            let mut sum = s.splat(bias);
            for (i, weight) in weights.into_iter().enumerate() {
                let x = s.load_part(&moments[i * stride + block * WIDTH..][..units.len()]);
                sum = s.fma(s.splat(weight), x, sum);
            }
            s.store_part(sum, units);
        }
    }
}

/// Which tables the values of a stretch of elements come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup<'a> {
    axes: &'a Factored,
    row: &'a Tables,
    col: &'a Tables,
}

/// How the value of a row and that of a column become an element's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Join {
    /// Factors.
    Multiply,
    /// Units.
    Add,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(axes: &'a Factored, row: &'a Tables, col: &'a Tables) -> Self {
        Self { axes, row, col }
    }

    /// Writes the factors of elements `start..start + count` and, if `units`, what the units add up. Each table's
    /// values go into one of `into`, which has room for a vector more.
    #[inline(always)]
    pub(super) fn spread<S: Simd, const N: usize>(
        &self,
        s: S,
        start: usize,
        count: usize,
        factors: &mut [[f32; N]],
        units: &mut [[f32; N]],
    ) {
        let Self { axes, row, col } = *self;
        let length = axes.run_length();
        let (runs, row_step, col_step) = axes.run_series();
        let mut number = start / length;
        let mut inside = start % length;
        let mut run = axes.run_at(number);
        let mut left = runs - number % runs;
        let mut done = 0;
        while done < count {
            let segment = (length - inside).min(count - done);
            let (row_count, col_count) = axes.run_steps();
            let (first_row, first_col) = (run.row + inside * row_count, run.col + inside * col_count);
            for (joined, tables) in [(Join::Multiply, &mut *factors), (Join::Add, &mut *units)] {
                let (rows, cols) = match joined {
                    Join::Multiply => (&row.factors, &col.factors),
                    Join::Add => (&row.units, &col.units),
                };
                let of_tables = rows.chunks_exact(row.stride()).zip(cols.chunks_exact(col.stride()));
                for (into, (rows, cols)) in tables.iter_mut().zip(of_tables) {
                    let (rows, cols, into) = (&rows[first_row..], &cols[first_col..], &mut into[done..]);
                    match (row_count, col_count) {
                        (0, _) => join::<S, false, true>(s, joined, rows, cols, segment, into),
                        (_, 0) => join::<S, true, false>(s, joined, rows, cols, segment, into),
                        _ => join::<S, true, true>(s, joined, rows, cols, segment, into),
                    }
                }
            }
            done += segment;
            inside = 0;
            number += 1;
            left -= 1;
            if left > 0 {
                run.row += row_step;
                run.col += col_step;
            } else if done < count {
                (run, left) = (axes.run_at(number), runs);
            }
        }
    }
}

/// Joins `count` values, and as many behind them as fill the last vector.
#[inline(always)]
fn join<S: Simd, const ROWS: bool, const COLS: bool>(
    s: S,
    how: Join,
    rows: &[f32],
    cols: &[f32],
    count: usize,
    into: &mut [f32],
) {
    let vectors = count.div_ceil(WIDTH);
    let (row, col) = (s.splat(rows[0]), s.splat(cols[0]));
    for i in 0..vectors {
        let at = i * WIDTH;
        let row = if ROWS { s.load_part(&rows[at..at + WIDTH]) } else { row };
        let col = if COLS { s.load_part(&cols[at..at + WIDTH]) } else { col };
        let joined = if how == Join::Multiply { s.mul(row, col) } else { s.add(row, col) };
        s.store_part(joined, &mut into[at..at + WIDTH]);
    }
}
