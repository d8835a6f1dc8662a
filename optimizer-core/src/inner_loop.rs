//! The inner loop, one step at a time: some lanes of one family under one optimizer.
//!
//! ```text
//!  begin ─► params, OptState
//!  step  ─► losses, gradients at params on batch t ─► update ─► losses (taken before the update)
//! ```
//!
//! A lane whose loss, gradient or parameters stop being finite has *diverged*: from then on its loss is NaN and it trains
//! no more. It is emptied (zero parameters, zero state, step 0) instead of kept as it was, because keeping every lane's
//! last good state would cost a copy of it at every step, and nothing reads it again. Lanes never disturb each other, and
//! an emptied lane is the same whether others beside it train on or not.

use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;
use crate::task::{Split, TaskFamily, TaskLanes};
use crate::{Error, Result, Seed};

/// Some lanes between two inner steps.
pub(crate) struct InnerLoop<'a> {
    pub(crate) tasks: Box<dyn TaskLanes + 'a>,
    pub(crate) state: OptState,
    /// Lanes that stopped being finite.
    pub(crate) diverged: Vec<bool>,
}

impl<'a> InnerLoop<'a> {
    /// Fresh weights for the task instance of each seed, and the optimizer state that `init` makes of them.
    pub(crate) fn begin(
        family: &'a dyn TaskFamily,
        seeds: &[Seed],
        init: impl FnOnce(Params) -> Result<OptState>,
    ) -> Result<Self> {
        let mut tasks = family.bind(seeds)?;
        let params = tasks.init_params()?;
        if params.lanes() != seeds.len() {
            return Err(Error::Lanes { what: "initial weights".into(), expected: seeds.len(), got: params.lanes() });
        }
        let state = init(params)?;
        Ok(Self { tasks, state, diverged: vec![false; seeds.len()] })
    }

    /// Goes on from a state that was saved between two steps.
    pub(crate) fn resume(
        family: &'a dyn TaskFamily,
        seeds: &[Seed],
        state: OptState,
        task_state: Option<Params>,
        diverged: Vec<bool>,
    ) -> Result<Self> {
        let mut tasks = family.bind(seeds)?;
        if let Some(task_state) = task_state {
            tasks.restore(task_state)?;
        }
        Ok(Self { tasks, state, diverged })
    }

    /// Trains one step on training batch `batch`; returns each lane's loss before the update, NaN for a diverged lane.
    pub(crate) fn step(mut self, optimizer: &dyn Optimizer, batch: u64) -> Result<(Self, Vec<f32>)> {
        let lanes = self.diverged.len();
        if self.diverged.iter().all(|diverged| *diverged) {
            return Ok((self, vec![f32::NAN; lanes]));
        }
        let (mut losses, mut grads) = self.tasks.loss_and_grads(&self.state.params, batch)?;
        self.state.check_gradients(&grads, &losses)?;
        for (lane, loss) in losses.iter_mut().enumerate() {
            self.diverged[lane] |= !loss.is_finite() || !lane_is_finite(&grads, lane);
            if self.diverged[lane] {
                *loss = 0.0;
                fill_lane(&mut grads, lane, 0.0);
            }
        }
        self.state = optimizer.update(self.state, &grads, &losses)?;
        for (lane, loss) in losses.iter_mut().enumerate() {
            if self.diverged[lane] {
                *loss = f32::NAN;
            }
            self.diverged[lane] |= !lane_is_finite(&self.state.params, lane);
            if self.diverged[lane] {
                fill_lane(&mut self.state.params, lane, 0.0);
                self.state.slots.iter_mut().for_each(|slot| slot.lane_mut(lane).fill(0.0));
                self.state.step[lane] = 0;
            }
        }
        Ok((self, losses))
    }

    /// State of optimizer and tasks, and which lanes diverged. What tasks keep of those is emptied too.
    pub(crate) fn into_parts(self) -> (OptState, Option<Params>, Vec<bool>) {
        let Self { tasks, state, diverged } = self;
        let mut task_state = tasks.state().cloned();
        if let Some(task_state) = &mut task_state {
            for lane in (0..diverged.len()).filter(|lane| diverged[*lane]) {
                fill_lane(task_state, lane, 0.0);
            }
        }
        (state, task_state, diverged)
    }

    /// Each lane's loss on batch `batch` of `split`, NaN for a diverged lane. Nothing is trained.
    pub(crate) fn evaluate(&mut self, split: Split, batch: u64) -> Result<Vec<f32>> {
        let lanes = self.diverged.len();
        if self.diverged.iter().all(|diverged| *diverged) {
            return Ok(vec![f32::NAN; lanes]);
        }
        let scores = self.tasks.evaluate(&self.state.params, split, batch)?;
        if scores.len() != lanes {
            return Err(Error::Lanes { what: "evaluation".into(), expected: lanes, got: scores.len() });
        }
        let losses = scores.iter().zip(&self.diverged);
        Ok(losses.map(|(score, diverged)| if *diverged { f32::NAN } else { score.loss }).collect())
    }
}

fn lane_is_finite(params: &Params, lane: usize) -> bool {
    // Whole chunks without an early exit: those loops become vector instructions.
    let finite = |values: &[f32]| values.iter().fold(true, |finite, value| finite & value.is_finite());
    (0..params.layout().len()).all(|tensor| params.lane(tensor, lane).chunks(256).all(finite))
}

fn fill_lane(params: &mut Params, lane: usize, value: f32) {
    for tensor in 0..params.layout().len() {
        params.lane_mut(tensor, lane).fill(value);
    }
}
