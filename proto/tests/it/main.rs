//! Integration tests, one module a behaviour.

/// Shared with the fuzz targets.
#[path = "../../../fuzz/src/counting.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz targets use it as a library")]
mod counting;
mod memory;
mod pull;
mod validate;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
