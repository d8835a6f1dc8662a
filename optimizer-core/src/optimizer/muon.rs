//! Muon (Keller Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose matrices are pulled
//! towards orthogonal ones before they are applied; AdamW for everything that is no matrix.
//!
//! ```text
//!  m ← β m + (1−β) g      u = β m + (1−β) g (Nesterov) or m      p ← p − lr · ( scale · NS(u) + wd · p )
//!
//!  linear [in, out]:  in rows, out columns        kernel [height, width, in, out]
//!                                                   flatten:    one (height·width·in) × out matrix
//!                                                   positions:  height·width matrices in × out
//! ```
//!
//! Shapes are those of the JAX reference, so a matrix here is the transpose of PyTorch's, and so is its orthogonal factor;
//! only the scale tells rows from columns. A tensor of rank ≥ 2 whose name contains one of `adam_names` (an embedding,
//! say, whose rows are looked up one by one) goes to AdamW too.

use serde::{Deserialize, Serialize};

use super::adam::AdamRule;
use super::decay::Decay;
use super::moments;
use super::newton_schulz::{Guard, NewtonSchulz};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// Muon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Step size of matrices, in units of spectral norm; 0.02.
    pub learning_rate: Schedule,
    /// Decay β of the momentum; 0.95.
    pub momentum: f64,
    /// Whether the newest gradient counts twice; true.
    pub nesterov: bool,
    /// Whether averages are divided by what they have collected, as in optax and ELO: `m` by `1 − βⁿ⁺¹` and `g` by
    /// `1 − βⁿ` with Nesterov, else `m` by `1 − βⁿ`; false.
    pub bias_correction: bool,
    /// Decay of matrices a step, times the learning rate; 0.
    pub weight_decay: f64,
    /// Newton–Schulz iterations; 5.
    pub iterations: u32,
    /// What keeps the norm of a zero matrix from being divided by; 1e-7.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// How it does; added.
    pub guard: NormGuard,
    /// Factor by the shape of a matrix; by width.
    pub scale: MuonScale,
    /// What the matrices of a kernel are; flattened.
    pub kernels: MuonKernels,
    /// Tensors of rank ≥ 2 whose name contains one of these are AdamW's; `embed`.
    pub adam_names: Vec<String>,
    /// AdamW's step size; 3e-4.
    pub adam_learning_rate: Schedule,
    /// AdamW's decay of the first moment; 0.9.
    pub adam_beta1: f64,
    /// AdamW's decay of the second moment; 0.95.
    pub adam_beta2: f64,
    /// AdamW's addition to the root; 1e-10.
    pub adam_epsilon: f64,
    /// AdamW's decay of parameters, times its learning rate; 0.
    pub adam_weight_decay: f64,
}

/// How `epsilon` guards the norm of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormGuard {
    /// `‖X‖ + epsilon`.
    #[default]
    Add,
    /// `max(‖X‖, epsilon)`.
    Max,
}

/// The factor of an orthogonalised step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonScale {
    /// `√max(1, out/in)`: the same spectral change at every width.
    #[default]
    Width,
    /// `0.2 · √max(in, out)`: steps as large as AdamW's (arXiv 2502.16982).
    Rms,
    /// 1.
    One,
}

/// What the matrices of a tensor of rank ≥ 3 are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonKernels {
    /// One matrix: all axes but the last are rows.
    #[default]
    Flatten,
    /// One matrix a position: the last two axes, over all others.
    Positions,
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            learning_rate: 0.02.into(),
            momentum: 0.95,
            nesterov: true,
            bias_correction: false,
            weight_decay: 0.0,
            iterations: 5,
            epsilon: 1e-7,
            guard: NormGuard::default(),
            scale: MuonScale::default(),
            kernels: MuonKernels::default(),
            adam_names: vec!["embed".into()],
            adam_learning_rate: 3e-4.into(),
            adam_beta1: 0.9,
            adam_beta2: 0.95,
            adam_epsilon: 1e-10,
            adam_weight_decay: 0.0,
        }
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    learning_rate: f32,
    momentum: Decay,
    /// Divisors of `m` and of `g`.
    collected: [f32; 2],
    count: u32,
    adam: AdamRule,
}

impl Muon {
    /// Rows (inputs) and columns (outputs) of a tensor's matrices, `None` if it is AdamW's.
    fn matrices(&self, tensor: &TensorSpec) -> Option<(usize, usize)> {
        let (&columns, rest) = tensor.shape().split_last().filter(|(_, rest)| !rest.is_empty())?;
        if self.adam_names.iter().any(|part| tensor.name().contains(part)) {
            return None;
        }
        let rows = match self.kernels {
            MuonKernels::Flatten => rest.iter().product(),
            MuonKernels::Positions => rest[rest.len() - 1],
        };
        Some((rows, columns))
    }

    fn scale(&self, rows: usize, columns: usize) -> f32 {
        let scale = match self.scale {
            MuonScale::Width => (columns as f64 / rows as f64).max(1.0).sqrt(),
            MuonScale::Rms => 0.2 * (rows.max(columns) as f64).sqrt(),
            MuonScale::One => 1.0,
        };
        scale as f32
    }

    fn newton_schulz(&self) -> NewtonSchulz {
        let eps = self.epsilon as f32;
        let guard = match self.guard {
            NormGuard::Add => Guard::Add(eps),
            NormGuard::Max => Guard::AtLeast(eps),
        };
        NewtonSchulz { iterations: self.iterations, guard }
    }
}

impl Rule for Muon {
    type Numbers = Numbers;

    fn name(&self) -> &'static str {
        "muon"
    }

    /// There are two, of matrices and of the rest.
    fn schedule(&mut self) -> Option<&mut Schedule> {
        None
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        settings::decay("momentum", self.momentum)?;
        settings::non_negative("weight_decay", self.weight_decay)?;
        let few = self.iterations <= 100;
        settings::require("iterations", self.iterations.into(), few, "must be at most 100")?;
        settings::positive("epsilon", self.epsilon)?;
        self.adam_learning_rate.validate("adam_learning_rate")?;
        settings::decay("adam_beta1", self.adam_beta1)?;
        settings::decay("adam_beta2", self.adam_beta2)?;
        settings::non_negative("adam_epsilon", self.adam_epsilon)?;
        settings::non_negative("adam_weight_decay", self.adam_weight_decay)
    }

    /// `m`, and `v` for what is AdamW's.
    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        match self.matrices(tensor) {
            Some(_) => vec![Buffer::like(tensor, "m")],
            None => moments::buffers(tensor, 0.0),
        }
    }

    fn numbers(&self, now: Moment) -> Numbers {
        let count = now.count();
        let momentum = Decay::literal(self.momentum);
        let collected = match (self.bias_correction, self.nesterov) {
            (false, _) => [1.0; 2],
            (true, true) => [momentum.collected(count.saturating_add(1)), momentum.collected(count)],
            (true, false) => [momentum.collected(count), 1.0],
        };
        let adam = AdamRule {
            learning_rate: now.of(&self.adam_learning_rate),
            beta1: Decay::literal(self.adam_beta1),
            beta2: Decay::literal(self.adam_beta2),
            eps: self.adam_epsilon as f32,
            eps_root: 0.0,
            weight_decay: self.adam_weight_decay as f32,
        };
        Numbers { learning_rate: now.of(&self.learning_rate), momentum, collected, count, adam }
    }

    fn update(&self, numbers: &Numbers, tensor: &TensorSpec, p: &mut [f32], g: &[f32], buffers: &mut [&mut [f32]]) {
        let Numbers { learning_rate, momentum, collected: [of_m, of_g], count, ref adam } = *numbers;
        match (self.matrices(tensor), buffers) {
            (Some((rows, columns)), [m]) => {
                let direction = m.iter_mut().zip(g).map(|(m, &g)| {
                    *m = momentum.mix(*m, g);
                    if self.nesterov { momentum.mix(*m / of_m, g / of_g) } else { *m / of_m }
                });
                let mut direction: Vec<f32> = direction.collect();
                self.newton_schulz().apply(&mut direction, rows, columns);
                let (scale, decay) = (self.scale(rows, columns), self.weight_decay as f32);
                for (p, direction) in p.iter_mut().zip(direction) {
                    *p -= learning_rate * (scale * direction + decay * *p);
                }
            }
            (None, [m, v]) => adam.update_tensor(count, p, g, m, v),
            _ => unreachable!("one buffer of a matrix, two of any other tensor"),
        }
    }
}
