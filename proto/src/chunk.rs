//! Large values travel in pieces.
//!
//! ```text
//!  value ─ pieces(value, sha256, offset) ─► Chunk{0, crc, sha256} Chunk{256 Ki, crc} … ─► Assembly ─► the same value
//!                              ▲                            ╳ broken here                    │
//!                              └─────────── ask again from Assembly::offset ◄────────────────┘
//! ```
//!
//! Each piece is checked by itself (CRC-32C), so a damaged one costs one piece; the whole is checked against the SHA-256
//! that came first, so nothing wrong is ever handed on. Everything here is pure.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::convert::{Converted, ProtocolError};
use crate::model::Piece;
use crate::pb;

/// Bytes in a piece; the last one of a value may be shorter.
pub const PIECE_BYTES: usize = 256 << 10;

/// Largest value a receiver takes, in bytes.
pub const MAX_VALUE_BYTES: u64 = 1 << 30;

/// Names a value.
pub fn sha256(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

/// The pieces of `value` from `offset` on; the first carries `sha256`, the hash of the whole. There is always a first
/// piece, even when no byte is left, so that the receiver learns length and hash.
///
/// # Errors
/// [`ProtocolError::Invalid`] naming `offset` if it lies beyond the end.
pub fn pieces(value: Bytes, sha256: [u8; 32], offset: u64) -> Converted<impl Iterator<Item = pb::Chunk> + Send> {
    let total = value.len();
    let start = usize::try_from(offset).ok().filter(|start| *start <= total).ok_or_else(|| {
        ProtocolError::invalid("offset", format!("lies within the {total} bytes of the value, got {offset}"))
    })?;
    let count = (total - start).div_ceil(PIECE_BYTES).max(1);
    Ok((0..count).map(move |index| {
        let from = start + index * PIECE_BYTES;
        let piece = Piece {
            offset: from as u64,
            data: value.slice(from..total.min(from + PIECE_BYTES)),
            total_bytes: total as u64,
            sha256: (index == 0).then_some(sha256),
        };
        piece.into()
    }))
}

/// Why pieces do not make a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// A piece did not continue where the last one ended.
    #[error("piece starts at byte {got}, expected {expected}")]
    Order {
        /// Where the next piece must start.
        expected: u64,
        /// Where it started.
        got: u64,
    },
    /// The first piece of a stream came without the hash of the whole.
    #[error("first piece names no SHA-256 of the whole value")]
    Unnamed,
    /// A later stream sends another value.
    #[error("the value changed while it was pulled")]
    Changed,
    /// The value is larger than a receiver takes.
    #[error("value of {total} bytes is larger than the {MAX_VALUE_BYTES} bytes a receiver takes")]
    TooLarge {
        /// Its length.
        total: u64,
    },
    /// All bytes are there, but they are not the value that was named.
    #[error("bytes do not fit their SHA-256")]
    Hash,
}

/// A value being put together, through as many streams as it takes.
#[derive(Debug, Default)]
pub struct Assembly {
    held: BytesMut,
    /// Length and hash of the whole, from the first piece.
    whole: Option<(u64, [u8; 32])>,
}

impl Assembly {
    /// Nothing held yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held: where the next piece must start.
    pub fn offset(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether all bytes are there.
    pub fn is_complete(&self) -> bool {
        self.whole.is_some_and(|(total, _)| total == self.offset())
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// [`AssemblyError`] if it does not belong here; what is held stays as it was.
    pub fn accept(&mut self, piece: &Piece) -> Result<(), AssemblyError> {
        match (self.whole, piece.sha256) {
            (None, None) => return Err(AssemblyError::Unnamed),
            (None, Some(_)) if piece.total_bytes > MAX_VALUE_BYTES => {
                return Err(AssemblyError::TooLarge { total: piece.total_bytes });
            }
            (Some((total, _)), _) if total != piece.total_bytes => return Err(AssemblyError::Changed),
            (Some((_, hash)), Some(named)) if hash != named => return Err(AssemblyError::Changed),
            (None, Some(_)) | (Some(_), _) => {}
        }
        if piece.offset != self.offset() {
            return Err(AssemblyError::Order { expected: self.offset(), got: piece.offset });
        }
        if let (None, Some(hash)) = (self.whole, piece.sha256) {
            self.whole = Some((piece.total_bytes, hash));
        }
        self.held.extend_from_slice(&piece.data);
        Ok(())
    }

    /// The whole value.
    ///
    /// # Errors
    /// [`AssemblyError::Hash`] if bytes are missing or do not fit the hash.
    pub fn finish(self) -> Result<Bytes, AssemblyError> {
        let fits = self.is_complete() && self.whole.is_some_and(|(_, hash)| hash == sha256(&self.held));
        if fits { Ok(self.held.freeze()) } else { Err(AssemblyError::Hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(length: usize, salt: u8) -> Bytes {
        (0..length).map(|index| (index % 251) as u8 ^ salt).collect()
    }

    fn received(chunk: pb::Chunk) -> Piece {
        chunk.try_into().expect("an honest piece passes its own checks")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_value_survives_streams_that_break_anywhere(
            length in 0..3 * PIECE_BYTES + 2,
            salt: u8,
            breaks in prop::collection::vec(0..4usize, 0..3),
        ) {
            let value = value(length, salt);
            let hash = sha256(&value);
            let mut assembly = Assembly::new();
            for pieces_before_break in breaks {
                let stream = pieces(value.clone(), hash, assembly.offset()).unwrap();
                for chunk in stream.take(pieces_before_break) {
                    assembly.accept(&received(chunk)).unwrap();
                }
            }
            for chunk in pieces(value.clone(), hash, assembly.offset()).unwrap() {
                assembly.accept(&received(chunk)).unwrap();
            }
            prop_assert_eq!(assembly.finish().unwrap(), value);
        }

        #[test]
        fn pieces_from_any_offset_are_the_rest_of_the_value(length in 0..2 * PIECE_BYTES, share in 0.0..=1.0f64) {
            let value = value(length, 7);
            let offset = (length as f64 * share) as usize;
            let rest: Vec<u8> = pieces(value.clone(), sha256(&value), offset as u64)
                .unwrap()
                .flat_map(|chunk| chunk.data.to_vec())
                .collect();
            prop_assert_eq!(rest, value.slice(offset..).to_vec());
        }

        #[test]
        fn a_flipped_bit_is_noticed(length in 1..PIECE_BYTES, place: prop::sample::Index, bit in 0..8u8) {
            let value = value(length, 3);
            let mut chunk = pieces(value.clone(), sha256(&value), 0).unwrap().next().unwrap();
            let mut damaged = chunk.data.to_vec();
            damaged[place.index(length)] ^= 1 << bit;
            chunk.data = damaged.into();
            let error = Piece::try_from(chunk).unwrap_err();
            prop_assert!(error.to_string().starts_with("crc32c: "), "{error}");
        }
    }

    #[test]
    fn an_offset_beyond_the_end_is_refused_by_name() {
        let error = pieces(value(10, 0), [0; 32], 11).err().unwrap();
        assert_eq!(error.to_string(), "offset: lies within the 10 bytes of the value, got 11");
    }

    #[test]
    fn pieces_of_another_value_are_refused() {
        let (first, second) = (value(PIECE_BYTES + 1, 0), value(PIECE_BYTES + 1, 1));
        let mut assembly = Assembly::new();
        let start = received(pieces(first.clone(), sha256(&first), 0).unwrap().next().unwrap());
        assembly.accept(&start).unwrap();
        assert_eq!(
            assembly.accept(&start),
            Err(AssemblyError::Order { expected: PIECE_BYTES as u64, got: 0 }),
            "a repeated piece"
        );
        let other = received(pieces(second.clone(), sha256(&second), assembly.offset()).unwrap().next().unwrap());
        assert_eq!(assembly.accept(&other), Err(AssemblyError::Changed));
        let unnamed = Piece { sha256: None, ..other };
        assert_eq!(Assembly::new().accept(&unnamed), Err(AssemblyError::Unnamed));
        // The same length but another content: only the hash of the whole can tell.
        assembly.accept(&unnamed).unwrap();
        assert_eq!(assembly.finish().unwrap_err(), AssemblyError::Hash);
    }

    #[test]
    fn a_value_beyond_all_bounds_is_refused_before_it_is_stored() {
        let piece = Piece { offset: 0, data: Bytes::new(), total_bytes: u64::MAX, sha256: Some([0; 32]) };
        assert_eq!(Assembly::new().accept(&piece), Err(AssemblyError::TooLarge { total: u64::MAX }));
    }
}
