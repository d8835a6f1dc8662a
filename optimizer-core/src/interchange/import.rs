//! From a file of another program to theta.

use crate::checkpoint::{Checkpoint, CheckpointMeta, FORMAT};
use crate::learned::LearnedOptimizerConfig;
use crate::outer::OuterState;
use crate::tensor_file::TensorFile;
use crate::{Error, Result, Theta};

use super::classes::{Class, describe};
use super::flax::{Envelope, Form, read_theta};
use super::{infer, plain};

/// What is known of the optimizer beside the file that holds theta.
#[derive(Clone, Copy, Debug, Default)]
pub enum Description<'a> {
    /// Nothing: the file must tell. Flax's `Triple` form does, because only one optimizer was ever released in it; so do
    /// a bare theta of Celo and a safetensors file written by [`super::write_safetensors`].
    #[default]
    None,
    /// The text of its `config.gin`.
    Gin(&'a str),
    /// Its settings.
    Settings(&'a LearnedOptimizerConfig),
}

/// The form of a file that was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Flax's MessagePack.
    Flax(Form),
    /// Plain safetensors, one tensor for each of theta, named as in our layouts.
    Safetensors,
}

/// A theta from another program, and what its file says of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The form of the file.
    pub source: Source,
    /// The learned optimizer.
    pub optimizer: LearnedOptimizerConfig,
    /// Its theta, one lane.
    pub theta: Theta,
    /// The run that trained it (`gen_id`); empty if the file does not say.
    pub run: String,
    /// Outer steps it was trained for (`step`); 0 if the file does not say.
    pub outer_step: u64,
    /// Keys of `config.gin` that say nothing about the optimizer.
    pub ignored: Vec<String>,
}

impl Imported {
    /// A checkpoint of it: theta, with an outer loop that has not begun. It has no recipe, because the file has none;
    /// `sha256` (hex, of the file) takes the place of its parent.
    pub fn into_checkpoint(self, sha256: String, code_version: String) -> Checkpoint {
        let run = if self.run.is_empty() { format!("imported-{}", &sha256[..sha256.len().min(12)]) } else { self.run };
        let meta = CheckpointMeta {
            format: FORMAT,
            run,
            optimizer: self.optimizer,
            recipe: None,
            parent: Some(sha256),
            code_version,
        };
        let state = OuterState { outer_step: self.outer_step, ..OuterState::new(self.theta) };
        Checkpoint { meta, state }
    }
}

/// Imports a theta: flax or safetensors, told apart by how they begin.
///
/// # Errors
/// [`Error::Foreign`] if file and description do not fit together or one is damaged, saying where, what was expected and
/// what was found. [`Error::OptimizerUntold`] if neither says which optimizer it is. [`Error::Setting`] if a setting is
/// out of its range.
pub fn import(bytes: &[u8], description: Description<'_>) -> Result<Imported> {
    if TensorFile::begins(bytes) { plain::read(bytes, description) } else { flax(bytes, description) }
}

fn flax(bytes: &[u8], description: Description<'_>) -> Result<Imported> {
    let envelope = Envelope::open(bytes)?;
    let (optimizer, ignored) = match description {
        Description::Settings(settings) => (settings.clone(), vec![]),
        Description::Gin(text) => {
            let described = describe(text)?;
            (described.optimizer, described.ignored)
        }
        Description::None => (infer::optimizer(&envelope)?, vec![]),
    };
    let learned = optimizer.build()?;
    let theta = read_theta(envelope.theta, learned.layout(), Class::of(&optimizer)?.haiku())?;
    let (source, run, outer_step) = (Source::Flax(envelope.form), envelope.name, envelope.step);
    Ok(Imported { source, optimizer, theta, run, outer_step, ignored })
}

/// The complaint that nothing says which optimizer a file belongs to.
pub(super) fn untold(what: &str) -> Error {
    Error::OptimizerUntold { what: what.to_owned() }
}
