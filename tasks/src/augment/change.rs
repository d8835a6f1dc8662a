//! What every augmentation is: a change of how the lanes of a family are seen.

use std::fmt;
use std::sync::Arc;

use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Layout, Params, Purpose, Result, Seed};

/// Keeps the seeds of augmentations apart from those of the families inside: the letters `augment`.
const AUGMENT: u64 = u64::from_be_bytes(*b"\0augment");

/// The seed of a task's own choices, at one place of the list of augmentations.
pub(super) fn task_seed(task: Seed, place: u64) -> Seed {
    task.purpose(Purpose::Instance).fold_in(AUGMENT).fold_in(place)
}

/// The seed of the random numbers of one training step, at one place of the list.
pub(super) fn step_seed(task: Seed, place: u64, batch: u64) -> Seed {
    task.purpose(Purpose::Step).fold_in(AUGMENT).fold_in(place).fold_in(batch)
}

/// The seed of what a member of the family draws, at one place of the list.
pub(super) fn member_seed(member: Seed, place: u64) -> Seed {
    member.fold_in(AUGMENT).fold_in(place)
}

/// One augmentation with all its numbers. `Debug` writes it for people.
pub(super) trait Change: fmt::Debug + Send + Sync {
    /// What a lane costs with it, where it cost `inner` without, of `parameters` values.
    fn cost(&self, inner: Cost, parameters: usize) -> Cost;

    /// The lanes of these seeds, changed.
    ///
    /// # Errors
    /// If the inner task cannot be computed.
    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>>;
}

/// A family under one change.
pub(super) struct Changed {
    pub(super) inner: Arc<dyn TaskFamily>,
    pub(super) change: Box<dyn Change>,
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.inner, self.change)
    }
}

impl TaskFamily for Changed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn layout(&self) -> &Arc<Layout> {
        self.inner.layout()
    }

    fn cost(&self) -> Cost {
        self.change.cost(self.inner.cost(), self.layout().size())
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        self.change.apply(self.inner.bind(seeds)?, seeds)
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.inner.normalise(loss)
    }
}

/// What a change of the gradient does to each lane; everything else stays as it was.
pub(super) trait GradientChange: Copy {
    /// Changes the gradient of one lane, one slice a tensor. `step` seeds the random numbers of this step of this task.
    fn change(self, gradient: &mut [&mut [f32]], step: Seed);
}

/// Lanes whose gradients are changed.
pub(super) struct GradientLanes<'a, C> {
    pub(super) inner: Box<dyn TaskLanes + 'a>,
    pub(super) seeds: Vec<Seed>,
    pub(super) place: u64,
    pub(super) change: C,
}

impl<C: GradientChange> TaskLanes for GradientLanes<'_, C> {
    fn init_params(&mut self) -> Result<Params> {
        self.inner.init_params()
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let (losses, grads) = self.inner.loss_and_grads(params, batch)?;
        let (layout, lanes) = (Arc::clone(grads.layout()), grads.lanes());
        let mut tensors: Vec<Vec<f32>> = (0..layout.len()).map(|index| grads.tensor(index).to_vec()).collect();
        drop(grads);
        for (lane, seed) in self.seeds.iter().enumerate() {
            let mut gradient: Vec<&mut [f32]> = tensors
                .iter_mut()
                .zip(layout.tensors())
                .map(|(values, spec)| &mut values[lane * spec.size()..(lane + 1) * spec.size()])
                .collect();
            self.change.change(&mut gradient, step_seed(*seed, self.place, batch));
        }
        Ok((losses, Params::from_tensors(&layout, lanes, tensors)?))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.inner.evaluate(params, split, batch)
    }

    fn state(&self) -> Option<&Params> {
        self.inner.state()
    }

    fn restore(&mut self, state: Params) -> Result<()> {
        self.inner.restore(state)
    }
}

/// The squared length of one lane's gradient over all tensors.
pub(super) fn squared_length(gradient: &[&mut [f32]]) -> f64 {
    gradient.iter().flat_map(|values| values.iter()).map(|&value| f64::from(value).powi(2)).sum()
}
