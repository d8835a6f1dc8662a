//! What can go wrong in the mathematics: facts, not sentences.

use std::sync::Arc;

use crate::params::Layout;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything this crate refuses. Variants carry what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layout names a tensor twice.
    #[error("tensor {name:?} appears twice in a layout")]
    DuplicateTensor {
        /// The repeated name.
        name: String,
    },
    /// A layout holds one part of a complex tensor and not the other beside it.
    #[error(
        "tensor {name:?}: the real and the imaginary part of a complex tensor must follow one another, of one shape"
    )]
    HalfPair {
        /// The part.
        name: String,
    },
    /// A buffer does not hold as many values as its shape says.
    #[error("{what}: expected {expected} values, got {got}")]
    Length {
        /// What was being filled.
        what: String,
        /// Number of values that fit.
        expected: usize,
        /// Number of values given.
        got: usize,
    },
    /// Two things that must describe the same tensors do not.
    #[error("{what}: expected layout {expected}, got {got}")]
    LayoutMismatch {
        /// What was being matched.
        what: String,
        /// Layout wanted.
        expected: Arc<Layout>,
        /// Layout given.
        got: Arc<Layout>,
    },
    /// Lanes of two operands differ.
    #[error("{what}: expected {expected} lanes, got {got}")]
    Lanes {
        /// What was being matched.
        what: String,
        /// Lanes wanted.
        expected: usize,
        /// Lanes given.
        got: usize,
    },
    /// A number that must be finite is not.
    #[error("{what}: not finite")]
    NotFinite {
        /// What held the number.
        what: String,
    },
    /// A setting is out of its range.
    #[error("{field}: {reason} (got {got})")]
    Setting {
        /// Dotted path of the setting, as in a recipe.
        field: String,
        /// What the setting must satisfy.
        reason: String,
        /// The value given.
        got: String,
    },
    /// Bytes that should be a checkpoint are not, or are damaged.
    #[error("checkpoint: {reason}")]
    Checkpoint {
        /// What is wrong with the bytes.
        reason: String,
    },
    /// The checkpoint was written by a newer format than this program reads.
    #[error("checkpoint format {found} is newer than {supported}, the newest this program reads: upgrade paceline")]
    CheckpointTooNew {
        /// Format version in the file.
        found: u32,
        /// Newest version understood.
        supported: u32,
    },
    /// Bytes that should be the state of an optimizer are not, or are damaged; or a state cannot be written.
    #[error("saved optimizer state: {reason}")]
    SavedState {
        /// What is wrong.
        reason: String,
    },
    /// A saved state is whole, but belongs to another optimizer, theta or plan.
    #[error("this optimizer cannot continue the saved state: its {what} is {expected}, the state's {got}")]
    ForeignState {
        /// What was compared.
        what: &'static str,
        /// What the optimizer has.
        expected: String,
        /// What the state has.
        got: String,
    },
    /// An earlier step failed inside the optimizer, which had taken the state.
    #[error("the state of {optimizer} was lost when a step failed: load a saved one")]
    StateLost {
        /// The optimizer.
        optimizer: &'static str,
    },
    /// The loss moves the parameters of this optimizer, and none was given.
    #[error("{optimizer} needs the training loss of each step: call backward_step(loss) or step(loss, grads)")]
    NeedsLoss {
        /// The optimizer.
        optimizer: &'static str,
    },
    /// A variable of a candle model cannot be trained as it is.
    #[error("variable {name:?}: {reason}")]
    Variable {
        /// Its name in the `VarMap`, or its place in the list.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of a candle model has no gradient.
    #[error(
        "variable {name:?} has no gradient: either the loss does not depend on it (retain() leaves it out, \
         MissingGradients::Zeros takes zeros), or the graph is cut: candle's fused layer_norm, rms_norm, softmax_last_dim \
         and rope pass no gradient on (their _slow forms and ops::softmax do)"
    )]
    MissingGradient {
        /// Its name in the `VarMap`, or its place in the list.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// candle failed.
    #[error(transparent)]
    Candle(Box<candle_core::Error>),
    /// A file of another program does not hold what it should.
    #[error("{place}: expected {expected}, found {found}")]
    Foreign {
        /// Where in which part: byte and key path, line, or name of a tensor.
        place: String,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A file of another program fits several learned optimizers, or none that can be told from it.
    #[error("{what} does not say which learned optimizer it belongs to")]
    OptimizerUntold {
        /// The file's form.
        what: String,
    },
    /// The other program has nothing of this kind.
    #[error("{what} cannot be written as {form}: {reason}")]
    NoCounterpart {
        /// What was to be exported.
        what: String,
        /// The format wanted.
        form: &'static str,
        /// Why not.
        reason: String,
    },
    /// An inner task failed to compute.
    #[error("task {family}: {reason}")]
    Task {
        /// The task family.
        family: String,
        /// What went wrong.
        reason: String,
    },
    /// The caller asked to stop between two inner steps.
    #[error("cancelled between inner steps")]
    Cancelled,
}

impl Error {
    /// A file of another program that does not hold what it should: where, what was expected, what was found.
    pub(crate) fn foreign(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Foreign { place: place.into(), expected: expected.into(), found: found.into() }
    }

    /// A setting that is out of range: `field` as in a recipe, `reason` what it must satisfy.
    pub fn setting(field: impl Into<String>, reason: impl Into<String>, got: impl ToString) -> Self {
        Self::Setting { field: field.into(), reason: reason.into(), got: got.to_string() }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(Box::new(error))
    }
}

/// So that a function of candle's `Result` may use `?` on this crate's.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => *error,
            error => Self::wrap(error),
        }
    }
}
