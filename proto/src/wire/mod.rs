//! Messages from strangers, looked at before anything is made of them.
//!
//! ```text
//!  bytes of a request ─► scan, by the shapes in our descriptors ─► decode ─► message
//!                          ├─ cut, no UTF-8, nested too deep, … ─► INVALID_ARGUMENT FIELD_INVALID, field and byte named
//!                          └─ would take too much memory ────────► RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE
//! ```
//!
//! An empty message in a list travels as two bytes and takes a hundred in memory, so a bound on what travels is none on
//! what is held. The scan makes nothing: it counts what decoding would make, by the same bound.

mod codec;
mod scan;
mod shape;

pub use codec::{Codec, decode};

/// Largest message that a method takes, in bytes: as it travels, and decoded. The spare room of growing lists is not
/// counted; it may be as much again. Most messages name a few things; those that hold more stand here.
pub fn largest(method: &str) -> usize {
    match method {
        // A dense gradient of 16 MiB and what goes with it.
        "paceline.v1.WorkerService/SubmitResult" => 17 << 20,
        // 64 runs with 4096 slots each.
        "paceline.v1.WorkerService/LeaseWork" => 2 << 20,
        // A spec with the settings of 64 task families.
        "paceline.v1.RunService/CreateRun" => 1 << 20,
        // Six curves of 64 spans for each of 64 task families.
        "paceline.v1.RunService/RecordEvaluation" => 512 << 10,
        _ => 64 << 10,
    }
}
