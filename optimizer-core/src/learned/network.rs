//! The network that moves one parameter, applied to all parameters of a tensor.
//!
//! ```text
//!  for each slice of the tensor (the whole of it, or one of its matrices):
//!    pass 1   sum of squares of every channel ──► normalisers, multiplied into the first layer's weights
//!    pass 2   channels of a block ──► relu ──► relu ──► (direction, magnitude) ──► p ← p − step
//! ```
//!
//! Channels are computed twice rather than stored: thirty channels of a tensor would be 120 bytes a parameter. Inputs
//! that are equal for all parameters (time) belong into the first layer's bias.

use std::ops::Range;

use super::accumulators::TIMESCALES;
use super::axes::{Place, Slice};
use super::channels::{Channels, Factors, InputRows, Normalisers, P, Q, rsqrt_moment};
use super::float::{BLOCK, Block, at_least, each, exp, load, mean, minimum};

/// An affine layer, `y = x W + b`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    /// `[inputs, outputs]`, row-major.
    pub(super) w: &'a [f32],
    /// `[outputs]`.
    pub(super) b: &'a [f32],
}

impl Layer<'_> {
    fn outputs(&self) -> usize {
        self.b.len()
    }
}

/// Hidden layers, then an affine one whose first two outputs are direction and magnitude.
#[derive(Clone, Debug)]
pub(super) struct Network<'a> {
    /// From channels to the first hidden layer; rows that are not in [`InputRows`] are not used.
    pub(super) first: Layer<'a>,
    /// Further hidden layers.
    pub(super) hidden: Vec<Layer<'a>>,
    /// The last layer.
    pub(super) last: Layer<'a>,
}

/// How the outputs become a step:
/// `step = rate · (direction · (scale · exp(exp_mult · magnitude)) · step_mult)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepRule {
    /// Factor of the whole step, may be negative.
    pub(super) rate: f32,
    /// Scale of the tensor's parameters, or 1.
    pub(super) scale: f32,
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Factor of the direction.
    pub(super) step_mult: f32,
    /// Divide the step by the root of the second moment.
    pub(super) precondition: bool,
}

/// The settings that decide a [`StepRule`], in HyperV2 and Celo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepSettings {
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Factor of the direction.
    pub(super) step_mult: f32,
    /// Multiply steps by the root mean square of the tensor.
    pub(super) param_scale_mult: bool,
    /// Bound that root mean square by this times the root of the tensor's size.
    pub(super) clip_param_scale_amount: Option<f32>,
    /// Divide the step by the root of the second moment.
    pub(super) precondition: bool,
}

impl StepSettings {
    /// The rule for a tensor whose parameters are `p`.
    pub(super) fn rule(&self, rate: f32, p: &[f32]) -> StepRule {
        let mut scale = 1.0;
        if self.param_scale_mult {
            scale = parameter_scale(p);
            if let Some(amount) = self.clip_param_scale_amount {
                scale = minimum(scale, amount * (p.len() as f32).sqrt());
            }
        }
        let &Self { exp_mult, step_mult, precondition, .. } = self;
        StepRule { rate, scale, exp_mult, step_mult, precondition }
    }
}

/// `√(mean p² + 1e-9)`.
pub(super) fn parameter_scale(p: &[f32]) -> f32 {
    (mean(p, |p| p * p) + 1e-9).sqrt()
}

/// Moves the parameters `p` of one tensor in one lane; channels are normalised over the whole tensor.
pub(super) fn apply<const E: usize>(
    p: &mut [f32],
    channels: &Channels<'_>,
    rows: &InputRows<E>,
    network: &Network<'_>,
    rule: StepRule,
) {
    transform(p, [channels.whole()], channels, rows, network, relu, |_, x, direction, magnitude| {
        let size = each(magnitude, |magnitude| rule.scale * exp(rule.exp_mult * magnitude));
        let precondition = if rule.precondition { x[Q] } else { [1.0; BLOCK] };
        let mut moved = x[P];
        for j in 0..BLOCK {
            moved[j] -= rule.rate * (direction[j] * size[j] * rule.step_mult) * precondition[j];
        }
        moved
    });
}

/// Runs the network on all parameters `p` of one tensor in one lane, slice by slice; `slices` cover it in order.
///
/// `visit` is given the elements of a block, their channels, direction and magnitude, and returns their next value. All
/// of these are a whole block long, whatever the number of elements.
#[inline(always)]
pub(super) fn transform<const E: usize>(
    p: &mut [f32],
    slices: impl IntoIterator<Item = Slice>,
    channels: &Channels<'_>,
    rows: &InputRows<E>,
    network: &Network<'_>,
    activate: impl Fn(Block) -> Block,
    mut visit: impl FnMut(Range<usize>, &[Block; E], Block, Block) -> Block,
) {
    if p.is_empty() {
        return;
    }
    let mut first = FirstLayer::new(network.first, channels.factors());
    let widest = network.hidden.iter().map(Layer::outputs).fold(network.first.outputs(), usize::max);
    let (mut z, mut next) = (vec![[0.0; BLOCK]; widest], vec![[0.0; BLOCK]; widest]);
    let (mut before, mut walk) = (channels.walk(), channels.walk());
    for slice in slices {
        let normalisers = channels.normalisers(p, &slice, &mut before);
        first.fold(rows, &normalisers, &slice);
        walk.for_each_block(&slice, |start, length, places| {
            let parameters = load(p, start, length);
            let x: [Block; E] = channels.element(&parameters, start, length, places);
            let moments = first.moments(start, length);
            for ((unit, z), w) in z.iter_mut().enumerate().zip(first.element.chunks_exact(E)) {
                *z = activate(weigh(first.base(unit, &moments, places), w, &x));
            }
            for layer in &network.hidden {
                for (unit, next) in next[..layer.outputs()].iter_mut().enumerate() {
                    *next = activate(output(layer, unit, &z));
                }
                std::mem::swap(&mut z, &mut next);
            }
            let (direction, magnitude) = (output(&network.last, 0, &z), output(&network.last, 1, &z));
            let moved = visit(start..start + length, &x, direction, magnitude);
            p[start..start + length].copy_from_slice(&moved[..length]);
        });
    }
}

/// The first layer with the normalisers of a slice multiplied in, and its separable part reduced to what an element
/// needs.
struct FirstLayer<'a, const E: usize> {
    layer: Layer<'a>,
    /// `[units, E]`.
    element: Vec<f32>,
    separable: Separable<'a>,
}

/// What the separable channels add to each unit.
enum Separable<'a> {
    /// Rank ≥ 2: one number a row and one a column. Only those of the slice are set.
    Factored { row: Table<'a>, col: Table<'a> },
    /// Rank < 2: rows and columns are both the full second moment, so their weights add up: `[units, 6]`.
    Full { v: &'a [f32], w: Vec<[f32; 2 * TIMESCALES]> },
}

impl<'a, const E: usize> FirstLayer<'a, E> {
    /// Not folded yet.
    fn new(layer: Layer<'a>, factors: &Factors<'a>) -> Self {
        let units = layer.outputs();
        let separable = match *factors {
            Factors::Factored { row, col, .. } => {
                Separable::Factored { row: Table::new(row, units), col: Table::new(col, units) }
            }
            Factors::Full { v } => Separable::Full { v, w: vec![[0.0; 2 * TIMESCALES]; units] },
        };
        Self { layer, element: vec![0.0; units * E], separable }
    }

    /// Multiplies the normalisers of a slice in.
    fn fold(&mut self, rows: &InputRows<E>, normalisers: &Normalisers<E>, slice: &Slice) {
        let units = self.layer.outputs();
        let weight = |input: Option<usize>, unit: usize| input.map_or(0.0, |input| self.layer.w[input * units + unit]);
        for (unit, element) in self.element.chunks_exact_mut(E).enumerate() {
            for (e, element) in element.iter_mut().enumerate() {
                *element = weight(rows.element[e], unit) * normalisers.element[e];
            }
        }
        let separable_weights =
            |first: Option<usize>, first_rsqrt: Option<usize>, normalisers: &[f32; 2 * TIMESCALES], unit: usize| {
                let mut w = *normalisers;
                for a in 0..TIMESCALES {
                    w[a] *= weight(first.map(|first| first + a), unit);
                    w[TIMESCALES + a] *= weight(first_rsqrt.map(|first| first + a), unit);
                }
                w
            };
        let row_weights = |unit| separable_weights(rows.row, rows.rsqrt_row, &normalisers.row, unit);
        let col_weights = |unit| separable_weights(rows.col, rows.rsqrt_col, &normalisers.col, unit);
        match &mut self.separable {
            Separable::Factored { row, col } => {
                row.fill(row_weights, &slice.rows);
                col.fill(col_weights, &slice.cols);
            }
            Separable::Full { w, .. } => {
                for (unit, w) in w.iter_mut().enumerate() {
                    *w = row_weights(unit);
                    for (w, col) in w.iter_mut().zip(col_weights(unit)) {
                        *w += col;
                    }
                }
            }
        }
    }

    /// Second moments of a block and their roots, for tensors below rank 2.
    #[inline(always)]
    fn moments(&self, start: usize, length: usize) -> [Block; 2 * TIMESCALES] {
        let mut x = [[0.0; BLOCK]; 2 * TIMESCALES];
        if let Separable::Full { v, .. } = &self.separable {
            for a in 0..TIMESCALES {
                x[a] = load(v, a * (v.len() / TIMESCALES) + start, length);
                x[TIMESCALES + a] = each(x[a], rsqrt_moment);
            }
        }
        x
    }

    /// Bias and separable part of one unit.
    #[inline(always)]
    fn base(&self, unit: usize, moments: &[Block; 2 * TIMESCALES], places: Option<&(Place, Place)>) -> Block {
        let bias = self.layer.b[unit];
        match (&self.separable, places) {
            (Separable::Factored { row, col }, Some((row_place, col_place))) => {
                let mut sum = row_place.load(row.unit(unit));
                let col = col_place.load(col.unit(unit));
                for j in 0..BLOCK {
                    sum[j] += bias + col[j];
                }
                sum
            }
            (Separable::Full { w, .. }, _) => weigh([bias; BLOCK], &w[unit], moments),
            (Separable::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }
}

/// `Σ_a w_a v_a + w_{3+a}/√(v_a + 1e-8)` for each unit (weights `w`) and each entry of `v` `[3, entries]`.
struct Table<'a> {
    v: &'a [f32],
    roots: Vec<f32>,
    /// `[units, entries]`.
    values: Vec<f32>,
}

impl<'a> Table<'a> {
    fn new(v: &'a [f32], units: usize) -> Self {
        let roots = v.iter().copied().map(rsqrt_moment).collect();
        Self { v, roots, values: vec![0.0; units * (v.len() / TIMESCALES)] }
    }

    fn entries(&self) -> usize {
        self.v.len() / TIMESCALES
    }

    /// One unit's entries.
    #[inline(always)]
    fn unit(&self, unit: usize) -> &[f32] {
        &self.values[unit * self.entries()..]
    }

    /// Sets a range of entries, from the weights of each unit.
    fn fill(&mut self, weights: impl Fn(usize) -> [f32; 2 * TIMESCALES], range: &Range<usize>) {
        let entries = self.entries();
        for (unit, values) in self.values.chunks_exact_mut(entries).enumerate() {
            let values = &mut values[range.clone()];
            values.fill(0.0);
            let w = weights(unit);
            for (source, w) in [(self.v, &w[..TIMESCALES]), (&self.roots, &w[TIMESCALES..])] {
                for (source, w) in source.chunks_exact(entries).zip(w) {
                    for (sum, x) in values.iter_mut().zip(&source[range.clone()]) {
                        *sum += w * x;
                    }
                }
            }
        }
    }
}

/// `sum + Σ_i w_i x_i`.
#[inline(always)]
fn weigh(mut sum: Block, w: &[f32], x: &[Block]) -> Block {
    for (&w, x) in w.iter().zip(x) {
        for j in 0..BLOCK {
            sum[j] += w * x[j];
        }
    }
    sum
}

/// One output of a layer.
#[inline(always)]
fn output(layer: &Layer<'_>, unit: usize, z: &[Block]) -> Block {
    let outputs = layer.outputs();
    let mut sum = [layer.b[unit]; BLOCK];
    for (w, z) in layer.w.chunks_exact(outputs).zip(z) {
        for j in 0..BLOCK {
            sum[j] += w[unit] * z[j];
        }
    }
    sum
}

/// The larger of each element and 0.
#[inline(always)]
pub(super) fn relu(x: Block) -> Block {
    each(x, |x| at_least(x, 0.0))
}
