//! Event files as TensorBoard reads them: records of length, checksum, an `Event` message, checksum.
//!
//! ```text
//!  u64 length │ u32 masked crc32c of the length │ Event, protobuf │ u32 masked crc32c of the event       little-endian
//! ```

use paceline_proto::model::{FoldedStep, RunState};
use prost::Message;

use super::entry_names;

/// `tensorflow.Event`, as much of it as scalars need.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// In the first event of a file only.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value` with a simple value.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Written even if it is zero: a value without it would be none.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The whole file.
pub(super) fn events(state: &RunState, steps: &[FoldedStep]) -> Vec<u8> {
    let mut file = Vec::new();
    let seconds = |step: &FoldedStep| step.folded_at_ms as f64 / 1000.0;
    let begun = steps.first().map_or(0.0, seconds);
    let version = Some("brain.Event:2".to_owned());
    record(&mut file, &Event { wall_time: begun, step: 0, file_version: version, summary: None });
    let names = entry_names(state);
    for step in steps {
        let outer_step = i64::try_from(step.outer_step).unwrap_or(i64::MAX);
        let summary = Some(Summary { value: scalars(&names, step) });
        record(&mut file, &Event { wall_time: seconds(step), step: outer_step, file_version: None, summary });
    }
    file
}

fn scalars(names: &[String], step: &FoldedStep) -> Vec<Scalar> {
    let by_entry = names.iter().zip(&step.entry_losses).map(|(name, loss)| (format!("meta_loss/{name}"), *loss));
    let plain = [
        ("meta_loss/mean", Some(step.meta_loss)),
        ("meta_gradient/norm", Some(step.grad_norm)),
        ("meta_gradient/signal_to_noise", step.variance.signal_to_noise),
        ("meta_gradient/antithetic_correlation", step.variance.antithetic_correlation),
        ("update/norm", Some(step.update_norm)),
        ("inner/steps", Some(step.inner_steps as f64)),
        ("inner/diverged_lanes", Some(step.diverged_lanes as f64)),
    ];
    let plain = plain.map(|(tag, value)| (tag.to_owned(), value));
    let known = |(tag, value): (String, Option<f64>)| Some(Scalar { tag, simple_value: Some(value? as f32) });
    plain.into_iter().chain(by_entry).filter_map(known).collect()
}

fn record(file: &mut Vec<u8>, event: &Event) {
    let event = event.encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked(&length).to_le_bytes());
    file.extend_from_slice(&event);
    file.extend_from_slice(&masked(&event).to_le_bytes());
}

/// The checksum of TFRecord: rotated and shifted, so that a checksum of data that holds checksums stays a good one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::example;

    /// The file's events, every checksum checked.
    fn read(mut file: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let (check, rest) = rest.split_at(4);
            assert_eq!(check, masked(length).to_le_bytes());
            let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (event, rest) = rest.split_at(size);
            let (check, rest) = rest.split_at(4);
            assert_eq!(check, masked(event).to_le_bytes());
            events.push(Event::decode(event).unwrap());
            file = rest;
        }
        events
    }

    #[test]
    fn a_file_begins_with_its_version_and_has_one_event_a_step() {
        let (state, steps) = example();
        let events = read(&events(&state, &steps));
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(events[1..].iter().map(|event| event.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events[1].wall_time, 1_700_000_000.501);
        let values = |event: &Event| event.summary.clone().unwrap().value;
        assert!(values(&events[1]).iter().all(|value| value.tag != "meta_gradient/signal_to_noise"), "not known");
        let noise = values(&events[2]).into_iter().find(|value| value.tag == "meta_gradient/signal_to_noise");
        assert_eq!(noise.unwrap().simple_value, Some(-0.25));
    }

    #[test]
    fn the_mask_is_that_of_tensorflow() {
        // crc32c("123456789") is 0xe3069283 (RFC 3720); rotated and shifted by hand.
        assert_eq!(masked(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        assert_eq!(masked(b""), 0xa282_ead8);
    }
}
