//! Gradients by evolution strategies: the task as one that cannot be differentiated.
//!
//! ```text
//!  w + sigma εₖ ─► l+ₖ ┐
//!                      ├─► g = mean over k of εₖ (l+ₖ − l−ₖ) / (2 sigma)        ε: standard normal, by task and batch
//!  w − sigma εₖ ─► l−ₖ ┘
//! ```
//!
//! `ESTask` of the reference (`tasks/es_wrapper.py`), all losses on the same training batch. The loss that is reported is
//! that of the unperturbed weights.

use std::fmt;

use paceline_optimizer_core::task::{Cost, Evaluation, Split, TaskLanes};
use paceline_optimizer_core::{Params, Result, Seed, noise};

use super::change::{Change, step_seed};
use super::gradient::NORMAL;

/// Gradients by antithetic pairs.
#[derive(Clone, Copy)]
pub(super) struct Es {
    /// Deviation of the perturbations.
    pub(super) sigma: f64,
    /// Antithetic pairs a step.
    pub(super) pairs: u32,
    /// Place in the list.
    pub(super) place: u64,
}

impl fmt::Debug for Es {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradients by evolution strategies (sigma {}, {} pairs)", self.sigma, self.pairs)
    }
}

impl Change for Es {
    /// The forward pass is taken as a third of a step: a backward pass makes two products for each one of it. A
    /// task that keeps a state trains one step more, which is not counted.
    fn cost(&self, inner: Cost, parameters: usize) -> Cost {
        let (evaluations, parameters) = (f64::from(2 * self.pairs + 1), parameters as f64);
        let own = f64::from(self.pairs) * (NORMAL + 6.0) * parameters;
        Cost { flop: evaluations * inner.flop / 3.0 + own, bytes: inner.bytes + 16.0 * parameters }
    }

    fn apply<'a>(&self, inner: Box<dyn TaskLanes + 'a>, seeds: &[Seed]) -> Result<Box<dyn TaskLanes + 'a>> {
        Ok(Box::new(EsLanes { inner, seeds: seeds.to_vec(), es: *self }))
    }
}

struct EsLanes<'a> {
    inner: Box<dyn TaskLanes + 'a>,
    seeds: Vec<Seed>,
    es: Es,
}

impl EsLanes<'_> {
    /// `ε` of pair `pair` for each lane, tensor by tensor.
    fn perturbation(&self, like: &Params, batch: u64, pair: u32) -> Params {
        let mut epsilon = Params::zeros(like.layout(), like.lanes());
        for (lane, &seed) in self.seeds.iter().enumerate() {
            let seed = step_seed(seed, self.es.place, batch).fold_in(u64::from(pair));
            for index in 0..like.layout().len() {
                noise::normals(seed, like.layout().offset(index) as u64, epsilon.lane_mut(index, lane));
            }
        }
        epsilon
    }

    /// Losses at `params + sigma · epsilon`.
    fn losses(&mut self, params: &Params, epsilon: &Params, sigma: f64, batch: u64) -> Result<Vec<f32>> {
        let mut moved = params.clone();
        for index in 0..params.layout().len() {
            let values = moved.tensor_mut(index).iter_mut().zip(epsilon.tensor(index));
            values.for_each(|(value, &e)| *value = (f64::from(*value) + sigma * f64::from(e)) as f32);
        }
        self.train_losses(&moved, batch)
    }

    fn train_losses(&mut self, params: &Params, batch: u64) -> Result<Vec<f32>> {
        Ok(self.inner.evaluate(params, Split::Train, batch)?.iter().map(|score| score.loss).collect())
    }
}

impl TaskLanes for EsLanes<'_> {
    fn init_params(&mut self) -> Result<Params> {
        self.inner.init_params()
    }

    fn loss_and_grads(&mut self, params: &Params, batch: u64) -> Result<(Vec<f32>, Params)> {
        let Es { sigma, pairs, .. } = self.es;
        // Checked by the inner task before anything is perturbed, which trusts the number of lanes.
        let losses = self.train_losses(params, batch)?;
        let mut sums: Vec<Vec<f64>> =
            (0..params.layout().len()).map(|index| vec![0.0; params.tensor(index).len()]).collect();
        for pair in 0..pairs {
            let epsilon = self.perturbation(params, batch, pair);
            let plus = self.losses(params, &epsilon, sigma, batch)?;
            let minus = self.losses(params, &epsilon, -sigma, batch)?;
            for lane in 0..params.lanes() {
                let slope = (f64::from(plus[lane]) - f64::from(minus[lane])) / (2.0 * sigma * f64::from(pairs));
                for (index, sum) in sums.iter_mut().enumerate() {
                    let epsilon = epsilon.lane(index, lane);
                    let sum = &mut sum[lane * epsilon.len()..(lane + 1) * epsilon.len()];
                    sum.iter_mut().zip(epsilon).for_each(|(sum, &e)| *sum += slope * f64::from(e));
                }
            }
        }
        if self.inner.state().is_some() {
            // Running statistics move in training steps only.
            self.inner.loss_and_grads(params, batch)?;
        }
        let grads = sums.into_iter().map(|sum| sum.into_iter().map(|value| value as f32).collect()).collect();
        Ok((losses, Params::from_tensors(params.layout(), params.lanes(), grads)?))
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
