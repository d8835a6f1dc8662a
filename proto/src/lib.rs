//! The wire of Paceline.
//!
//! ```text
//!  paceline/v1/*.proto ─build.rs, protox─► pb (generated) ◄─► model (what everyone else uses) ─► client (typed calls)
//! ```

pub mod access;
pub mod chunk;
pub mod client;
pub mod convert;
pub mod fault;
pub mod model;
pub mod tls;
pub mod wire;

/// Generated from `proto/paceline/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("paceline.v1");
}

/// Descriptors of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/paceline.binpb"));

/// Number of the worker protocol. Coordinator and worker must agree on it: raise it whenever a lease means something that
/// an older worker would overlook, as protobuf drops fields it does not know.
pub const PROTOCOL: u32 = 2;
