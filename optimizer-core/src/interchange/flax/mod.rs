//! Checkpoints of `flax.serialization.to_bytes`, in the three forms in which learned optimizers are released.
//!
//! ```text
//!  form         top-level keys            who writes it
//!  Checkpoint   params, gen_id, step      google/learned_optimization, class ParameterCheckpoint: with a config.gin
//!  Triple       0, 1, 2                   the same three in its older releases, without a config.gin
//!  Theta        those of theta            amoudgl/celo, theta.state
//! ```
//!
//! A file is read in one pass along the tree of the tensors that the optimizer needs. Nothing is allocated for what a
//! file merely declares; theta is, once every tensor was found with the right shape, dtype and number of bytes.

mod array;
mod envelope;
mod theta;
mod tree;

pub(super) use envelope::Envelope;
pub use envelope::Form;
pub(super) use theta::{read_theta, shape_at, write_theta};
