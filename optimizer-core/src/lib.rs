//! Learned optimizers and how they are meta-trained, without network, disk, clock or threads.
//!
//! Two nested loops. Inside, an optimizer trains a small task; outside, evolution strategies train the optimizer:
//!
//! ```text
//!   theta ──► theta ± sigma ε ──► inner loop: params ← optimizer(params, grads)  ──► losses l+, l−
//!     ▲                            (one lane a sign, many pairs)                           │
//!     └── outer step: clip, Adam ◄── meta-gradient Σ (l+ − l−)/(2 sigma) ε ◄───────────────┘
//! ```

pub mod checkpoint;
mod error;
pub mod estimator;
pub mod evaluation;
mod inner_loop;
pub mod learned;
pub mod noise;
pub mod optimizer;
pub mod outer;
pub mod params;
pub mod schedule;
mod seed;
pub mod task;
mod theta;
pub mod unroll;

pub use error::{Error, Result};
pub use params::{Layout, Params, TensorSpec};
pub use seed::{Purpose, Seed};
pub use theta::{Theta, ThetaHash};
