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
//! Shapes are those of the JAX reference, so a matrix here is the transpose of PyTorch's, and so is its orthogonal
//! factor; only the scale tells rows from columns. A tensor of rank ≥ 2 whose name contains one of `adam_names` (an
//! embedding, say, whose rows are looked up one by one) goes to AdamW too.

use serde::{Deserialize, Serialize};

use super::adam::AdamRule;
use super::decay::Decay;
use super::moments;
use super::newton_schulz::{COEFFICIENTS, Guard, NewtonSchulz};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// Muon (Keller Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose matrices are pulled
/// towards orthogonal ones by a Newton–Schulz iteration; AdamW for everything that is no matrix.
///
/// ```text
///  m ← β m + (1−β) g      u = β m + (1−β) g (Nesterov) or m      p ← p − lr · ( scale · NS(u) + wd · p )
/// ```
///
/// A linear weight `[in, out]` is one matrix of `in` rows; what those of a convolution are, [`MuonKernels`] says.
/// Slots: `m/NAME` of a matrix, `m/NAME` and `v/NAME` of all others, as the tensor.
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
    /// `√max(1, out/in)` of an `[in, out]` matrix: the same spectral change at every width.
    #[default]
    Width,
    /// `0.2 · √max(in, out)`: steps as large as AdamW's (Moonlight, Liu et al., arXiv 2502.16982).
    Rms,
    /// 1: none.
    One,
}

/// What the matrices of a tensor of rank ≥ 3 are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonKernels {
    /// One matrix: all axes but the last are rows, `height · width · in` of them in a convolution.
    #[default]
    Flatten,
    /// One matrix a position: the last two axes, over all others; `height · width` matrices `[in, out]` in a
    /// convolution.
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
        NewtonSchulz { coefficients: COEFFICIENTS, iterations: self.iterations, guard }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::rule::Tensorwise;
    use crate::optimizer::{OptState, Optimizer};
    use crate::{Layout, Params};

    /// One step of rate 1 from zero: the negative direction of the only tensor.
    fn step(muon: Muon, tensor: TensorSpec, g: &[f32]) -> (Vec<f32>, OptState) {
        let optimizer = Tensorwise::new(Muon { learning_rate: 1.0.into(), ..muon }).unwrap();
        let layout = Layout::new(vec![tensor]).unwrap();
        let state = optimizer.init(Params::zeros(&layout, 1), &[9]).unwrap();
        let grads = Params::from_tensors(&layout, 1, vec![g.to_vec()]).unwrap();
        let state = optimizer.update(state, &grads, &[1.0]).unwrap();
        (state.params.tensor(0).iter().map(|p| -p).collect(), state)
    }

    /// What Newton–Schulz makes of singular values relative to the norm.
    fn singular(mut s: f64) -> f64 {
        for _ in 0..5 {
            s = 3.4445 * s - 4.7750 * s.powi(3) + 2.0315 * s.powi(5);
        }
        s
    }

    #[test]
    fn a_diagonal_matrix_by_hand() {
        let g = [3.0, 0.0, 0.0, 0.0, 4.0, 0.0];
        let expected = [singular(0.6), 0.0, 0.0, 0.0, singular(0.8), 0.0];
        for (scale, factor) in
            [(MuonScale::One, 1.0), (MuonScale::Width, 1.5_f64.sqrt()), (MuonScale::Rms, 0.2 * 3.0_f64.sqrt())]
        {
            let (got, state) = step(Muon { scale, ..Muon::default() }, TensorSpec::new("w", [2, 3]), &g);
            for (got, expected) in got.iter().zip(expected) {
                assert!((f64::from(*got) - factor * expected).abs() < 2e-6, "{scale:?}: {got} for {expected}");
            }
            assert_eq!(state.slots.len(), 1);
            assert!((state.slots[0].values[0] - 0.15).abs() < 1e-7, "(1 − 0.95) of the gradient");
        }
        // A tall matrix has more inputs than outputs, and its steps are not enlarged.
        let (got, _) = step(Muon::default(), TensorSpec::new("w", [3, 2]), &[3.0, 0.0, 0.0, 4.0, 0.0, 0.0]);
        assert!((f64::from(got[0]) - singular(0.6)).abs() < 2e-6);
    }

    #[test]
    fn momentum_without_and_with_nesterov_and_correction() {
        // On a 1×1 matrix only the sign is left, so look at a diagonal one whose second entry has another history.
        let direction = |muon: Muon| {
            let optimizer = Tensorwise::new(Muon { learning_rate: 1.0.into(), momentum: 0.5, ..muon }).unwrap();
            let layout = Layout::new(vec![TensorSpec::new("w", [2, 2])]).unwrap();
            let mut state = optimizer.init(Params::zeros(&layout, 1), &[9]).unwrap();
            let mut before = vec![];
            for diagonal in [[1.0, 0.0], [0.0, 1.0]] {
                before = state.params.tensor(0).to_vec();
                let g = vec![diagonal[0], 0.0, 0.0, diagonal[1]];
                let grads = Params::from_tensors(&layout, 1, vec![g]).unwrap();
                state = optimizer.update(state, &grads, &[1.0]).unwrap();
            }
            [0, 3].map(|at| f64::from(before[at] - state.params.tensor(0)[at]))
        };
        // m = (1/4, 1/2) after two steps of decay 1/2.
        let plain = Muon { nesterov: false, ..Muon::default() };
        for (muon, u) in [
            (plain, [0.25, 0.5]),
            (Muon::default(), [0.125, 0.25 + 0.5]),
            (Muon { bias_correction: true, ..Muon::default() }, [0.125 / 0.875, 0.25 / 0.875 + 0.5 / 0.75]),
        ] {
            let norm = f64::hypot(u[0], u[1]);
            let got = direction(muon);
            for (got, u) in got.into_iter().zip(u) {
                assert!((got - singular(u / norm)).abs() < 5e-6, "{got} for {u}");
            }
        }
    }

    #[test]
    fn kernels_are_one_matrix_or_one_a_position() {
        let mut g = vec![0.0; 2 * 2 * 2];
        g[0] = 1.0; // position 0: input 0 to output 0
        g[4] = 1.0; // position 1: the same
        let kernel = || TensorSpec::new("conv", [2, 1, 2, 2]);
        let scale = MuonScale::One;
        let (flat, _) = step(Muon { scale, ..Muon::default() }, kernel(), &g);
        assert!((f64::from(flat[0]) - singular(1.0) / 2_f64.sqrt()).abs() < 2e-6, "one column of norm √2");
        let (each, _) = step(Muon { scale, kernels: MuonKernels::Positions, ..Muon::default() }, kernel(), &g);
        assert!((f64::from(each[0]) - singular(1.0)).abs() < 2e-6, "two matrices of norm 1");
        assert_eq!(each[0], each[4]);
    }

    #[test]
    fn vectors_scalars_and_embeddings_are_adam_s() {
        for (name, shape) in [("b", vec![2]), ("s", vec![]), ("token_embed/w", vec![2, 1])] {
            let size: usize = shape.iter().product();
            let muon = Muon { adam_learning_rate: 0.5.into(), ..Muon::default() };
            let (got, state) = step(muon, TensorSpec::new(name, shape), &vec![3.0; size]);
            assert!(got.iter().all(|step| (step - 0.5).abs() < 1e-6), "Adam's first step is the rate: {got:?}");
            assert_eq!(state.slots.len(), 2);
        }
        let everything = Muon { adam_names: vec![], ..Muon::default() };
        assert_eq!(step(everything, TensorSpec::new("embed", [2, 1]), &[1.0, 1.0]).1.slots.len(), 1);
    }

    #[test]
    fn decay_is_of_the_old_parameters() {
        let muon = Muon { weight_decay: 0.25, learning_rate: 0.5.into(), ..Muon::default() };
        let optimizer = Tensorwise::new(muon).unwrap();
        let layout = Layout::new(vec![TensorSpec::new("w", [1, 1])]).unwrap();
        let params = Params::from_tensors(&layout, 1, vec![vec![8.0]]).unwrap();
        let state = optimizer.init(params, &[9]).unwrap();
        let state = optimizer.update(state, &Params::zeros(&layout, 1), &[1.0]).unwrap();
        assert_eq!(state.params.tensor(0), [7.0], "a zero gradient leaves the decay alone");
    }
}
