//! How far training has come and how its loss goes: what HyperV2 and Celo tell their LSTM about all tensors alike.
//!
//! ```text
//!  index   0 … 8                        9 … 17
//!          tanh(10 (t/T − offset))      loss features
//! ```

use super::float::tanh;
use super::loss_buffer::{self, LOSS_FEATURES, LossBuffer};
use crate::optimizer::Slot;

/// Offsets of the time features, in fractions of the horizon.
const FRACTIONS: [f32; 9] = [0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1];

/// Number of features.
pub(super) const COURSE_FEATURES: usize = FRACTIONS.len() + LOSS_FEATURES;

/// The features of one lane at one step.
pub(super) type Course = [f32; COURSE_FEATURES];

/// A loss enters the buffer of a lane (`slots` begin with its four), at `step` of `horizon`.
pub(super) fn enter(slots: &mut [Slot], lane: usize, step: u32, horizon: u32, loss: f32) -> Course {
    let before = loss_buffer::count(slots, lane);
    let mut buffer = LossBuffer::of(slots, lane);
    buffer.update(before, loss);
    let fraction = step as f32 / horizon as f32;
    let mut course = [0.0; COURSE_FEATURES];
    let (time, losses) = course.split_at_mut(FRACTIONS.len());
    for (time, offset) in time.iter_mut().zip(FRACTIONS) {
        *time = tanh(10.0 * (fraction - offset));
    }
    losses.copy_from_slice(&buffer.features(before.saturating_add(1)));
    course
}
