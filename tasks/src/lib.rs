//! Inner problems: what a learned optimizer is trained on.
//!
//! A *family* fixes shapes and data; a *task* is one instance of it, drawn by seed: initial weights, the order of the
//! data, and what its settings let it draw. Everything runs on lanes (see [`paceline_optimizer_core::task`]).
//!
//! ```text
//!   recipe entry ─► families::build ─► Family (Sync, shared by threads) ─ draw(seed) ─► a member of static shapes,
//!                        │                  │ bind(seeds)                               for families of families
//!                   data: files or          ▼
//!                   procedural         TaskLanes ─► Problem ─► models ─► layers (on a Tape) ─► gemm
//!                                          └─ augmentations wrap any of it
//! ```
//!
//! Calls compute on the calling thread only and use no global pool, so lanes run side by side on as many threads as the
//! caller has, and give the same bits on any number of them.

mod audio;
mod augment;
mod cost;
pub mod data;
mod error;
mod families;
#[cfg(test)]
mod golden;
mod graph;
pub mod layers;
mod log_uniform;
mod models;
mod phasor;
mod problem;
mod sample;
mod text;

pub use augment::{AugmentationInfo, augmentations};
pub use error::Error;
pub use families::{Family, FamilyInfo, build, families, resolve};
pub use problem::TestSplit;
pub use sample::Panel;
