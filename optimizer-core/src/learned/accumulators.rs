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
//! How an average takes up a value is told in [`rolling`].

use super::axes::Factored;
use super::float::{BLOCK, block_sum, each};
use super::rolling::{self, roll};
use crate::Result;
use crate::optimizer::{Decay, OptState, Slot};
use crate::params::{Layout, TensorSpec};
use crate::simd::{Kernel, Simd, dispatch};

/// Timescales of the momenta, and of the factored second moments.
pub(super) const TIMESCALES: usize = 3;

/// Gradients of HyperV2 and the Celo family are clipped to this, element by element, before anything sees them.
const GRADIENT_BOUND: f32 = 1000.0;

/// Replaces `clipped` by the elements of a gradient, each between ±1000; NaN stays.
pub(super) fn clip_gradient(clipped: &mut Vec<f32>, g: &[f32]) {
    clipped.clear();
    clipped.extend(g.iter().map(|g| g.clamp(-GRADIENT_BOUND, GRADIENT_BOUND)));
}

/// Decays of all accumulators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decays {
    momentum: [Decay; TIMESCALES],
    rms: Decay,
    second: [Decay; TIMESCALES],
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

/// One tensor's accumulators in one lane, divided by what they have collected: without the bias towards their initial 0.
#[derive(Debug)]
pub(super) struct Corrected {
    /// Momenta, `[3, size]`.
    pub(super) m: Vec<f32>,
    /// Second moment, `[size]`.
    pub(super) rms: Vec<f32>,
    /// `v_row`, `[3, rows]`; empty below rank 2.
    pub(super) row: Vec<f32>,
    /// `v_col`, `[3, columns]`; empty below rank 2.
    pub(super) col: Vec<f32>,
}

impl Accumulators<'_> {
    /// The accumulators after `count` gradients, divided by `1 − decay^count`; full second moments are left out.
    pub(super) fn corrected(&self, decays: &Decays, count: u32) -> Corrected {
        let divided = |values: &[f32], decays: &[Decay]| {
            let size = (values.len() / decays.len()).max(1);
            let timescales = values.chunks_exact(size).zip(decays);
            timescales.flat_map(|(v, decay)| v.iter().map(|v| v / decay.collected(count))).collect()
        };
        let (row, col): (&[f32], &[f32]) = match &self.second {
            SecondMoment::Factored { row, col, .. } => (row, col),
            SecondMoment::Full { .. } => (&[], &[]),
        };
        Corrected {
            m: divided(self.m, &decays.momentum),
            rms: divided(self.rms, &[decays.rms]),
            row: divided(row, &decays.second),
            col: divided(col, &decays.second),
        }
    }

    /// One gradient enters.
    pub(super) fn update(&mut self, g: &[f32], decays: &Decays) {
        if g.is_empty() {
            return;
        }
        dispatch(Update { accumulators: self, g, decays });
    }
}

/// One copy of an update for each instruction set.
struct Update<'u, 'a> {
    accumulators: &'u mut Accumulators<'a>,
    g: &'u [f32],
    decays: &'u Decays,
}

impl Kernel for Update<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { accumulators, g, decays } = self;
        roll(accumulators.m, &decays.momentum, g, |g| g);
        decays.rms.accumulate(accumulators.rms, g, |g| g * g);
        match &mut accumulators.second {
            SecondMoment::Full { v } => roll(v, &decays.second, g, padded_square),
            SecondMoment::Factored { axes, row, col } => {
                let (row_means, col_means) = means_of_squares(axes, g);
                roll(row, &decays.second, &row_means, |mean| mean);
                roll(col, &decays.second, &col_means, |mean| mean);
            }
        }
    }
}

/// `g² + 1e-30`: never zero, so that roots of averages can be divided by.
#[inline(always)]
fn padded_square(g: f32) -> f32 {
    g * g + 1e-30
}

/// Means of the padded squares over d0 (one a row value) and over d1 (one a column value), summed in f64.
#[inline(always)]
fn means_of_squares(axes: &Factored, g: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut rows = vec![0.0_f64; axes.rows()];
    let mut cols = vec![0.0_f64; axes.cols()];
    let (row_step, col_step) = axes.run_steps();
    let length = axes.run_length();
    for (run, g) in axes.runs().zip(g.chunks_exact(length)) {
        add_run(&mut rows, run.row, row_step, g);
        add_run(&mut cols, run.col, col_step, g);
    }
    let mean = |sums: Vec<f64>, count: usize| sums.into_iter().map(|sum| (sum / count as f64) as f32).collect();
    (mean(rows, axes.row_count), mean(cols, axes.col_count))
}

/// Adds the padded squares of one run: all to one sum, or each to its own.
#[inline(always)]
fn add_run(sums: &mut [f64], first: usize, step: usize, g: &[f32]) {
    if step == 1 {
        for (sum, &g) in sums[first..first + g.len()].iter_mut().zip(g) {
            *sum += f64::from(padded_square(g));
        }
        return;
    }
    let (blocks, rest) = g.as_chunks::<BLOCK>();
    for block in blocks {
        sums[first] += f64::from(block_sum(each(*block, padded_square)));
    }
    for &g in rest {
        sums[first] += f64::from(padded_square(g));
    }
}
