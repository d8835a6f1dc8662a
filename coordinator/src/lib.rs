//! Owns theta, leases, the ledger and the store.
//!
//! ```text
//!  gRPC ─► server ─► service ─► CoordinatorHandle ─► actor ─► machine: decides, purely
//!          limits    pb↔model   cheap clones         │ ▲
//!                                                    ▼ │ effects and events
//!                                        weights: folds theta   store: durable before anything is answered
//! ```

mod actor;
mod admin;
mod handle;
pub mod machine;
mod observe;
mod server;
mod service;
pub mod store;
mod threads;
mod weights;

pub use admin::Admin;
pub use handle::{CoordinatorHandle, start};
pub use server::{Config, serve, serve_and_tell, serve_on};
pub use threads::Threads;
