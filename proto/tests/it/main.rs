//! Integration tests, one module a behaviour.

mod pull;
mod validate;
