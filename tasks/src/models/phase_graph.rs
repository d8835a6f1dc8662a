//! A graph layer over the coefficients of an audio feature, weighted by how far their phases are apart.
//!
//! ```text
//!  features [lanes | 1, batch, 13, T] ──────────────────────────┐
//!  phases   [1, batch, 13, T] ─► |differences|, mean over time ─┴─► D^-½ (A + I) D^-½ · X W + b ─► [lanes, batch, 13, T]
//! ```
//!
//! Experiment 3 of the complex audio study (shared spec, complex-and-audio.md §6.3), with the controls its paper lacks.
//! Nodes are coefficients, a node's features its values over time, all pairs are edges, weights are plain numbers: no
//! gradient reaches the phases. Nothing follows the layer but the network behind it.
//!
//! | weights | of | what it shows |
//! |---|---|---|
//! | `batch_mean` | phases, averaged over the batch first | the paper; what an example gives depends on its batch, also in a test |
//! | `per_sample` | phases of each example | the same without that defect |
//! | `ones` | nothing | the paper's baseline; it collapses: all rows of the output are their mean |
//! | `random` | a seed, with mean and deviation told | whether any weights that differ do |
//! | `magnitude_difference` | features, averaged over the batch first | whether phases are needed |

use candle_core::{Device, Result, Tensor, bail};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::noise::Draws;
use serde::{Deserialize, Serialize};

use crate::layers::graph::{PhaseGraph as Compared, dense_gcn, dense_normalise, phase_distances};
use crate::layers::{Activation, Tape};
use crate::problem::{Initial, ParametersBuilder, Pass};

/// Where the weights of the edges come from; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EdgeWeights {
    /// Distances of the batch's mean phases.
    #[default]
    BatchMean,
    /// Distances of each example's phases.
    PerSample,
    /// 1.
    Ones,
    /// Drawn once for all batches.
    Random,
    /// Distances of the batch's mean features.
    MagnitudeDifference,
}

/// Mean and standard deviation of the weights of a graph's edges, which are not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WeightMoments {
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

/// The layer.
#[derive(Debug)]
pub(crate) struct PhaseGraph {
    nodes: usize,
    times: usize,
    weights: EdgeWeights,
    /// Weights that are the same in every batch, normalised, `[1, 1, nodes, nodes]`.
    fixed: Option<Tensor>,
}

impl PhaseGraph {
    /// Of `nodes` coefficients over `times` frames. [`EdgeWeights::Random`] draws weights of exactly the moments given,
    /// best those that phases have on the training set; the others ignore moments and seed.
    ///
    /// # Errors
    /// If random weights cannot have these moments and be positive, or there are no two nodes.
    pub(crate) fn new(
        [nodes, times]: [usize; 2],
        weights: EdgeWeights,
        moments: WeightMoments,
        seed: Seed,
    ) -> Result<Self> {
        if nodes < 2 || times == 0 {
            bail!("phase graph: needs two nodes and one frame, got {nodes} and {times}");
        }
        let edges = match weights {
            EdgeWeights::Ones => Some(vec![1.0; nodes * (nodes - 1) / 2]),
            EdgeWeights::Random => Some(random_weights(nodes * (nodes - 1) / 2, moments, seed)?),
            EdgeWeights::BatchMean | EdgeWeights::PerSample | EdgeWeights::MagnitudeDifference => None,
        };
        let normalised = |edges: Vec<f64>| dense_normalise(&mut Tape::default(), &symmetric(nodes, &edges)?);
        Ok(Self { nodes, times, weights, fixed: edges.map(normalised).transpose()? })
    }

    /// Lists `<name>/w`, uniform as Glorot and Bengio's (2010), and `<name>/b` of zeros.
    pub(crate) fn list(&self, name: &str, parameters: &mut ParametersBuilder) {
        let limit = (3.0 / self.times as f32).sqrt();
        parameters.tensor(format!("{name}/w"), [self.times, self.times], Initial::Uniform { limit });
        parameters.tensor(format!("{name}/b"), [self.times], Initial::ZEROS);
    }

    /// `[lanes, batch, nodes, times]` of `features` `[lanes | 1, batch, nodes, times]` and `phases` of the same shape, both
    /// data.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub(crate) fn apply(&self, pass: &mut Pass<'_>, features: &Tensor, phases: &Tensor) -> Result<Tensor> {
        let expected = [self.nodes, self.times];
        if features.dims() != phases.dims() || features.rank() != 4 || features.dims()[2..] != expected {
            let (features, phases) = (features.shape(), phases.shape());
            bail!("phase graph: features {features:?} and phases {phases:?} are not [lanes, batch, {expected:?}]");
        }
        let (weight, bias) = (pass.weight()?, pass.weight()?);
        let normalised = match &self.fixed {
            Some(fixed) => fixed.clone(),
            None => {
                let (of, compared) = match self.weights {
                    EdgeWeights::PerSample => (phases, Compared::PerSample),
                    EdgeWeights::MagnitudeDifference => (features, Compared::BatchMean),
                    EdgeWeights::BatchMean | EdgeWeights::Ones | EdgeWeights::Random => (phases, Compared::BatchMean),
                };
                // Plain numbers: a tape of their own keeps gradients out.
                let tape = &mut Tape::default();
                let distances = phase_distances(tape, of, compared)?;
                dense_normalise(tape, &distances)?
            }
        };
        dense_gcn(&mut pass.tape, features, &normalised, (weight, bias), Activation::Identity)
    }
}

/// The symmetric matrix `[1, 1, nodes, nodes]` of these weights of pairs, 0 on the diagonal.
fn symmetric(nodes: usize, pairs: &[f64]) -> Result<Tensor> {
    let mut matrix = vec![0.0_f32; nodes * nodes];
    let places = (0..nodes).flat_map(|row| (0..row).map(move |column| (row, column)));
    for ((row, column), &weight) in places.zip(pairs) {
        matrix[row * nodes + column] = weight as f32;
        matrix[column * nodes + row] = weight as f32;
    }
    Tensor::from_vec(matrix, (1, 1, nodes, nodes), &Device::Cpu)
}

/// Positive weights of exactly these moments: uniform ones, shifted and scaled. Only sums, products and roots, so the
/// bits are the same on every host.
fn random_weights(count: usize, moments: WeightMoments, seed: Seed) -> Result<Vec<f64>> {
    let WeightMoments { mean, deviation } = moments;
    if !(mean.is_finite() && mean > 0.0 && deviation.is_finite() && deviation >= 0.0) {
        bail!("phase graph: random weights of mean {mean} and deviation {deviation}: finite and positive are needed");
    }
    let mut draws = Draws::new(seed);
    let uniform: Vec<f64> = (0..count).map(|_| draws.uniform()).collect();
    let centre = uniform.iter().sum::<f64>() / count as f64;
    let variance = uniform.iter().map(|value| (value - centre) * (value - centre)).sum::<f64>() / count as f64;
    let scale = if variance > 0.0 { deviation / variance.sqrt() } else { 0.0 };
    let weights: Vec<f64> = uniform.iter().map(|value| mean + scale * (value - centre)).collect();
    match weights.iter().find(|&&weight| weight <= 0.0) {
        None => Ok(weights),
        // Uniform weights reach down to mean − √3 deviations.
        Some(weight) => {
            bail!("phase graph: a deviation of {deviation} about a mean of {mean} gives a weight of {weight}, below 0")
        }
    }
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::Layout;

    use super::*;
    use crate::layers::gradcheck::values;
    use crate::problem::Mode;

    const MOMENTS: WeightMoments = WeightMoments { mean: 0.8, deviation: 0.3 };
    const ALL: [EdgeWeights; 5] = [
        EdgeWeights::BatchMean,
        EdgeWeights::PerSample,
        EdgeWeights::Ones,
        EdgeWeights::Random,
        EdgeWeights::MagnitudeDifference,
    ];

    fn single(shape: &[usize], salt: usize) -> Tensor {
        values(shape, salt).to_dtype(candle_core::DType::F32).unwrap()
    }

    fn block(weights: EdgeWeights) -> PhaseGraph {
        PhaseGraph::new([4, 5], weights, MOMENTS, Seed::new(1)).unwrap()
    }

    /// The rows of the output of two lanes, `[lanes][batch][nodes · times]`.
    fn run(block: &PhaseGraph, features: &Tensor, phases: &Tensor) -> Vec<Vec<Vec<f32>>> {
        let (weights, seeds) = ([single(&[2, 5, 5], 2), single(&[2, 5], 3)], [1, 2].map(Seed::new));
        let mut pass = Pass::new(Mode::Train, &seeds, &weights, &mut []);
        let output = block.apply(&mut pass, features, phases).unwrap();
        pass.finish().unwrap();
        output.flatten_from(2).unwrap().to_vec3().unwrap()
    }

    #[test]
    fn ones_collapse_all_rows_and_other_weights_do_not() {
        for weights in ALL {
            let output = run(&block(weights), &single(&[1, 3, 4, 5], 0), &single(&[1, 3, 4, 5], 1));
            for example in output.iter().flatten() {
                let apart = example
                    .chunks_exact(5)
                    .flat_map(|row| row.iter().zip(&example[..5]).map(|(a, b)| (a - b).abs()))
                    .fold(0.0_f32, f32::max);
                assert_eq!(apart < 1e-6, weights == EdgeWeights::Ones, "{weights:?}: rows differ by {apart}");
            }
        }
    }

    #[test]
    fn only_weights_of_the_batch_see_its_other_examples() {
        let (features, phases) = (single(&[1, 3, 4, 5], 0), single(&[1, 3, 4, 5], 1));
        let first = |tensor: &Tensor, count| tensor.narrow(1, 0, count).unwrap().contiguous().unwrap();
        for weights in ALL {
            let block = block(weights);
            let together = run(&block, &features, &phases);
            let alone = run(&block, &first(&features, 1), &first(&phases, 1));
            let depends = matches!(weights, EdgeWeights::BatchMean | EdgeWeights::MagnitudeDifference);
            for lane in 0..2 {
                assert_eq!(together[lane][0] != alone[lane][0], depends, "{weights:?}");
            }
            let other_phases = run(&block, &features, &single(&[1, 3, 4, 5], 6));
            let by_phase = matches!(weights, EdgeWeights::BatchMean | EdgeWeights::PerSample);
            assert_eq!(other_phases != together, by_phase, "{weights:?}");
        }
    }

    #[test]
    fn random_weights_have_the_moments_asked_for() {
        let weights = random_weights(78, MOMENTS, Seed::new(4)).unwrap();
        let mean = weights.iter().sum::<f64>() / 78.0;
        let variance = weights.iter().map(|weight| (weight - mean).powi(2)).sum::<f64>() / 78.0;
        assert!((mean - 0.8).abs() < 1e-12 && (variance.sqrt() - 0.3).abs() < 1e-12, "{mean} {variance}");
        assert!(weights.iter().all(|&weight| weight > 0.0));
        assert_eq!(weights, random_weights(78, MOMENTS, Seed::new(4)).unwrap());
        assert_ne!(weights, random_weights(78, MOMENTS, Seed::new(5)).unwrap());
        let matrix: Vec<Vec<f32>> = symmetric(13, &weights).unwrap().reshape((13, 13)).unwrap().to_vec2().unwrap();
        assert!((0..13).all(|i| matrix[i][i] == 0.0 && (0..13).all(|j| matrix[i][j] == matrix[j][i])));
        for moments in [
            WeightMoments { mean: 0.0, ..MOMENTS },
            WeightMoments { deviation: f64::NAN, ..MOMENTS },
            WeightMoments { deviation: 0.8, ..MOMENTS },
        ] {
            let error = random_weights(78, moments, Seed::new(4)).unwrap_err().to_string();
            assert!(error.contains("mean") && error.contains("deviation"), "{error}");
        }
    }

    #[test]
    fn gradients_reach_weights_and_nothing_else() {
        for weights in ALL {
            let block = block(weights);
            let mut parameters = ParametersBuilder::default();
            block.list("graph", &mut parameters);
            let layout: &Layout = &parameters.build().layout().clone();
            let listed: Vec<_> = layout.tensors().iter().map(|spec| (spec.name(), spec.shape())).collect();
            assert_eq!(listed, [("graph/w", &[5, 5][..]), ("graph/b", &[5][..])]);
            let (parts, seeds) = ([single(&[2, 5, 5], 2), single(&[2, 5], 3)], [1, 2].map(Seed::new));
            let mut pass = Pass::new(Mode::Train, &seeds, &parts, &mut []);
            let (features, phases) = (single(&[2, 3, 4, 5], 0), single(&[2, 3, 4, 5], 1));
            parts.iter().chain([&phases]).for_each(|tensor| pass.tape.variable(tensor));
            let output = block.apply(&mut pass, &features, &phases).unwrap();
            let mut gradients = pass.finish().unwrap().backward(&output).unwrap();
            assert!(parts.iter().all(|part| gradients.take(part).is_some()), "{weights:?}");
            assert!(gradients.take(&phases).is_none(), "{weights:?}: phases are plain numbers");
        }
        let block = block(EdgeWeights::BatchMean);
        let (parts, seeds) = ([single(&[2, 5, 5], 2), single(&[2, 5], 3)], [1, 2].map(Seed::new));
        let mut pass = Pass::new(Mode::Train, &seeds, &parts, &mut []);
        let error = block.apply(&mut pass, &single(&[1, 3, 4, 5], 0), &single(&[1, 2, 4, 5], 1)).unwrap_err();
        assert!(error.to_string().contains("[1, 2, 4, 5]"), "{error}");
        assert!(PhaseGraph::new([1, 5], EdgeWeights::Ones, MOMENTS, Seed::new(1)).is_err());
    }
}
