//! Large values in pieces that sled can hold, each with its own checksum.
//!
//! ```text
//!  value 7 ─► b/7/0 [crc32c│bytes]  b/7/1 [crc32c│bytes] …      pointer {7, length, SHA-256}
//! ```

use sha2::{Digest, Sha256};

use super::{Change, Store, StoreError, keys};

/// Bytes of a large value in one chunk; with checksum and key it stays below sled's 64 KiB.
pub const CHUNK: usize = 64 * 1024 - 64;

/// Where a large value is, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Number of the value.
    pub value: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl Pointer {
    /// The pointer to `bytes` stored as `value`.
    pub fn to(value: u64, bytes: &[u8]) -> Self {
        Self { value, length: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
    }

    /// Number of chunks.
    fn chunks(&self) -> u32 {
        self.length.div_ceil(CHUNK as u64) as u32
    }

    /// Changes that remove the value.
    pub fn removal(&self) -> impl Iterator<Item = Change> {
        let value = self.value;
        (0..self.chunks()).map(move |index| Change::Remove(keys::chunk(value, index)))
    }

    /// Reads the value and checks every chunk and the whole.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] naming the chunk, [`StoreError::Io`].
    pub fn read(&self, store: &dyn Store) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.length).unwrap_or(0).min(1 << 30));
        for index in 0..self.chunks() {
            let what = || format!("chunk {index} of {} of value {}", self.chunks(), self.value);
            let chunk = store
                .get(&keys::chunk(self.value, index))?
                .ok_or_else(|| StoreError::damaged(what(), "it is missing"))?;
            let (sum, data) =
                chunk.split_first_chunk::<4>().ok_or_else(|| StoreError::damaged(what(), "it is cut short"))?;
            if crc32c::crc32c(data) != u32::from_be_bytes(*sum) {
                return Err(StoreError::damaged(what(), "its checksum does not fit"));
            }
            bytes.extend_from_slice(data);
        }
        if bytes.len() as u64 != self.length || Self::to(self.value, &bytes) != *self {
            return Err(StoreError::damaged(format!("value {}", self.value), "its SHA-256 does not fit"));
        }
        Ok(bytes)
    }
}

/// Changes that write `bytes` as `value`.
pub fn writing(value: u64, bytes: &[u8]) -> impl Iterator<Item = Change> {
    (0..).zip(bytes.chunks(CHUNK)).map(move |(index, data)| {
        let mut chunk = crc32c::crc32c(data).to_be_bytes().to_vec();
        chunk.extend_from_slice(data);
        Change::Put(keys::chunk(value, index), chunk)
    })
}
