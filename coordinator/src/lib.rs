//! Owns theta, leases, the ledger and the store.
//!
//! ```text
//!  entrance ─► server ─► service ─► CoordinatorHandle ─► actor ─► machine: decides, purely
//!  TCP, TLS    limits    pb↔model   cheap clones         │ ▲
//!                                                        ▼ │ effects and events
//!                                            weights: folds theta   store: durable before anything is answered
//! ```

mod actor;
mod admin;
mod credentials;
mod entrance;
mod gate;
mod handle;
pub mod machine;
mod mending;
mod observe;
mod server;
mod service;
pub mod store;
mod threads;
mod wall_clock;
mod weights;

pub use admin::Admin;
pub use credentials::CredentialsError;
pub use entrance::TlsFiles;
pub use handle::{CoordinatorHandle, start};
pub use server::{Config, Security, serve, serve_and_tell};
pub use threads::Threads;
