//! One step of a per-parameter network on one tensor in one lane, without an array of channels anywhere.
//!
//! ```text
//!  pass 1   g                ─► sums of g² by row and column ─► v_row, v_col ─► tables of rows and columns
//!  pass 2   g, p, m, rms     ─► m, rms; squares of all channels ─► normalisers, folded into the first layer
//!  pass 3   g, p, m, rms     ─► channels again, in registers ─► network ─► p
//! ```
//!
//! Channels are computed twice, because thirty of them would be 120 bytes a parameter, more than everything else. What
//! depends on the row or column alone is looked up: two numbers an element and factor, or unit. Below rank 2 there is no
//! pass 1, and second moments are as long as the tensor.
//!
//! A tensor is cut into grains ([`parallel`](crate::parallel)), which threads may share, and these into stretches that
//! stay in the first cache. Squares are added up in f32 within a stretch and in f64 between; the order is that of the
//! elements.

use std::cell::RefCell;
use std::ops::Range;

use super::accumulators::{Accumulators, Decays, SecondMoment, TIMESCALES};
use super::axes::{Factored, Slice};
use super::channels::{CLIPPED, Guards, InputRows, Normalisers, P};
use super::float::rsqrt;
use super::network::{Layer, Network};
use crate::parallel::{Split, by_grains, grains, is_shared};
use crate::simd::{Simd, WIDTH, dispatch};

mod accumulate;
mod elements;
mod evaluate;
#[cfg(test)]
mod oracle;
mod sums;
mod tables;
#[cfg(test)]
mod tests;
mod wide;

use accumulate::{Accumulate, Squares};
use elements::{Collected, Elements, Recipe};
use evaluate::{Evaluate, Folded, Grain};
pub(super) use evaluate::{Moved, Said};
use sums::Sums;
use tables::{Lookup, Tables};
use wide::EvaluateWide;

/// Elements that are treated together: few enough that what is looked up for them stays in the first cache.
const STRETCH: usize = 512;

/// A stretch and a vector.
const ROOM: usize = STRETCH + WIDTH;

/// Bound of the gradients of optimizers whose networks have [`CLIPPED`] channels.
const BOUND: f32 = 1000.0;

/// A gradient between ±1000, if `CLIP`; NaN stays.
#[inline(always)]
fn clip<S: Simd, const CLIP: bool>(s: S, g: S::Vector) -> S::Vector {
    if CLIP { s.at_most(s.at_least(g, s.splat(-BOUND)), s.splat(BOUND)) } else { g }
}

/// What a step needs besides the tensor.
#[derive(Debug)]
pub(super) struct Step<'a, const E: usize> {
    /// Of all accumulators.
    pub(super) decays: &'a Decays,
    /// Where the channels stand among the inputs.
    pub(super) rows: &'a InputRows<E>,
    /// What is added inside roots.
    pub(super) guards: Guards,
    /// The network.
    pub(super) network: &'a Network<'a>,
    /// How many gradients will have entered, if the bias of the accumulators is to be corrected.
    pub(super) corrected: Option<u32>,
    /// Normalise over each matrix of the last two axes, not over the whole tensor.
    pub(super) by_matrices: bool,
}

/// Room that steps reuse.
#[derive(Debug, Default)]
struct Scratch {
    sums: Sums,
    row: Tables,
    col: Tables,
    element: Vec<f32>,
    full: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static SPREAD: RefCell<Vec<Stretch>> = RefCell::default();
}

/// What is looked up for each element of a stretch: a factor, or what a unit adds up.
type Stretch = [f32; ROOM];

/// Three factors of the gradient, three of the momenta.
type Factors = [Stretch; 2 * TIMESCALES];

/// Calls `work` with so many stretches, whatever they hold.
#[inline(always)]
fn with_stretches<T>(count: usize, work: impl FnOnce(&mut [Stretch]) -> T) -> T {
    let mut stretches = SPREAD.take();
    if stretches.len() < count {
        stretches.resize(count, [0.0; ROOM]);
    }
    let result = work(&mut stretches[..count]);
    SPREAD.set(stretches);
    result
}

/// A tensor in one lane whose gradient has entered its accumulators.
#[derive(Debug)]
pub(super) struct Entered<'s, 'a, const E: usize> {
    step: &'s Step<'s, E>,
    /// Taken, not borrowed: a thread that waits for others may begin another step meanwhile.
    scratch: Scratch,
    g: &'a [f32],
    m: [&'a mut [f32]; TIMESCALES],
    rms: &'a mut [f32],
    v: Option<[&'a mut [f32]; TIMESCALES]>,
    axes: Option<&'a Factored>,
    recipe: Recipe,
    /// What is normalised by itself, with its sums of squares.
    slices: Vec<(Slice, Squares<E>)>,
    shared: bool,
}

impl<const E: usize> Drop for Entered<'_, '_, E> {
    fn drop(&mut self) {
        SCRATCH.set(std::mem::take(&mut self.scratch));
    }
}

impl<const E: usize> Step<'_, E> {
    /// A gradient enters the accumulators, then each value of `p` becomes what the mover says; the mover is made of the
    /// mean square of `p`.
    pub(super) fn take<const O: usize, M: Moved<E, O>>(
        &self,
        p: &mut [f32],
        g: &[f32],
        accumulators: Accumulators<'_>,
        mover: impl FnOnce(f32) -> M,
    ) {
        let mut entered = self.enter(p, g, accumulators);
        let mover = mover(entered.mean_square());
        entered.evaluate(p, &mover);
    }

    /// A gradient enters the accumulators of a tensor with parameters `p`, which stay as they are.
    pub(super) fn enter<'a>(
        &'a self,
        p: &mut [f32],
        g: &'a [f32],
        accumulators: Accumulators<'a>,
    ) -> Entered<'a, 'a, E> {
        let collected = self.corrected.map(|count| Collected {
            momentum: self.decays.momentum.map(|decay| decay.collected(count)),
            rms: self.decays.rms.collected(count),
            second: self.decays.second.map(|decay| decay.collected(count)),
        });
        let recipe = Recipe { q: self.guards.q, fac_m: self.guards.fac_m, collected };
        let Accumulators { m, rms, second } = accumulators;
        let (scratch, m, shared) = (SCRATCH.take(), thirds(m), is_shared(g.len()));
        let mut entered =
            Entered { step: self, scratch, g, m, rms, v: None, axes: None, recipe, slices: Vec::new(), shared };
        match second {
            SecondMoment::Full { v } => entered.v = Some(thirds(v)),
            SecondMoment::Factored { axes, row, col } => {
                entered.axes = Some(axes);
                if !g.is_empty() {
                    entered.sum(axes, row, col);
                }
            }
        }
        match self.corrected {
            Some(_) => entered.accumulate::<true>(p),
            None => entered.accumulate::<false>(p),
        }
        entered
    }
}

impl<const E: usize> Entered<'_, '_, E> {
    /// Mean square of the parameters.
    pub(super) fn mean_square(&self) -> f32 {
        let sum: f64 = self.slices.iter().map(|(_, squares)| squares.element[P]).sum();
        (sum / self.g.len().max(1) as f64) as f32
    }

    /// Each value of `p`, the parameters, becomes what the mover says.
    pub(super) fn evaluate<const O: usize, M: Moved<E, O>>(&mut self, p: &mut [f32], mover: &M) {
        for index in 0..self.slices.len() {
            match self.recipe.collected {
                Some(_) => self.evaluate_slice::<O, M, true>(index, p, mover),
                None => self.evaluate_slice::<O, M, false>(index, p, mover),
            }
        }
    }

    /// Pass 1.
    fn sum(&mut self, axes: &Factored, row: &mut [f32], col: &mut [f32]) {
        let Scratch { sums, row: rows, col: cols, .. } = &mut self.scratch;
        if E == CLIPPED {
            sums.take::<true>(axes, self.g, self.shared);
        } else {
            sums.take::<false>(axes, self.g, self.shared);
        }
        let collected = self.recipe.collected.map(|collected| collected.second);
        let decays = &self.step.decays.second;
        rows.enter(row, &sums.rows, axes.row_count, decays, Some(axes), collected);
        cols.enter(col, &sums.cols, axes.col_count, decays, None, collected);
    }

    /// Pass 2.
    fn accumulate<const CORRECT: bool>(&mut self, p: &mut [f32]) {
        if self.g.is_empty() {
            return;
        }
        let slices = match self.axes {
            Some(axes) if self.step.by_matrices => axes.matrices().collect(),
            Some(axes) => vec![axes.whole()],
            None => vec![Slice { elements: 0..self.g.len(), rows: 0..0, cols: 0..0 }],
        };
        let (decays, shared) = (self.step.decays, self.shared);
        for slice in slices {
            let (elements, lookup, recipe) = self.view(p, slice.elements.clone());
            let mut of_grains = vec![Squares::default(); grains(slice.elements.len())];
            by_grains(elements, &mut of_grains, shared, &|elements, start, squares: &mut Squares<E>| {
                let start = slice.elements.start + start;
                *squares = with_stretches(2 * TIMESCALES, |factors| {
                    dispatch(Accumulate::<E, CORRECT> { elements, start, lookup, decays, recipe, factors })
                });
            });
            let mut squares = Squares::default();
            of_grains.iter().for_each(|grain| squares.add(grain));
            self.slices.push((slice, squares));
        }
    }

    /// Pass 3 over one slice.
    fn evaluate_slice<const O: usize, M: Moved<E, O>, const CORRECT: bool>(
        &mut self,
        index: usize,
        p: &mut [f32],
        mover: &M,
    ) {
        self.fold(index);
        let (step, shared) = (self.step, self.shared);
        let units = step.network.first.outputs();
        // Lent out, so that the elements may be too.
        let (element, full) = (std::mem::take(&mut self.scratch.element), std::mem::take(&mut self.scratch.full));
        let network = &Folded {
            element: &element,
            bias: step.network.first.b,
            full: &full,
            hidden: &step.network.hidden,
            last: step.network.last,
            activation: step.network.activation,
        };
        let range = self.slices[index].0.elements.clone();
        let nothing = &mut vec![(); grains(range.len())][..];
        let (elements, lookup, recipe) = self.view(p, range.clone());
        by_grains(elements, nothing, shared, &|elements, start, (): &mut ()| {
            with_stretches(2 * TIMESCALES + units, |stretches| {
                let start = range.start + start;
                let grain = Grain { elements, start, lookup, network, recipe, mover, stretches };
                match units {
                    4 => dispatch(Evaluate::<M, E, 4, O, CORRECT>(grain)),
                    8 => dispatch(Evaluate::<M, E, 8, O, CORRECT>(grain)),
                    _ => dispatch(EvaluateWide::<M, E, O, CORRECT>(grain)),
                }
            });
        });
        (self.scratch.element, self.scratch.full) = (element, full);
    }

    /// Some elements, where their factors are looked up, and how their channels are made.
    fn view<'v>(&'v mut self, p: &'v mut [f32], range: Range<usize>) -> (Elements<'v>, Option<Lookup<'v>>, &'v Recipe) {
        let [m0, m1, m2] = &mut self.m;
        let v = match &mut self.v {
            Some([v0, v1, v2]) => Some([&mut **v0, &mut **v1, &mut **v2]),
            None => None,
        };
        let whole = p.len() == range.len();
        let mut elements = Elements { p, g: self.g, m: [&mut **m0, &mut **m1, &mut **m2], rms: self.rms, v };
        if !whole {
            elements = elements.split_at(range.start).1.split_at(range.len()).0;
        }
        let lookup = self.axes.map(|axes| Lookup::new(axes, &self.scratch.row, &self.scratch.col));
        (elements, lookup, &self.recipe)
    }

    /// `1/√(ε + mean x²)` of every channel over a slice.
    fn normalisers(&self, index: usize) -> Normalisers<E> {
        let (slice, squares) = &self.slices[index];
        let Some(guard) = self.step.guards.normaliser else {
            return Normalisers { element: [1.0; E], row: [1.0; 2 * TIMESCALES], col: [1.0; 2 * TIMESCALES] };
        };
        let count = slice.elements.len() as f64;
        let of_sum = |sum: f64| rsqrt(guard + (sum / count) as f32);
        let of_mean = |mean: f32| rsqrt(guard + mean);
        let full = squares.full.map(of_sum);
        // A row value stands behind equally many elements as every other, so its mean over rows is that over elements.
        let (row, col) = match self.axes {
            Some(_) => (
                self.scratch.row.mean_squares(&slice.rows).map(of_mean),
                self.scratch.col.mean_squares(&slice.cols).map(of_mean),
            ),
            None => (full, full),
        };
        Normalisers { element: squares.element.map(of_sum), row, col }
    }

    /// Multiplies normalisers into the weights of the first layer; what rows and columns add to its units becomes tables.
    fn fold(&mut self, index: usize) {
        let normalisers = self.normalisers(index);
        let (layer, rows) = (self.step.network.first, self.step.rows);
        let units = layer.outputs();
        let slice = &self.slices[index].0;
        let Scratch { row: row_tables, col: col_tables, element, full, .. } = &mut self.scratch;
        element.clear();
        for (row, normaliser) in rows.element.iter().zip(normalisers.element) {
            element.extend((0..units).map(|unit| weight(layer, *row, unit) * normaliser));
        }
        let weights = |first: [Option<usize>; 2], normalisers: &[f32; 2 * TIMESCALES], unit: usize| {
            let mut weights = *normalisers;
            for (i, scaled) in weights.iter_mut().enumerate() {
                *scaled *= weight(layer, first[i / TIMESCALES].map(|first| first + i % TIMESCALES), unit);
            }
            weights
        };
        let of_rows = |unit: usize| weights([rows.row, rows.rsqrt_row], &normalisers.row, unit);
        let of_cols = |unit: usize| weights([rows.col, rows.rsqrt_col], &normalisers.col, unit);
        if self.axes.is_some() {
            row_tables.weigh(&slice.rows, units, |unit| (layer.b[unit], of_rows(unit)));
            col_tables.weigh(&slice.cols, units, |unit| (0.0, of_cols(unit)));
        } else {
            full.clear();
            full.resize(2 * TIMESCALES * units, 0.0);
            for unit in 0..units {
                for (i, (row, col)) in of_rows(unit).into_iter().zip(of_cols(unit)).enumerate() {
                    full[i * units + unit] = row + col;
                }
            }
        }
    }
}

/// The weight of an input row, 0 for a channel that is no input.
fn weight(layer: Layer<'_>, row: Option<usize>, unit: usize) -> f32 {
    row.map_or(0.0, |row| layer.w[row * layer.outputs() + unit])
}

/// Three slices of equal length.
fn thirds(values: &mut [f32]) -> [&mut [f32]; TIMESCALES] {
    let size = values.len() / TIMESCALES;
    let (first, rest) = values.split_at_mut(size);
    let (second, third) = rest.split_at_mut(size);
    [first, second, third]
}
