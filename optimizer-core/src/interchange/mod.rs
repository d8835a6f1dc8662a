//! Theta from other programs and for them.
//!
//! ```text
//!  params, config.gin ─┐                                                        ┌─► params, config.gin
//!  theta.state ────────┼─ import ─► Imported { optimizer, theta, run, step } ─► Checkpoint ─┼─► theta.state, config.gin
//!  safetensors ────────┘                                                        └─► safetensors
//! ```
//!
//! Files come from strangers. Every reader borrows from the file, compares each declared length with the bytes that are
//! left, bounds depth and number, and says of what it refuses where it stands, what was expected and what was found. Theta
//! is allocated when all its tensors were found; nothing else takes more than a small multiple of the file.
//!
//! An exported flax file has the reference's bytes: imported and exported again, a trained checkpoint is the same file.
//!
//! ```no_run
//! use paceline_optimizer_core::interchange::{Description, import};
//!
//! let gin = std::fs::read_to_string("velo/config.gin")?;
//! let imported = import(&std::fs::read("velo/params")?, Description::Gin(&gin))?;
//! let optimizer = imported.optimizer.build()?.bind(imported.theta)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classes;
mod export;
mod flax;
mod gin;
mod import;
mod infer;
mod msgpack;
mod plain;
mod quote;

pub use export::{Flax, write_flax};
pub use flax::Form;
pub use import::{Description, Imported, Source, import};
pub use plain::write_safetensors;
