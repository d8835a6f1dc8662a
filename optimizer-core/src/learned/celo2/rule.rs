//! The direction the learned rule gives one tensor.
//!
//! ```text
//!  channels ─► each over its RMS ─► network ─► o0 · scale · exp(exp_mult · o1) ─► Newton–Schulz ─► over its RMS
//!              └── over each matrix of the last two axes, or over the vector ──────────────────────────────┘
//! ```
//!
//! A convolution `[height, width, in, out]` is `height · width` matrices, for the normalisers and for Newton–Schulz alike.
//! The accumulators stay those of the whole tensor, whose factored axes may be any two.

use crate::learned::accumulators::{Accumulators, Decays};
use crate::learned::bank::NetworkShape;
use crate::learned::channels::{CLIPPED, Guards};
use crate::learned::float::{mean, rsqrt};
use crate::learned::fused::{Moved, Said, Step};
use crate::learned::network::Network;
use crate::learned::step::parameter_scale;
use crate::optimizer::newton_schulz::NewtonSchulz;
use crate::simd::{self, Simd};

/// Everything about the rule but theta.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The network.
    pub(super) shape: NetworkShape,
    /// Of the accumulators.
    pub(super) decays: Decays,
    /// Correct the bias of the accumulators that are inputs.
    pub(super) bias_correction: bool,
    /// What is added inside the roots of channels.
    pub(super) guards: Guards,
    /// Factor of the magnitude.
    pub(super) exp_mult: f32,
    /// Take the mean of the magnitude over the tensor.
    pub(super) aggregate_magnitude: bool,
    /// Multiply by the root mean square of the tensor.
    pub(super) param_scale_mult: bool,
    /// For rank ≥ 2.
    pub(super) newton_schulz: Option<NewtonSchulz>,
    /// Added to the mean square that the direction is normalised by, if it is.
    pub(super) normaliser: Option<f32>,
    /// Factor after that.
    pub(super) factor: f32,
    /// Divide by the root of the second moment.
    pub(super) precondition: bool,
}

/// One tensor in one lane.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    /// Shape.
    pub(super) shape: &'a [usize],
    /// The parameters.
    pub(super) p: &'a [f32],
    /// Their gradient.
    pub(super) g: &'a [f32],
    /// Which update this is, from 1.
    pub(super) count: u32,
}

/// The parameters are replaced by directions.
#[derive(Clone, Copy, Debug)]
struct Direction {
    scale: f32,
    exp_mult: f32,
    /// Instead of an element's own.
    magnitude: Option<f32>,
}

impl Moved<CLIPPED, 2> for Direction {
    #[inline(always)]
    fn moved<S: Simd>(&self, s: S, said: &Said<'_, S, CLIPPED, 2>) -> S::Vector {
        let magnitude = match self.magnitude {
            Some(magnitude) => s.splat(magnitude),
            None => said.outputs[1],
        };
        let size = simd::exp(s, s.mul(s.splat(self.exp_mult), magnitude));
        s.mul(said.outputs[0], s.mul(s.splat(self.scale), size))
    }
}

/// The parameters are replaced by the network's magnitudes.
struct Magnitude;

impl Moved<CLIPPED, 2> for Magnitude {
    #[inline(always)]
    fn moved<S: Simd>(&self, _: S, said: &Said<'_, S, CLIPPED, 2>) -> S::Vector {
        said.outputs[1]
    }
}

impl Rule {
    /// A gradient enters the accumulators, and `direction` becomes where the rule says that the parameters go.
    pub(super) fn direct(
        &self,
        direction: &mut Vec<f32>,
        tensor: &Tensor<'_>,
        mut accumulators: Accumulators<'_>,
        network: &Network<'_>,
    ) {
        direction.clear();
        direction.extend_from_slice(tensor.p);
        if direction.is_empty() {
            return;
        }
        self.evaluate(direction, tensor, accumulators.borrowed(), network);
        let matrix = match *tensor.shape {
            [.., rows, columns] => {
                if let Some(newton_schulz) = &self.newton_schulz {
                    newton_schulz.apply(direction, rows, columns);
                }
                rows * columns
            }
            _ => direction.len(),
        };
        for direction in direction.chunks_exact_mut(matrix) {
            let norm = self.normaliser.map_or(1.0, |guard| rsqrt(guard + mean(direction, |s| s * s)));
            direction.iter_mut().for_each(|s| *s = *s * norm * self.factor);
        }
        if self.precondition {
            let collected = if self.bias_correction { self.decays.rms.collected(tensor.count) } else { 1.0 };
            direction.iter_mut().zip(&*accumulators.rms).for_each(|(s, rms)| *s *= rsqrt(rms / collected + 1e-6));
        }
    }

    /// What the network says, direction times magnitude, takes the place of the parameters in `direction`.
    fn evaluate(
        &self,
        direction: &mut [f32],
        tensor: &Tensor<'_>,
        accumulators: Accumulators<'_>,
        network: &Network<'_>,
    ) {
        let &Tensor { shape, p, g, count } = tensor;
        let inputs = self.shape.inputs;
        let rows = if shape.len() < 2 { inputs.rows_without_factored() } else { inputs.rows() };
        let step = Step {
            decays: &self.decays,
            rows: &rows,
            guards: self.guards,
            network,
            corrected: self.bias_correction.then_some(count),
            by_matrices: true,
        };
        let mut entered = step.enter(direction, g, accumulators);
        let scale = if self.param_scale_mult { parameter_scale(entered.mean_square()) } else { 1.0 };
        let mut magnitude = None;
        if self.aggregate_magnitude {
            entered.evaluate(direction, &Magnitude);
            magnitude = Some(mean(direction, |magnitude| magnitude));
            direction.copy_from_slice(p);
        }
        entered.evaluate(direction, &Direction { scale, exp_mult: self.exp_mult, magnitude });
    }
}
