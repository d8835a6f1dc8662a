//! Thetas of some lanes, each scored by trainings of its own.

use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::task::{Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Error, Params, Purpose, Result, Seed, Theta};

use super::{LearnedOptimizerSettings, MAX_DIFFERENCES, Unroll};
use crate::families::settings::FamilySettings;

/// Step of central differences, in units of theta. Their error is of its square, that of f32 losses of its inverse.
const STEP: f64 = 1e-2;

pub(super) struct Lanes<'a> {
    unroll: &'a Unroll,
    seeds: Vec<Seed>,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(unroll: &'a Unroll, seeds: &[Seed]) -> Result<Self> {
        if seeds.is_empty() {
            let family = LearnedOptimizerSettings::NAME.into();
            return Err(Error::Task { family, reason: "no lanes to bind".into() });
        }
        Ok(Self { unroll, seeds: seeds.to_vec() })
    }

    fn check(&self, params: &Params) -> Result<()> {
        let like = Params::zeros(self.unroll.optimizer.layout(), self.seeds.len());
        like.check_like(params, "parameters of learned_optimizer")
    }
}

impl Unroll {
    /// The first theta of a task.
    fn initial(&self, seed: Seed) -> Vec<f32> {
        let seed = seed.purpose(Purpose::Init);
        let (theta, mut draws) = (self.optimizer.init_theta(seed), Draws::new(seed.fold_in(1)));
        theta
            .values()
            .iter()
            .map(|value| (f64::from(*value) + self.spread * f64::from(draws.normal())) as f32)
            .collect()
    }

    /// The normalised training loss after each update of one inner training.
    fn training(&self, theta: &[f32], seed: Seed) -> Result<Vec<f64>> {
        let optimizer = self.optimizer.bind(Theta::new(self.optimizer.layout(), 1, theta.to_vec())?)?;
        let member = self.inner.draw(seed.purpose(Purpose::Member))?;
        let inner: &dyn TaskFamily = member.as_deref().unwrap_or(&*self.inner);
        let mut tasks = inner.bind(&[seed])?;
        let mut state = optimizer.init(tasks.init_params()?, &[self.steps])?;
        let mut counted = Vec::with_capacity(self.steps as usize);
        for batch in 0..u64::from(self.steps) {
            let (losses, grads) = tasks.loss_and_grads(&state.params, batch)?;
            if batch > 0 {
                counted.push(inner.normalise(f64::from(losses[0])));
            }
            state = optimizer.update(state, &grads, &losses)?;
        }
        let last = tasks.evaluate(&state.params, Split::Train, u64::from(self.steps))?[0].loss;
        counted.push(inner.normalise(f64::from(last)));
        Ok(counted)
    }

    /// The inner training that a person is shown.
    pub(super) fn curve(&self, seed: Seed) -> Result<Vec<f64>> {
        self.training(&self.initial(seed), inner_seed(seed, Split::Train, 0, 0))
    }

    /// The loss of a theta on one batch of inner tasks. A theta that is not finite has none: the inner losses are cut to
    /// a finite range and would hide it.
    fn loss(&self, theta: &[f32], seed: Seed, split: Split, batch: u64) -> Result<f64> {
        if theta.iter().any(|value| !value.is_finite()) {
            return Ok(f64::NAN);
        }
        let mut sum = 0.0;
        for task in 0..self.tasks {
            sum += self.training(theta, inner_seed(seed, split, batch, task))?.iter().sum::<f64>();
        }
        Ok(sum / f64::from(self.tasks * self.steps))
    }

    /// Half the difference of the losses at `theta ± step · direction`, over `step`.
    fn slope(&self, theta: &[f32], direction: &[f32], step: f64, (seed, batch): (Seed, u64)) -> Result<f64> {
        let at = |step: f64| {
            let moved = theta.iter().zip(direction).map(|(value, e)| (f64::from(*value) + step * f64::from(*e)) as f32);
            self.loss(&moved.collect::<Vec<_>>(), seed, Split::Train, batch)
        };
        Ok((at(step)? - at(-step)?) / (2.0 * step))
    }

    /// The gradient of the training loss: exact along each value, or estimated along random directions.
    fn gradient(&self, theta: &[f32], seed: Seed, batch: u64) -> Result<Vec<f32>> {
        let mut gradient = vec![0.0_f64; theta.len()];
        let mut direction = vec![0.0; theta.len()];
        if theta.len() <= MAX_DIFFERENCES {
            for index in 0..theta.len() {
                direction.fill(0.0);
                direction[index] = 1.0;
                gradient[index] = self.slope(theta, &direction, STEP, (seed, batch))?;
            }
        } else {
            for pair in 0..self.pairs {
                let step = seed.purpose(Purpose::Step).fold_in(batch).fold_in(u64::from(pair));
                noise::normals(step, 0, &mut direction);
                let slope = self.slope(theta, &direction, self.sigma, (seed, batch))? / f64::from(self.pairs);
                gradient.iter_mut().zip(&direction).for_each(|(g, &e)| *g += slope * f64::from(e));
            }
        }
        Ok(gradient.into_iter().map(|value| value as f32).collect())
    }
}

/// The seed of an inner task: of its place in a batch of a split.
fn inner_seed(seed: Seed, split: Split, batch: u64, task: u32) -> Seed {
    seed.purpose(Purpose::Batch).fold_in(split as u64).fold_in(batch).fold_in(u64::from(task))
}

/// All values of one lane, in order.
fn flat(params: &Params, lane: usize) -> Vec<f32> {
    (0..params.layout().len()).flat_map(|index| params.lane(index, lane)).copied().collect()
}

fn write(params: &mut Params, lane: usize, values: &[f32]) {
    let mut rest = values;
    for index in 0..params.layout().len() {
        let tensor = params.lane_mut(index, lane);
        let (own, others) = rest.split_at(tensor.len());
        tensor.copy_from_slice(own);
        rest = others;
    }
}

impl TaskLanes for Lanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        let mut params = Params::zeros(self.unroll.optimizer.layout(), self.seeds.len());
        for (lane, &seed) in self.seeds.iter().enumerate() {
            write(&mut params, lane, &self.unroll.initial(seed));
        }
        Ok(params)
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        self.check(params)?;
        let mut grads = Params::zeros(params.layout(), params.lanes());
        let mut losses = Vec::with_capacity(params.lanes());
        for (lane, &seed) in self.seeds.iter().enumerate() {
            let theta = flat(params, lane);
            losses.push(self.unroll.loss(&theta, seed, Split::Train, batch)? as f32);
            write(&mut grads, lane, &self.unroll.gradient(&theta, seed, batch)?);
        }
        Ok((losses, grads))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        self.check(params)?;
        let score = |(lane, &seed): (usize, &Seed)| {
            let loss = self.unroll.loss(&flat(params, lane), seed, split, batch)? as f32;
            Ok(Evaluation { loss, accuracy: None })
        };
        self.seeds.iter().enumerate().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use paceline_optimizer_core::Layout;
    use paceline_optimizer_core::estimator::MetaLoss;
    use paceline_optimizer_core::estimator::backprop::{
        SmoothAdam, SmoothQuadratic, SmoothRule, SmoothSgd, SmoothSgdm, meta_gradient,
    };
    use paceline_optimizer_core::learned::LearnedOptimizerConfig;
    use paceline_optimizer_core::task::Cost;
    use serde_json::json;

    use super::*;
    use crate::Family;
    use crate::sample::Panel;

    /// A bowl whose losses are not normalised, as those of the smooth twins.
    #[derive(Debug)]
    struct Plain(Arc<dyn Family>);

    impl Family for Plain {
        fn panels(&self, seed: Seed) -> Vec<Panel> {
            self.0.panels(seed)
        }
    }

    impl TaskFamily for Plain {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn layout(&self) -> &Arc<Layout> {
            self.0.layout()
        }
        fn cost(&self) -> Cost {
            self.0.cost()
        }
        fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
            self.0.bind(seeds)
        }
        fn normalise(&self, loss: f64) -> f64 {
            loss
        }
    }

    fn unroll(optimizer: &LearnedOptimizerConfig, steps: u32, pairs: u32) -> Unroll {
        let settings = json!({"dim": 3, "condition": 4.0, "rotate": false, "noise": 0.0});
        let inner = crate::build("quadratic", settings.as_object().unwrap(), None).unwrap();
        let (optimizer, inner) = (optimizer.build().unwrap(), Arc::new(Plain(inner)));
        Unroll { optimizer, inner, steps, tasks: 1, sigma: 0.01, pairs, spread: 0.1 }
    }

    #[test]
    fn the_gradient_is_that_of_backpropagation_through_the_unroll() {
        const STEPS: u32 = 8;
        let twins: [(_, &dyn SmoothRule, Vec<f32>); 3] = [
            (LearnedOptimizerConfig::LearnableSgd, &SmoothSgd, vec![-0.5]),
            (LearnedOptimizerConfig::LearnableSgdm, &SmoothSgdm, vec![-1.5, -0.7]),
            (LearnedOptimizerConfig::LearnableAdam, &SmoothAdam, vec![-4.0, -2.0, -2.0, -3.5]),
        ];
        for (config, rule, theta) in twins {
            let unroll = unroll(&config, STEPS, 1);
            let (seed, batch) = (Seed::new(5), 3);
            // The bowl of the inner task: λ z² / dim summed, λ = 1, ½, ¼, around x − g / h.
            let mut lanes = unroll.inner.bind(&[inner_seed(seed, Split::Train, batch, 0)]).unwrap();
            let x = lanes.init_params().unwrap();
            let g = lanes.loss_and_grads(&x, 0).unwrap().1;
            let curvature = vec![2.0 / 3.0, 1.0 / 3.0, 0.5 / 3.0];
            let values = |params: &Params| params.tensor(0).iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
            let centre = values(&x).iter().zip(values(&g)).zip(&curvature).map(|((x, g), h)| x - g / h).collect();
            let problem = SmoothQuadratic { initial: values(&x), curvature, centre };
            let wide: Vec<f64> = theta.iter().map(|&value| f64::from(value)).collect();
            // One more loss, the first, which does not depend on theta.
            let exact = meta_gradient(rule, &problem, &wide, STEPS + 1, MetaLoss::Average).unwrap().gradient;
            let length = exact.iter().map(|g| g * g).sum::<f64>().sqrt();
            for (got, exact) in unroll.gradient(&theta, seed, batch).unwrap().into_iter().zip(exact) {
                let exact = exact * f64::from(STEPS + 1) / f64::from(STEPS);
                assert!((f64::from(got) - exact).abs() < 1e-3 * length, "{config:?}: {got} is not {exact}");
            }
        }
    }

    #[test]
    fn evolution_strategies_point_where_differences_do() {
        // 1762 values: along the estimate of many pairs the loss must change as its slope says.
        let unroll = unroll(&LearnedOptimizerConfig::Mlp(Default::default()), 5, 64);
        let (seed, batch) = (Seed::new(6), 0);
        let theta = unroll.initial(seed);
        let gradient = unroll.gradient(&theta, seed, batch).unwrap();
        let length = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let direction: Vec<f32> = gradient.iter().map(|&g| (f64::from(g) / length) as f32).collect();
        assert!(unroll.slope(&theta, &direction, 0.01, (seed, batch)).unwrap() > 0.0);
        assert_eq!(gradient, unroll.gradient(&theta, seed, batch).unwrap());
        assert_ne!(gradient, unroll.gradient(&theta, seed, 1).unwrap());
    }

    #[test]
    fn the_loss_is_the_mean_over_tasks_and_steps() {
        let unroll = Unroll { tasks: 3, ..unroll(&LearnedOptimizerConfig::LearnableSgd, 4, 1) };
        let (theta, seed, split) = ([-1.0], Seed::new(8), Split::OuterValid);
        let trainings: Vec<f64> =
            (0..3).flat_map(|task| unroll.training(&theta, inner_seed(seed, split, 2, task)).unwrap()).collect();
        assert_eq!(trainings.len(), 12);
        let mean = trainings.iter().sum::<f64>() / 12.0;
        assert!((unroll.loss(&theta, seed, split, 2).unwrap() - mean).abs() < 1e-12);
        // By gradient descent at this rate a bowl of curvature 2/3 shrinks step by step.
        assert!(trainings.chunks(4).all(|losses| losses.is_sorted_by(|a, b| a > b)), "{trainings:?}");
    }

    #[test]
    fn a_theta_that_is_not_finite_has_no_loss() {
        let unroll = unroll(&LearnedOptimizerConfig::LearnableSgd, 2, 1);
        assert!(unroll.loss(&[f32::NAN], Seed::new(1), Split::Test, 0).unwrap().is_nan());
        assert!(unroll.gradient(&[f32::INFINITY], Seed::new(1), 0).unwrap()[0].is_nan());
    }
}
