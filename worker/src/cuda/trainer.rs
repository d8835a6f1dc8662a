//! Trains the lanes of a lease by the window kernels, as many at a time as the device takes.
//!
//! ```text
//!  Training ─► plan ─► parts that fit ─► WindowJob ─► WindowKernel ─► losses, parameters, slots
//!                                         └ ThetaJob    └ a device, or the tests' emulator: makes thetas, then trains
//! ```

use paceline_optimizer_core::learned::LearnedOptimizer;
use paceline_optimizer_core::optimizer::OptState;
use paceline_optimizer_core::task::TaskFamily;
use paceline_optimizer_core::unroll::{LaneTrainer, Training};
use paceline_optimizer_core::{Error, Result};

use super::budget::{parts, usable};
use super::layout::LanePlan;
use super::thetas::{self, ThetaJob};
use super::window::{LANES_PER_TASK, WindowPlan};

/// One launch of a window kernel: its parameters in order, as `kernels/window.cu` declares them; but thetas, which another
/// launch makes before.
#[derive(Debug)]
pub struct WindowJob<'a> {
    /// `NAME_window`.
    pub kernel: String,
    /// Blocks, one a lane.
    pub lanes: u32,
    /// Bytes of shared memory.
    pub shared: u64,
    /// Floats of the arenas of all lanes in device memory.
    pub spill: usize,
    /// Steps of each lane.
    pub steps: u32,
    /// Sizes.
    pub window: [u32; 13],
    /// The layers of the network.
    pub layers: &'a [[u32; 15]],
    /// The tensors of a lane.
    pub tensors: &'a [[u32; 10]],
    /// The learned optimizer's settings.
    pub settings: &'a [f32],
    /// Where its weights stand within theta.
    pub place: &'a [u32],
    /// The data set.
    pub images: &'a [f32],
    /// Its labels.
    pub labels: &'a [u32],
    /// Numbers of the examples, `[tasks, steps, batch]`.
    pub batches: Vec<u32>,
    /// What makes `[lanes, theta]`.
    pub thetas: ThetaJob<'a>,
    /// Updates already applied, `[lanes]`.
    pub first_steps: Vec<u32>,
    /// Updates there will be, `[lanes]`.
    pub horizons: Vec<u32>,
    /// `[lanes, parameters]`; trained.
    pub params: Vec<f32>,
    /// `[lanes, slots]`; trained.
    pub slots: Vec<f32>,
    /// `[lanes]`, 0 or 1; a lane may diverge.
    pub diverged: Vec<u32>,
}

/// Something that runs the window kernels.
pub trait WindowKernel: Send + Sync + std::fmt::Debug {
    /// Most bytes of shared memory of a block.
    fn shared(&self) -> u64;

    /// Bytes of memory that are free.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn free(&self) -> Result<u64, String>;

    /// Runs a job, of which the thetas first; losses `[lanes, steps]`.
    ///
    /// # Errors
    /// Why it could not be run.
    fn run(&self, job: &mut WindowJob<'_>) -> Result<Vec<f32>, String>;
}

/// Trains lanes by window kernels.
#[derive(Debug)]
pub struct WindowTrainer<K>(pub K);

impl<K: WindowKernel> WindowTrainer<K> {
    /// Trains the lanes of a part of the pairs and puts them back.
    fn train_part(
        &self,
        plan: &WindowPlan,
        training: &Training<'_>,
        pairs: std::ops::Range<u32>,
        state: &mut OptState,
        diverged: &mut [bool],
    ) -> Result<Vec<f32>, String> {
        let Some(net) = training.family.feed_forward() else { return Err("it is no feed-forward network".into()) };
        let arena = plan.arena_within(self.0.shared());
        let lanes: Vec<usize> = (2 * pairs.start as usize..2 * pairs.end as usize).collect();
        let steps = u64::from(training.steps);
        let batches = training.first_batch..training.first_batch + steps;
        let tasks = lanes.iter().step_by(LANES_PER_TASK as usize).map(|lane| training.seeds[*lane]);
        let mut part = state.select(&lanes);
        let mut job = WindowJob {
            kernel: format!("{}_window", plan.rule.name),
            lanes: lanes.len() as u32,
            shared: 4 * arena.shared as u64,
            spill: lanes.len() * arena.spill,
            steps: training.steps,
            window: plan.words(training.steps, arena),
            layers: &plan.net.layers,
            tensors: &plan.lane.tensors,
            settings: &plan.rule.settings,
            place: &plan.rule.place,
            images: net.images,
            labels: net.labels,
            batches: tasks
                .flat_map(|task| batches.clone().flat_map(|batch| (net.batch)(task, batch)).collect::<Vec<_>>())
                .collect(),
            thetas: ThetaJob::new(training.thetas, pairs.start as usize..pairs.end as usize),
            first_steps: part.step.clone(),
            horizons: part.horizon.clone(),
            params: LanePlan::pack_params(&part.params),
            slots: LanePlan::pack_slots(&part),
            diverged: lanes.iter().map(|lane| u32::from(diverged[*lane])).collect(),
        };
        let losses = self.0.run(&mut job)?;
        part.params = LanePlan::unpack_params(training.family.layout(), lanes.len(), &job.params);
        LanePlan::unpack_slots(&mut part.slots, lanes.len(), &job.slots);
        for (index, &lane) in lanes.iter().enumerate() {
            for tensor in 0..part.params.layout().len() {
                state.params.lane_mut(tensor, lane).copy_from_slice(part.params.lane(tensor, index));
            }
            for (slot, trained) in state.slots.iter_mut().zip(&part.slots) {
                slot.lane_mut(lane).copy_from_slice(trained.lane(index));
            }
            state.step[lane] = state.step[lane].saturating_add(training.steps);
            diverged[lane] = job.diverged[index] != 0;
        }
        Ok(losses)
    }
}

impl<K: WindowKernel> LaneTrainer for WindowTrainer<K> {
    fn knows(&self, family: &dyn TaskFamily, optimizer: &dyn LearnedOptimizer) -> Result<(), String> {
        WindowPlan::new(family, optimizer).map(drop).map_err(|reason| reason.to_string())
    }

    fn train(&self, training: &Training<'_>, state: &mut OptState, diverged: &mut [bool]) -> Result<Vec<f32>> {
        let failed = |reason: String| Error::Task { family: training.family.name().into(), reason };
        let plan = WindowPlan::new(training.family, training.optimizer).map_err(|reason| failed(reason.to_string()))?;
        let arena = plan.arena_within(self.0.shared());
        let budget = usable(self.0.free().map_err(failed)?);
        let pairs = training.seeds.len() as u32 / LANES_PER_TASK;
        let need = plan.need(training.steps, arena) + thetas::need(training.thetas);
        let parts = parts(pairs, need, budget).map_err(|reason| failed(reason.to_string()))?;
        let mut losses = Vec::new();
        for part in parts {
            losses.extend(self.train_part(&plan, training, part, state, diverged).map_err(failed)?);
        }
        Ok(losses)
    }
}
