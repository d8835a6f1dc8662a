//! The tensors of all lanes as one flat list, so that many small ones keep threads as busy as one large one.
//!
//! ```text
//!             w          b                    jobs
//!  lane 0   p g m rms  p g m rms
//!  lane 1   p g m rms  p g m rms     ─►     (w, 0)  (w, 1)  (b, 0)  (b, 1)     each owns what it writes
//! ```

use super::accumulators::{Accumulators, SecondMoment, TensorPlan};
use crate::optimizer::{OptState, Slot};
use crate::parallel;
use crate::params::Params;

/// One tensor in one lane.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// Which lane.
    pub(super) lane: usize,
    /// Which tensor.
    pub(super) index: usize,
    /// Its parameters.
    pub(super) p: &'a mut [f32],
    /// Their gradient.
    pub(super) g: &'a [f32],
    /// Its accumulators.
    pub(super) accumulators: Accumulators<'a>,
}

/// Does `work` on each tensor of each lane of a state that begins with the accumulators of these plans. Inside a rayon
/// pool of several threads these share the work, if there is much; results do not depend on it.
pub(super) fn for_each_tensor(
    state: &mut OptState,
    plans: &[TensorPlan],
    grads: &Params,
    work: impl Fn(Job<'_>) + Sync + Send,
) {
    let lanes = state.params.lanes();
    let shared = parallel::is_shared(lanes * grads.layout().size());
    let mut jobs = Vec::with_capacity(lanes * plans.len());
    let mut slots = state.slots.iter_mut();
    for (index, (plan, p)) in plans.iter().zip(state.params.tensors_mut()).enumerate() {
        let own = plan.slot_sizes().count();
        let mut slots: Vec<Lanes<'_>> = slots.by_ref().take(own).map(Lanes::of_slot).collect();
        let mut p = Lanes { values: p, size: plan.size };
        for lane in 0..lanes {
            let [m, rms, second @ ..] = &mut slots[..] else { unreachable!("three slots or four") };
            let second = match (&plan.factored, second) {
                (Some(axes), [row, col]) => SecondMoment::Factored { axes, row: row.next(), col: col.next() },
                (_, second) => SecondMoment::Full { v: second[0].next() },
            };
            let accumulators = Accumulators { m: m.next(), rms: rms.next(), second };
            jobs.push(Job { lane, index, p: p.next(), g: grads.lane(index, lane), accumulators });
        }
    }
    parallel::for_each(jobs, shared, work);
}

/// What is left of a buffer `[lanes, size]`.
struct Lanes<'a> {
    values: &'a mut [f32],
    size: usize,
}

impl<'a> Lanes<'a> {
    fn of_slot(slot: &'a mut Slot) -> Self {
        Self { size: slot.shape.iter().product(), values: &mut slot.values }
    }

    /// The next lane.
    fn next(&mut self) -> &'a mut [f32] {
        let (lane, rest) = std::mem::take(&mut self.values).split_at_mut(self.size);
        self.values = rest;
        lane
    }
}
