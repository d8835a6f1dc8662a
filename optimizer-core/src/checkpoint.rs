//! Checkpoints that describe themselves.
use crate::Result;
use crate::learned::LearnedOptimizerConfig;
use crate::outer::OuterState;
use serde::{Deserialize, Serialize};
/// Newest format this program reads and the one it writes.
pub const FORMAT: u32 = 1;
/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// Format version.
    pub format: u32,
    /// The run that wrote it.
    pub run: String,
    /// The learned optimizer and its settings.
    pub optimizer: LearnedOptimizerConfig,
    /// The whole recipe (`RunSpec`), task mixture included, as JSON.
    pub recipe: serde_json::Value,
    /// Hex SHA-256 of the checkpoint this one continues.
    pub parent: Option<String>,
    /// Version of the code that wrote it.
    pub code_version: String,
}
/// Theta with the state of its outer loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it says of itself.
    pub meta: CheckpointMeta,
    /// Theta, moments and counters.
    pub state: OuterState,
}
impl Checkpoint {
    /// Deterministic safetensors bytes.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        unimplemented!()
    }
    /// Reads and verifies them.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] for damage, [`crate::Error::CheckpointTooNew`].
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self> {
        unimplemented!()
    }
}
