//! Theta as some lanes have it, and affine layers over the rows of all of them.
//!
//! ```text
//!  one for all   x₀ ┐             one a lane   x₀ W₀ + b₀           low rank   x₀ ┐        + (σ/√r) (x₀ A) Bᵀ + b₀
//!                x₁ ├ W + b                    x₁ W₁ + b₁                      x₁ ┴ W      − (σ/√r) (x₁ A) Bᵀ + b₁
//!                x₂ ┘
//! ```
//!
//! What lanes share is read once for the rows of all of them. Under a low-rank perturbation ([`crate::perturbation`]) that
//! is nearly everything: the lanes of all pairs share every large matrix and differ by products of thin ones (EGGROLL,
//! arXiv 2511.16652); no perturbed matrix is ever made. A row's result depends on that row and its lane alone, to the bit.

mod low_rank;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use self::low_rank::LastBound;
use self::low_rank::SharedMatrix;
use super::dense::{Matrix, add_bias};
use super::lane_of;
use crate::params::{Layout, TensorSpec};
use crate::perturbation::{Factors, Perturbation, belong_to};
use crate::theta::Hasher;
use crate::{Result, Theta, ThetaHash};

/// Theta for some lanes.
#[derive(Clone, Debug)]
pub(super) struct LaneTheta {
    /// Of all of theta.
    layout: Arc<Layout>,
    /// What is no matrix of a layer, of one lane for all, or one each.
    own: Theta,
    /// The matrices of layers, by name.
    matrices: BTreeMap<String, Weights>,
}

/// The weights of a layer.
#[derive(Clone, Debug)]
enum Weights {
    /// One for all lanes, or one each.
    Own(Vec<Matrix>),
    /// One for all lanes, and their differences.
    LowRank(SharedMatrix),
}

impl LaneTheta {
    /// As it is: one lane for all, or one each. Matrices whose names begin with `layers` can only be had as a
    /// [`LaneTheta::layer`].
    pub(super) fn new(theta: &Theta, layers: &str) -> Result<Self> {
        let own = |index: usize, lanes: &mut [Vec<f32>]| {
            for (lane, values) in lanes.iter_mut().enumerate() {
                values.extend_from_slice(theta.tensor(lane, index));
            }
        };
        let weights = |index: usize, outputs: usize| {
            Weights::Own((0..theta.lanes()).map(|lane| Matrix::new(theta.tensor(lane, index), outputs)).collect())
        };
        Self::split(theta.layout(), layers, theta.lanes(), own, weights)
    }

    /// The lanes `theta + sigma ε` and `theta − sigma ε` of each pair, pair by pair. `theta` has one lane. `layers` as in
    /// [`LaneTheta::new`]; where ε is factored those matrices are shared by all lanes,
    /// and by whoever bound the same theta last.
    ///
    /// # Errors
    /// [`Error::Lanes`](crate::Error::Lanes) if there is more than one, [`Error::LayoutMismatch`](crate::Error::LayoutMismatch) if an ε is another theta's.
    pub(super) fn perturbed(
        theta: &Theta,
        pairs: &[Perturbation],
        sigma: f32,
        layers: &str,
        last: &LastBound,
    ) -> Result<Self> {
        belong_to(theta, pairs)?;
        let own = |index: usize, lanes: &mut [Vec<f32>]| {
            for (lanes, epsilon) in lanes.chunks_exact_mut(2).zip(pairs) {
                let epsilon = epsilon.tensor(index);
                for (lane, sigma) in lanes.iter_mut().zip([sigma, -sigma]) {
                    lane.extend(theta.tensor(0, index).iter().zip(&epsilon).map(|(w, e)| w + sigma * e));
                }
            }
        };
        let weights = |index: usize, outputs: usize| {
            let w = theta.tensor(0, index);
            let first = theta.layout().offset(index);
            let both_signs = |epsilon: &Perturbation| {
                Matrix::sums(w, outputs, [sigma, -sigma], |place, drawn| epsilon.values(first + place, drawn))
            };
            let factors: Option<Vec<Factors>> = pairs.iter().map(|epsilon| epsilon.factors(index)).collect();
            match factors {
                Some(factors) => {
                    Weights::LowRank(SharedMatrix { w: last.matrix(theta, index, outputs), factors, sigma })
                }
                None => Weights::Own(pairs.iter().flat_map(both_signs).collect()),
            }
        };
        Self::split(theta.layout(), layers, 2 * pairs.len(), own, weights)
    }

    /// From what appends a tensor to all lanes, and from what makes the matrix of a layer with so many outputs.
    fn split(
        layout: &Arc<Layout>,
        layers: &str,
        lanes: usize,
        own: impl Fn(usize, &mut [Vec<f32>]),
        weights: impl Fn(usize, usize) -> Weights,
    ) -> Result<Self> {
        let (mut specs, mut of_lanes, mut matrices) = (Vec::new(), vec![Vec::new(); lanes], BTreeMap::new());
        for (index, spec) in layout.tensors().iter().enumerate() {
            match spec.shape() {
                &[_, outputs] if spec.name().starts_with(layers) => {
                    matrices.insert(spec.name().to_owned(), weights(index, outputs));
                }
                _ => {
                    specs.push(TensorSpec::clone(spec));
                    own(index, &mut of_lanes);
                }
            }
        }
        let own = Theta::new(&Layout::new(specs)?, lanes, of_lanes.concat())?;
        Ok(Self { layout: Arc::clone(layout), own, matrices })
    }

    /// Number of lanes: one for all, or one each.
    pub(super) fn lanes(&self) -> usize {
        self.own.lanes()
    }

    /// Whether lanes share matrices and differ from them.
    pub(super) fn shares(&self) -> bool {
        self.matrices.values().any(|weights| matches!(weights, Weights::LowRank(_)))
    }

    /// Every `lanes` successive lanes as a theta of their own. They share no matrices.
    pub(super) fn apart(self, lanes: usize) -> Result<Vec<Self>> {
        let mut apart = vec![BTreeMap::new(); self.lanes() / lanes];
        for (name, weights) in self.matrices {
            let Weights::Own(matrices) = weights else { unreachable!("lanes share no matrices") };
            for (lane, matrix) in matrices.into_iter().enumerate() {
                let weights = apart[lane / lanes].entry(name.clone()).or_insert_with(|| Weights::Own(Vec::new()));
                if let Weights::Own(matrices) = weights {
                    matrices.push(matrix);
                }
            }
        }
        let own = self.own.values().chunks(lanes * self.own.layout().size());
        let part = |(own, matrices): (&[f32], _)| {
            let own = Theta::new(self.own.layout(), lanes, own.to_vec())?;
            Ok(Self { layout: Arc::clone(&self.layout), own, matrices })
        };
        own.zip(apart).map(part).collect()
    }

    /// What is no matrix of a layer.
    pub(super) fn own(&self) -> &Theta {
        &self.own
    }

    /// The affine layer `MODULE/w`, `MODULE/b`.
    pub(super) fn layer(&self, module: &str) -> LaneLayer<'_> {
        let index = self.own.layout().index_of(&format!("{module}/b")).expect("the layout was made from these names");
        LaneLayer {
            weights: &self.matrices[&format!("{module}/w")],
            biases: (0..self.lanes()).map(|lane| self.own.tensor(lane, index)).collect(),
        }
    }

    /// The hash of theta; where lanes share perturbed matrices, a hash of all they are made of.
    pub(super) fn hash(&self) -> ThetaHash {
        let mut hasher = Hasher::new(&self.layout);
        for lane in 0..self.lanes() {
            for tensor in self.layout.tensors() {
                match (self.matrices.get(tensor.name()), self.own.layout().index_of(tensor.name())) {
                    (Some(Weights::Own(matrices)), _) => matrices[lane].pieces().for_each(|piece| hasher.update(piece)),
                    (Some(Weights::LowRank(matrix)), _) if lane == 0 => matrix.hash(&mut hasher),
                    (Some(Weights::LowRank(_)), _) => {}
                    (None, Some(index)) => hasher.update(self.own.tensor(lane, index)),
                    (None, None) => unreachable!("a tensor is a matrix of a layer or not"),
                }
            }
        }
        hasher.finish()
    }
}

/// An affine layer of all lanes, `y = x W + b`.
#[derive(Debug)]
pub(super) struct LaneLayer<'a> {
    /// `[inputs, outputs]`.
    weights: &'a Weights,
    /// `[outputs]`, one for all lanes or one each.
    biases: Vec<&'a [f32]>,
}

impl LaneLayer<'_> {
    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.biases[0].len()
    }

    /// Outputs `[lanes, rows, outputs]` for inputs `x` `[lanes, rows, inputs]`.
    pub(super) fn apply(&self, lanes: usize, x: &[f32]) -> Vec<f32> {
        let outputs = self.outputs();
        let inputs = match self.weights {
            Weights::Own(matrices) => matrices[0].inputs(),
            Weights::LowRank(matrix) => matrix.w.inputs(),
        };
        let rows = x.len() / inputs / lanes;
        if rows == 0 {
            return Vec::new();
        }
        let mut y = vec![0.0; lanes * rows * outputs];
        match self.weights {
            Weights::Own(matrices) => {
                let together = lanes / matrices.len() * rows;
                let of_matrices = x.chunks_exact(together * inputs).zip(y.chunks_exact_mut(together * outputs));
                matrices.iter().zip(of_matrices).for_each(|(w, (x, y))| w.product(x, y));
            }
            Weights::LowRank(matrix) => matrix.product(x, &mut y),
        }
        for (lane, y) in y.chunks_exact_mut(rows * outputs).enumerate() {
            add_bias(y, self.biases[lane_of(self.biases.len(), lane)]);
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::Error;
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

    fn plain(theta: &Theta) -> LaneTheta {
        LaneTheta::new(theta, "m/").unwrap()
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
        let low_rank = LaneTheta::perturbed(&theta, &[epsilon(&theta, 2)], SIGMA, "m/", &LastBound::default()).unwrap();
        let swapped = LaneTheta::perturbed(&theta, &[epsilon(&theta, 2)], -SIGMA, "m/", &LastBound::default()).unwrap();
        for (lanes, alone) in [
            (plain(&theta), [plain(&theta), plain(&theta)]),
            (plain(&pair), [0, 1].map(|lane| plain(&Theta::new(pair.layout(), 1, pair.lane(lane).to_vec()).unwrap()))),
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
            let low_rank =
                LaneTheta::perturbed(&theta, slice::from_ref(&epsilon), SIGMA, "m/", &LastBound::default()).unwrap();
            assert_eq!(
                matches!(low_rank.matrices["m/w"], Weights::LowRank(_)),
                rank < 4,
                "a matrix of 9 by 7 is not worth 4 columns"
            );
            let got = low_rank.layer("m").apply(2, &x);
            let pair = theta.antithetic(SIGMA, &epsilon.whole()).unwrap();
            let expected = plain(&pair).layer("m").apply(2, &x);
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
        assert!(matches!(
            LaneTheta::perturbed(&large, slice::from_ref(&epsilon), SIGMA, "m/", &LastBound::default()),
            Err(Error::LayoutMismatch { .. })
        ));
        let two = small.antithetic(SIGMA, &epsilon.whole()).unwrap();
        assert!(matches!(
            LaneTheta::perturbed(&two, slice::from_ref(&epsilon), SIGMA, "m/", &LastBound::default()),
            Err(Error::Lanes { .. })
        ));
        assert_eq!(plain(&small).hash(), small.hash());
        let perturbed = |sigma| {
            LaneTheta::perturbed(&small, slice::from_ref(&epsilon), sigma, "m/", &LastBound::default()).unwrap().hash()
        };
        assert_ne!(perturbed(SIGMA), perturbed(-SIGMA));
        assert_eq!(perturbed(SIGMA), perturbed(SIGMA));
    }

    #[test]
    fn dense_lanes_are_those_of_the_perturbed_theta_together_or_apart() {
        let theta = theta(200, 31);
        let pairs =
            [0, 1].map(|pair| Perturbation::new(Seed::new(5), Noise::Dense, theta.layout(), 0, 0, pair).unwrap());
        let together = LaneTheta::perturbed(&theta, &pairs, SIGMA, "m/", &LastBound::default()).unwrap();
        let apart = together.clone().apart(1).unwrap();
        assert_eq!((together.lanes(), apart.len()), (4, 4));
        let x = normals(4, 4 * 3 * 200);
        let y = together.layer("m").apply(4, &x);
        for (lane, alone) in apart.iter().enumerate() {
            let made = theta.antithetic(SIGMA, &pairs[lane / 2].whole()).unwrap();
            let made = Theta::new(theta.layout(), 1, made.lane(lane % 2).to_vec()).unwrap();
            assert_eq!(alone.hash(), made.hash());
            let x = &x[lane * 600..(lane + 1) * 600];
            assert_eq!(alone.layer("m").apply(1, x), y[lane * 93..(lane + 1) * 93]);
            assert_eq!(plain(&made).layer("m").apply(1, x), y[lane * 93..(lane + 1) * 93]);
        }
    }

    #[test]
    fn pairs_that_share_matrices_are_each_pair_alone() {
        let theta = theta(40, 31);
        let pairs = [0, 1, 2].map(|pair| {
            Perturbation::new(Seed::new(5), Noise::LowRank { rank: 2 }, theta.layout(), 0, 0, pair).unwrap()
        });
        let x = normals(4, 6 * 3 * 40);
        let together = LaneTheta::perturbed(&theta, &pairs, SIGMA, "m/", &LastBound::default()).unwrap();
        assert!(together.shares());
        let y = together.layer("m").apply(6, &x);
        for ((pair, x), y) in pairs.iter().zip(x.chunks(2 * 3 * 40)).zip(y.chunks(2 * 3 * 31)) {
            let alone =
                LaneTheta::perturbed(&theta, slice::from_ref(pair), SIGMA, "m/", &LastBound::default()).unwrap();
            assert_eq!(alone.layer("m").apply(2, x), y);
        }
    }

    #[test]
    fn matrices_are_made_once_a_theta() {
        let (first, other) = (theta(40, 31), theta(40, 31));
        let last = LastBound::default();
        let one = last.matrix(&first, 1, 31);
        assert!(Arc::ptr_eq(&one, &last.matrix(&first.clone(), 1, 31)), "a clone is the same theta");
        assert!(!Arc::ptr_eq(&one, &last.matrix(&other, 1, 31)), "an equal one is not known to be");
        let mut written = other.clone();
        written.values_mut()[31] += 1.0;
        let changed = last.matrix(&written, 1, 31);
        assert_ne!(changed.pieces().next(), one.pieces().next());
    }
}
