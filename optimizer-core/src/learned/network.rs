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
use super::channels::{Channels, InputRows};
use super::first_layer::FirstLayer;
use super::float::{BLOCK, Block, normaliser};
use super::step::StepRule;
use crate::simd::{self, Kernel, Simd, dispatch};

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
    fn of<S: Simd>(self, s: S, x: S::Vector) -> S::Vector {
        match self {
            Self::Relu => s.at_least(x, s.zero()),
            Self::Tanh => simd::tanh(s, x),
        }
    }
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
    fn element<S: Simd>(
        &self,
        s: S,
        p: S::Vector,
        start: usize,
        length: usize,
        places: Option<&(Place, Place)>,
    ) -> [S::Vector; E];
}

/// A walk over the elements of a tensor, stretch by stretch.
#[derive(Debug)]
pub(super) struct Walk<'a, I> {
    inputs: &'a I,
    places: Option<Places<'a>>,
    next: usize,
}

/// Some elements of a walk.
#[derive(Debug)]
struct WalkedBlock<'p> {
    start: usize,
    length: usize,
    /// Where their rows and columns of second moments lie.
    places: Option<&'p (Place, Place)>,
}

impl<'a, I> Walk<'a, I> {
    /// At the first element.
    pub(super) fn new<const E: usize>(inputs: &'a I) -> Self
    where
        I: Inputs<E>,
    {
        Self { inputs, places: inputs.places(), next: 0 }
    }

    /// The next block before `end`.
    ///
    /// A loop and no closure, which would be compiled without the vector instructions of its caller.
    #[inline(always)]
    fn next_block(&mut self, end: usize) -> Option<WalkedBlock<'_>> {
        let start = self.next;
        if start >= end {
            return None;
        }
        let length = BLOCK.min(end - start);
        self.next += length;
        let places = self.places.as_mut().map(|places| places.next_block(length));
        Some(WalkedBlock { start, length, places })
    }
}

/// `mean x²` of each element channel over the next `count` elements of a walk; `p` are all parameters of the tensor.
pub(super) fn mean_squares<const E: usize>(p: &[f32], walk: &mut Walk<'_, impl Inputs<E>>, count: usize) -> [f32; E] {
    dispatch(MeanSquares { p, walk, count })
}

struct MeanSquares<'w, 'a, const E: usize, I> {
    p: &'w [f32],
    walk: &'w mut Walk<'a, I>,
    count: usize,
}

impl<const E: usize, I: Inputs<E>> Kernel for MeanSquares<'_, '_, E, I> {
    type Output = [f32; E];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; E] {
        let Self { p, walk, count } = self;
        let inputs = walk.inputs;
        // f32 sums of few blocks, one a place in the block, are added up in f64.
        let (mut sums, mut of_blocks, mut blocks) = ([0.0_f64; E], [s.zero(); E], 0);
        let end = walk.next + count;
        while let Some(WalkedBlock { start, length, places }) = walk.next_block(end) {
            let x = inputs.element(s, s.load_part(&p[start..start + length]), start, length, places);
            for (sum, mut x) in of_blocks.iter_mut().zip(x) {
                if length < BLOCK {
                    // What lies beyond the end holds no sense.
                    let mut inside = [0.0; BLOCK];
                    s.store_part(x, &mut inside[..length]);
                    x = s.load(&inside);
                }
                *sum = s.fma(x, x, *sum);
            }
            blocks += 1;
            if blocks == BLOCKS_OF_A_SUM {
                for (sum, of_blocks) in sums.iter_mut().zip(&mut of_blocks) {
                    *sum += f64::from(s.sum(*of_blocks));
                    *of_blocks = s.zero();
                }
                blocks = 0;
            }
        }
        for (sum, of_blocks) in sums.iter_mut().zip(of_blocks) {
            *sum += f64::from(s.sum(of_blocks));
        }
        sums.map(|sum| (sum / count as f64) as f32)
    }
}

/// Blocks whose squares are added up in f32.
const BLOCKS_OF_A_SUM: usize = 32;

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

/// The same in registers.
pub(super) struct Outputs<'a, S: Simd, const E: usize> {
    /// Number of elements.
    pub(super) length: usize,
    /// Parameters.
    pub(super) p: S::Vector,
    /// Element channels, not normalised.
    pub(super) x: &'a [S::Vector; E],
    /// Outputs of the network.
    pub(super) outputs: &'a [S::Vector],
}

/// Says where a block's parameters go.
pub(super) trait Mover<const E: usize> {
    /// The new parameters of a block.
    fn moved<S: Simd>(&mut self, s: S, block: &Outputs<'_, S, E>) -> S::Vector;
}

/// A closure over arrays, for rules that need not be the fastest.
struct ByBlocks<F> {
    moved: F,
    outputs: Vec<Block>,
}

impl<F> ByBlocks<F> {
    fn new(outputs: usize, moved: F) -> Self {
        Self { moved, outputs: vec![[0.0; BLOCK]; outputs] }
    }
}

impl<const E: usize, F: FnMut(&Evaluated<'_, E>) -> Block> Mover<E> for ByBlocks<F> {
    #[inline(always)]
    fn moved<S: Simd>(&mut self, s: S, block: &Outputs<'_, S, E>) -> S::Vector {
        let array = |x: &S::Vector| {
            let mut block = [0.0; BLOCK];
            s.store(*x, &mut block);
            block
        };
        self.outputs.iter_mut().zip(block.outputs).for_each(|(output, x)| *output = array(x));
        let (p, x) = (array(&block.p), std::array::from_fn(|i| array(&block.x[i])));
        s.load(&(self.moved)(&Evaluated { length: block.length, p: &p, x: &x, outputs: &self.outputs }))
    }
}

/// Evaluates the first `outputs` outputs of the network for all elements and sets the parameters to what `moved` says.
pub(super) fn sweep<const E: usize>(
    p: &mut [f32],
    inputs: &impl Inputs<E>,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    moved: impl FnMut(&Evaluated<'_, E>) -> Block,
) {
    sweep_with(p, inputs, first, network, outputs, ByBlocks::new(outputs, moved));
}

/// The same for the next `count` elements of a walk; `p` are all parameters of the tensor.
pub(super) fn sweep_next<const E: usize>(
    p: &mut [f32],
    walk: &mut Walk<'_, impl Inputs<E>>,
    count: usize,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    moved: impl FnMut(&Evaluated<'_, E>) -> Block,
) {
    dispatch(Sweep { p, walk, count, first, network, outputs, mover: ByBlocks::new(outputs, moved) });
}

/// Evaluates the network for all elements and sets the parameters to what the mover says.
pub(super) fn sweep_with<const E: usize>(
    p: &mut [f32],
    inputs: &impl Inputs<E>,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    mover: impl Mover<E>,
) {
    let walk = &mut Walk::new(inputs);
    dispatch(Sweep { p, walk, count: inputs.len(), first, network, outputs, mover });
}

struct Sweep<'w, 'a, 'l, const E: usize, I, M> {
    p: &'w mut [f32],
    walk: &'w mut Walk<'a, I>,
    count: usize,
    first: &'w FirstLayer<'l, E>,
    network: &'w Network<'l>,
    outputs: usize,
    mover: M,
}

impl<const E: usize, I: Inputs<E>, M: Mover<E>> Kernel for Sweep<'_, '_, '_, E, I, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { p, walk, count, first, network, outputs, mut mover } = self;
        let (inputs, activation) = (walk.inputs, network.activation);
        let widest = network.hidden.iter().map(Layer::outputs).fold(first.units(), usize::max);
        // Most networks are so narrow that their units fit beside the code.
        let (mut z, mut next) = ([s.zero(); NARROW], [s.zero(); NARROW]);
        let (mut wide_z, mut wide_next) = (vec![], vec![]);
        let (mut z, mut next) = match widest {
            0..=NARROW => (&mut z[..], &mut next[..]),
            _ => {
                wide_z.resize(widest, s.zero());
                wide_next.resize(widest, s.zero());
                (&mut wide_z[..], &mut wide_next[..])
            }
        };
        let (mut out, mut wide_out) = ([s.zero(); FEW], vec![]);
        let out = match outputs {
            0..=FEW => &mut out[..outputs],
            _ => {
                wide_out.resize(outputs, s.zero());
                &mut wide_out[..]
            }
        };
        let end = walk.next + count;
        while let Some(WalkedBlock { start, length, places }) = walk.next_block(end) {
            let parameters = s.load_part(&p[start..start + length]);
            let x = inputs.element(s, parameters, start, length, places);
            first.evaluate(s, &x, start, length, places, &mut z[..first.units()]);
            for z in &mut z[..first.units()] {
                *z = activation.of(s, *z);
            }
            for layer in &network.hidden {
                for (unit, next) in next[..layer.outputs()].iter_mut().enumerate() {
                    *next = activation.of(s, output(s, layer, unit, z));
                }
                std::mem::swap(&mut z, &mut next);
            }
            for (unit, out) in out.iter_mut().enumerate() {
                *out = output(s, &network.last, unit, z);
            }
            let moved = mover.moved(s, &Outputs { length, p: parameters, x: &x, outputs: out });
            s.store_part(moved, &mut p[start..start + length]);
        }
    }
}

/// Units of a layer that need no memory from the allocator.
const NARROW: usize = 32;

/// Outputs that need none.
const FEW: usize = 4;

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
    sweep_with(p, channels, &first, network, 2, rule);
}

/// One output of a layer.
#[inline(always)]
fn output<S: Simd>(s: S, layer: &Layer<'_>, unit: usize, z: &[S::Vector]) -> S::Vector {
    let outputs = layer.outputs();
    let mut sum = s.splat(layer.b[unit]);
    for (w, &z) in layer.w.chunks_exact(outputs).zip(z) {
        sum = s.fma(s.splat(w[unit]), z, sum);
    }
    sum
}
