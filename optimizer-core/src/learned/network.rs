//! The network that moves one parameter, applied to all parameters of a tensor.
//!
//! ```text
//!  pass 1   sum of squares of every channel ──► normalisers, multiplied into the first layer's weights
//!  pass 2   channels of a block ──► relu ──► relu ──► (direction, magnitude, …) ──► p ← p − step
//! ```
//!
//! Channels are computed twice rather than stored: thirty channels of a tensor would be 120 bytes a parameter.

use super::axes::{Place, Places};
use super::channels::{Channels, InputRows, Q};
use super::first_layer::FirstLayer;
use super::float::{BLOCK, Block, at_least, each, exp, load, minus, normaliser, partial_sum};

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

/// Relu layers, then an affine one whose first two outputs are direction and magnitude.
#[derive(Clone, Debug)]
pub(super) struct Network<'a> {
    /// From channels to the first hidden layer.
    pub(super) first: Layer<'a>,
    /// Further hidden layers.
    pub(super) hidden: Vec<Layer<'a>>,
    /// The last layer.
    pub(super) last: Layer<'a>,
}

impl<'a> Network<'a> {
    /// A first layer and all that follow it, the last included.
    pub(super) fn new(first: Layer<'a>, further: &[Layer<'a>]) -> Self {
        let (last, hidden) = further.split_last().expect("a network has a last layer");
        Self { first, hidden: hidden.to_vec(), last: *last }
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

/// Calls `visit(start, length, places)` for each block in order.
#[inline(always)]
fn for_each_block<const E: usize>(
    inputs: &impl Inputs<E>,
    mut visit: impl FnMut(usize, usize, Option<&(Place, Place)>),
) {
    let mut places = inputs.places();
    for start in (0..inputs.len()).step_by(BLOCK) {
        let length = BLOCK.min(inputs.len() - start);
        visit(start, length, places.as_mut().map(|places| places.next_block(length)));
    }
}

/// `1/√(1e-5 + mean x²)` of each element channel over the whole tensor, whose parameters are `p`.
pub(super) fn element_normalisers<const E: usize>(inputs: &impl Inputs<E>, p: &[f32]) -> [f32; E] {
    let mut sums = [0.0_f64; E];
    for_each_block(inputs, |start, length, places| {
        let x = inputs.element(&load(p, start, length), start, length, places);
        for (sum, x) in sums.iter_mut().zip(&x) {
            *sum += partial_sum(each(*x, |x| x * x), length);
        }
    });
    sums.map(|sum| normaliser((sum / inputs.len() as f64) as f32))
}

/// A block of elements and what the network says about it. Beyond `length` the values hold no sense.
#[derive(Debug)]
pub(super) struct Evaluated<'a, const E: usize> {
    /// Number of elements, less than a block only at the tensor's end.
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
    let widest = network.hidden.iter().map(Layer::outputs).fold(first.units(), usize::max);
    let (mut z, mut next) = (vec![[0.0; BLOCK]; widest], vec![[0.0; BLOCK]; widest]);
    let mut out = vec![[0.0; BLOCK]; outputs];
    for_each_block(inputs, |start, length, places| {
        let parameters = load(p, start, length);
        let x = inputs.element(&parameters, start, length, places);
        first.evaluate(&x, start, length, places, &mut z[..first.units()]);
        for z in &mut z[..first.units()] {
            *z = relu(*z);
        }
        for layer in &network.hidden {
            for (unit, next) in next[..layer.outputs()].iter_mut().enumerate() {
                *next = relu(output(layer, unit, &z));
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

/// How direction and magnitude become a step:
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

impl StepRule {
    /// `step = direction · exp(exp_mult · magnitude) · step_mult`.
    pub(super) fn plain(exp_mult: f32, step_mult: f32) -> Self {
        Self { rate: 1.0, scale: 1.0, exp_mult, step_mult, precondition: false }
    }

    /// The step of a block, without its division by the root of the second moment.
    #[inline(always)]
    pub(super) fn step(&self, direction: &Block, magnitude: &Block) -> Block {
        let size = each(*magnitude, |magnitude| self.scale * exp(self.exp_mult * magnitude));
        let mut step = *direction;
        for j in 0..BLOCK {
            step[j] = self.rate * (direction[j] * size[j] * self.step_mult);
        }
        step
    }
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
    let normalisers = channels.normalisers(p);
    let first = FirstLayer::fold(network.first, rows, &normalisers, channels.factors());
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

#[inline(always)]
fn relu(x: Block) -> Block {
    each(x, |x| at_least(x, 0.0))
}
