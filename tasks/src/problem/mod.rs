//! A problem: parameters, data and a loss, over lanes. What the families are made of.
//!
//! ```text
//!   seed ─► instance ─┐                                    Evaluation
//!                     ├─► batch ─► losses (a Pass: tape, weights, state) ─┤
//!   params, state ────┘                                    gradients, new state
//! ```
//!
//! A [`Problem`] says what a family computes; [`ProblemFamily`] runs it: it turns parameters into tensors, asks the tape for
//! gradients, checks that each parameter got one, and keeps the state that training changes beside the parameters.

mod batches;
mod family;
mod initial;
mod normalise;
mod parameters;
mod pass;
mod test_split;

pub(crate) use batches::indices;
pub(crate) use family::ProblemFamily;
pub(crate) use initial::Initial;
pub(crate) use normalise::Normaliser;
pub(crate) use parameters::{Parameters, ParametersBuilder};
pub(crate) use pass::{Classified, Mode, Pass, Scores};
pub use test_split::TestSplit;

use std::fmt;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::feed_forward::FeedForward;
use paceline_optimizer_core::task::Split;

use crate::sample::Panel;

/// Training problems of one static shape, and how a seed picks one.
///
/// `Debug` writes what it is for people: the network, its size, the data really used.
pub(crate) trait Problem: fmt::Debug + Send + Sync {
    /// What tells one task of the family from another besides its weights and the order of its data: nothing, an
    /// activation, a random matrix.
    type Instance: Clone + Send + Sync;
    /// The data of one step, for all lanes.
    type Batch;

    /// Registered name of the family.
    fn name(&self) -> &'static str;

    /// Names, shapes and initial values of the parameters.
    fn parameters(&self) -> &Parameters;

    /// Names, shapes and initial values of what training changes beside the parameters, if anything.
    fn state(&self) -> Option<&Parameters> {
        None
    }

    /// The task of this seed.
    fn instance(&self, seed: Seed) -> Self::Instance;

    /// Initial values of tensor `index`, where the task has its own.
    fn initial(&self, instance: &Self::Instance, index: usize) -> Initial {
        let _ = instance;
        self.parameters().initial(index).clone()
    }

    /// Examples in a batch; 1 where there are none.
    fn batch_size(&self) -> usize;

    /// How many examples the test split has, and how many of them a test batch scores; `None` where nobody needs to score
    /// the whole of it. Test batches then hold what [`TestSplit`] says.
    fn test_split(&self) -> Option<TestSplit> {
        None
    }

    /// Batch `number` of a split, of `size` examples a lane: for the tasks given, each with its seed. Where all lanes are
    /// the same task it is called with one, and the result has a lane axis of 1. Equal numbers are equal batches, and
    /// fewer examples are the first of more.
    ///
    /// # Errors
    /// If it cannot be made.
    fn batch(&self, tasks: &[(Seed, Self::Instance)], split: Split, number: u64, size: usize) -> Result<Self::Batch>;

    /// The tensors of a batch, which live as long as a step.
    fn tensors(batch: &Self::Batch) -> Vec<&Tensor>;

    /// The loss of each lane on a batch, and how often it was right.
    ///
    /// # Errors
    /// If a layer refuses its operands.
    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Self::Instance)], batch: &Self::Batch) -> Result<Scores>;

    /// As [`paceline_optimizer_core::task::TaskFamily::feed_forward`].
    fn feed_forward(&self) -> Option<FeedForward<'_>> {
        None
    }

    /// As [`paceline_optimizer_core::task::TaskFamily::normalise`].
    fn normalise(&self, loss: f64) -> f64;

    /// What its data look like, for people.
    fn panels(&self, seed: Seed) -> Vec<Panel>;
}
