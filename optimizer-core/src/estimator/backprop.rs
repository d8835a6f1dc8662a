//! The exact meta-gradient of a tiny problem, by backpropagation through its whole inner training.
//!
//! ```text
//!  theta ──┬────────┬────────┬───► rule            every step is a node of one graph;
//!          ▼        ▼        ▼                     backward from the meta-loss to theta
//!  x₀ ───► x₁ ────► x₂ ─ … ► x_T ─► meta-loss
//! ```
//!
//! Evolution strategies estimate the gradient of a *smoothed* meta-loss; as sigma goes to 0 their expectation is this.
//! It is a check and not a way to train: memory grows with the horizon, and through long trainings the exact gradient
//! explodes (Metz et al., arXiv 1810.10180), which is why the rest of this crate exists.
//!
//! candle differentiates once, so a problem states its gradient itself, in candle tensors
//! ([`SmoothProblem::gradient`]); everything is f64. The rules here are the smooth twins of
//! [`crate::learned::LearnableSgd`], `LearnableSgdm` and `LearnableAdam`; tests hold them to the optimizers themselves.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::MetaLoss;

/// Longest inner training that is taken apart, in inner steps: candle walks and drops a graph recursively, some ten
/// nodes a step.
pub const LONGEST: u32 = 1000;

/// An inner problem in candle tensors: parameters are one f64 vector `[n]`.
pub trait SmoothProblem {
    /// Initial parameters, `[n]`.
    fn initial(&self) -> Vec<f64>;

    /// Loss at `x` on training batch `batch`, a scalar.
    ///
    /// # Errors
    /// [`candle_core::Error`] if an operation fails.
    fn loss(&self, x: &Tensor, batch: u64) -> Result<Tensor>;

    /// Gradient of that loss, `[n]`, differentiable in `x`.
    ///
    /// # Errors
    /// [`candle_core::Error`] if an operation fails.
    fn gradient(&self, x: &Tensor, batch: u64) -> Result<Tensor>;
}

/// One inner training between two steps.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Parameters, `[n]`.
    pub x: Tensor,
    /// What the rule remembers, each `[n]` and 0 at first.
    pub memory: Vec<Tensor>,
    /// Inner steps done.
    pub step: u32,
    /// Inner steps planned.
    pub horizon: u32,
}

/// A learned optimizer in candle tensors.
pub trait SmoothRule {
    /// Number of vectors, each `[n]`, that the rule remembers.
    fn memories(&self) -> usize;

    /// One update: from a standing and the gradient at its parameters, `[n]`, to the next parameters, `[n]`, and
    /// memories, [`SmoothRule::memories`] of `[n]`. `theta` is one vector.
    ///
    /// # Errors
    /// [`candle_core::Error`] if an operation fails.
    fn update(&self, theta: &Tensor, standing: &Standing, gradient: &Tensor) -> Result<(Tensor, Vec<Tensor>)>;
}

/// A meta-loss and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaGradient {
    /// The meta-loss.
    pub loss: f64,
    /// Its derivative by each value of theta, in order; as long as theta.
    pub gradient: Vec<f64>,
    /// Parameters after the last step, `[n]`.
    pub last: Vec<f64>,
}

/// Trains `horizon` inner steps under `theta` and differentiates the meta-loss by it.
///
/// Losses are those of the training batches before the update, as in [`super::LossFrom::TrainingBatch`];
/// [`MetaLoss::LastRecompute`] takes batches `horizon..` at the last parameters.
///
/// # Errors
/// [`candle_core::Error`] if an operation fails, or if `horizon` is 0 or beyond [`LONGEST`].
pub fn meta_gradient(
    rule: &dyn SmoothRule,
    problem: &dyn SmoothProblem,
    theta: &[f64],
    horizon: u32,
    loss: MetaLoss,
) -> Result<MetaGradient> {
    if !(1..=LONGEST).contains(&horizon) {
        candle_core::bail!("backprop: the horizon must lie between 1 and {LONGEST} inner steps, got {horizon}")
    }
    let theta = Var::from_slice(theta, theta.len(), &Device::Cpu)?;
    let initial = problem.initial();
    let x = Tensor::from_vec(initial.clone(), initial.len(), &Device::Cpu)?;
    let memory = vec![x.zeros_like()?; rule.memories()];
    let mut standing = Standing { x, memory, step: 0, horizon };
    let mut losses = Vec::new();
    while standing.step < horizon {
        let batch = u64::from(standing.step);
        losses.push(problem.loss(&standing.x, batch)?);
        let gradient = problem.gradient(&standing.x, batch)?;
        let (x, memory) = rule.update(theta.as_tensor(), &standing, &gradient)?;
        standing = Standing { x, memory, step: standing.step + 1, ..standing };
    }
    let meta_loss = match loss {
        MetaLoss::Average => mean(&losses)?,
        MetaLoss::Min => least(&losses)?,
        MetaLoss::Last => losses[losses.len() - 1].clone(),
        MetaLoss::LastRecompute { batches } => {
            let fresh = u64::from(horizon)..u64::from(horizon) + u64::from(batches);
            mean(&fresh.map(|batch| problem.loss(&standing.x, batch)).collect::<Result<Vec<_>>>()?)?
        }
    };
    let gradients = meta_loss.backward()?;
    let gradient = match gradients.get(theta.as_tensor()) {
        Some(gradient) => gradient.to_vec1()?,
        // The loss of the first step does not depend on theta.
        None => vec![0.0; theta.elem_count()],
    };
    Ok(MetaGradient { loss: meta_loss.to_scalar()?, gradient, last: standing.x.to_vec1()? })
}

fn mean(losses: &[Tensor]) -> Result<Tensor> {
    Tensor::stack(losses, 0)?.mean_all()
}

fn least(losses: &[Tensor]) -> Result<Tensor> {
    let values = losses.iter().map(Tensor::to_scalar::<f64>).collect::<Result<Vec<_>>>()?;
    let first = (0..values.len()).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0);
    Ok(losses[first].clone())
}

/// `e^theta[index]`, a scalar.
fn exponential(theta: &Tensor, index: usize) -> Result<Tensor> {
    theta.get(index)?.exp()
}

/// Twin of [`crate::learned::LearnableSgd`]: theta is `[log_lr]`, a natural logarithm.
#[derive(Clone, Copy, Debug)]
pub struct SmoothSgd;

impl SmoothRule for SmoothSgd {
    fn memories(&self) -> usize {
        0
    }

    fn update(&self, theta: &Tensor, standing: &Standing, gradient: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let step = gradient.broadcast_mul(&exponential(theta, 0)?)?;
        Ok((standing.x.sub(&step)?, Vec::new()))
    }
}

/// Twin of [`crate::learned::LearnableSgdm`]: theta is `[log_lr, one_minus_momentum]`, both natural logarithms.
#[derive(Clone, Copy, Debug)]
pub struct SmoothSgdm;

impl SmoothRule for SmoothSgdm {
    fn memories(&self) -> usize {
        1
    }

    fn update(&self, theta: &Tensor, standing: &Standing, gradient: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let momentum = exponential(theta, 1)?.affine(-1.0, 1.0)?;
        let trace = standing.memory[0].broadcast_mul(&momentum)?.add(gradient)?;
        let step = trace.broadcast_mul(&exponential(theta, 0)?)?;
        Ok((standing.x.sub(&step)?, vec![trace]))
    }
}

/// Twin of [`crate::learned::LearnableAdam`]: theta is `[log_epsilon, log_lr, one_minus_beta1, one_minus_beta2]`, all
/// natural logarithms; `eps_root` is 1e-8.
#[derive(Clone, Copy, Debug)]
pub struct SmoothAdam;

impl SmoothRule for SmoothAdam {
    fn memories(&self) -> usize {
        2
    }

    fn update(&self, theta: &Tensor, standing: &Standing, gradient: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let count = f64::from(standing.step + 1);
        // m ← (1 − taken) m + taken x, and m / (1 − (1 − taken)ⁿ)
        let average = |memory: &Tensor, taken: &Tensor, x: &Tensor| -> Result<(Tensor, Tensor)> {
            let kept = taken.affine(-1.0, 1.0)?;
            let next = memory.broadcast_mul(&kept)?.add(&x.broadcast_mul(taken)?)?;
            let collected = kept.powf(count)?.affine(-1.0, 1.0)?;
            let corrected = next.broadcast_div(&collected)?;
            Ok((next, corrected))
        };
        let (m, first) = average(&standing.memory[0], &exponential(theta, 2)?, gradient)?;
        let (v, second) = average(&standing.memory[1], &exponential(theta, 3)?, &gradient.sqr()?)?;
        let root = second.affine(1.0, 1e-8)?.sqrt()?.broadcast_add(&exponential(theta, 0)?)?;
        let step = first.div(&root)?.broadcast_mul(&exponential(theta, 1)?)?;
        Ok((standing.x.sub(&step)?, vec![m, v]))
    }
}

/// `½ Σ h (x − c)²`: the quadratic every test of an optimizer begins with.
#[derive(Clone, Debug)]
pub struct SmoothQuadratic {
    /// Initial parameters, `[n]`.
    pub initial: Vec<f64>,
    /// Curvatures h, `[n]`.
    pub curvature: Vec<f64>,
    /// Centres c, `[n]`.
    pub centre: Vec<f64>,
}

impl SmoothQuadratic {
    fn offset(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let vector = |values: &[f64]| Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_dtype(DType::F64);
        Ok((vector(&self.curvature)?, x.sub(&vector(&self.centre)?)?))
    }
}

impl SmoothProblem for SmoothQuadratic {
    fn initial(&self) -> Vec<f64> {
        self.initial.clone()
    }

    fn loss(&self, x: &Tensor, _: u64) -> Result<Tensor> {
        let (curvature, offset) = self.offset(x)?;
        offset.sqr()?.mul(&curvature)?.sum_all()?.affine(0.5, 0.0)
    }

    fn gradient(&self, x: &Tensor, _: u64) -> Result<Tensor> {
        let (curvature, offset) = self.offset(x)?;
        offset.mul(&curvature)
    }
}
