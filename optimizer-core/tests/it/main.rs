//! Integration tests, one module a behaviour.

mod golden_optimizers;
mod noise;
