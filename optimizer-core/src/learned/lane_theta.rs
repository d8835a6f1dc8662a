//! Theta as some lanes have it, and affine layers over the rows of all of them.
//!
//! ```text
//!  one for all   x₀ ┐             one a lane   x₀ W₀ + b₀           low rank   x₀ ┐        + (σ/√r) (x₀ A) Bᵀ + b₀
//!                x₁ ├ W + b                    x₁ W₁ + b₁                      x₁ ┴ W      − (σ/√r) (x₁ A) Bᵀ + b₁
//!                x₂ ┘
//! ```
//!
//! What lanes share is read once for the rows of all of them. Under a low-rank perturbation ([`crate::perturbation`]) that
//! is nearly everything: the two lanes of a pair share every large matrix and differ by a product of thin ones (EGGROLL,
//! arXiv 2511.16652); no perturbed matrix is ever made. A row's result depends on that row and its lane alone, to the bit.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::dense::{add_bias, product};
use super::lane_of;
use crate::params::{Layout, TensorSpec};
use crate::perturbation::{Factors, Perturbation};
use crate::{Error, Result, Theta, ThetaHash};

/// Theta for some lanes.
#[derive(Clone, Debug)]
pub(super) struct LaneTheta {
    /// What a lane has for itself: one lane for all, or one each. Without the shared matrices.
    own: Theta,
    /// Matrices that both lanes of a pair share, by name.
    shared: BTreeMap<String, SharedMatrix>,
}

/// A matrix and the low-rank difference of two lanes from it.
#[derive(Clone, Debug)]
struct SharedMatrix {
    /// `[inputs, outputs]`, unperturbed.
    w: Vec<f32>,
    factors: Factors,
    /// Of the + lane; the − lane has its negative.
    sigma: f32,
}

impl LaneTheta {
    /// As it is: one lane for all, or one each.
    pub(super) fn new(theta: Theta) -> Self {
        Self { own: theta, shared: BTreeMap::new() }
    }

    /// The two lanes `theta + sigma ε` and `theta − sigma ε`. `theta` has one lane. Weights whose names begin with
    /// `layers` are shared where ε is factored, and can only be had as a [`LaneTheta::layer`].
    ///
    /// # Errors
    /// [`Error::Lanes`] if there is more than one, [`Error::LayoutMismatch`] if ε is another theta's.
    pub(super) fn perturbed(theta: &Theta, epsilon: &Perturbation, sigma: f32, layers: &str) -> Result<Self> {
        if theta.lanes() != 1 {
            return Err(Error::Lanes { what: "theta to perturb".into(), expected: 1, got: theta.lanes() });
        }
        if theta.layout() != epsilon.layout() {
            return Err(Error::LayoutMismatch {
                what: "perturbation".into(),
                expected: theta.layout().clone(),
                got: epsilon.layout().clone(),
            });
        }
        let mut shared = BTreeMap::new();
        let (mut specs, mut values, mut differences) = (Vec::new(), Vec::new(), Vec::new());
        for (index, spec) in theta.layout().tensors().iter().enumerate() {
            let w = theta.tensor(0, index);
            let factors = if spec.name().starts_with(layers) { epsilon.factors(index) } else { None };
            match factors {
                Some(factors) => {
                    shared.insert(spec.name().to_owned(), SharedMatrix { w: w.to_vec(), factors, sigma });
                }
                None => {
                    specs.push(TensorSpec::clone(spec));
                    values.extend_from_slice(w);
                    differences.extend(epsilon.tensor(index));
                }
            }
        }
        let own = Theta::new(&Layout::new(specs)?, 1, values)?.antithetic(sigma, &differences)?;
        Ok(Self { own, shared })
    }

    /// Number of lanes: one for all, or one each.
    pub(super) fn lanes(&self) -> usize {
        self.own.lanes()
    }

    /// What lanes have for themselves; a tensor that they share is not in it.
    pub(super) fn own(&self) -> &Theta {
        &self.own
    }

    /// The affine layer `MODULE/w`, `MODULE/b`.
    pub(super) fn layer(&self, module: &str) -> LaneLayer<'_> {
        let own = |name: &str| {
            let index = self.own.layout().index_of(name).expect("the layout was made from these names");
            (0..self.lanes()).map(|lane| self.own.tensor(lane, index)).collect()
        };
        let name = format!("{module}/w");
        let weights = match self.shared.get(&name) {
            Some(matrix) => Weights::LowRank(matrix),
            None => Weights::Own(own(&name)),
        };
        LaneLayer { weights, biases: own(&format!("{module}/b")) }
    }

    /// The hash of theta; of a perturbed one, a hash of all it is made of.
    pub(super) fn hash(&self) -> ThetaHash {
        if self.shared.is_empty() {
            return self.own.hash();
        }
        let mut hasher = Sha256::new();
        hasher.update(self.own.hash().0);
        for (name, SharedMatrix { w, factors, sigma }) in &self.shared {
            hasher.update(name.as_bytes());
            for value in w.iter().chain(&factors.a).chain(&factors.b).chain([sigma]) {
                hasher.update(value.to_le_bytes());
            }
        }
        ThetaHash(hasher.finalize().into())
    }
}

/// An affine layer of all lanes, `y = x W + b`.
#[derive(Debug)]
pub(super) struct LaneLayer<'a> {
    weights: Weights<'a>,
    /// `[outputs]`, one for all lanes or one each.
    biases: Vec<&'a [f32]>,
}

#[derive(Debug)]
enum Weights<'a> {
    /// `[inputs, outputs]`, one for all lanes or one each.
    Own(Vec<&'a [f32]>),
    /// One for both lanes, and their differences.
    LowRank(&'a SharedMatrix),
}

impl LaneLayer<'_> {
    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.biases[0].len()
    }

    /// Outputs `[lanes, rows, outputs]` for inputs `x` `[lanes, rows, inputs]`.
    pub(super) fn apply(&self, lanes: usize, x: &[f32]) -> Vec<f32> {
        let outputs = self.outputs();
        let mut y = match &self.weights {
            Weights::Own(own) => match own[..] {
                [w] => product(x, w, outputs),
                _ => parts(x, lanes).zip(own).flat_map(|(x, w)| product(x, w, outputs)).collect(),
            },
            Weights::LowRank(matrix) => {
                let mut y = product(x, &matrix.w, outputs);
                let length = y.len() / lanes;
                for ((x, y), sign) in parts(x, lanes).zip(y.chunks_exact_mut(length)).zip([1.0, -1.0]) {
                    matrix.add_difference(sign, x, y);
                }
                y
            }
        };
        let length = y.len() / lanes;
        for (lane, y) in y.chunks_exact_mut(length.max(1)).enumerate() {
            add_bias(y, self.biases[lane_of(self.biases.len(), lane)]);
        }
        y
    }
}

/// The lanes of `[lanes, …]`.
fn parts(x: &[f32], lanes: usize) -> impl Iterator<Item = &[f32]> {
    let length = x.len() / lanes;
    (0..lanes).map(move |lane| &x[lane * length..(lane + 1) * length])
}

impl SharedMatrix {
    /// `y += sign · (sigma/√rank) (x A) Bᵀ`, for rows of one lane.
    fn add_difference(&self, sign: f64, x: &[f32], y: &mut [f32]) {
        let rank = self.factors.rank;
        let (inputs, outputs) = (self.factors.a.len() / rank, self.factors.b.len() / rank);
        let scale = sign * f64::from(self.sigma) * self.factors.scale();
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            let columns = self.factors.a.chunks_exact(inputs).zip(self.factors.b.chunks_exact(outputs));
            for (a, b) in columns {
                let share = (scale * dot(x, a)) as f32;
                y.iter_mut().zip(b).for_each(|(y, b)| *y += share * b);
            }
        }
    }
}

/// In f64: eight sums, entry by entry in turn, then added by halves.
fn dot(x: &[f32], a: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let ((x, x_rest), (a, a_rest)) = (x.as_chunks::<8>(), a.as_chunks::<8>());
    for (x, a) in x.iter().zip(a) {
        for lane in 0..8 {
            sums[lane] += f64::from(x[lane]) * f64::from(a[lane]);
        }
    }
    for (sum, (x, a)) in sums.iter_mut().zip(x_rest.iter().zip(a_rest)) {
        *sum += f64::from(*x) * f64::from(*a);
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturbation::Noise;
    use crate::{Seed, noise};

    const SIGMA: f32 = 0.03;

    fn normals(seed: u64, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        noise::normals(Seed::new(seed), 0, &mut values);
        values
    }

    fn theta(inputs: usize, outputs: usize) -> Theta {
        let specs = vec![TensorSpec::new("m/b", [outputs]), TensorSpec::new("m/w", [inputs, outputs])];
        Theta::new(&Layout::new(specs).unwrap(), 1, normals(1, outputs + inputs * outputs)).unwrap()
    }

    fn epsilon(theta: &Theta, rank: u32) -> Perturbation {
        Perturbation::new(Seed::new(5), Noise::LowRank { rank }, theta.layout(), 0, 0, 0).unwrap()
    }

    #[test]
    fn rows_of_all_lanes_together_are_each_lane_alone() {
        let (inputs, outputs, rows) = (13, 9, 3);
        let theta = theta(inputs, outputs);
        let x = normals(2, 2 * rows * inputs);
        let pair = theta.antithetic(SIGMA, &epsilon(&theta, 2).whole()).unwrap();
        let low_rank = LaneTheta::perturbed(&theta, &epsilon(&theta, 2), SIGMA, "m/").unwrap();
        let swapped = LaneTheta::perturbed(&theta, &epsilon(&theta, 2), -SIGMA, "m/").unwrap();
        for (lanes, alone) in [
            (LaneTheta::new(theta.clone()), [LaneTheta::new(theta.clone()), LaneTheta::new(theta)]),
            (
                LaneTheta::new(pair.clone()),
                [0, 1].map(|lane| LaneTheta::new(Theta::new(pair.layout(), 1, pair.lane(lane).to_vec()).unwrap())),
            ),
        ] {
            let y = lanes.layer("m").apply(2, &x);
            for lane in 0..2 {
                let one = alone[lane].layer("m").apply(1, &x[lane * rows * inputs..(lane + 1) * rows * inputs]);
                assert_eq!(one, y[lane * rows * outputs..(lane + 1) * rows * outputs]);
            }
        }
        // A lane's rows do not see those of the other, and the other sign is the other lane.
        let y = low_rank.layer("m").apply(2, &x);
        let half = rows * inputs;
        let turned: Vec<f32> = x[half..].iter().chain(&x[..half]).copied().collect();
        let (plus, minus) = y.split_at(rows * outputs);
        assert_eq!(swapped.layer("m").apply(2, &turned), [minus, plus].concat());
    }

    /// Both ways sum n products in f32; the perturbed weights of the materialised way are rounded once more each, ε and
    /// weight, and the low-rank way rounds its share and adds it.
    #[test]
    fn a_low_rank_layer_is_the_layer_of_the_perturbed_weights() {
        let unit = f64::from(f32::EPSILON) / 2.0;
        for (inputs, outputs, rank) in [(40, 31, 1), (40, 31, 3), (130, 70, 2), (9, 7, 4)] {
            let theta = theta(inputs, outputs);
            let epsilon = epsilon(&theta, rank);
            let rows = 3;
            let x = normals(4, 2 * rows * inputs);
            let low_rank = LaneTheta::perturbed(&theta, &epsilon, SIGMA, "m/").unwrap();
            assert_eq!(low_rank.shared.len(), usize::from(rank < 4), "a matrix of 9 by 7 is not worth 4 columns");
            let got = low_rank.layer("m").apply(2, &x);
            let pair = theta.antithetic(SIGMA, &epsilon.whole()).unwrap();
            let expected = LaneTheta::new(pair.clone()).layer("m").apply(2, &x);
            let factors = epsilon.factors(1);
            for (place, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let (row, output) = (place / outputs, place % outputs);
                let mut size = f64::from(pair.tensor(row / rows, 0)[output].abs());
                for input in 0..inputs {
                    let x = f64::from(x[row * inputs + input].abs());
                    let w = f64::from(theta.tensor(0, 1)[input * outputs + output].abs());
                    let product = |factors: &Factors| -> f64 {
                        let columns = factors.a.chunks_exact(inputs).zip(factors.b.chunks_exact(outputs));
                        factors.scale() * columns.map(|(a, b)| f64::from((a[input] * b[output]).abs())).sum::<f64>()
                    };
                    size += x * (w + f64::from(SIGMA) * factors.as_ref().map_or(0.0, product));
                }
                // γ_n for n sums and a product, in both, and a handful of further roundings.
                let bound = unit * (2.0 * inputs as f64 + 2.0 * f64::from(rank) + 12.0) * size;
                let error = f64::from((got - expected).abs());
                assert!(error <= bound, "{inputs}×{outputs}, rank {rank}: off by {error:e}, bound {bound:e}");
            }
        }
    }

    #[test]
    fn another_theta_or_more_lanes_are_refused_and_hashes_differ() {
        let (small, large) = (theta(20, 30), theta(30, 20));
        let epsilon = epsilon(&small, 1);
        assert!(matches!(LaneTheta::perturbed(&large, &epsilon, SIGMA, "m/"), Err(Error::LayoutMismatch { .. })));
        let two = small.antithetic(SIGMA, &epsilon.whole()).unwrap();
        assert!(matches!(LaneTheta::perturbed(&two, &epsilon, SIGMA, "m/"), Err(Error::Lanes { .. })));
        assert_eq!(LaneTheta::new(small.clone()).hash(), small.hash());
        let perturbed = |sigma| LaneTheta::perturbed(&small, &epsilon, sigma, "m/").unwrap().hash();
        assert_ne!(perturbed(SIGMA), perturbed(-SIGMA));
        assert_eq!(perturbed(SIGMA), perturbed(SIGMA));
    }
}
