//! Moving averages of a gradient at several timescales, and the slots that hold them.
//!
//! ```text
//!  slot  PREFIX/NAME  [timescales, shape]        x_a ← d_a x_a + (1 − d_a) f(g)        no bias correction
//! ```
//!
//! The decay axis comes first (the reference puts it last), so that one timescale of a block of parameters is one
//! contiguous read.

use crate::optimizer::{Decay, Slot};

/// All averages of one tensor of this name and shape at 0.
pub(super) fn slot(prefix: &str, name: &str, timescales: usize, shape: &[usize], lanes: usize) -> Slot {
    let shape: Vec<usize> = std::iter::once(timescales).chain(shape.iter().copied()).collect();
    Slot::filled(format!("{prefix}/{name}"), shape, lanes, 0.0)
}

/// `map(g)` enters the averages `[timescales, size]`, one decay a timescale.
#[inline(always)]
pub(super) fn roll(averages: &mut [f32], decays: &[Decay], g: &[f32], map: impl Fn(f32) -> f32) {
    if g.is_empty() {
        return;
    }
    for (average, decay) in averages.chunks_exact_mut(g.len()).zip(decays) {
        decay.accumulate(average, g, &map);
    }
}
