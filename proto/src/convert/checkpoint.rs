//! Checkpoints and pieces of large values.

use bytes::Bytes;

use super::{Converted, ProtocolError, from_nan, run_id, sha256, theta_hash, to_nan};
use crate::chunk::PIECE_BYTES;
use crate::model::{CheckpointInfo, Piece};
use crate::pb;

impl TryFrom<pb::CheckpointInfo> for CheckpointInfo {
    type Error = ProtocolError;

    fn try_from(info: pb::CheckpointInfo) -> Converted<Self> {
        Ok(Self {
            run: run_id(&info.run, "run")?,
            outer_step: info.outer_step,
            size_bytes: info.size_bytes,
            sha256: sha256(&info.sha256, "sha256")?,
            theta_hash: theta_hash(&info.theta_hash, "theta_hash")?,
            meta_loss: from_nan(info.meta_loss),
            inner_steps: info.inner_steps,
        })
    }
}

impl From<CheckpointInfo> for pb::CheckpointInfo {
    fn from(info: CheckpointInfo) -> Self {
        Self {
            run: info.run.into(),
            outer_step: info.outer_step,
            size_bytes: info.size_bytes,
            sha256: Bytes::copy_from_slice(&info.sha256),
            theta_hash: Bytes::copy_from_slice(&info.theta_hash.0),
            meta_loss: to_nan(info.meta_loss),
            inner_steps: info.inner_steps,
        }
    }
}

impl TryFrom<pb::Chunk> for Piece {
    type Error = ProtocolError;

    fn try_from(chunk: pb::Chunk) -> Converted<Self> {
        if chunk.data.len() > PIECE_BYTES {
            let reason = format!("is at most {PIECE_BYTES} bytes long, got {}", chunk.data.len());
            return Err(ProtocolError::invalid("data", reason));
        }
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        if end.is_none_or(|end| end > chunk.total_bytes) {
            let reason = format!("the piece must end within the {} bytes of the whole", chunk.total_bytes);
            return Err(ProtocolError::invalid("offset", reason));
        }
        let computed = crc32c::crc32c(&chunk.data);
        if computed != chunk.crc32c {
            let reason = format!("does not fit the data: {:08x} sent, {computed:08x} computed", chunk.crc32c);
            return Err(ProtocolError::invalid("crc32c", reason));
        }
        let hash = (!chunk.sha256.is_empty()).then(|| sha256(&chunk.sha256, "sha256")).transpose()?;
        Ok(Self { offset: chunk.offset, data: chunk.data, total_bytes: chunk.total_bytes, sha256: hash })
    }
}

impl From<Piece> for pb::Chunk {
    fn from(piece: Piece) -> Self {
        Self {
            offset: piece.offset,
            crc32c: crc32c::crc32c(&piece.data),
            data: piece.data,
            total_bytes: piece.total_bytes,
            sha256: piece.sha256.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default(),
        }
    }
}
