//! The laws of the readers under libFuzzer. `optimizer-core/tests/hostile` checks the same ones without it.

#[path = "counting.rs"]
mod counting;
#[path = "laws.rs"]
pub mod laws;

use laws::Law;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Checks a law, and that the reader held no more memory than it may.
pub fn check(law: Law, bytes: &[u8]) {
    let (held, allowed) = (counting::peak_of(|| law(bytes)), counting::allowed(bytes.len()));
    assert!(held <= allowed, "{held} bytes held for an input of {}, {allowed} are allowed", bytes.len());
}
