//! Integration tests, one module a behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic, in its helpers too")]

mod authority;
mod certificates;
mod cluster;
mod openssl;
mod order;
mod program;
mod recipes;
mod recovery;
mod refusals;
mod service;
mod simulation;
mod store;
mod strangers;
mod tokens;
mod trouble;
