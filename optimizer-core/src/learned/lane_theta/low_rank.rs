//! A matrix that the lanes of some pairs share, and what each lane adds to it.
//!
//! ```text
//!  y = x W  (rows of all lanes at once)      then, lane by lane:  y ± (sigma/√r) (x A) Bᵀ     A, B of its pair
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Theta;
use crate::learned::dense::Matrix;
use crate::perturbation::Factors;
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use crate::theta::Hasher;

/// The matrices of the theta that was bound last, for whoever binds it next: threads that run pairs of one theta read the
/// same ones.
#[derive(Debug, Default)]
pub(in crate::learned) struct LastBound(Mutex<Option<(Theta, Matrices)>>);

/// By place in theta.
type Matrices = BTreeMap<usize, Arc<Matrix>>;

impl LastBound {
    /// A tensor of theta's only lane as a matrix with so many outputs.
    pub(super) fn matrix(&self, theta: &Theta, tensor: usize, outputs: usize) -> Arc<Matrix> {
        // Held while the matrix is made: others that want it wait instead of making their own.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.as_ref().is_some_and(|(last, _)| last.is_clone_of(theta)) {
            *held = None;
        }
        let (_, matrices) = held.get_or_insert_with(|| (theta.clone(), Matrices::new()));
        let made = || Arc::new(Matrix::new(theta.tensor(0, tensor), outputs));
        Arc::clone(matrices.entry(tensor).or_insert_with(made))
    }
}

/// A matrix and the low-rank differences of the lanes from it.
#[derive(Clone, Debug)]
pub(super) struct SharedMatrix {
    /// `[inputs, outputs]`, unperturbed.
    pub(super) w: Arc<Matrix>,
    /// Of each pair.
    pub(super) factors: Vec<Factors>,
    /// Of + lanes; − lanes have its negative.
    pub(super) sigma: f32,
}

impl SharedMatrix {
    /// `x W` of the perturbed weights, for `x` `[2 pairs, rows, inputs]`, + lanes before − lanes in each pair.
    pub(super) fn product(&self, x: &[f32], y: &mut [f32]) {
        self.w.product(x, y);
        let lanes = 2 * self.factors.len();
        let of_lanes = x.chunks_exact(x.len() / lanes).zip(y.chunks_exact_mut(y.len() / lanes));
        for (lane, (x, y)) in of_lanes.enumerate() {
            let factors = &self.factors[lane / 2];
            let sign = if lane % 2 == 0 { 1.0 } else { -1.0 };
            let scale = (sign * f64::from(self.sigma) * factors.scale()) as f32;
            dispatch(AddDifference { x, inputs: self.w.inputs(), y, outputs: self.w.outputs(), factors, scale });
        }
    }

    /// Everything it is made of enters a hash.
    pub(super) fn hash(&self, hasher: &mut Hasher) {
        self.w.pieces().for_each(|piece| hasher.update(piece));
        for factors in &self.factors {
            hasher.update(&factors.a);
            hasher.update(&factors.b);
        }
        hasher.update(&[self.sigma]);
    }
}

/// `y += scale · (x A) Bᵀ`, for rows of one lane.
struct AddDifference<'a> {
    x: &'a [f32],
    inputs: usize,
    y: &'a mut [f32],
    outputs: usize,
    factors: &'a Factors,
    scale: f32,
}

impl Kernel for AddDifference<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, inputs, y, outputs, factors, scale } = self;
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
            for (a, b) in factors.a.chunks_exact(inputs).zip(factors.b.chunks_exact(outputs)) {
                let share = s.splat(scale * dot(s, x, a));
                for (y, b) in y.chunks_mut(WIDTH).zip(b.chunks(WIDTH)) {
                    let sum = s.fma(share, s.load_part(b), s.load_part(y));
                    s.store_part(sum, y);
                }
            }
        }
    }
}

/// `Σ x a`: 64 sums, entry by entry in turn, then added by halves.
#[inline(always)]
fn dot<S: Simd>(s: S, x: &[f32], a: &[f32]) -> f32 {
    const SUMS: usize = 4;
    let mut sums = [s.zero(); SUMS];
    for (x, a) in x.chunks(SUMS * WIDTH).zip(a.chunks(SUMS * WIDTH)) {
        for (sum, (x, a)) in sums.iter_mut().zip(x.chunks(WIDTH).zip(a.chunks(WIDTH))) {
            *sum = s.fma(s.load_part(x), s.load_part(a), *sum);
        }
    }
    s.sum(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3])))
}
