//! Putting a training down and taking it up again: the variables and all that the optimizer remembers.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{Leaf, LearnedOptimizer, read_variables};
use crate::optimizer::OptState;
use crate::{Error, Result};

impl LearnedOptimizer {
    /// The variables and the whole state of the optimizer, as safetensors bytes ([`OptState::to_bytes`]; shapes are
    /// those of the reference). After [`LearnedOptimizer::restore`] the next step is the same to the bit.
    ///
    /// # Errors
    /// [`Error::StateLost`] after a step that failed inside the optimizer, [`Error::Candle`] if a device fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut state = self.state()?.clone();
        read_variables(&self.leaves, &mut state.params)?;
        state.encode(self.optimizer.as_ref(), &self.axes())
    }

    /// Sets the variables and the state to those of [`LearnedOptimizer::to_bytes`].
    ///
    /// # Errors
    /// As [`OptState::from_bytes`]: [`Error::SavedState`] if bytes are damaged; [`Error::ForeignState`],
    /// [`Error::LayoutMismatch`] or [`Error::Lanes`] if another optimizer, theta, model, number of steps or
    /// [`super::Role`] made them. Nothing has changed then. [`Error::Candle`] if a device fails.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut params = self.grads.clone();
        read_variables(&self.leaves, &mut params)?;
        let fresh = self.optimizer.init(params, &[self.num_steps])?;
        self.state = Some(OptState::decode(bytes, self.optimizer.as_ref(), &fresh, &self.axes())?);
        self.write_variables()
    }

    /// Writes [`LearnedOptimizer::to_bytes`] to a file, which is whole or not there: a neighbour `PATH.partial` is
    /// written first.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written, or as [`LearnedOptimizer::to_bytes`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, bytes) = (path.as_ref(), self.to_bytes()?);
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let write = || {
            let mut file = File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|error| at(path, &error))
    }

    /// Reads a file of [`LearnedOptimizer::save`] and restores it.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, or as [`LearnedOptimizer::restore`].
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.restore(&fs::read(path).map_err(|error| at(path, &error))?)
    }

    /// How candle's axes were permuted: two square matrices of one shape may differ in that alone.
    fn axes(&self) -> String {
        let axes: Vec<&[usize]> = self.leaves.iter().map(|Leaf { axes, .. }| axes.as_slice()).collect();
        format!("candle {axes:?}")
    }
}

fn at(path: &Path, error: &std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), reason: error.to_string() }
}
