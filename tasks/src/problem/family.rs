//! A problem as a task family: between host slices with lanes and the tensors of a pass.

use std::fmt;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use paceline_optimizer_core::feed_forward::FeedForward;
use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Error, Layout, Params, Purpose, Result, Seed};

use super::{Mode, Parameters, Pass, Problem, Scores, TestSplit};
use crate::Family;
use crate::cost::{self, Spent};
use crate::sample::Panel;

/// The task family of a problem.
pub(crate) struct ProblemFamily<P> {
    problem: P,
    cost: OnceLock<Cost>,
}

impl<P: Problem> ProblemFamily<P> {
    /// The family of this problem.
    pub(crate) fn new(problem: P) -> Self {
        Self { problem, cost: OnceLock::new() }
    }

    fn error(&self, reason: impl ToString) -> Error {
        Error::Task { family: self.problem.name().into(), reason: reason.to_string() }
    }

    fn lanes(&self, seeds: &[Seed]) -> Result<ProblemLanes<'_, P>> {
        let Some(first) = seeds.first() else { return Err(self.error("no lanes to bind")) };
        let tasks: Vec<_> = seeds.iter().map(|&seed| (seed, self.problem.instance(seed))).collect();
        let state =
            self.problem.state().map(|state| initial_values(state, &tasks, |_, index| state.initial(index).clone()));
        Ok(ProblemLanes { family: self, shared: seeds.iter().all(|seed| seed == first), tasks, state })
    }

    /// What a step on a batch of `size` examples spends, for one lane.
    fn spent(&self, size: usize) -> Result<Spent> {
        let mut lanes = self.lanes(&[Seed::new(0)])?;
        let params = lanes.init_params()?;
        let step = Step { split: Split::Train, number: 0, size };
        let (result, spent) = cost::count(|| lanes.gradients(&params, step));
        result.map_err(|error| self.error(error))?;
        Ok(spent)
    }
}

impl<P: Problem> fmt::Debug for ProblemFamily<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.problem.name(), self.problem)
    }
}

impl<P: Problem> Family for ProblemFamily<P> {
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        self.problem.panels(seed)
    }

    fn test_split(&self) -> Option<TestSplit> {
        self.problem.test_split()
    }

    /// Counted on one and on two examples, and extended to the batch: what an example costs is the same for all. Where one
    /// example is too few, as for a covariance, the whole step is counted.
    fn flop(&self) -> f64 {
        let batch = self.problem.batch_size();
        match (self.spent(1), self.spent(batch.min(2))) {
            (Ok(one), Ok(two)) => one.flop + (two.flop - one.flop) * (batch as f64 - 1.0),
            _ => self.cost().flop,
        }
    }
}

impl<P: Problem> TaskFamily for ProblemFamily<P> {
    fn name(&self) -> &'static str {
        self.problem.name()
    }

    fn layout(&self) -> &Arc<Layout> {
        self.problem.parameters().layout()
    }

    /// Counted by the layers in one step of one lane.
    fn cost(&self) -> Cost {
        *self.cost.get_or_init(|| match self.spent(self.problem.batch_size()) {
            Ok(Spent { flop, bytes }) => Cost { flop, bytes },
            Err(_) => Cost::default(),
        })
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(self.lanes(seeds)?))
    }

    fn feed_forward(&self) -> Option<FeedForward<'_>> {
        self.problem.feed_forward()
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.problem.normalise(loss)
    }
}

struct ProblemLanes<'a, P: Problem> {
    family: &'a ProblemFamily<P>,
    tasks: Vec<(Seed, P::Instance)>,
    /// Whether all lanes are the same task, so that one batch serves all.
    shared: bool,
    state: Option<Params>,
}

/// Which batch, and how many of its examples.
#[derive(Clone, Copy)]
struct Step {
    split: Split,
    number: u64,
    size: usize,
}

impl<P: Problem> ProblemLanes<'_, P> {
    fn batch(&self, Step { split, number, size }: Step) -> candle_core::Result<P::Batch> {
        let tasks = if self.shared { &self.tasks[..1] } else { &self.tasks[..] };
        self.family.problem.batch(tasks, split, number, size)
    }

    /// Seeds of the random numbers of a step: those of a batch of a split.
    fn step_seeds(&self, Step { split, number, .. }: Step) -> Vec<Seed> {
        let of = |seed: Seed| seed.purpose(Purpose::Step).fold_in(split as u64).fold_in(number);
        self.tasks.iter().map(|&(seed, _)| of(seed)).collect()
    }

    fn check(&self, what: &str, params: &Params, expected: &Parameters) -> Result<()> {
        let what = || format!("{what} of {}", self.family.problem.name());
        if params.layout() != expected.layout() {
            return Err(Error::LayoutMismatch {
                what: what(),
                expected: Arc::clone(expected.layout()),
                got: Arc::clone(params.layout()),
            });
        }
        if params.lanes() != self.tasks.len() {
            return Err(Error::Lanes { what: what(), expected: self.tasks.len(), got: params.lanes() });
        }
        Ok(())
    }

    fn state_tensors(&self) -> candle_core::Result<Vec<Tensor>> {
        self.state.as_ref().map_or(Ok(vec![]), tensors)
    }

    /// Losses, gradients and the state after a training step.
    #[expect(clippy::type_complexity, reason = "three things that only the two callers take apart")]
    fn gradients(
        &mut self,
        params: &Params,
        step: Step,
    ) -> candle_core::Result<(Vec<f32>, Vec<Vec<f32>>, Vec<Vec<f32>>)> {
        let problem = &self.family.problem;
        let batch = self.batch(step)?;
        // The caller's parameters; the tape counts the tensors made of them.
        cost::hold((4 * params.lanes() * params.layout().size()) as f64);
        let (weights, mut state, seeds) = (tensors(params)?, self.state_tensors()?, self.step_seeds(step));
        let mut pass = Pass::new(Mode::Train, &seeds, &weights, &mut state);
        weights.iter().for_each(|weight| pass.tape.variable(weight));
        P::tensors(&batch).into_iter().for_each(|tensor| pass.tape.constant(tensor));
        let Scores { losses, .. } = problem.losses(&mut pass, &self.tasks, &batch)?;
        // Lanes do not meet, so one backward pass from all losses gives each lane its own gradient.
        let mut gradients = pass.finish()?.backward(&losses)?;
        let gradients = weights.iter().enumerate().map(|(index, weight)| {
            let name = params.layout().tensors()[index].name();
            let Some(gradient) = gradients.take(weight) else {
                candle_core::bail!("no gradient reached {name}: a layer lost it")
            };
            gradient.flatten_all()?.to_vec1()
        });
        let gradients = gradients.collect::<candle_core::Result<_>>()?;
        let state = state.iter().map(|tensor| tensor.flatten_all()?.to_vec1()).collect::<candle_core::Result<_>>()?;
        Ok((losses.to_vec1()?, gradients, state))
    }

    /// What a batch scores. Training batches are scored as training sees them.
    fn score(&self, params: &Params, step: Step) -> candle_core::Result<Vec<Evaluation>> {
        let batch = self.batch(step)?;
        let mode = if step.split == Split::Train { Mode::Train } else { Mode::Evaluate };
        let (weights, mut state, seeds) = (tensors(params)?, self.state_tensors()?, self.step_seeds(step));
        let mut pass = Pass::new(mode, &seeds, &weights, &mut state);
        let Scores { losses, classified } = self.family.problem.losses(&mut pass, &self.tasks, &batch)?;
        let losses: Vec<f32> = losses.to_vec1()?;
        let accuracy = classified.map(|classified| classified.accuracy()).transpose()?;
        let accuracy = |lane: usize| accuracy.as_ref().map(|accuracy| accuracy[lane]);
        Ok(losses.into_iter().enumerate().map(|(lane, loss)| Evaluation { loss, accuracy: accuracy(lane) }).collect())
    }
}

/// Values as tensors `[lanes, shape…]`.
fn tensors(params: &Params) -> candle_core::Result<Vec<Tensor>> {
    let layout = params.layout();
    (0..layout.len())
        .map(|index| {
            let shape = [&[params.lanes()], layout.tensors()[index].shape()].concat();
            Tensor::from_slice(params.tensor(index), shape, &Device::Cpu)
        })
        .collect()
}

fn initial_values<I>(
    parameters: &Parameters,
    tasks: &[(Seed, I)],
    initial: impl Fn(&I, usize) -> super::Initial,
) -> Params {
    let mut params = Params::zeros(parameters.layout(), tasks.len());
    for (index, spec) in parameters.layout().tensors().iter().enumerate() {
        for (lane, (seed, instance)) in tasks.iter().enumerate() {
            initial(instance, index).write(*seed, index, spec.shape(), params.lane_mut(index, lane));
        }
    }
    params
}

impl<P: Problem> TaskLanes for ProblemLanes<'_, P> {
    fn init_params(&mut self) -> Result<Params> {
        let problem = &self.family.problem;
        Ok(initial_values(problem.parameters(), &self.tasks, |instance, index| problem.initial(instance, index)))
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let problem = &self.family.problem;
        self.check("parameters", params, problem.parameters())?;
        let step = Step { split: Split::Train, number: batch, size: problem.batch_size() };
        let (losses, gradients, state) = self.gradients(params, step).map_err(|error| self.family.error(error))?;
        if let Some(old) = &mut self.state {
            *old = Params::from_tensors(old.layout(), old.lanes(), state)?;
        }
        Ok((losses, Params::from_tensors(params.layout(), self.tasks.len(), gradients)?))
    }

    fn evaluate(&mut self, params: &Params, split: Split, batch: u64) -> Result<Vec<Evaluation>> {
        let problem = &self.family.problem;
        self.check("parameters", params, problem.parameters())?;
        let (number, size) = match problem.test_split().filter(|_| split == Split::Test) {
            Some(test) => (test.place(batch), test.size(batch)),
            None => (batch, problem.batch_size()),
        };
        let step = Step { split, number, size };
        self.score(params, step).map_err(|error| self.family.error(error))
    }

    fn state(&self) -> Option<&Params> {
        self.state.as_ref()
    }

    fn restore(&mut self, state: Params) -> Result<()> {
        let Some(parameters) = self.family.problem.state() else {
            return Err(self.family.error("a state for a task that keeps none"));
        };
        self.check("state", &state, parameters)?;
        self.state = Some(state);
        Ok(())
    }
}
