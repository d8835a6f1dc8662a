//! Walks over a message as it travels, without making anything: is it sound, and what would it take in memory?
//!
//! Sound means what prost means by it, to the byte; a property test holds the two together.

use std::fmt;

use super::shape::{Field, Kind, Request, Shape, Shapes};
use crate::fault::{Fault, FieldFault};

/// How deep messages and unknown groups may be nested, as in prost.
const DEEPEST: u32 = 100;

/// Looks at a request's bytes.
///
/// # Errors
/// [`Fault::FieldsInvalid`] with the field and the byte, [`Fault::MessageTooLarge`].
pub(super) fn check(request: &Request, bytes: &[u8]) -> Result<(), Fault> {
    let shapes = Shapes::ours();
    let mut scan = Scan { shapes, bytes, at: 0, left: request.largest, path: Vec::new() };
    scan.message(shapes.shape(request.shape), bytes.len(), DEEPEST).map_err(|stop| match stop {
        Stop::Flaw(flaw) => Fault::FieldsInvalid(vec![FieldFault {
            field: if scan.path.is_empty() { "message".to_owned() } else { scan.path.join(".") },
            reason: format!(
                "{flaw}, at byte {} of {}: send the whole message, as this version of paceline writes it",
                scan.at,
                bytes.len()
            ),
        }]),
        Stop::TooLarge => Fault::MessageTooLarge { method: request.method.clone(), largest: request.largest },
    })
}

/// Why a scan ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Flaw(Flaw),
    /// Decoded, it would take more than it may.
    TooLarge,
}

/// What is no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Cut,
    LongNumber,
    Key,
    Kind,
    Text,
    Deep,
    Group,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it ends early",
            Self::LongNumber => "a number has more than 64 bits",
            Self::Key => "no field begins here",
            Self::Kind => "the field is of another type",
            Self::Text => "the text is not UTF-8",
            Self::Deep => "it is nested more than 100 deep",
            Self::Group => "a group ends that has not begun",
        })
    }
}

impl From<Flaw> for Stop {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// How a field travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Varint,
    Fixed64,
    Delimited,
    GroupBegins,
    GroupEnds,
    Fixed32,
}

struct Scan<'a> {
    shapes: &'static Shapes,
    bytes: &'a [u8],
    at: usize,
    /// Bytes of memory that may still be taken.
    left: usize,
    /// Names of the fields that are open.
    path: Vec<&'static str>,
}

impl Scan<'_> {
    /// A message that ends at `end`; `depth` more may be nested in it.
    fn message(&mut self, shape: &'static Shape, end: usize, depth: u32) -> Result<(), Stop> {
        while self.at < end {
            let (number, wire) = self.key(end)?;
            match shape.field(number) {
                None => self.skip(number, wire, end, depth)?,
                Some(field) => {
                    self.path.push(&field.name);
                    self.value(field, wire, end, depth)?;
                    self.path.pop();
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, field: &'static Field, wire: Wire, end: usize, depth: u32) -> Result<(), Stop> {
        let (own, size) = match field.kind {
            Kind::Varint(size) => (Wire::Varint, size),
            Kind::Fixed32 => (Wire::Fixed32, 4),
            Kind::Fixed64 => (Wire::Fixed64, 8),
            Kind::Text => (Wire::Delimited, size_of::<String>()),
            Kind::Bytes => (Wire::Delimited, size_of::<bytes::Bytes>()),
            Kind::Message(shape) => (Wire::Delimited, self.shapes.shape(shape).size),
        };
        if own != Wire::Delimited && field.repeated && wire == Wire::Delimited {
            return self.packed(own, size, end);
        }
        if wire != own {
            return Err(Flaw::Kind.into());
        }
        if field.repeated {
            self.take(size)?;
        }
        match field.kind {
            Kind::Varint(_) => self.varint(end).map(drop)?,
            Kind::Fixed32 => self.advance(4, end)?,
            Kind::Fixed64 => self.advance(8, end)?,
            Kind::Text | Kind::Bytes => {
                let length = self.length(end)?;
                self.take(length)?;
                let value = &self.bytes[self.at..self.at + length];
                if field.kind == Kind::Text && std::str::from_utf8(value).is_err() {
                    return Err(Flaw::Text.into());
                }
                self.at += length;
            }
            Kind::Message(shape) => {
                if depth == 0 {
                    return Err(Flaw::Deep.into());
                }
                let length = self.length(end)?;
                self.message(self.shapes.shape(shape), self.at + length, depth - 1)?;
            }
        }
        Ok(())
    }

    /// A list of numbers in one piece.
    fn packed(&mut self, own: Wire, size: usize, end: usize) -> Result<(), Stop> {
        let end = self.length(end)? + self.at;
        while self.at < end {
            match own {
                Wire::Varint => self.varint(end).map(drop)?,
                _ => self.advance(size, end)?,
            }
            self.take(size)?;
        }
        Ok(())
    }

    /// A field that is not known here.
    fn skip(&mut self, number: u32, wire: Wire, end: usize, depth: u32) -> Result<(), Stop> {
        if depth == 0 {
            return Err(Flaw::Deep.into());
        }
        match wire {
            Wire::Varint => self.varint(end).map(drop)?,
            Wire::Fixed32 => self.advance(4, end)?,
            Wire::Fixed64 => self.advance(8, end)?,
            Wire::Delimited => {
                let length = self.length(end)?;
                self.at += length;
            }
            Wire::GroupEnds => return Err(Flaw::Group.into()),
            Wire::GroupBegins => loop {
                match self.key(end)? {
                    (same, Wire::GroupEnds) if same == number => break,
                    (_, Wire::GroupEnds) => return Err(Flaw::Group.into()),
                    (inner, wire) => self.skip(inner, wire, end, depth - 1)?,
                }
            },
        }
        Ok(())
    }

    fn key(&mut self, end: usize) -> Result<(u32, Wire), Flaw> {
        let key = u32::try_from(self.varint(end)?).map_err(|_| Flaw::Key)?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Delimited,
            3 => Wire::GroupBegins,
            4 => Wire::GroupEnds,
            5 => Wire::Fixed32,
            _ => return Err(Flaw::Key),
        };
        match key >> 3 {
            0 => Err(Flaw::Key),
            number => Ok((number, wire)),
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64, Flaw> {
        let mut value = 0;
        for place in 0..10 {
            let byte = *self.bytes[..end].get(self.at).ok_or(Flaw::Cut)?;
            if place == 9 && byte > 1 {
                return Err(Flaw::LongNumber);
            }
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Flaw::LongNumber)
    }

    /// The length of what comes, which must be there.
    fn length(&mut self, end: usize) -> Result<usize, Flaw> {
        let length = self.varint(end)?;
        usize::try_from(length).ok().filter(|length| *length <= end - self.at).ok_or(Flaw::Cut)
    }

    fn advance(&mut self, count: usize, end: usize) -> Result<(), Flaw> {
        if count > end - self.at {
            return Err(Flaw::Cut);
        }
        self.at += count;
        Ok(())
    }

    /// Counts memory that decoding would take.
    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::TooLarge)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::{Message, Name};

    use super::*;
    use crate::pb;

    fn checked<M: Name>(bytes: &[u8]) -> Result<(), Fault> {
        check(Shapes::ours().request(M::NAME).expect("a request"), bytes)
    }

    /// The field that is named, and what is wrong with it.
    fn flaw<M: Name>(bytes: &[u8]) -> (String, String) {
        match checked::<M>(bytes) {
            Err(Fault::FieldsInvalid(faults)) => (faults[0].field.clone(), faults[0].reason.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn submission() -> pb::SubmitResultRequest {
        let lease =
            pb::LeaseKey { run: "velo-0a1b2c3d".into(), outer_step: 300, slot: 1, token: Bytes::from_static(&[7; 16]) };
        let coded = pb::SeedCoded { fresh: vec![0.5; 3], carried: vec![0.0; 3], ..Default::default() };
        let held = pb::Holdings { run: "a".into(), theta_version: 1, slots: vec![1, 200, 70_000] };
        pb::SubmitResultRequest {
            worker: "gpu-7".into(),
            lease: Some(lease),
            body: Some(pb::submit_result_request::Body::SeedCoded(coded)),
            holdings: vec![held; 2],
            ..Default::default()
        }
    }

    #[test]
    fn every_flaw_is_named_with_its_field_and_byte() {
        let nested = |depth: usize| [vec![0x7b; depth], vec![0x7c; depth]].concat();
        for (bytes, field, said) in [
            (b"\x0a\x05abc".to_vec(), "run", "ends early, at byte 2 of 5"),
            (b"\x0a".to_vec(), "run", "ends early, at byte 1 of 1"),
            (b"\x0a\x02\xff\xfe".to_vec(), "run", "not UTF-8, at byte 2 of 4"),
            (b"\x08\x01".to_vec(), "run", "of another type"),
            (vec![0xff; 11], "message", "more than 64 bits"),
            (b"\x07".to_vec(), "message", "no field begins here"),
            (b"\x00\x01".to_vec(), "message", "no field begins here"),
            (b"\x7c".to_vec(), "message", "a group ends"),
            (b"\x7b\x84\x01".to_vec(), "message", "a group ends"),
            (nested(101), "message", "more than 100 deep"),
        ] {
            let (named, reason) = flaw::<pb::GetRunRequest>(&bytes);
            assert!(named == field && reason.contains(said), "{bytes:02x?}: {named}: {reason}");
        }
        assert_eq!(checked::<pb::GetRunRequest>(&nested(100)), Ok(()));
        let inner = b"\x52\x04\x0a\x02\xff\xfe";
        assert_eq!(flaw::<pb::SubmitResultRequest>(inner).0, "holdings.run");
    }

    #[test]
    fn what_decoding_would_make_is_counted_before() {
        // Two bytes each: an empty holding, which takes 24 + 16 + 24.
        let empties = |count: usize| [0x52, 0].repeat(count);
        let fits = (17 << 20) / 64;
        assert_eq!(checked::<pb::SubmitResultRequest>(&empties(fits)), Ok(()));
        let refused = checked::<pb::SubmitResultRequest>(&empties(fits + 1));
        assert!(matches!(refused, Err(Fault::MessageTooLarge { largest, .. }) if largest == 17 << 20), "{refused:?}");
        // One byte each: a slot number, which takes four.
        let slots = |count: usize| [vec![0x1a, 0x80, 0x10], vec![1; count]].concat();
        let holding = |slots: &[u8]| [&[0x1a, 0x83, 0x10], slots].concat();
        let full: Vec<u8> = (0..254).flat_map(|_| holding(&slots(2048))).collect();
        assert_eq!(checked::<pb::LeaseWorkRequest>(&full), Ok(()), "{} bytes", full.len());
        let more: Vec<u8> = (0..255).flat_map(|_| holding(&slots(2048))).collect();
        assert!(matches!(checked::<pb::LeaseWorkRequest>(&more), Err(Fault::MessageTooLarge { .. })));
    }

    #[test]
    fn what_the_largest_fleet_sends_passes() {
        let slots: Vec<u32> = (0..4096).collect();
        let holding = pb::Holdings { run: "r".repeat(64), theta_version: u64::MAX, slots };
        let wish = pb::LeaseWorkRequest { worker: "w".repeat(64), wait_ms: 20_000, holdings: vec![holding; 64] };
        assert_eq!(checked::<pb::LeaseWorkRequest>(&wish.encode_to_vec()), Ok(()));
        let dense = pb::Dense { gradient: vec![0; 16 << 20].into(), loss: 1.0 };
        let body = Some(pb::submit_result_request::Body::Dense(dense));
        let result = pb::SubmitResultRequest { body, holdings: wish.holdings[..8].to_vec(), ..submission() };
        assert_eq!(checked::<pb::SubmitResultRequest>(&result.encode_to_vec()), Ok(()));
        let key = pb::LeaseKey { run: "r".repeat(64), token: vec![1; 16].into(), ..Default::default() };
        let beat = pb::HeartbeatRequest { leases: vec![key; 64], ..Default::default() };
        assert_eq!(checked::<pb::HeartbeatRequest>(&beat.encode_to_vec()), Ok(()));
        let families = vec!["f".repeat(64); 256];
        let registration = pb::RegisterWorkerRequest { families, ..Default::default() };
        assert_eq!(checked::<pb::RegisterWorkerRequest>(&registration.encode_to_vec()), Ok(()));
    }

    /// Bytes that are nearly a submission.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let sound = submission().encode_to_vec();
        let size = sound.len();
        let change = (0..size, any::<u8>());
        (prop::collection::vec(change, 0..4), 0..=size, prop::collection::vec(any::<u8>(), 0..6)).prop_map(
            move |(changes, kept, more)| {
                let mut bytes = sound.clone();
                for (at, byte) in changes {
                    bytes[at] = byte;
                }
                bytes.truncate(kept);
                bytes.extend(more);
                bytes
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn prost_and_the_scan_agree_on_what_is_sound(
            bytes in prop_oneof![damaged(), prop::collection::vec(any::<u8>(), 0..24)],
        ) {
            let decoded = pb::SubmitResultRequest::decode(bytes.as_slice());
            let scanned = checked::<pb::SubmitResultRequest>(&bytes);
            prop_assert_eq!(decoded.is_ok(), scanned.is_ok(), "{:?} {:?}", decoded, scanned);
        }
    }
}
