//! One item at a time from a slice.

use super::super::quote::quoted;
use crate::{Error, Result};

/// One item. Of a container it is the header: its children follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::interchange) enum Item<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// A negative number.
    Negative(i64),
    Float(f64),
    Text(&'a str),
    Binary(&'a [u8]),
    /// So many items follow.
    Array(usize),
    /// So many pairs of a key and a value follow.
    Map(usize),
    /// An application's own type: its number and payload.
    Extension(i8, &'a [u8]),
}

impl Item<'_> {
    /// What it is, for a message.
    pub(in crate::interchange) fn words(self) -> String {
        match self {
            Self::Nil => "nil".into(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(value) => format!("the number {value}"),
            Self::Negative(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value:?}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::Binary(bytes) => format!("{} bytes of binary data", bytes.len()),
            Self::Array(length) => format!("an array of {length}"),
            Self::Map(length) => format!("a map of {length}"),
            Self::Extension(kind, payload) => format!("extension {kind} of {} bytes", payload.len()),
        }
    }
}

/// A place in a document. Copying it costs nothing, so a place can be kept and read again.
#[derive(Clone, Copy, Debug)]
pub(in crate::interchange) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begins in the file, so that messages count from the file's first byte.
    origin: usize,
}

impl<'a> Reader<'a> {
    /// At the first byte of `bytes`, which begin at byte `origin` of the file.
    pub(in crate::interchange) fn new(bytes: &'a [u8], origin: usize) -> Self {
        Self { bytes, at: 0, origin }
    }

    /// Byte of the file that is read next.
    pub(in crate::interchange) fn offset(&self) -> usize {
        self.origin + self.at
    }

    /// Reads one item; of a container, its header.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the bytes end before the item, or before the children that a container declares could
    /// stand (each takes a byte at least); if text is not UTF-8; for the one code that MessagePack never uses.
    pub(in crate::interchange) fn item(&mut self) -> Result<Item<'a>> {
        let start = self.at;
        let code = self.take(1, "an item", start)?[0];
        Ok(match code {
            0x00..=0x7f => Item::Unsigned(u64::from(code)),
            0x80..=0x8f => self.container(usize::from(code & 0x0f), 2, start)?,
            0x90..=0x9f => self.container(usize::from(code & 0x0f), 1, start)?,
            0xa0..=0xbf => self.text(usize::from(code & 0x1f), start)?,
            0xc0 => Item::Nil,
            0xc1 => return Err(self.wrong(start, "an item", "code 0xc1, which MessagePack never uses")),
            0xc2 => Item::Bool(false),
            0xc3 => Item::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (code - 0xc4), start)?;
                Item::Binary(self.take(length, "binary data", start)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (code - 0xc7), start)?;
                self.extension(length, start)?
            }
            0xca => Item::Float(f64::from(f32::from_bits(self.big_endian(4, start)? as u32))),
            0xcb => Item::Float(f64::from_bits(self.big_endian(8, start)?)),
            0xcc..=0xcf => Item::Unsigned(self.big_endian(1 << (code - 0xcc), start)?),
            0xd0..=0xd3 => {
                let bytes = 1 << (code - 0xd0);
                // The sign bit moves to the top and back down, which spreads it.
                let spare = 64 - 8 * bytes as u32;
                let value = (self.big_endian(bytes, start)? << spare).cast_signed() >> spare;
                u64::try_from(value).map_or(Item::Negative(value), Item::Unsigned)
            }
            0xd4..=0xd8 => self.extension(1 << (code - 0xd4), start)?,
            0xd9..=0xdb => {
                let length = self.length(1 << (code - 0xd9), start)?;
                self.text(length, start)?
            }
            0xdc | 0xdd => {
                let length = self.length(2 << (code - 0xdc), start)?;
                self.container(length, 1, start)?
            }
            0xde | 0xdf => {
                let length = self.length(2 << (code - 0xde), start)?;
                self.container(length, 2, start)?
            }
            0xe0..=0xff => Item::Negative(i64::from(code.cast_signed())),
        })
    }

    /// Passes over one item with everything in it, however deep: children are counted, so nothing recurses.
    ///
    /// # Errors
    /// Those of [`Reader::item`].
    pub(in crate::interchange) fn skip(&mut self) -> Result<()> {
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            // A container is read only where its children could stand, so this sum stays far below 2^64.
            left += match self.item()? {
                Item::Array(length) => length as u64,
                Item::Map(length) => 2 * length as u64,
                _ => 0,
            };
        }
        Ok(())
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`Error::Foreign`] if bytes are left.
    pub(in crate::interchange) fn end(&self) -> Result<()> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(self.wrong(self.at, "the end", format!("{left} more bytes"))),
        }
    }

    fn container(&self, length: usize, items: usize, start: usize) -> Result<Item<'a>> {
        let left = self.bytes.len() - self.at;
        if length > left / items {
            let what = if items == 2 { "map" } else { "array" };
            let expected = format!("room for the {length} entries of a {what}");
            return Err(self.wrong(start, expected, format!("the end {left} bytes later")));
        }
        Ok(if items == 2 { Item::Map(length) } else { Item::Array(length) })
    }

    fn text(&mut self, length: usize, start: usize) -> Result<Item<'a>> {
        let bytes = self.take(length, "text", start)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Item::Text(text)),
            Err(_) => Err(self.wrong(start, "text", format!("{length} bytes that are not UTF-8"))),
        }
    }

    fn extension(&mut self, length: usize, start: usize) -> Result<Item<'a>> {
        let kind = self.take(1, "an extension", start)?[0].cast_signed();
        Ok(Item::Extension(kind, self.take(length, "an extension", start)?))
    }

    fn length(&mut self, bytes: usize, start: usize) -> Result<usize> {
        let length = self.big_endian(bytes, start)?;
        // At most 32 bits, by the format.
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn big_endian(&mut self, bytes: usize, start: usize) -> Result<u64> {
        let digits = self.take(bytes, "a number", start)?;
        Ok(digits.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn take(&mut self, length: usize, what: &str, start: usize) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        if length > left {
            let found = format!("the end {left} bytes later");
            return Err(self.wrong(start, format!("{what}, {length} bytes more"), found));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    fn wrong(&self, start: usize, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::foreign(format!("byte {}", self.origin + start), expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(bytes: &[u8]) -> Vec<Item<'_>> {
        let mut reader = Reader::new(bytes, 0);
        let mut items = vec![];
        while reader.end().is_err() {
            items.push(reader.item().unwrap());
        }
        items
    }

    #[test]
    fn every_code_of_the_specification_is_read() {
        assert_eq!(
            items(&[0x00, 0x7f, 0xe0, 0xff]),
            [0, 127].map(Item::Unsigned).into_iter().chain([-32, -1].map(Item::Negative)).collect::<Vec<_>>()
        );
        assert_eq!(items(&[0xc0, 0xc2, 0xc3]), [Item::Nil, Item::Bool(false), Item::Bool(true)]);
        assert_eq!(items(&[0xcc, 200, 0xcd, 1, 0, 0xce, 1, 0, 0, 0]), [200, 256, 1 << 24].map(Item::Unsigned));
        assert_eq!(items(&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255]), [Item::Unsigned(u64::MAX)]);
        assert_eq!(items(&[0xd0, 0x80, 0xd1, 0xff, 0x7f]), [-128, -129].map(Item::Negative));
        assert_eq!(items(&[0xd2, 0xff, 0xff, 0xff, 0xfe, 0xd0, 5]), [Item::Negative(-2), Item::Unsigned(5)]);
        assert_eq!(items(&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0]), [Item::Negative(i64::MIN)]);
        assert_eq!(items(&[0xca, 0x3f, 0x80, 0, 0]), [Item::Float(1.0)]);
        assert_eq!(items(&[0xcb, 0x40, 0, 0, 0, 0, 0, 0, 0]), [Item::Float(2.0)]);
        assert_eq!(
            items(&[0xa1, b'a', 0xd9, 1, b'b', 0xda, 0, 1, b'c', 0xdb, 0, 0, 0, 1, b'd']),
            ["a", "b", "c", "d"].map(Item::Text)
        );
        let binary = items(&[0xc4, 1, 7, 0xc5, 0, 1, 8, 0xc6, 0, 0, 0, 1, 9]);
        assert_eq!(binary, [&[7][..], &[8], &[9]].map(Item::Binary));
        let fixed = items(&[0xd4, 1, 1, 0xd5, 2, 1, 2, 0xd6, 3, 1, 2, 3, 4]);
        assert_eq!(fixed, [Item::Extension(1, &[1]), Item::Extension(2, &[1, 2]), Item::Extension(3, &[1, 2, 3, 4])]);
        let long: Vec<u8> = [0xd7, 0xff].into_iter().chain(0..8).chain([0xd8, 1]).chain(0..16).collect();
        assert_eq!(items(&long), [Item::Extension(-1, &long[2..10]), Item::Extension(1, &long[12..])]);
        let sized = items(&[0xc7, 1, 5, 9, 0xc8, 0, 1, 5, 9, 0xc9, 0, 0, 0, 1, 5, 9]);
        assert_eq!(sized, [Item::Extension(5, &[9]); 3]);
        let arrays = items(&[0x91, 0xc0, 0xdc, 0, 1, 0xc0, 0xdd, 0, 0, 0, 1, 0xc0]);
        assert_eq!(arrays, [Item::Array(1), Item::Nil, Item::Array(1), Item::Nil, Item::Array(1), Item::Nil]);
        let maps = items(&[0x81, 0, 0, 0xde, 0, 1, 0, 0, 0xdf, 0, 0, 0, 1, 0, 0]);
        assert_eq!(maps.iter().filter(|item| **item == Item::Map(1)).count(), 3);
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_with_its_place() {
        for bytes in [
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0][..],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0x7f, 0xff, 0xff, 0xff, b'a'],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 1],
            &[0xd8, 1, 0],
            &[0xcb, 0],
            &[0xc1],
            &[0xa1, 0xff],
            &[],
        ] {
            let error = Reader::new(bytes, 40).item().unwrap_err().to_string();
            assert!(error.starts_with("byte 40: expected "), "{bytes:x?}: {error}");
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let mut deep = vec![0x91; 1 << 20];
        deep.push(0xc0);
        let mut reader = Reader::new(&deep, 0);
        reader.skip().unwrap();
        reader.end().unwrap();
        assert!(Reader::new(&deep[..1 << 20], 0).skip().is_err());
    }
}
