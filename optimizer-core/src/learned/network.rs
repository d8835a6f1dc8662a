//! The network that moves one parameter, applied to all parameters of a tensor.
//!
//! ```text
//!  pass 1   sum of squares of every channel ──► normalisers, multiplied into the first layer's weights
//!  pass 2   channels of a block ──► relu ──► relu ──► (direction, magnitude, …) ──► p ← p − step
//! ```
//!
//! Both passes go over the whole tensor, or one after the other over each of its stretches. Channels are computed twice
//! rather than stored: thirty channels of a tensor would be 120 bytes a parameter.

use serde::{Deserialize, Serialize};

use super::axes::{Place, Places};
use super::channels::{Channels, InputRows, Q};
use super::first_layer::FirstLayer;
use super::float::{BLOCK, Block, at_least, each, load, minus, normaliser, partial_sum, tanh};
use super::step::StepRule;

/// An affine layer, `y = x W + b`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    /// `[inputs, outputs]`, row-major.
    pub(super) w: &'a [f32],
    /// `[outputs]`.
    pub(super) b: &'a [f32],
}

impl Layer<'_> {
    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.b.len()
    }

    /// The bias with inputs added in that are equal for all rows: `b + Σ_i values_i W_{first + i}`.
    pub(super) fn bias_with(&self, first: usize, values: &[f32]) -> Vec<f32> {
        let mut bias = self.b.to_vec();
        for (w, value) in self.w.chunks_exact(self.outputs()).skip(first).zip(values) {
            for (bias, w) in bias.iter_mut().zip(w) {
                *bias += value * w;
            }
        }
        bias
    }
}

/// Hidden layers, then an affine one whose first two outputs are direction and magnitude.
#[derive(Clone, Debug)]
pub(super) struct Network<'a> {
    /// From channels to the first hidden layer.
    pub(super) first: Layer<'a>,
    /// Further hidden layers.
    pub(super) hidden: Vec<Layer<'a>>,
    /// The last layer.
    pub(super) last: Layer<'a>,
    /// What follows each hidden layer.
    pub(super) activation: Activation,
}

/// What follows a hidden layer, element by element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The larger of x and 0.
    #[default]
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    #[inline(always)]
    fn of(self, x: Block) -> Block {
        match self {
            Self::Relu => each(x, |x| at_least(x, 0.0)),
            Self::Tanh => tanh_block(x),
        }
    }
}

/// Not inlined, so that relu networks stay small.
#[inline(never)]
fn tanh_block(x: Block) -> Block {
    each(x, tanh)
}

impl<'a> Network<'a> {
    /// A first layer and all that follow it, the last included, with relu between.
    pub(super) fn new(first: Layer<'a>, further: &[Layer<'a>]) -> Self {
        let (last, hidden) = further.split_last().expect("a network has a last layer");
        Self { first, hidden: hidden.to_vec(), last: *last, activation: Activation::Relu }
    }
}

/// What a network reads of one tensor in one lane: `E` channels, one value an element each.
pub(super) trait Inputs<const E: usize> {
    /// Number of elements.
    fn len(&self) -> usize;

    /// Where the row and column values of each block lie, if there are separable channels.
    fn places(&self) -> Option<Places<'_>> {
        None
    }

    /// The channels of a block whose parameters are `p`. Beyond `length` they hold no sense.
    fn element(&self, p: &Block, start: usize, length: usize, places: Option<&(Place, Place)>) -> [Block; E];
}

/// A walk over the elements of a tensor, stretch by stretch.
#[derive(Debug)]
pub(super) struct Walk<'a, I> {
    inputs: &'a I,
    places: Option<Places<'a>>,
    next: usize,
}

impl<'a, I> Walk<'a, I> {
    /// At the first element.
    pub(super) fn new<const E: usize>(inputs: &'a I) -> Self
    where
        I: Inputs<E>,
    {
        Self { inputs, places: inputs.places(), next: 0 }
    }

    /// Calls `visit(start, length, places)` for each block of the next `count` elements, in order.
    #[inline(always)]
    fn for_each_block(&mut self, count: usize, mut visit: impl FnMut(usize, usize, Option<&(Place, Place)>)) {
        let end = self.next + count;
        for start in (self.next..end).step_by(BLOCK) {
            let length = BLOCK.min(end - start);
            visit(start, length, self.places.as_mut().map(|places| places.next_block(length)));
        }
        self.next = end;
    }
}

/// `mean x²` of each element channel over the next `count` elements of a walk; `p` are all parameters of the tensor.
pub(super) fn mean_squares<const E: usize>(p: &[f32], walk: &mut Walk<'_, impl Inputs<E>>, count: usize) -> [f32; E] {
    let (inputs, mut sums) = (walk.inputs, [0.0_f64; E]);
    walk.for_each_block(count, |start, length, places| {
        let x = inputs.element(&load(p, start, length), start, length, places);
        for (sum, x) in sums.iter_mut().zip(&x) {
            *sum += partial_sum(each(*x, |x| x * x), length);
        }
    });
    sums.map(|sum| (sum / count as f64) as f32)
}

/// `1/√(1e-5 + mean x²)` of each element channel over the whole tensor, whose parameters are `p`.
pub(super) fn element_normalisers<const E: usize>(inputs: &impl Inputs<E>, p: &[f32]) -> [f32; E] {
    mean_squares(p, &mut Walk::new(inputs), inputs.len()).map(normaliser)
}

/// A block of elements and what the network says about it. Beyond `length` the values hold no sense.
#[derive(Debug)]
pub(super) struct Evaluated<'a, const E: usize> {
    /// Number of elements, less than a block only at the end of a stretch.
    pub(super) length: usize,
    /// Parameters.
    pub(super) p: &'a Block,
    /// Element channels, not normalised.
    pub(super) x: &'a [Block; E],
    /// Outputs of the network.
    pub(super) outputs: &'a [Block],
}

/// Evaluates the first `outputs` outputs of the network for all elements and sets the parameters to what `moved` says.
#[inline(always)]
pub(super) fn sweep<const E: usize>(
    p: &mut [f32],
    inputs: &impl Inputs<E>,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    mut moved: impl FnMut(&Evaluated<'_, E>) -> Block,
) {
    sweep_next(p, &mut Walk::new(inputs), inputs.len(), first, network, outputs, &mut moved);
}

/// The same for the next `count` elements of a walk; `p` are all parameters of the tensor.
#[inline(always)]
pub(super) fn sweep_next<const E: usize>(
    p: &mut [f32],
    walk: &mut Walk<'_, impl Inputs<E>>,
    count: usize,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    mut moved: impl FnMut(&Evaluated<'_, E>) -> Block,
) {
    let (inputs, activation) = (walk.inputs, network.activation);
    let widest = network.hidden.iter().map(Layer::outputs).fold(first.units(), usize::max);
    let (mut z, mut next) = (vec![[0.0; BLOCK]; widest], vec![[0.0; BLOCK]; widest]);
    let mut out = vec![[0.0; BLOCK]; outputs];
    walk.for_each_block(count, |start, length, places| {
        let parameters = load(p, start, length);
        let x = inputs.element(&parameters, start, length, places);
        first.evaluate(&x, start, length, places, &mut z[..first.units()]);
        for z in &mut z[..first.units()] {
            *z = activation.of(*z);
        }
        for layer in &network.hidden {
            for (unit, next) in next[..layer.outputs()].iter_mut().enumerate() {
                *next = activation.of(output(layer, unit, &z));
            }
            std::mem::swap(&mut z, &mut next);
        }
        for (unit, out) in out.iter_mut().enumerate() {
            *out = output(&network.last, unit, &z);
        }
        let moved = moved(&Evaluated { length, p: &parameters, x: &x, outputs: &out });
        p[start..start + length].copy_from_slice(&moved[..length]);
    });
}

/// Moves the parameters `p` of one tensor in one lane by what the network says about its [`Channels`].
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
    let first = channels.first_layer(p, network.first, rows);
    sweep(p, channels, &first, network, 2, |block: &Evaluated<'_, E>| {
        let mut step = rule.step(&block.outputs[0], &block.outputs[1]);
        if rule.precondition {
            for (step, q) in step.iter_mut().zip(&block.x[Q]) {
                *step *= q;
            }
        }
        minus(*block.p, &step)
    });
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
