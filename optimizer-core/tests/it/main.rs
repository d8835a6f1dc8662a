//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

mod checkpoint;
mod evaluation;
mod golden_estimators;
mod golden_optimizers;
mod laws;
mod noise;
mod optimizers;
mod self_check;
mod toy;
mod unroll;
