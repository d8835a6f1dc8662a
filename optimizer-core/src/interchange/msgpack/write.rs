//! The shortest code for each item, as Python's `msgpack` chooses it.

/// A document that grows.
#[derive(Debug, Default)]
pub(in crate::interchange) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(in crate::interchange) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The header of a map; its keys and values follow.
    pub(in crate::interchange) fn map(&mut self, length: usize) {
        match length {
            0..16 => self.bytes.push(0x80 | length as u8),
            _ => self.sized(&[(2, 0xde), (4, 0xdf)], length),
        }
    }

    /// The header of an array; its items follow.
    pub(in crate::interchange) fn array(&mut self, length: usize) {
        match length {
            0..16 => self.bytes.push(0x90 | length as u8),
            _ => self.sized(&[(2, 0xdc), (4, 0xdd)], length),
        }
    }

    pub(in crate::interchange) fn text(&mut self, text: &str) {
        match text.len() {
            0..32 => self.bytes.push(0xa0 | text.len() as u8),
            length => self.sized(&[(1, 0xd9), (2, 0xda), (4, 0xdb)], length),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(in crate::interchange) fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(in crate::interchange) fn unsigned(&mut self, value: u64) {
        match value {
            0..128 => self.bytes.push(value as u8),
            128..0x100 => self.bytes.extend([0xcc, value as u8]),
            0x100..0x1_0000 => self.number(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => self.number(0xce, &(value as u32).to_be_bytes()),
            _ => self.number(0xcf, &value.to_be_bytes()),
        }
    }

    pub(in crate::interchange) fn binary(&mut self, data: &[u8]) {
        self.sized(&[(1, 0xc4), (2, 0xc5), (4, 0xc6)], data.len());
        self.bytes.extend_from_slice(data);
    }

    pub(in crate::interchange) fn extension(&mut self, kind: u8, payload: &[u8]) {
        match payload.len() {
            length @ (1 | 2 | 4 | 8 | 16) => self.bytes.push(0xd4 + length.ilog2() as u8),
            length => self.sized(&[(1, 0xc7), (2, 0xc8), (4, 0xc9)], length),
        }
        self.bytes.push(kind);
        self.bytes.extend_from_slice(payload);
    }

    /// The first code whose length field is wide enough, then the length.
    fn sized(&mut self, codes: &[(usize, u8)], length: usize) {
        debug_assert!(length <= u32::MAX as usize, "no tensor comes near the 4 GiB that MessagePack allows");
        let fits = |&&(width, _): &&(usize, u8)| width == 4 || length < 1 << (8 * width);
        if let Some(&(width, code)) = codes.iter().find(fits) {
            self.number(code, &(length as u32).to_be_bytes()[4 - width..]);
        }
    }

    fn number(&mut self, code: u8, digits: &[u8]) {
        self.bytes.push(code);
        self.bytes.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Item, Reader};
    use super::*;

    #[test]
    fn what_is_written_is_read_at_every_width() {
        for length in [0, 1, 2, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let data = vec![b'x'; length];
            let text = String::from_utf8(data.clone()).unwrap();
            let mut writer = Writer::default();
            writer.text(&text);
            writer.binary(&data);
            writer.extension(3, &data);
            writer.unsigned(length as u64);
            writer.array(length);
            for _ in 0..length {
                writer.bool(true);
            }
            writer.map(length);
            for _ in 0..2 * length {
                writer.bool(false);
            }
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes, 0);
            assert_eq!(reader.item().unwrap(), Item::Text(&text));
            assert_eq!(reader.item().unwrap(), Item::Binary(&data));
            assert_eq!(reader.item().unwrap(), Item::Extension(3, &data));
            assert_eq!(reader.item().unwrap(), Item::Unsigned(length as u64));
            let mut array = reader;
            assert_eq!(array.item().unwrap(), Item::Array(length));
            reader.skip().unwrap();
            assert_eq!({ reader }.item().unwrap(), Item::Map(length));
            reader.skip().unwrap();
            reader.end().unwrap();
        }
        let mut writer = Writer::default();
        writer.unsigned(u64::from(u32::MAX) + 1);
        assert_eq!(writer.into_bytes(), [0xcf, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn codes_are_the_shortest() {
        let mut writer = Writer::default();
        writer.map(2);
        writer.text("w");
        writer.extension(1, &[0; 22]);
        writer.extension(1, &[0; 16]);
        writer.unsigned(4321);
        let bytes = writer.into_bytes();
        assert_eq!(bytes[..6], [0x82, 0xa1, b'w', 0xc7, 0x16, 0x01]);
        assert_eq!(bytes[28..30], [0xd8, 0x01]);
        assert_eq!(bytes[46..], [0xcd, 0x10, 0xe1]);
    }
}
