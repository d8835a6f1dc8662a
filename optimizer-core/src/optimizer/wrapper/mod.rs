//! Optimizers around optimizers: each changes what the inner one sees, or what becomes of its step.
//!
//! ```text
//!  grads, losses ─► clip ─► accumulate ─► decay ─► Adam        slots: [ Adam's … | accumulate's … ]
//!                                                               step, horizon: Adam's
//! ```
//!
//! A wrapper holds any [`Optimizer`](super::Optimizer), learned ones too, and is one, so they nest. Its own state is slots behind those of
//! the inner optimizer, under a prefix of its name; `step` and `horizon` of the state stay the inner optimizer's. Lanes may
//! stand at different places: each has its own counts.
//!
//! Sources: `gradient_accumulator.py`, `optimizer_wrappers.py` and `base.py` of the JAX reference
//! (google/learned_optimization @ 32186aa4), optax for the norm.

mod accumulation;
mod clip;
pub(crate) mod counter;
mod extend_time;
mod graft;
mod weight_decay;

pub use accumulation::GradientAccumulation;
pub use clip::{GlobalNormClip, GradientClip};
pub use extend_time::{ExtendTime, Warp};
pub use graft::Graft;
pub use weight_decay::WeightDecay;

use super::{OptState, Slot};
use crate::{Error, Result};

/// A prefix for the slots of a wrapper called `name` around a state with `slots`: a wrapper within one of its own kind
/// keeps the name, the outer one is called `outer_NAME`.
fn prefix(name: &str, slots: &[Slot]) -> String {
    let mut prefix = name.to_owned();
    while slots.iter().any(|slot| slot.name.starts_with(&format!("{prefix}/"))) {
        prefix.insert_str(0, "outer_");
    }
    prefix
}

/// Takes the last slots of a state, those of the wrapper, whose sizes in one lane are given.
fn take_own(state: &mut OptState, wrapper: &str, sizes: &[usize]) -> Result<Vec<Slot>> {
    let Some(inner) = state.slots.len().checked_sub(sizes.len()) else {
        let what = format!("slots of {wrapper} in a state");
        return Err(Error::Length { what, expected: sizes.len(), got: state.slots.len() });
    };
    for (slot, &size) in state.slots[inner..].iter().zip(sizes) {
        let expected = size * state.params.lanes();
        if slot.size() != size || slot.values.len() != expected {
            let what = format!("state slot {} of {wrapper}", slot.name);
            return Err(Error::Length { what, expected, got: slot.values.len() });
        }
    }
    Ok(state.slots.split_off(inner))
}
