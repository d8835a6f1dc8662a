//! Theta: the meta-parameters, the thing that is trained.
//!
//! ```text
//!  lane 0 │ nn/w0 … │ nn/b0 … │ …      one flat vector of D values a lane, in layout order
//!  lane 1 │ nn/w0 … │ nn/b0 … │ …      (lane 0: theta + sigma ε, lane 1: theta − sigma ε)
//! ```
//!
//! A coordinator holds one lane. A worker runs antithetic pairs, so there each lane has its own perturbed copy.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::params::Layout;
use crate::{Error, Result};

/// Meta-parameters of a learned optimizer for some lanes, lane-major: `values` is `[lanes, D]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Theta {
    layout: Arc<Layout>,
    lanes: usize,
    /// Clones share them until one is written.
    values: Arc<Vec<f32>>,
}

/// SHA-256 over the layout (names and shapes) and the little-endian bytes of all values.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThetaHash(pub [u8; 32]);

impl Theta {
    /// From `[lanes, D]` values, D = `layout.size()`.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not `lanes · D` values.
    pub fn new(layout: &Arc<Layout>, lanes: usize, values: Vec<f32>) -> Result<Self> {
        let expected = lanes * layout.size();
        if values.len() != expected {
            return Err(Error::Length { what: "theta".into(), expected, got: values.len() });
        }
        Ok(Self { layout: Arc::clone(layout), lanes, values: Arc::new(values) })
    }

    /// All zeros.
    pub fn zeros(layout: &Arc<Layout>, lanes: usize) -> Self {
        Self { layout: Arc::clone(layout), lanes, values: Arc::new(vec![0.0; lanes * layout.size()]) }
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// All values, `[lanes, D]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be written.
    pub fn values_mut(&mut self) -> &mut [f32] {
        Arc::make_mut(&mut self.values).as_mut_slice()
    }

    /// One lane's D values.
    pub fn lane(&self, lane: usize) -> &[f32] {
        let size = self.layout.size();
        &self.values[lane * size..(lane + 1) * size]
    }

    /// Tensor `index` of one lane.
    pub fn tensor(&self, lane: usize, index: usize) -> &[f32] {
        let start = lane * self.layout.size() + self.layout.offset(index);
        &self.values[start..start + self.layout.tensors()[index].size()]
    }

    /// Tensor `index` of one lane, to be written.
    pub fn tensor_mut(&mut self, lane: usize, index: usize) -> &mut [f32] {
        let start = lane * self.layout.size() + self.layout.offset(index);
        let size = self.layout.tensors()[index].size();
        &mut self.values_mut()[start..start + size]
    }

    /// The two lanes of an antithetic pair, `theta + sigma ε` and `theta − sigma ε`, from the only lane of this theta.
    ///
    /// # Errors
    /// [`Error::Lanes`] if there is more than one lane, [`Error::Length`] if `epsilon` is not D long.
    pub fn antithetic(&self, sigma: f32, epsilon: &[f32]) -> Result<Self> {
        if self.lanes != 1 {
            return Err(Error::Lanes { what: "theta to perturb".into(), expected: 1, got: self.lanes });
        }
        if epsilon.len() != self.values.len() {
            return Err(Error::Length { what: "epsilon".into(), expected: self.values.len(), got: epsilon.len() });
        }
        let plus = self.values.iter().zip(epsilon).map(|(value, e)| value + sigma * e);
        let minus = self.values.iter().zip(epsilon).map(|(value, e)| value - sigma * e);
        Ok(Self { layout: Arc::clone(&self.layout), lanes: 2, values: Arc::new(plus.chain(minus).collect()) })
    }

    /// Whether this is a clone of `other`, neither of them written since: equal, and told without reading them.
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.values, &other.values) && self.lanes == other.lanes && self.layout == other.layout
    }

    /// The hash that names this theta on the wire and in checkpoints.
    pub fn hash(&self) -> ThetaHash {
        let mut hasher = Hasher::new(&self.layout);
        hasher.update(&self.values);
        hasher.finish()
    }
}

/// The hash of a theta whose values come one after another.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self(Sha256::new_with_prefix(layout.to_string()))
    }

    /// The next values, in the order of lanes and of the layout.
    pub(crate) fn update(&mut self, values: &[f32]) {
        for value in values {
            self.0.update(value.to_le_bytes());
        }
    }

    pub(crate) fn finish(self) -> ThetaHash {
        ThetaHash(self.0.finalize().into())
    }
}

impl fmt::Display for ThetaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ThetaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThetaHash({self})")
    }
}
