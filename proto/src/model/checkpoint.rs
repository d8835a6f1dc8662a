//! Checkpoints and pieces of large values.

use bytes::Bytes;
use paceline_optimizer_core::ThetaHash;

use super::RunId;

/// What is known of a checkpoint without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointInfo {
    /// The run that wrote it.
    pub run: RunId,
    /// Its outer step, unique in the run.
    pub outer_step: u64,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Names the theta inside.
    pub theta_hash: ThetaHash,
    /// Meta-loss of the last folded step; `None` at step 0.
    pub meta_loss: Option<f64>,
    /// Inner steps trained up to it.
    pub inner_steps: u64,
}

/// A piece of a large value. Its checksum was checked when it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub data: Bytes,
    /// Length of the whole value in bytes.
    pub total_bytes: u64,
    /// SHA-256 of the whole value, in the first piece of a stream.
    pub sha256: Option<[u8; 32]>,
}
