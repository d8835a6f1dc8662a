//! One way through a model: its weights in order, its state, and the tape.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use paceline_optimizer_core::Seed;

use crate::layers::{Tape, correct};

/// Whether a pass trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Norms use the statistics of the batch, dropout drops.
    Train,
    /// Norms use running statistics, nothing is dropped.
    Evaluate,
}

/// What a model needs of its surroundings. Weights are handed out in the order of the layout, so a model reads them in the
/// order in which it listed them; so is the state.
pub(crate) struct Pass<'a> {
    /// Remembers the layers.
    pub(crate) tape: Tape,
    /// Whether this pass trains.
    pub(crate) mode: Mode,
    /// One seed a lane for the random numbers of this step, equal for equal tasks and batches.
    seeds: &'a [Seed],
    /// How often random numbers were asked for.
    uses: u64,
    weights: std::slice::Iter<'a, Tensor>,
    state: std::slice::IterMut<'a, Tensor>,
}

impl<'a> Pass<'a> {
    /// A pass over these weights and this state, `[lanes, shape…]` each.
    pub(crate) fn new(mode: Mode, seeds: &'a [Seed], weights: &'a [Tensor], state: &'a mut [Tensor]) -> Self {
        Self { tape: Tape::default(), mode, seeds, uses: 0, weights: weights.iter(), state: state.iter_mut() }
    }

    /// Number of lanes.
    pub(crate) fn lanes(&self) -> usize {
        self.seeds.len()
    }

    /// Seeds for the random numbers of one more layer, one a lane.
    pub(crate) fn next_seeds(&mut self) -> Vec<Seed> {
        self.uses += 1;
        self.seeds.iter().map(|seed| seed.fold_in(self.uses)).collect()
    }

    /// The next weight, `[lanes, shape…]`.
    ///
    /// # Errors
    /// If the layout lists no more.
    pub(crate) fn weight(&mut self) -> Result<&'a Tensor> {
        match self.weights.next() {
            Some(weight) => Ok(weight),
            None => bail!("a model reads more weights than it listed"),
        }
    }

    /// The next tensor of the state, `[lanes, shape…]`. A training pass may replace it.
    ///
    /// # Errors
    /// If the state lists no more.
    pub(crate) fn state(&mut self) -> Result<&'a mut Tensor> {
        match self.state.next() {
            Some(state) => Ok(state),
            None => bail!("a model reads more state than it listed"),
        }
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// If weights or state were left over: the model and its layout disagree.
    pub(crate) fn finish(self) -> Result<Tape> {
        let (weights, state) = (self.weights.len(), self.state.len());
        if weights + state > 0 {
            bail!("a model left {weights} weights and {state} tensors of its state unread");
        }
        Ok(self.tape)
    }
}

/// What a pass scored.
#[derive(Debug)]
pub(crate) struct Scores {
    /// Mean loss of each lane, `[lanes]`.
    pub(crate) losses: Tensor,
    /// What was classified; `None` where there are no classes.
    pub(crate) classified: Option<Classified>,
}

/// Logits and what they should have said. Counted when somebody asks: training needs the loss alone.
#[derive(Debug)]
pub(crate) struct Classified {
    /// `[lanes, …, classes]`.
    pub(crate) logits: Tensor,
    /// `[lanes | 1, …]`.
    pub(crate) labels: Arc<Vec<u32>>,
    /// The label of places that do not count.
    pub(crate) padding: Option<u32>,
}

impl Classified {
    /// Share of the places that count classified right, a lane; 0 where none counts.
    ///
    /// # Errors
    /// As [`crate::layers::cross_entropy`].
    pub(crate) fn accuracy(&self) -> Result<Vec<f32>> {
        let counts = correct(&self.logits, &self.labels, self.padding)?;
        Ok(counts.into_iter().map(|(right, counted)| right as f32 / counted.max(1) as f32).collect())
    }
}
