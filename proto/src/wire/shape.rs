//! What messages are made of, from the descriptors that are compiled in: each field's kind, and what it takes in memory.

use std::collections::HashMap;
use std::sync::OnceLock;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::largest;
use crate::FILE_DESCRIPTOR_SET;

/// Sizes of prost's Rust types, in bytes: a list, a text, a `Bytes`.
const LIST: usize = 24;
const TEXT: usize = 24;
const BYTES: usize = 32;
/// Of a number with its mark whether it is there: at most this.
const MARKED: usize = 16;
/// Numbers and marks are as wide as this at most, so every struct is a multiple of it.
const WORD: usize = 8;

/// How a field's values travel and are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One to ten bytes; takes so many in memory.
    Varint(usize),
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A message: where its shape is.
    Message(usize),
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    number: u32,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// A message.
#[derive(Debug)]
pub(super) struct Shape {
    fields: Vec<Field>,
    /// What its struct takes, without what lies outside of it.
    pub(super) size: usize,
}

impl Shape {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// What a method is asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) shape: usize,
    /// `package.Service/Method`.
    pub(super) method: String,
    /// Most bytes, as it travels and in memory.
    pub(super) largest: usize,
}

/// All messages of our protocol.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Vec<Shape>,
    /// By the message's simple name: all stand in one package.
    requests: HashMap<String, Request>,
}

impl Shapes {
    /// Those compiled in.
    pub(super) fn ours() -> &'static Self {
        static OURS: OnceLock<Shapes> = OnceLock::new();
        OURS.get_or_init(|| {
            let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("our descriptors were made by our build");
            Self::of(&set)
        })
    }

    /// The request of this name; `None` is an answer or a part.
    pub(super) fn request(&self, name: &str) -> Option<&Request> {
        self.requests.get(name)
    }

    pub(super) fn shape(&self, at: usize) -> &Shape {
        &self.all[at]
    }

    fn of(set: &FileDescriptorSet) -> Self {
        let messages: Vec<(String, &DescriptorProto)> = set
            .file
            .iter()
            .flat_map(|file| file.message_type.iter().map(|m| (format!(".{}.{}", file.package(), m.name()), m)))
            .collect();
        let places: HashMap<&str, usize> =
            messages.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let mut all: Vec<Shape> = messages
            .iter()
            .map(|(_, message)| {
                let fields = message.field.iter().map(|field| field_of(field, &places)).collect();
                Shape { fields, size: 0 }
            })
            .collect();
        for at in 0..all.len() {
            all[at].size = size_of_shape(at, &all);
        }
        let requests = set.file.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                service.method.iter().map(move |method| {
                    let path = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    (method.input_type().to_owned(), path)
                })
            })
        });
        let requests = requests
            .filter_map(|(input, method)| {
                let shape = *places.get(input.as_str())?;
                let name = input.rsplit('.').next()?.to_owned();
                Some((name, Request { shape, largest: largest(&method), method }))
            })
            .collect();
        Self { all, requests }
    }
}

fn field_of(field: &FieldDescriptorProto, places: &HashMap<&str, usize>) -> Field {
    let kind = match field.r#type() {
        Type::Bool => Kind::Varint(1),
        Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum => Kind::Varint(4),
        Type::Int64 | Type::Uint64 | Type::Sint64 => Kind::Varint(8),
        Type::Float | Type::Fixed32 | Type::Sfixed32 => Kind::Fixed32,
        Type::Double | Type::Fixed64 | Type::Sfixed64 => Kind::Fixed64,
        Type::String => Kind::Text,
        Type::Bytes => Kind::Bytes,
        // Groups are of proto2, which we do not write.
        Type::Message | Type::Group => Kind::Message(places[field.type_name()]),
    };
    Field {
        number: u32::try_from(field.number()).expect("field numbers are positive"),
        name: field.name().to_owned(),
        kind,
        repeated: field.label() == Label::Repeated,
    }
}

/// What a struct takes, at most: variants of a `oneof` are counted as if they stood side by side.
fn size_of_shape(at: usize, all: &[Shape]) -> usize {
    let fields = all[at].fields.iter().map(|field| match (field.repeated, field.kind) {
        (true, _) => LIST,
        (false, Kind::Varint(_) | Kind::Fixed32 | Kind::Fixed64) => MARKED,
        (false, Kind::Text) => TEXT,
        (false, Kind::Bytes) => BYTES,
        (false, Kind::Message(inner)) => size_of_shape(inner, all) + WORD,
    });
    fields.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    fn size(message: &str) -> usize {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let at = set.file.iter().flat_map(|file| &file.message_type).position(|m| m.name() == message).unwrap();
        Shapes::ours().shape(at).size
    }

    #[test]
    fn no_message_in_a_list_takes_more_than_is_counted() {
        for (message, real) in [
            ("LeaseKey", size_of::<pb::LeaseKey>()),
            ("Holdings", size_of::<pb::Holdings>()),
            ("TaskSpec", size_of::<pb::TaskSpec>()),
            ("TaskCost", size_of::<pb::TaskCost>()),
            ("FamilyCurves", size_of::<pb::FamilyCurves>()),
            ("ContenderCurve", size_of::<pb::ContenderCurve>()),
        ] {
            let counted = size(message);
            assert!((real..=2 * real).contains(&counted), "{message}: {real} bytes, counted as {counted}");
        }
        assert_eq!((TEXT, BYTES, LIST), (size_of::<String>(), size_of::<bytes::Bytes>(), size_of::<Vec<u8>>()));
    }

    #[test]
    fn every_message_in_a_list_of_a_request_is_looked_at_by_the_test_above() {
        let shapes = Shapes::ours();
        let mut lists = std::collections::BTreeSet::new();
        for request in shapes.requests.values() {
            let mut open = vec![request.shape];
            while let Some(at) = open.pop() {
                for field in &shapes.shape(at).fields {
                    if let Kind::Message(inner) = field.kind {
                        open.push(inner);
                        if field.repeated {
                            lists.insert(field.name.as_str());
                        }
                    }
                }
            }
        }
        assert_eq!(
            lists.into_iter().collect::<Vec<_>>(),
            ["contenders", "costs", "families", "holdings", "leases", "tasks"]
        );
    }

    #[test]
    fn requests_have_the_bound_of_their_method() {
        let shapes = Shapes::ours();
        assert_eq!(shapes.requests.len(), 22);
        let submit = shapes.request("SubmitResultRequest").unwrap();
        assert_eq!((submit.method.as_str(), submit.largest), ("paceline.v1.WorkerService/SubmitResult", 17 << 20));
        assert!(shapes.request("SubmitResultResponse").is_none() && shapes.request("Chunk").is_none());
    }
}
