//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

mod golden_estimators;
mod laws;
mod noise;
mod toy;
mod unroll;
