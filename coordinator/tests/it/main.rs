//! Integration tests, one module a behaviour.

mod cluster;
mod program;
mod refusals;
mod service;
