//! Integration tests, one module a behaviour.

mod golden_optimizers;
mod noise;
mod optimizers;
mod self_check;
