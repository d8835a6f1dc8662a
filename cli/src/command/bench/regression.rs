//! The toy regression on which PES was published: two inner parameters, two meta-parameters, one bias to fall into.
//!
//! ```text
//!  loss(x) = √(x₀² + 5) − √5 + sin²(x₁) e^(−5x₀²) + ¼ |x₁ − 100|          x starts at (1, 1)
//!  x ← x − rate · ∇loss,   rate = e^θ₀ (T − t)/T + e^θ₁ t/T                θ starts at (0, 0)
//! ```
//!
//! Far from the start a large learning rate pays; near it the ripples of the sine make it look harmful. An estimator that
//! sees a window at a time, and forgets that theta made the state it begins with, turns away from the valley.
//!
//! Source: Vicol, Metz, Sohl-Dickstein, arXiv 2112.13835, "toy 2D regression"; settings of the published curves:
//! evosax @ 270b4e7, `examples/07_persistent_es.ipynb`.

use std::sync::Arc;

use paceline_optimizer_core::learned::{LearnedOptimizer, LearnedOptimizerConfig};
use paceline_optimizer_core::optimizer::{OptState, Optimizer};
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Layout, Params, Result, Seed, TensorSpec, Theta};

/// Inner steps of a trajectory.
pub(super) const HORIZON: u32 = 100;

/// Inner parameters at the start.
const START: [f64; 2] = [1.0, 1.0];

/// Loss and gradient at `x`.
fn loss_and_gradient(x: [f64; 2]) -> (f64, [f64; 2]) {
    let root = (x[0] * x[0] + 5.0).sqrt();
    let (sin, cos) = x[1].sin_cos();
    let bell = (-5.0 * x[0] * x[0]).exp();
    let loss = root - 5.0_f64.sqrt() + sin * sin * bell + 0.25 * (x[1] - 100.0).abs();
    let first = x[0] / root - 10.0 * x[0] * sin * sin * bell;
    let slope = if x[1] == 100.0 { 0.0 } else { 0.25 * (x[1] - 100.0).signum() };
    (loss, [first, 2.0 * sin * cos * bell + slope])
}

/// The learning rate at inner step `step`.
fn rate(theta: [f64; 2], step: u32) -> f64 {
    let done = f64::from(step) / f64::from(HORIZON);
    theta[0].exp() * (1.0 - done) + theta[1].exp() * done
}

/// Sum of the losses after each of a whole trajectory's updates: what the published curves show.
pub(super) fn whole_loss(theta: &Theta) -> f64 {
    let theta = [theta.values()[0].into(), theta.values()[1].into()];
    let mut x = START;
    let mut sum = 0.0;
    for step in 0..HORIZON {
        let (_, gradient) = loss_and_gradient(x);
        let rate = rate(theta, step);
        x = [x[0] - rate * gradient[0], x[1] - rate * gradient[1]];
        sum += loss_and_gradient(x).0;
    }
    sum
}

/// The problem: every instance is the same.
#[derive(Debug)]
pub(super) struct Regression(Arc<Layout>);

impl Regression {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Layout::new(vec![TensorSpec::new("x", [2])])?))
    }
}

impl TaskFamily for Regression {
    fn name(&self) -> &'static str {
        "toy_regression"
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.0
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(Lanes { layout: &self.0, lanes: seeds.len() }))
    }

    /// A few operations a parameter.
    fn cost(&self) -> Cost {
        let size = self.layout().size() as f64;
        Cost { flop: 4.0 * size, bytes: 12.0 * size }
    }

    /// The loss itself, as published; a trajectory that overflows counts as a bad one of its scale.
    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss.min(1e6) } else { 1e6 }
    }
}

struct Lanes<'a> {
    layout: &'a Arc<Layout>,
    lanes: usize,
}

/// Parameters of one lane.
fn point(params: &Params, lane: usize) -> [f64; 2] {
    let x = params.lane(0, lane);
    [x[0].into(), x[1].into()]
}

impl TaskLanes for Lanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        Params::from_tensors(self.layout, self.lanes, vec![START.map(|x| x as f32).repeat(self.lanes)])
    }

    fn loss_and_grads(&mut self, params: &Params, _: u64) -> Result<(Vec<f32>, Params)> {
        let mut grads = params.clone();
        let lane = |lane| {
            let (loss, gradient) = loss_and_gradient(point(params, lane));
            grads.lane_mut(0, lane).copy_from_slice(&gradient.map(|value| value as f32));
            loss as f32
        };
        let losses = (0..params.lanes()).map(lane).collect();
        Ok((losses, grads))
    }

    fn evaluate(&mut self, params: &Params, _: Split, _: u64) -> Result<Vec<Evaluation>> {
        let loss = |lane| loss_and_gradient(point(params, lane)).0 as f32;
        Ok((0..params.lanes()).map(|lane| Evaluation { loss: loss(lane), accuracy: None }).collect())
    }
}

/// Gradient descent whose learning rate goes from `e^θ₀` to `e^θ₁`.
#[derive(Debug)]
pub(super) struct DecayedRate(Arc<Layout>);

impl DecayedRate {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Layout::new(vec![TensorSpec::new("log_rate_first", []), TensorSpec::new("log_rate_last", [])])?))
    }
}

impl LearnedOptimizer for DecayedRate {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        None
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.0
    }

    fn init_theta(&self, _: Seed) -> Theta {
        Theta::zeros(&self.0, 1)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Bound(theta)))
    }
}

#[derive(Debug)]
struct Bound(Theta);

impl Optimizer for Bound {
    fn name(&self) -> &'static str {
        "decayed_rate"
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        OptState::new(params, horizon, Vec::new())
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        for lane in 0..state.lanes() {
            let theta = self.0.lane(lane % self.0.lanes());
            let rate = rate([theta[0].into(), theta[1].into()], state.step[lane]);
            for (x, g) in state.params.lane_mut(0, lane).iter_mut().zip(grads.lane(0, lane)) {
                *x = (f64::from(*x) - rate * f64::from(*g)) as f32;
            }
            state.step[lane] += 1;
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_loss_is_the_published_one() {
        let theta = DecayedRate::new().and_then(|rule| Theta::new(rule.layout(), 1, vec![0.0; 2])).expect("two values");
        assert_eq!(format!("{:.2}", whole_loss(&theta)), "2423.47");
    }

    #[test]
    fn the_gradient_is_the_slope() {
        for x in [[1.0, 1.0], [0.1, 3.0], [-0.4, 120.0]] {
            let gradient = loss_and_gradient(x).1;
            for (axis, gradient) in gradient.into_iter().enumerate() {
                let at = |step: f64| {
                    let mut x = x;
                    x[axis] += step;
                    loss_and_gradient(x).0
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((gradient - slope).abs() < 1e-8, "{x:?} {axis}: {gradient} is not {slope}");
            }
        }
    }
}
