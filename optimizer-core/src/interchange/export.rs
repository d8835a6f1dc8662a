//! From a checkpoint to the files that the JAX reference reads.

use super::classes::Class;
use super::flax::{Form, write_theta};
use crate::Result;
use crate::checkpoint::Checkpoint;

/// The two files of a flax checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flax {
    /// Name of the file that holds theta: `params`, or `theta.state` for the Celo family.
    pub name: &'static str,
    /// Its bytes.
    pub theta: Vec<u8>,
    /// Text of `config.gin`: class and settings. `None` for Celo2 in the form that users chain themselves, which has no
    /// class. (The reference reads none beside a `theta.state`; we do.)
    pub gin: Option<String>,
}

/// A checkpoint as flax files: `gen_id` is its run, `step` its outer step.
///
/// # Errors
/// [`crate::Error::NoCounterpart`] if the reference has no class that computes the same.
pub fn write_flax(checkpoint: &Checkpoint) -> Result<Flax> {
    let Checkpoint { meta, state } = checkpoint;
    let class = Class::of(&meta.optimizer)?;
    let form = class.form();
    let theta = form.write(&meta.run, state.outer_step, |writer| write_theta(writer, &state.theta, class.haiku()));
    let name = if form == Form::Theta { "theta.state" } else { "params" };
    Ok(Flax { name, theta, gin: class.write(&meta.optimizer)? })
}
