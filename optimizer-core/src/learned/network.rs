//! The network that moves one parameter, applied to all parameters of a tensor.
//!
//! ```text
//!  pass 1   sum of squares of every channel ──► normalisers, multiplied into the first layer's weights
//!  pass 2   channels of a block ──► relu ──► relu ──► (direction, magnitude) ──► p ← p − step
//! ```
//!
//! Channels are computed twice rather than stored: thirty channels of a tensor would be 120 bytes a parameter. Inputs
//! that are equal for all parameters (time) belong into the first layer's bias.

use super::accumulators::TIMESCALES;
use super::axes::Place;
use super::channels::{Channels, Factors, InputRows, Normalisers, Q, rsqrt_moment};
use super::float::{BLOCK, Block, at_least, each, exp, load};

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

/// Relu layers, then an affine one whose first two outputs are direction and magnitude.
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

/// Moves the parameters `p` of one tensor in one lane.
pub(super) fn apply<const E: usize>(
    p: &mut [f32],
    channels: &Channels<'_>,
    rows: &InputRows<E>,
    network: &Network<'_>,
    rule: StepRule,
) {
    if p.is_empty() {
        return;
    }
    let normalisers = channels.normalisers(p);
    let first = FirstLayer::fold(network.first, rows, &normalisers, channels.factors());
    let widest = network.hidden.iter().map(Layer::outputs).fold(network.first.outputs(), usize::max);
    let (mut z, mut next) = (vec![[0.0; BLOCK]; widest], vec![[0.0; BLOCK]; widest]);
    channels.for_each_block(|start, length, places| {
        let parameters = load(p, start, length);
        let x: [Block; E] = channels.element(&parameters, start, length, places);
        let moments = first.moments(start, length);
        for ((unit, z), w) in z.iter_mut().enumerate().zip(first.element.chunks_exact(E)) {
            *z = relu(weigh(first.base(unit, &moments, places), w, &x));
        }
        for layer in &network.hidden {
            for (unit, next) in next[..layer.outputs()].iter_mut().enumerate() {
                *next = relu(output(layer, unit, &z));
            }
            std::mem::swap(&mut z, &mut next);
        }
        let direction = output(&network.last, 0, &z);
        let magnitude = output(&network.last, 1, &z);
        let size = each(magnitude, |magnitude| rule.scale * exp(rule.exp_mult * magnitude));
        let precondition = if rule.precondition { x[Q] } else { [1.0; BLOCK] };
        let mut moved = parameters;
        for j in 0..BLOCK {
            moved[j] -= rule.rate * (direction[j] * size[j] * rule.step_mult) * precondition[j];
        }
        p[start..start + length].copy_from_slice(&moved[..length]);
    });
}

/// The first layer with the normalisers multiplied in, and its separable part reduced to what an element needs.
struct FirstLayer<'a, const E: usize> {
    bias: &'a [f32],
    /// `[units, E]`.
    element: Vec<f32>,
    separable: Separable<'a>,
}

/// What the separable channels add to each unit.
enum Separable<'a> {
    /// Rank ≥ 2: one number a row and one a column, `[units, rows]` and `[units, columns]`.
    Factored { row: Vec<f32>, col: Vec<f32> },
    /// Rank < 2: rows and columns are both the full second moment, so their weights add up: `[units, 6]`.
    Full { v: &'a [f32], w: Vec<[f32; 2 * TIMESCALES]> },
}

impl<'a, const E: usize> FirstLayer<'a, E> {
    fn fold(layer: Layer<'a>, rows: &InputRows<E>, normalisers: &Normalisers<E>, factors: &Factors<'a>) -> Self {
        let units = layer.outputs();
        let weight = |input: usize, unit: usize| layer.w[input * units + unit];
        let element = (0..units)
            .flat_map(|unit| (0..E).map(move |e| (unit, e)))
            .map(|(unit, e)| weight(rows.element[e], unit) * normalisers.element[e])
            .collect();
        let separable_weights = |first: usize, first_rsqrt: usize, normalisers: &[f32; 2 * TIMESCALES], unit: usize| {
            let mut w = *normalisers;
            for a in 0..TIMESCALES {
                w[a] *= weight(first + a, unit);
                w[TIMESCALES + a] *= weight(first_rsqrt + a, unit);
            }
            w
        };
        let row_weights = |unit| separable_weights(rows.row, rows.rsqrt_row, &normalisers.row, unit);
        let col_weights = |unit| separable_weights(rows.col, rows.rsqrt_col, &normalisers.col, unit);
        let separable = match *factors {
            Factors::Factored { row, col, .. } => Separable::Factored {
                row: separable_table(row, (0..units).map(row_weights)),
                col: separable_table(col, (0..units).map(col_weights)),
            },
            Factors::Full { v, .. } => {
                let both = |unit| {
                    let (mut w, col) = (row_weights(unit), col_weights(unit));
                    for (w, col) in w.iter_mut().zip(col) {
                        *w += col;
                    }
                    w
                };
                Separable::Full { v, w: (0..units).map(both).collect() }
            }
        };
        Self { bias: layer.b, element, separable }
    }

    /// Second moments of a block and their roots, for tensors below rank 2.
    #[inline(always)]
    fn moments(&self, start: usize, length: usize) -> [Block; 2 * TIMESCALES] {
        let mut x = [[0.0; BLOCK]; 2 * TIMESCALES];
        if let Separable::Full { v, .. } = self.separable {
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
        match (&self.separable, places) {
            (Separable::Factored { row, col }, Some((row_place, col_place))) => {
                let units = self.bias.len();
                let mut sum = row_place.load(&row[unit * (row.len() / units)..]);
                let col = col_place.load(&col[unit * (col.len() / units)..]);
                for j in 0..BLOCK {
                    sum[j] += self.bias[unit] + col[j];
                }
                sum
            }
            (Separable::Full { w, .. }, _) => weigh([self.bias[unit]; BLOCK], &w[unit], moments),
            (Separable::Factored { .. }, None) => unreachable!("factored tensors have places"),
        }
    }
}

/// For each unit (weights `w`) and each entry of `v` `[3, entries]`: `Σ_a w_a v_a + w_{3+a}/√(v_a + 1e-8)`.
fn separable_table(v: &[f32], weights: impl Iterator<Item = [f32; 2 * TIMESCALES]>) -> Vec<f32> {
    let entries = v.len() / TIMESCALES;
    let roots: Vec<f32> = v.iter().copied().map(rsqrt_moment).collect();
    let mut table = Vec::new();
    for w in weights {
        let first = table.len();
        table.resize(first + entries, 0.0);
        for (source, w) in [(v, &w[..TIMESCALES]), (&roots, &w[TIMESCALES..])] {
            for (source, w) in source.chunks_exact(entries).zip(w) {
                for (sum, x) in table[first..].iter_mut().zip(source) {
                    *sum += w * x;
                }
            }
        }
    }
    table
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

#[inline(always)]
fn relu(x: Block) -> Block {
    each(x, |x| at_least(x, 0.0))
}
