//! What a per-parameter learned optimizer remembers of past gradients, and how one gradient enters it.
//!
//! ```text
//!  slot          one lane         update                              decays
//!  m/NAME        [3, shape]       m_a ← d_a m_a + (1−d_a) g           0.9, 0.99, 0.999
//!  rms/NAME      [1, shape]       r ← d r + (1−d) g²                  0.999
//!  v_row/NAME    [3, row shape]   v_a ← d_a v_a + (1−d_a) mean_d0 G   0.9, 0.99, 0.999     (rank ≥ 2)
//!  v_col/NAME    [3, col shape]   v_a ← d_a v_a + (1−d_a) mean_d1 G   G = g² + 1e-30
//!  v_diag/NAME   [3, shape]       v_a ← d_a v_a + (1−d_a) G                                (rank < 2)
//! ```
//!
//! How an average takes up a value is told in [`rolling`]; [`fused`](super::fused) does it.

use super::axes::Factored;
use super::rolling;
use crate::Result;
use crate::optimizer::{Decay, OptState, Slot};
use crate::params::{Layout, TensorSpec};

/// Timescales of the momenta, and of the factored second moments.
pub(super) const TIMESCALES: usize = 3;

/// Decays of all accumulators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decays {
    /// Of the momenta.
    pub(super) momentum: [Decay; TIMESCALES],
    /// Of the second moment.
    pub(super) rms: Decay,
    /// Of the factored second moments.
    pub(super) second: [Decay; TIMESCALES],
}

impl Decays {
    /// From f32 decays. Those of second moments are clipped to `[0, 1]`, those of momenta are not.
    pub(super) fn new(momentum: [f32; TIMESCALES], rms: f32, second: [f32; TIMESCALES]) -> Self {
        let clipped = |decay: f32| Decay::traced(decay.clamp(0.0, 1.0));
        Self { momentum: momentum.map(Decay::traced), rms: clipped(rms), second: second.map(clipped) }
    }
}

/// Where one tensor's slots lie and how its second moment is factored.
#[derive(Clone, Debug)]
pub(super) struct TensorPlan {
    /// Number of parameters in one lane.
    pub(super) size: usize,
    /// Factored axes, for rank ≥ 2.
    pub(super) factored: Option<Factored>,
    first_slot: usize,
}

/// One plan a tensor; slots lie tensor by tensor.
pub(super) fn plans(layout: &Layout) -> Vec<TensorPlan> {
    let mut next_slot = 0;
    layout.tensors().iter().map(|tensor| TensorPlan::new(tensor, &mut next_slot)).collect()
}

/// All accumulators at 0.
pub(super) fn new_slots(layout: &Layout, lanes: usize) -> Vec<Slot> {
    layout.tensors().iter().flat_map(|tensor| new_tensor_slots(tensor, lanes)).collect()
}

/// One tensor's accumulators at 0.
pub(super) fn new_tensor_slots(tensor: &TensorSpec, lanes: usize) -> Vec<Slot> {
    let slot = |prefix: &str, timescales: usize, shape: &[usize]| {
        rolling::slot(prefix, tensor.name(), timescales, shape, lanes)
    };
    let mut slots = vec![slot("m", TIMESCALES, tensor.shape()), slot("rms", 1, tensor.shape())];
    match Factored::of(tensor.shape()) {
        Some(axes) => {
            slots.push(slot("v_row", TIMESCALES, &axes.row_shape));
            slots.push(slot("v_col", TIMESCALES, &axes.col_shape));
        }
        None => slots.push(slot("v_diag", TIMESCALES, tensor.shape())),
    }
    slots
}

/// Checks that a state begins with the accumulators of these plans, followed by slots of the sizes in `more`.
///
/// # Errors
/// [`crate::Error::Length`].
pub(super) fn check_slots(state: &OptState, plans: &[TensorPlan], more: &[usize]) -> Result<()> {
    let sizes: Vec<usize> = plans.iter().flat_map(TensorPlan::slot_sizes).chain(more.iter().copied()).collect();
    state.check_slots(sizes.into_iter())
}

impl TensorPlan {
    /// A plan whose slots begin with `next_slot`, which moves behind them.
    pub(super) fn new(tensor: &TensorSpec, next_slot: &mut usize) -> Self {
        let factored = Factored::of(tensor.shape());
        let plan = Self { size: tensor.size(), factored, first_slot: *next_slot };
        *next_slot += plan.slot_sizes().count();
        plan
    }

    /// Sizes of the tensor's slots in one lane.
    pub(super) fn slot_sizes(&self) -> impl Iterator<Item = usize> {
        let second = match &self.factored {
            Some(axes) => [Some(TIMESCALES * axes.rows()), Some(TIMESCALES * axes.cols())],
            None => [Some(TIMESCALES * self.size), None],
        };
        [TIMESCALES * self.size, self.size].into_iter().chain(second.into_iter().flatten())
    }

    /// The tensor's momenta `[3, size]` and second moment `[size]` in one lane.
    pub(super) fn moments<'s>(&self, slots: &'s [Slot], lane: usize) -> (&'s [f32], &'s [f32]) {
        (slots[self.first_slot].lane(lane), slots[self.first_slot + 1].lane(lane))
    }

    /// The tensor's accumulators in one lane, to be updated.
    pub(super) fn accumulators<'s>(&'s self, slots: &'s mut [Slot], lane: usize) -> Accumulators<'s> {
        let slots = &mut slots[self.first_slot..];
        let (moments, second) = slots.split_at_mut(2);
        let [m, rms] = moments else { unreachable!("split at two") };
        let second = match &self.factored {
            Some(axes) => {
                let (row, col) = second.split_at_mut(1);
                SecondMoment::Factored { axes, row: row[0].lane_mut(lane), col: col[0].lane_mut(lane) }
            }
            None => SecondMoment::Full { v: second[0].lane_mut(lane) },
        };
        Accumulators { m: m.lane_mut(lane), rms: rms.lane_mut(lane), second }
    }
}

/// One tensor's accumulators in one lane.
#[derive(Debug)]
pub(super) struct Accumulators<'a> {
    /// Momenta, `[3, size]`.
    pub(super) m: &'a mut [f32],
    /// Second moment, `[size]`.
    pub(super) rms: &'a mut [f32],
    /// Factored second moments.
    pub(super) second: SecondMoment<'a>,
}

/// Second moments at three timescales, factored where there are two axes to factor.
#[derive(Debug)]
pub(super) enum SecondMoment<'a> {
    /// Rank ≥ 2.
    Factored {
        /// The axes.
        axes: &'a Factored,
        /// `[3, rows]`.
        row: &'a mut [f32],
        /// `[3, columns]`.
        col: &'a mut [f32],
    },
    /// Rank < 2.
    Full {
        /// `[3, size]`.
        v: &'a mut [f32],
    },
}

impl Accumulators<'_> {
    /// The same for a while.
    pub(super) fn borrowed(&mut self) -> Accumulators<'_> {
        let second = match &mut self.second {
            SecondMoment::Factored { axes, row, col } => SecondMoment::Factored { axes, row, col },
            SecondMoment::Full { v } => SecondMoment::Full { v },
        };
        Accumulators { m: self.m, rms: self.rms, second }
    }
}
