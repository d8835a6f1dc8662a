//! One array as flax stores it.
//!
//! ```text
//!  extension 1 (array) or 3 (scalar):   [ shape, "float32", bytes ]            row-major, little-endian
//!  above 2^30 bytes:   { "__msgpack_chunked_array__": true, "shape": {"0": n, …}, "chunks": {"0": array, …} }
//! ```
//!
//! Source: `flax.serialization`, functions `_ndarray_to_bytes`, `_msgpack_ext_unpack`, `_chunk` and `_unchunk`.

use super::super::msgpack::{Item, Reader, Writer};
use super::super::quote::quoted;
use crate::{Error, Result};

/// Extension of a NumPy or JAX array.
const ARRAY: i8 = 1;
/// Extension of a NumPy scalar.
const SCALAR: i8 = 3;

/// The key that tells a chunked array from a dictionary.
const CHUNKED: &str = "__msgpack_chunked_array__";

/// Largest array in one piece, in bytes.
pub(super) const CHUNK: usize = 1 << 30;

/// More chunks than there can be: 64 GiB.
const MOST_CHUNKS: usize = 64;

/// More axes than any theta has.
const MOST_AXES: usize = 8;

/// An array whose values are still in the file.
#[derive(Clone, Debug)]
pub(super) struct Array<'a> {
    /// Byte of the file where it begins.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    dtype: &'a [u8],
    chunks: Vec<&'a [u8]>,
}

impl<'a> Array<'a> {
    /// Reads one; `path` is what messages call it.
    pub(super) fn read(reader: &mut Reader<'a>, path: &str) -> Result<Self> {
        let offset = reader.offset();
        match reader.item()? {
            Item::Extension(ARRAY | SCALAR, payload) => Self::payload(payload, reader.offset() - payload.len(), path),
            Item::Map(entries) => Self::chunked(reader, entries, offset, path),
            other => Err(at(offset, path, "an array", other.words())),
        }
    }

    fn payload(payload: &'a [u8], offset: usize, path: &str) -> Result<Self> {
        let mut reader = Reader::new(payload, offset);
        match reader.item()? {
            Item::Array(3) => {}
            other => return Err(at(offset, path, "an array of shape, dtype and data", other.words())),
        }
        let shape = match reader.item()? {
            Item::Array(axes @ 0..=MOST_AXES) => {
                (0..axes).map(|_| size(&mut reader, path)).collect::<Result<Vec<_>>>()?
            }
            other => return Err(at(offset, path, format!("a shape of at most {MOST_AXES} axes"), other.words())),
        };
        let dtype = match reader.item()? {
            Item::Text(text) => text.as_bytes(),
            Item::Binary(bytes) => bytes,
            other => return Err(at(offset, path, "the name of a dtype", other.words())),
        };
        let data = match reader.item()? {
            Item::Binary(data) => data,
            other => return Err(at(offset, path, "the array's binary data", other.words())),
        };
        reader.end()?;
        Ok(Self { offset, shape, dtype, chunks: vec![data] })
    }

    fn chunked(reader: &mut Reader<'a>, entries: usize, offset: usize, path: &str) -> Result<Self> {
        let (mut marked, mut shape, mut pieces) = (None, None, None);
        for _ in 0..entries {
            let place = reader.offset();
            let again = match reader.item()? {
                Item::Text(CHUNKED) => marked.replace(reader.item()?).is_some(),
                Item::Text("shape") => shape.replace(numbered(reader, path, size)?).is_some(),
                Item::Text("chunks") => pieces.replace(numbered(reader, path, Self::read_piece)?).is_some(),
                other => return Err(at(place, path, "an array", format!("a map with {}", other.words()))),
            };
            if again {
                return Err(at(place, path, "a key once", "the same key again"));
            }
        }
        let (Some(Item::Bool(true)), Some(shape), Some(pieces)) = (marked, shape, pieces) else {
            return Err(at(offset, path, "an array", "a map that is no chunked array"));
        };
        if shape.len() > MOST_AXES {
            return Err(at(offset, path, format!("at most {MOST_AXES} axes"), shape.len().to_string()));
        }
        let dtype = pieces.first().map_or(&b"no chunks"[..], |piece| piece.dtype);
        if let Some(other) = pieces.iter().find(|piece| piece.dtype != dtype) {
            return Err(at(other.offset, path, "chunks of one dtype", name(other.dtype)));
        }
        Ok(Self { offset, shape, dtype, chunks: pieces.into_iter().flat_map(|piece| piece.chunks).collect() })
    }

    /// A chunk, which is not chunked itself.
    fn read_piece(reader: &mut Reader<'a>, path: &str) -> Result<Self> {
        let offset = reader.offset();
        match reader.item()? {
            Item::Extension(ARRAY, payload) => Self::payload(payload, reader.offset() - payload.len(), path),
            other => Err(at(offset, path, "a chunk", other.words())),
        }
    }

    /// Checks dtype, shape and length against those of a tensor, before anything is allocated for it.
    ///
    /// # Errors
    /// [`Error::Foreign`] for the first that differs.
    pub(super) fn check(&self, shape: &[usize], path: &str) -> Result<()> {
        if self.dtype != b"float32" {
            return Err(at(self.offset, path, "float32, the only dtype that is read", name(self.dtype)));
        }
        if self.shape != shape {
            return Err(at(self.offset, path, format!("shape {shape:?}"), format!("shape {:?}", self.shape)));
        }
        let expected = 4 * shape.iter().product::<usize>();
        let found: usize = self.chunks.iter().map(|chunk| chunk.len()).sum();
        if found != expected || self.chunks.iter().any(|chunk| chunk.len() % 4 != 0) {
            return Err(at(self.offset, path, format!("{expected} bytes of data"), format!("{found} bytes")));
        }
        Ok(())
    }

    /// Writes the values into `to`, a tensor that [`Array::check`] found to fit.
    ///
    /// # Errors
    /// [`Error::Foreign`] for a number that is not finite.
    pub(super) fn copy_to(&self, to: &mut [f32], path: &str) -> Result<()> {
        let words = self.chunks.iter().flat_map(|chunk| chunk.as_chunks::<4>().0);
        for (index, (to, word)) in to.iter_mut().zip(words).enumerate() {
            *to = f32::from_le_bytes(*word);
            if !to.is_finite() {
                return Err(at(self.offset, path, "finite numbers", format!("{to} at index {index}")));
            }
        }
        Ok(())
    }
}

/// An axis's size.
fn size(reader: &mut Reader<'_>, path: &str) -> Result<usize> {
    let offset = reader.offset();
    match reader.item()? {
        Item::Unsigned(size) if u32::try_from(size).is_ok() => Ok(size as usize),
        other => Err(at(offset, path, "the size of an axis", other.words())),
    }
}

/// A tuple: a map with the keys "0", "1", …, in any order.
fn numbered<'a, T>(
    reader: &mut Reader<'a>,
    path: &str,
    read: impl Fn(&mut Reader<'a>, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let offset = reader.offset();
    let length = match reader.item()? {
        Item::Map(length @ 0..=MOST_CHUNKS) => length,
        other => {
            let expected = format!("a map with the keys \"0\", \"1\", …, at most {MOST_CHUNKS}");
            return Err(at(offset, path, expected, other.words()));
        }
    };
    let mut entries = Vec::new();
    for _ in 0..length {
        let place = reader.offset();
        let key = match reader.item()? {
            Item::Text(key) => key.parse::<usize>().ok().filter(|index| *index < length),
            _ => None,
        };
        let key = key.ok_or_else(|| at(place, path, format!("a key below {length}"), "another"))?;
        entries.push((key, read(reader, path)?));
    }
    entries.sort_by_key(|(key, _)| *key);
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(at(offset, path, "keys that differ", format!("{:?} twice", pair[0].0.to_string())));
    }
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn at(offset: usize, path: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::foreign(format!("byte {offset} ({path})"), expected, found)
}

fn name(dtype: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(&dtype[..dtype.len().min(200)]))
}

/// Writes one array, in pieces of `chunk` bytes if it is larger than that.
pub(super) fn write(writer: &mut Writer, shape: &[usize], values: &[f32], chunk: usize) {
    if 4 * values.len() <= chunk {
        return writer.extension(ARRAY as u8, &payload(shape, values));
    }
    writer.map(3);
    writer.text(CHUNKED);
    writer.bool(true);
    writer.text("shape");
    writer.map(shape.len());
    for (axis, &size) in shape.iter().enumerate() {
        writer.text(&axis.to_string());
        writer.unsigned(size as u64);
    }
    let pieces = values.chunks(chunk / 4);
    writer.text("chunks");
    writer.map(pieces.len());
    for (index, piece) in pieces.enumerate() {
        writer.text(&index.to_string());
        writer.extension(ARRAY as u8, &payload(&[piece.len()], piece));
    }
}

fn payload(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let mut inner = Writer::default();
    inner.array(3);
    inner.array(shape.len());
    for &size in shape {
        inner.unsigned(size as u64);
    }
    inner.text("float32");
    inner.binary(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    inner.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(bytes: &[u8], shape: &[usize]) -> Result<Vec<f32>> {
        let mut reader = Reader::new(bytes, 0);
        let array = Array::read(&mut reader, "x")?;
        reader.end()?;
        array.check(shape, "x")?;
        let mut values = vec![0.0; shape.iter().product()];
        array.copy_to(&mut values, "x")?;
        Ok(values)
    }

    #[test]
    fn arrays_in_one_piece_and_in_several_come_back() {
        let values: Vec<f32> = (0..12).map(|i| i as f32 / 7.0).collect();
        for chunk in [CHUNK, 48, 44, 16, 4] {
            let mut writer = Writer::default();
            write(&mut writer, &[3, 4], &values, chunk);
            assert_eq!(back(&writer.into_bytes(), &[3, 4]).unwrap(), values, "chunks of {chunk}");
        }
        let mut writer = Writer::default();
        write(&mut writer, &[], &[3.0], CHUNK);
        let scalar = writer.into_bytes();
        assert_eq!(scalar[0], 0xd8, "a scalar array is a fixext16");
        assert_eq!(back(&scalar, &[]).unwrap(), [3.0]);
    }

    #[test]
    fn a_numpy_scalar_and_a_binary_dtype_are_read() {
        let mut payload = vec![0x93, 0x90, 0xc4, 7];
        payload.extend(b"float32");
        payload.extend([0xc4, 4, 0, 0, 0x40, 0x40]);
        let mut bytes = vec![0xc7, payload.len() as u8, 3];
        bytes.extend(payload);
        assert_eq!(back(&bytes, &[]).unwrap(), [3.0]);
    }

    #[test]
    fn what_does_not_fit_is_told_with_place_expected_and_found() {
        let mut writer = Writer::default();
        write(&mut writer, &[2], &[1.0, f32::NAN], CHUNK);
        let bytes = writer.into_bytes();
        let error = |bytes: &[u8], shape: &[usize]| back(bytes, shape).unwrap_err().to_string();
        assert_eq!(error(&bytes, &[3]), "byte 3 (x): expected shape [3], found shape [2]");
        assert!(error(&bytes, &[2]).contains("found NaN at index 1"));
        let mut half = bytes.clone();
        let at = half.windows(7).position(|piece| piece == b"float32").unwrap();
        half[at..at + 7].copy_from_slice(b"int32\0\0");
        assert!(error(&half, &[2]).contains("expected float32, the only dtype that is read, found \"int32"));
        assert!(error(&[0xc0], &[]).contains("byte 0 (x): expected an array, found nil"));
        assert!(error(&[0x80], &[]).contains("no chunked array"));
        for cut in 0..bytes.len() {
            assert!(back(&bytes[..cut], &[2]).is_err(), "{cut} bytes");
        }
    }
}
