//! Small inner problems and learned optimizers whose meta-gradients are known.

use std::sync::Arc;

use paceline_optimizer_core::learned::{LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::optimizer::{OptState, Optimizer, Slot};
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Error, Layout, Params, Result, Seed, TensorSpec, Theta};

/// Two operations a value, and parameters, gradients and their update in memory.
pub(crate) fn cost(layout: &Layout) -> Cost {
    Cost { flop: 2.0 * layout.size() as f64, bytes: 12.0 * layout.size() as f64 }
}

/// Loss `½ Σ h (x − c)²` with curvature h and centre c of each instance, and a little noise a batch.
#[derive(Debug)]
pub(crate) struct Quadratic {
    layout: Arc<Layout>,
    /// What a non-finite loss maps to.
    ceiling: f64,
}

impl Quadratic {
    pub(crate) fn new() -> Self {
        Self::with_ceiling(1e3)
    }

    pub(crate) fn with_ceiling(ceiling: f64) -> Self {
        Self { layout: Layout::new(vec![TensorSpec::new("x", [3])]).unwrap(), ceiling }
    }
}

impl TaskFamily for Quadratic {
    fn name(&self) -> &'static str {
        "quadratic"
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(QuadraticLanes { family: self, seeds: seeds.to_vec() }))
    }

    fn cost(&self) -> Cost {
        cost(self.layout())
    }

    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss.min(self.ceiling) } else { self.ceiling }
    }
}

struct QuadraticLanes<'a> {
    family: &'a Quadratic,
    seeds: Vec<Seed>,
}

impl QuadraticLanes<'_> {
    /// Loss and gradient of one lane on a batch.
    fn lane(&self, lane: usize, x: &[f32], batch: u64) -> (f32, Vec<f32>) {
        let mut draws = Draws::new(self.seeds[lane]);
        let mut noise = Draws::new(self.seeds[lane].fold_in(batch));
        let (mut loss, mut grads) = (0.0, vec![]);
        for x in x {
            let curvature = 0.5 + draws.uniform() as f32;
            let offset = x - draws.normal() + 0.05 * noise.normal();
            loss += 0.5 * curvature * offset * offset;
            grads.push(curvature * offset);
        }
        (loss, grads)
    }
}

impl TaskLanes for QuadraticLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        let mut params = Params::zeros(self.family.layout(), self.seeds.len());
        for (lane, seed) in self.seeds.iter().enumerate() {
            let mut draws = Draws::new(seed.fold_in(u64::MAX));
            params.lane_mut(0, lane).iter_mut().for_each(|x| *x = 2.0 * draws.normal());
        }
        Ok(params)
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let mut grads = Params::zeros(params.layout(), params.lanes());
        let mut losses = vec![];
        for lane in 0..params.lanes() {
            let (loss, lane_grads) = self.lane(lane, params.lane(0, lane), batch);
            losses.push(loss);
            grads.lane_mut(0, lane).copy_from_slice(&lane_grads);
        }
        Ok((losses, grads))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        let first = match split {
            Split::Train => 0,
            Split::InnerValid => 1_000_000,
            Split::OuterValid => 2_000_000,
            Split::Test => 3_000_000,
        };
        let loss = |lane| self.lane(lane, params.lane(0, lane), first + batch).0;
        Ok((0..params.lanes()).map(|lane| Evaluation { loss: loss(lane), accuracy: None }).collect())
    }
}

/// Momentum descent with theta = (log learning rate, initial momentum buffer): the state at the first step depends on
/// theta, as it does in VeLO.
#[derive(Debug)]
pub(crate) struct Descent {
    layout: Arc<Layout>,
}

impl Descent {
    pub(crate) fn new() -> Self {
        Self { layout: Layout::new(vec![TensorSpec::new("log_lr", []), TensorSpec::new("m0", [])]).unwrap() }
    }

    pub(crate) fn theta(&self, log_lr: f32) -> Theta {
        Theta::new(&self.layout, 1, vec![log_lr, 0.1]).unwrap()
    }
}

impl LearnedOptimizer for Descent {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        None
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn init_theta(&self, _: Seed) -> Theta {
        self.theta(-3.0)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(BoundDescent(theta)))
    }
}

#[derive(Debug)]
struct BoundDescent(Theta);

impl Optimizer for BoundDescent {
    fn name(&self) -> &'static str {
        "descent"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let mut momentum = Slot::filled("m", [3], params.lanes(), 0.0);
        for lane in 0..params.lanes() {
            momentum.lane_mut(lane).fill(self.0.tensor(lane % self.0.lanes(), 1)[0]);
        }
        OptState::new(params, horizon, vec![momentum])
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        for lane in 0..state.lanes() {
            let rate = self.0.tensor(lane % self.0.lanes(), 0)[0].exp();
            let momentum = state.slots[0].lane_mut(lane);
            let x = state.params.lane_mut(0, lane);
            for ((x, m), g) in x.iter_mut().zip(momentum).zip(grads.lane(0, lane)) {
                *m = 0.5 * *m + g;
                *x -= rate * *m;
            }
            state.step[lane] += 1;
        }
        Ok(state)
    }
}

/// The recurrence of the specification, `s' = s + theta` with loss s: the learned optimizer adds theta at the start and
/// at every step, so that the loss of step t (from 1) is `t · theta` and its meta-gradient t.
#[derive(Debug)]
pub(crate) struct Recurrence {
    layout: Arc<Layout>,
}

impl Recurrence {
    pub(crate) fn new() -> Self {
        Self { layout: Layout::new(vec![TensorSpec::new("s", [])]).unwrap() }
    }

    pub(crate) fn theta(&self, value: f32) -> Theta {
        Theta::new(&self.layout, 1, vec![value]).unwrap()
    }
}

impl TaskFamily for Recurrence {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(RecurrenceLanes { layout: &self.layout, lanes: seeds.len() }))
    }

    fn cost(&self) -> Cost {
        cost(TaskFamily::layout(self))
    }

    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss } else { 0.0 }
    }
}

struct RecurrenceLanes<'a> {
    layout: &'a Arc<Layout>,
    lanes: usize,
}

impl TaskLanes for RecurrenceLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        Ok(Params::zeros(self.layout, self.lanes))
    }

    fn loss_and_grads(&mut self, params: &Params, _: u64) -> Result<(Vec<f32>, Params)> {
        Ok((params.tensor(0).to_vec(), Params::zeros(self.layout, self.lanes)))
    }

    fn evaluate(&mut self, _: &Params, _: Split, _: u64) -> Result<Vec<Evaluation>> {
        Err(Error::Task { family: "recurrence".into(), reason: "has no data to evaluate on".into() })
    }
}

impl LearnedOptimizer for Recurrence {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        None
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn init_theta(&self, _: Seed) -> Theta {
        self.theta(0.5)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Adding(theta)))
    }
}

#[derive(Debug)]
struct Adding(Theta);

impl Adding {
    fn add(&self, params: &mut Params) {
        params.tensor_mut(0).iter_mut().zip(self.0.values()).for_each(|(s, theta)| *s += theta);
    }
}

impl Optimizer for Adding {
    fn name(&self) -> &'static str {
        "adding"
    }

    fn init(&self, mut params: Params, horizon: &[u32]) -> Result<OptState> {
        self.add(&mut params);
        OptState::new(params, horizon, vec![])
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        self.add(&mut state.params);
        Ok(state)
    }
}

/// A meta-loss that is a known function of theta: parameters are theta, and the loss of the first step is
/// `Σ c x + ½ curvature Σ h x²`, with c and h from the place of each value.
#[derive(Debug)]
pub(crate) struct Exposed {
    theta: Arc<Layout>,
    params: Arc<Layout>,
    curvature: f64,
}

impl Exposed {
    pub(crate) fn new(tensors: &[(&str, &[usize])], curvature: f64) -> Self {
        let theta = tensors.iter().map(|&(name, shape)| TensorSpec::new(name, shape)).collect();
        let theta = Layout::new(theta).unwrap();
        let params = Layout::new(vec![TensorSpec::new("x", [theta.size()])]).unwrap();
        Self { theta, params, curvature }
    }

    pub(crate) fn theta(&self, seed: u64) -> Theta {
        let mut draws = Draws::new(Seed::new(seed));
        Theta::new(&self.theta, 1, (0..self.theta.size()).map(|_| draws.normal()).collect()).unwrap()
    }

    /// Slope and curvature of one value.
    fn shape(&self, index: usize) -> (f64, f64) {
        ((index as f64 * 1.7).sin(), self.curvature * (1.0 + (index % 3) as f64))
    }

    /// The gradient at theta.
    pub(crate) fn gradient(&self, theta: &Theta) -> Vec<f64> {
        let slope = |(index, x): (usize, &f32)| {
            let (c, h) = self.shape(index);
            c + h * f64::from(*x)
        };
        theta.values().iter().enumerate().map(slope).collect()
    }

    fn loss(&self, x: &[f32]) -> f64 {
        let term = |(index, x): (usize, &f32)| {
            let ((c, h), x) = (self.shape(index), f64::from(*x));
            c * x + 0.5 * h * x * x
        };
        x.iter().enumerate().map(term).sum()
    }
}

impl TaskFamily for Exposed {
    fn name(&self) -> &'static str {
        "exposed"
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.params
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(ExposedLanes { family: self, lanes: seeds.len() }))
    }

    fn cost(&self) -> Cost {
        cost(TaskFamily::layout(self))
    }

    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss } else { 0.0 }
    }
}

struct ExposedLanes<'a> {
    family: &'a Exposed,
    lanes: usize,
}

impl TaskLanes for ExposedLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        Ok(Params::zeros(&self.family.params, self.lanes))
    }

    fn loss_and_grads(&mut self, params: &Params, _: u64) -> Result<(Vec<f32>, Params)> {
        let losses = (0..params.lanes()).map(|lane| self.family.loss(params.lane(0, lane)) as f32).collect();
        Ok((losses, Params::zeros(&self.family.params, self.lanes)))
    }

    fn evaluate(&mut self, _: &Params, _: Split, _: u64) -> Result<Vec<Evaluation>> {
        Err(Error::Task { family: "exposed".into(), reason: "has no data to evaluate on".into() })
    }
}

impl LearnedOptimizer for Exposed {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        None
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.theta
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta(seed.value())
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Exposing(theta)))
    }
}

#[derive(Debug)]
struct Exposing(Theta);

impl Optimizer for Exposing {
    fn name(&self) -> &'static str {
        "exposing"
    }

    fn init(&self, mut params: Params, horizon: &[u32]) -> Result<OptState> {
        for lane in 0..params.lanes() {
            params.lane_mut(0, lane).copy_from_slice(self.0.lane(lane % self.0.lanes()));
        }
        OptState::new(params, horizon, vec![])
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        Ok(state)
    }
}
