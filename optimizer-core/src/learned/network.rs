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

use super::first_layer::FirstLayer;
use super::float::{BLOCK, Block, normaliser};
use super::tiles::{Row, TILE, affine};
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
    /// Of sixteen values.
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, s: S, x: S::Vector) -> S::Vector {
        match self {
            Self::Relu => s.at_least(x, s.zero()),
            Self::Tanh => simd::tanh(s, x),
        }
    }

    /// Of all values of some rows.
    #[inline(always)]
    pub(super) fn of_rows<S: Simd>(self, s: S, rows: &mut [Row]) {
        for values in rows.iter_mut().flatten() {
            let activated = self.of(s, s.load(values));
            s.store(activated, values);
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
    /// The channels of a block whose parameters are `p`. Beyond `length` they hold no sense.
    fn element<S: Simd>(&self, s: S, p: S::Vector, start: usize, length: usize) -> [S::Vector; E];
}

/// `mean x²` of each channel; `p` are the parameters of the tensor.
fn mean_squares<const E: usize>(p: &[f32], inputs: &impl Inputs<E>) -> [f32; E] {
    dispatch(MeanSquares { p, inputs })
}

struct MeanSquares<'a, const E: usize, I> {
    p: &'a [f32],
    inputs: &'a I,
}

impl<const E: usize, I: Inputs<E>> Kernel for MeanSquares<'_, E, I> {
    type Output = [f32; E];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; E] {
        let Self { p, inputs } = self;
        // f32 sums of few blocks, one a place in the block, are added up in f64.
        let (mut sums, mut of_blocks, mut blocks) = ([0.0_f64; E], [s.zero(); E], 0);
        for start in (0..p.len()).step_by(BLOCK) {
            let length = BLOCK.min(p.len() - start);
            let x = inputs.element(s, s.load_part(&p[start..start + length]), start, length);
            if length == BLOCK {
                for (sum, x) in of_blocks.iter_mut().zip(x) {
                    *sum = s.fma(x, x, *sum);
                }
            } else {
                for (sum, x) in of_blocks.iter_mut().zip(x) {
                    // What lies beyond the end holds no sense.
                    let mut inside = [0.0; BLOCK];
                    s.store_part(x, &mut inside[..length]);
                    let x = s.load(&inside);
                    *sum = s.fma(x, x, *sum);
                }
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
        sums.map(|sum| (sum / p.len() as f64) as f32)
    }
}

/// Blocks whose squares are added up in f32.
const BLOCKS_OF_A_SUM: usize = 32;

/// `1/√(1e-5 + mean x²)` of each element channel over the whole tensor, whose parameters are `p`.
pub(super) fn element_normalisers<const E: usize>(inputs: &impl Inputs<E>, p: &[f32]) -> [f32; E] {
    mean_squares(p, inputs).map(normaliser)
}

/// A block of elements and what the network says about it. Beyond `length` the values hold no sense.
#[derive(Debug)]
pub(super) struct Evaluated<'a> {
    /// Number of elements, less than a block only at the end of a stretch.
    pub(super) length: usize,
    /// Parameters.
    pub(super) p: &'a Block,
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

impl<const E: usize, F: FnMut(&Evaluated<'_>) -> Block> Mover<E> for ByBlocks<F> {
    #[inline(always)]
    fn moved<S: Simd>(&mut self, s: S, block: &Outputs<'_, S, E>) -> S::Vector {
        let array = |x: &S::Vector| {
            let mut block = [0.0; BLOCK];
            s.store(*x, &mut block);
            block
        };
        self.outputs.iter_mut().zip(block.outputs).for_each(|(output, x)| *output = array(x));
        s.load(&(self.moved)(&Evaluated { length: block.length, p: &array(&block.p), outputs: &self.outputs }))
    }
}

/// Evaluates the first `outputs` outputs of the network for all elements and sets the parameters to what `moved` says.
pub(super) fn sweep<const E: usize>(
    p: &mut [f32],
    inputs: &impl Inputs<E>,
    first: &FirstLayer<'_, E>,
    network: &Network<'_>,
    outputs: usize,
    moved: impl FnMut(&Evaluated<'_>) -> Block,
) {
    sweep_with(p, inputs, first, network, outputs, ByBlocks::new(outputs, moved));
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
    dispatch(Sweep { p, inputs, first, network, outputs, mover });
}

struct Sweep<'w, 'l, const E: usize, I, M> {
    p: &'w mut [f32],
    inputs: &'w I,
    first: &'w FirstLayer<'l, E>,
    network: &'w Network<'l>,
    outputs: usize,
    mover: M,
}

impl<const E: usize, I: Inputs<E>, M: Mover<E>> Kernel for Sweep<'_, '_, E, I, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { p, inputs, first, network, outputs, mut mover } = self;
        let widest = network.hidden.iter().map(Layer::outputs).fold(first.bias().len(), usize::max);
        let (mut z, mut next) = (vec![Row::default(); widest], vec![Row::default(); widest]);
        let mut last = vec![Row::default(); network.last.outputs()];
        let mut channels = [Row::default(); E];
        let mut said = vec![s.zero(); outputs];
        for tile in (0..p.len()).step_by(TILE * BLOCK) {
            let vectors = (p.len() - tile).div_ceil(BLOCK).min(TILE);
            for i in 0..vectors {
                let start = tile + i * BLOCK;
                let length = BLOCK.min(p.len() - start);
                let x = inputs.element(s, s.load_part(&p[start..start + length]), start, length);
                for (row, x) in channels.iter_mut().zip(x) {
                    s.store(x, &mut row[i]);
                }
            }
            let mut units = first.bias().len();
            affine(s, first.weights(), first.bias(), &channels, &mut z[..units]);
            network.activation.of_rows(s, &mut z[..units]);
            for layer in &network.hidden {
                affine(s, layer.w, layer.b, &z[..units], &mut next[..layer.outputs()]);
                units = layer.outputs();
                network.activation.of_rows(s, &mut next[..units]);
                std::mem::swap(&mut z, &mut next);
            }
            affine(s, network.last.w, network.last.b, &z[..units], &mut last);
            for i in 0..vectors {
                let start = tile + i * BLOCK;
                let length = BLOCK.min(p.len() - start);
                let parameters = s.load_part(&p[start..start + length]);
                let mut x = [s.zero(); E];
                for (x, row) in x.iter_mut().zip(&channels) {
                    *x = s.load(&row[i]);
                }
                for (said, row) in said.iter_mut().zip(&last) {
                    *said = s.load(&row[i]);
                }
                let moved = mover.moved(s, &Outputs { length, p: parameters, x: &x, outputs: &said });
                s.store_part(moved, &mut p[start..start + length]);
            }
        }
    }
}
