//! Safetensors from strangers.
//!
//! ```text
//!  8 bytes │ {"__metadata__":{…},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},…}   │ data
//!  length  │ header, JSON, padded with spaces                                                    │ without gaps
//! ```
//!
//! The public crate writes our files; files are read here, because its reader takes the last of two equal names, and tens
//! of bytes of memory for each byte of a hostile header. This one borrows the data, keeps as much as the header says and
//! no more, and reads the dtypes that files of ours have. Source: the format's description at
//! github.com/huggingface/safetensors.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// More axes than any tensor of ours has.
const MOST_AXES: usize = 8;

/// More metadata than any file of ours has.
const MOST_METADATA: usize = 256;

/// Type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F64,
    U32,
}

impl Dtype {
    fn named(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "U32" => Some(Self::U32),
            "F64" => Some(Self::F64),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }
}

/// A tensor whose values are still in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tensor<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    /// Little-endian, row-major; as many bytes as type and shape say.
    pub(crate) data: &'a [u8],
}

/// A file whose header was read and checked.
#[derive(Debug)]
pub(crate) struct TensorFile<'a> {
    metadata: Vec<(String, String)>,
    /// Sorted by name.
    entries: Vec<Entry>,
    data: &'a [u8],
}

#[derive(Debug)]
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

impl<'a> TensorFile<'a> {
    /// Whether some bytes begin like a file of this format: the length of a header that is there, and its brace.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        split(bytes).is_some_and(|(header, _)| header.first() == Some(&b'{'))
    }

    /// Reads and checks a header: every name once, every tensor F32 or F64 and as many bytes as its shape says, the data
    /// used from its first byte to its last, each byte by one tensor.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let (header, data) =
            split(bytes).ok_or_else(|| format!("{} bytes are too few for the header they announce", bytes.len()))?;
        let Header { mut metadata, mut entries } = serde_json::from_slice(header).map_err(|error| error.to_string())?;
        let mut next = 0;
        entries.sort_unstable_by_key(|entry| (entry.begin, entry.end));
        for Entry { name, dtype, shape, begin, end } in &entries {
            let size = shape.iter().try_fold(dtype.size(), |size, &axis| size.checked_mul(axis));
            if *begin != next || end.checked_sub(*begin) != size || *end > data.len() {
                let size = size.map_or("more than can be counted".into(), |size| size.to_string());
                let there = data.len();
                return Err(format!(
                    "tensor {name:?}: {dtype:?} {shape:?} takes {size} bytes, but lies at {begin}..{end} of {there} where \
                     {next} comes next"
                ));
            }
            next = *end;
        }
        if next != data.len() {
            return Err(format!("{} bytes of data, but tensors end at {next}", data.len()));
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metadata.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(format!("tensor {:?} twice", pair[0].name));
        }
        if let Some(pair) = metadata.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("metadata key {:?} twice", pair[0].0));
        }
        Ok(Self { metadata, entries, data })
    }

    /// The metadata under this key.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Number of tensors.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Names in sorted order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Names and tensors in sorted order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, Tensor<'_>)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), self.tensor_of(entry)))
    }

    /// The tensor of this name.
    pub(crate) fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let index = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        Some(self.tensor_of(&self.entries[index]))
    }

    fn tensor_of<'b>(&'b self, entry: &'b Entry) -> Tensor<'b> {
        Tensor { dtype: entry.dtype, shape: &entry.shape, data: &self.data[entry.begin..entry.end] }
    }
}

/// Header and data.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[derive(Default)]
struct Header {
    metadata: Vec<(String, String)>,
    entries: Vec<Entry>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header: an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata.extend(map.next_value::<Metadata>()?.0);
                continue;
            }
            let Description { dtype, shape: Shape(shape), data_offsets: (begin, end) } = map.next_value()?;
            let dtype = Dtype::named(&dtype)
                .ok_or_else(|| A::Error::custom(format!("tensor {name:?} has dtype {dtype:?}, not F32, F64 or U32")))?;
            header.entries.push(Entry { name, dtype, shape, begin, end });
        }
        Ok(header)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    dtype: String,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// A shape, refused while it is read if it has too many axes.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;
        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {MOST_AXES} axes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut axes: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(axis) = axes.next_element()? {
                    if shape.len() == MOST_AXES {
                        return Err(A::Error::invalid_length(MOST_AXES + 1, &self));
                    }
                    shape.push(axis);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Axes)
    }
}

/// Texts by key, in the order of the file.
struct Metadata(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MOST_METADATA} texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if texts.len() == MOST_METADATA {
                        return Err(A::Error::invalid_length(MOST_METADATA + 1, &self));
                    }
                    texts.push(entry);
                }
                Ok(Metadata(texts))
            }
        }
        deserializer.deserialize_map(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_the_public_crate_writes_is_read() {
        let data: Vec<u8> = (0..24).collect();
        let views = [
            ("b", safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 3], &data).unwrap()),
            ("a", safetensors::tensor::TensorView::new(safetensors::Dtype::F64, vec![], &data[..8]).unwrap()),
        ];
        let metadata = std::collections::HashMap::from([("k".to_owned(), "é\n".to_owned())]);
        let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
        let file = TensorFile::parse(&bytes).unwrap();
        assert!(TensorFile::begins(&bytes));
        assert_eq!((file.metadata("k"), file.metadata("l"), file.len()), (Some("é\n"), None, 2));
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(file.tensor("b"), Some(Tensor { dtype: Dtype::F32, shape: &[2, 3], data: &data }));
        assert_eq!(file.tensor("c"), None);
    }

    #[test]
    fn hostile_headers_are_refused_in_words() {
        let tensor = |name: &str, dtype: &str, shape: &str, begin: u64, end: u64| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        };
        let whole = tensor("a", "F32", "[1]", 0, 4);
        for (header, word) in [
            (format!("{{{whole},{whole}}}"), "where 4 comes next"),
            (format!("{{{},{}}}", tensor("a", "F32", "[0]", 0, 0), tensor("a", "F32", "[1]", 0, 4)), "\"a\" twice"),
            (format!("{{{}}}", tensor("a", "F32", "[1]", 1, 5)), "where 0 comes next"),
            (format!("{{{}}}", tensor("a", "F32", "[1]", 4, 0)), "at 4..0"),
            (format!("{{{}}}", tensor("a", "F32", "[2]", 0, 8)), "0..8 of 4"),
            (format!("{{{}}}", tensor("a", "F32", "[0]", 0, 0)), "tensors end at 0"),
            (format!("{{{}}}", tensor("a", "BF16", "[2]", 0, 4)), "dtype \"BF16\""),
            (format!("{{{}}}", tensor("a", "F32", "[4294967296,4294967296,4]", 0, 4)), "more than can be counted"),
            (format!("{{{}}}", tensor("a", "F32", "[-1]", 0, 4)), "integer `-1`"),
            (format!("{{{}}}", tensor("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)), "at most 8 axes"),
            (format!(r#"{{"__metadata__":{{{}}}}}"#, r#""":"","#.repeat(300)), "at most 256 texts"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#.into(), "unknown field `x`"),
            (r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.into(), "duplicate field"),
            (format!(r#"{{"__metadata__":{{"k":"1","k":"2"}},{whole}}}"#), "\"k\" twice"),
            (format!(r#"{{"__metadata__":{{"k":{}}},{whole}}}"#, "[".repeat(1000)), "expected a string"),
            ("[".repeat(100_000), "a header"),
            ("{".to_owned(), "EOF"),
        ] {
            let error = TensorFile::parse(&file(&header, &[0; 4])).unwrap_err();
            assert!(error.contains(word), "{error} should say {word}");
        }
        for bytes in [&[][..], &[0; 7], &[0xff; 12], &[9, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            assert!(TensorFile::parse(bytes).unwrap_err().contains("too few"), "{bytes:x?}");
            assert!(!TensorFile::begins(bytes));
        }
    }
}
