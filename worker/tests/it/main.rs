//! Integration tests, one module a behaviour.

mod fleet;
mod process;
