//! Problems that are a formula: a surface over a few coordinates, in a frame that each task draws.
//!
//! ```text
//!  task seed ─► centre, rotation, start          z = Qᵀ(x − c)
//!  batch     ─► a tilt n of the plane            loss = f(z) + noise · ⟨n, x⟩
//! ```
//!
//! A tilt is what a noisy gradient looks like when it is the gradient of something: `∇f + noise · n`, with mean 0 over
//! batches. Batches and splits differ by their tilts only; with `noise = 0` they are all the same. Everything is computed
//! in f64, forward and backward by hand.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Result as TensorResult, Tensor};
use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};
use serde::{Deserialize, Serialize};

use super::Family;
use super::settings::{FamilySettings, family, refuse};
use crate::Error;
use crate::cost;
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass, Problem, Scores};
use crate::sample::Panel;

/// Most coordinates: a rotation of as many is drawn by Gram-Schmidt for each task.
const MAX_DIM: usize = 512;

/// Largest normalised loss.
const CEILING: f64 = 10.0;

/// A function of `dim` coordinates, not below 0.
pub(super) trait Surface: fmt::Debug + Send + Sync {
    /// Its value at `z`, and its gradient into `gradient`, which comes filled with zeros.
    fn evaluate(&self, z: &[f64], gradient: &mut [f64]) -> f64;
}

/// Where a surface stands and how noisy it is: settings that all of these families share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Placing {
    pub(super) dim: usize,
    pub(super) rotate: bool,
    pub(super) centre: f64,
    pub(super) start: f64,
    pub(super) noise: f64,
}

impl Placing {
    /// The family of this surface.
    pub(super) fn family<S: FamilySettings>(self, surface: impl Surface + 'static) -> Result<Arc<dyn Family>, Error> {
        if !(2..=MAX_DIM).contains(&self.dim) {
            return Err(refuse::<S>(format!("dim must be 2 to {MAX_DIM} (got {})", self.dim)));
        }
        for (setting, value) in [("centre", self.centre), ("start", self.start), ("noise", self.noise)] {
            if !(0.0..=100.0).contains(&value) {
                return Err(refuse::<S>(format!("{setting} must be 0 to 100 (got {value})")));
            }
        }
        let mut parameters = ParametersBuilder::default();
        parameters.tensor("x", [self.dim], Initial::ZEROS);
        family::<S>(
            "dim",
            SurfaceProblem { name: S::NAME, surface: Arc::new(surface), placing: self, parameters: parameters.build() },
        )
    }
}

struct SurfaceProblem<S> {
    name: &'static str,
    surface: Arc<S>,
    placing: Placing,
    /// `x` \[dim\]; its initial values are the task's.
    parameters: Parameters,
}

/// The frame of one task.
#[derive(Debug)]
struct Frame {
    centre: Vec<f64>,
    /// Orthonormal, row by row; `None` is the identity.
    rotation: Option<Vec<f64>>,
    start: Vec<f32>,
}

impl Frame {
    fn draw(placing: &Placing, task: Seed) -> Self {
        let dim = placing.dim;
        let mut draws = Draws::new(task.purpose(Purpose::Instance));
        let centre: Vec<f64> = (0..dim).map(|_| placing.centre * f64::from(draws.normal())).collect();
        let rotation = placing.rotate.then(|| {
            let mut values = vec![0.0; dim * dim];
            Initial::Orthogonal { gain: 1.0 }.write(task.purpose(Purpose::Instance), 0, &[dim, dim], &mut values);
            values.into_iter().map(f64::from).collect()
        });
        let mut draws = Draws::new(task.purpose(Purpose::Init));
        let start = centre.iter().map(|c| (c + placing.start * f64::from(draws.normal())) as f32).collect();
        Self { centre, rotation, start }
    }

    /// `z = Qᵀ(x − c)`.
    fn inwards(&self, x: &[f32]) -> Vec<f64> {
        let offset: Vec<f64> = x.iter().zip(&self.centre).map(|(x, c)| f64::from(*x) - c).collect();
        let Some(rotation) = &self.rotation else { return offset };
        let mut z = vec![0.0; x.len()];
        for (row, offset) in rotation.chunks_exact(x.len()).zip(offset) {
            z.iter_mut().zip(row).for_each(|(z, q)| *z += q * offset);
        }
        z
    }

    /// `Q g`.
    fn outwards(&self, gradient: Vec<f64>) -> Vec<f64> {
        let Some(rotation) = &self.rotation else { return gradient };
        let rows = rotation.chunks_exact(gradient.len());
        rows.map(|row| row.iter().zip(&gradient).map(|(q, g)| q * g).sum()).collect()
    }
}

impl<S: Surface> SurfaceProblem<S> {
    /// Value and gradient of one task at `x` under the tilt `tilt`.
    fn at(&self, frame: &Frame, x: &[f32], tilt: &[f64]) -> (f64, Vec<f64>) {
        let z = frame.inwards(x);
        let mut gradient = vec![0.0; z.len()];
        let value = self.surface.evaluate(&z, &mut gradient);
        let mut gradient = frame.outwards(gradient);
        gradient.iter_mut().zip(tilt).for_each(|(g, n)| *g += n);
        let tilted: f64 = x.iter().zip(tilt).map(|(x, n)| f64::from(*x) * n).sum();
        (value + tilted, gradient)
    }
}

impl<S: Surface> fmt::Debug for SurfaceProblem<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Placing { dim, rotate, centre, start, noise } = self.placing;
        let rotated = if rotate { ", rotated" } else { "" };
        write!(f, "{:?} of {dim} coordinates{rotated}, centre {centre}, start {start}, ", self.surface)?;
        write!(f, "data procedural: tilts of deviation {noise}")
    }
}

impl<S: Surface + 'static> Problem for SurfaceProblem<S> {
    type Instance = Arc<Frame>;
    /// A tilt a task, `[tasks, dim]`, f64.
    type Batch = Tensor;

    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn instance(&self, seed: Seed) -> Arc<Frame> {
        Arc::new(Frame::draw(&self.placing, seed))
    }

    fn initial(&self, frame: &Arc<Frame>, _: usize) -> Initial {
        Initial::Values(frame.start.clone())
    }

    fn batch_size(&self) -> usize {
        1
    }

    fn batch(&self, tasks: &[(Seed, Arc<Frame>)], split: Split, number: u64, _: usize) -> TensorResult<Tensor> {
        let dim = self.placing.dim;
        let (mut tilts, mut normals) = (Vec::with_capacity(tasks.len() * dim), vec![0.0; dim]);
        for (seed, _) in tasks {
            noise::normals(seed.purpose(Purpose::Batch).fold_in(split as u64).fold_in(number), 0, &mut normals);
            tilts.extend(normals.iter().map(|&normal| self.placing.noise * f64::from(normal)));
        }
        Tensor::from_vec(tilts, (tasks.len(), dim), &Device::Cpu)
    }

    fn tensors(batch: &Tensor) -> Vec<&Tensor> {
        vec![batch]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Arc<Frame>)], batch: &Tensor) -> TensorResult<Scores> {
        let (weight, dim) = (pass.weight()?, self.placing.dim);
        let x: Vec<f32> = weight.flatten_all()?.to_vec1()?;
        let tilts: Vec<f64> = batch.flatten_all()?.to_vec1()?;
        let (mut losses, mut gradients) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(x.len()));
        for (lane, ((_, frame), x)) in tasks.iter().zip(x.chunks_exact(dim)).enumerate() {
            let first = if tilts.len() == dim { 0 } else { lane * dim };
            let (loss, gradient) = self.at(frame, x, &tilts[first..first + dim]);
            losses.push(loss as f32);
            gradients.extend(gradient);
        }
        let products = if self.placing.rotate { 4.0 * (dim * dim) as f64 } else { 0.0 };
        cost::spend(tasks.len() as f64 * (products + 20.0 * dim as f64));
        // The gradients are kept as they are until the way back.
        let kept = (8 * gradients.len()) as f64;
        if pass.tape.tracks(weight) {
            cost::hold(kept);
        }
        let losses = Tensor::from_vec(losses, tasks.len(), &Device::Cpu)?;
        let losses = pass.tape.record("surface", &[weight], losses, move |grad, _| {
            let grad: Vec<f32> = grad.to_vec1()?;
            let of_lane = |(gradient, grad): (&[f64], f32)| -> Vec<f32> {
                gradient.iter().map(|g| (g * f64::from(grad)) as f32).collect()
            };
            let values: Vec<f32> = gradients.chunks_exact(dim).zip(grad.iter().copied()).flat_map(of_lane).collect();
            cost::hold(-kept);
            Ok(vec![Some(Tensor::from_vec(values, (grad.len(), dim), &Device::Cpu)?)])
        });
        Ok(Scores { losses, classified: None })
    }

    /// `clip(sign(l) ln(1 + |l|), ±10)`: the loss itself near 0, and its logarithm where it is large, for a surface has no
    /// loss of knowing nothing to compare with. Not a number is the ceiling, 10.
    fn normalise(&self, loss: f64) -> f64 {
        if loss.is_finite() { loss.signum() * loss.abs().ln_1p().min(CEILING) } else { CEILING }
    }

    /// The surface over the first two coordinates, through the centre, and along the line from start to centre.
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        const SIDE: usize = 48;
        const REACH: f64 = 2.0;
        let (frame, dim) = (Frame::draw(&self.placing, seed), self.placing.dim);
        let flat = vec![0.0; dim];
        let value = |x: &[f32]| self.at(&frame, x, &flat).0;
        let mut plane = Vec::with_capacity(SIDE * SIDE);
        for row in 0..SIDE {
            for column in 0..SIDE {
                let place = |index: usize| REACH * (2.0 * index as f64 / (SIDE - 1) as f64 - 1.0);
                let mut x: Vec<f32> = frame.centre.iter().map(|&c| c as f32).collect();
                x[0] += place(column) as f32;
                x[1] -= place(row) as f32;
                plane.push(value(&x).abs().ln_1p() as f32);
            }
        }
        let line = |step: usize| {
            let share = step as f64 / 100.0;
            let x: Vec<f32> = frame
                .start
                .iter()
                .zip(&frame.centre)
                .map(|(&s, c)| (f64::from(s) * (1.0 - share) + c * share) as f32)
                .collect();
            value(&x) as f32
        };
        vec![
            Panel::scaled(format!("ln(1 + loss), x0 and x1 within {REACH} of the centre"), SIDE, SIDE, &plane),
            Panel::Curves {
                title: "loss from start to centre".into(),
                axis: "percent of the way".into(),
                lines: vec![("loss".into(), (0..=100).map(line).collect())],
            },
        ]
    }
}

/// Checks the gradient of a surface against central differences.
#[cfg(test)]
pub(super) fn check_gradient(surface: &impl Surface, dim: usize) {
    let mut draws = Draws::new(Seed::new(3));
    for _ in 0..20 {
        let z: Vec<f64> = (0..dim).map(|_| f64::from(draws.normal())).collect();
        let mut gradient = vec![0.0; dim];
        let value = surface.evaluate(&z, &mut gradient);
        assert!(value >= -1e-12, "{surface:?} at {z:?}: {value}");
        for index in 0..dim {
            let at = |step: f64| {
                let mut moved = z.clone();
                moved[index] += step;
                surface.evaluate(&moved, &mut vec![0.0; dim])
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            let got = gradient[index];
            assert!((got - slope).abs() < 1e-7 * (1.0 + slope.abs()), "{surface:?} {index}: {got} is not {slope}");
        }
    }
}
