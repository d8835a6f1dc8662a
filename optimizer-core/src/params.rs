//! Inner parameters with a leading lane axis.
//!
//! A lane is one signed perturbation of one task instance. Everything an inner loop touches carries the lanes first:
//!
//! ```text
//!            tensor "layer_0/w" [64, 32]          tensor "layer_0/b" [32]
//!  lane 0  │ 2048 values, row-major          │  │ 32 values │
//!  lane 1  │ 2048 values                     │  │ 32 values │
//! ```
//!
//! so that one tensor is one contiguous `[lanes, shape…]` block. Shapes follow the JAX reference (linear `[in, out]`,
//! convolution `[height, width, in, out]`), because the factored axes of the learned optimizers depend on it.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// What the values of a tensor are parts of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Nothing: they are real numbers of their own.
    #[default]
    Real,
    /// The real parts of complex numbers; the imaginary parts are the next tensor of the layout.
    Re,
    /// The imaginary parts of complex numbers; the real parts are the tensor before.
    Im,
}

/// Name and shape (without lanes) of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    name: String,
    shape: Vec<usize>,
    part: Part,
}

impl TensorSpec {
    /// A tensor of this name and shape; an empty shape is a scalar.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), part: Part::Real }
    }

    /// A tensor of complex numbers, as the real tensors `<name>.re` and `<name>.im`. They stay neighbours in a layout,
    /// so that an optimizer may treat each pair of values as one number ([`Layout::pairs`]).
    pub fn complex(name: &str, shape: impl Into<Vec<usize>>) -> [Self; 2] {
        let shape = shape.into();
        [("re", Part::Re), ("im", Part::Im)].map(|(suffix, part)| Self {
            name: format!("{name}.{suffix}"),
            shape: shape.clone(),
            part,
        })
    }

    /// What its values are parts of.
    pub fn part(&self) -> Part {
        self.part
    }

    /// The name, slash-joined as in checkpoints, for example `layer_0/w`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape without the lane axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values in one lane.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of a model or of theta, in a fixed order, without their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    offsets: Vec<usize>,
    size: usize,
}

impl Layout {
    /// A layout of these tensors, in this order.
    ///
    /// # Errors
    /// [`Error::DuplicateTensor`] if a name repeats, [`Error::HalfPair`] if one part of a complex tensor comes without the
    /// other behind it.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Arc<Self>> {
        let mut names: Vec<&str> = tensors.iter().map(TensorSpec::name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateTensor { name: pair[0].to_owned() });
        }
        let mut parts = tensors.iter();
        while let Some(tensor) = parts.next() {
            let whole = match tensor.part {
                Part::Real => true,
                Part::Re => parts.next().is_some_and(|next| next.part == Part::Im && next.shape == tensor.shape),
                Part::Im => false,
            };
            if !whole {
                return Err(Error::HalfPair { name: tensor.name.clone() });
            }
        }
        let mut size = 0;
        let offsets = tensors
            .iter()
            .map(|tensor| {
                let offset = size;
                size += tensor.size();
                offset
            })
            .collect();
        Ok(Arc::new(Self { tensors, offsets, size }))
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of values in one lane, over all tensors.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where tensor `index` starts in one lane's flat vector, in values.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn offset(&self, index: usize) -> usize {
        self.offsets[index]
    }

    /// The complex tensors: indices of their real and imaginary parts.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let real = self.tensors.iter().enumerate().filter(|(_, tensor)| tensor.part == Part::Re);
        real.map(|(index, _)| (index, index + 1))
    }

    /// Index of the tensor of this name; `None` if there is none.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.name == name)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, tensor) in self.tensors.iter().enumerate() {
            write!(f, "{}{} {:?}", if i == 0 { "" } else { ", " }, tensor.name, tensor.shape)?;
        }
        f.write_str("}")
    }
}

/// Values of a [`Layout`] for some lanes, tensor by tensor: `tensors[i]` is `[lanes, shape…]`, row-major.
///
/// Tensors and lanes are counted from 0; a method that takes one panics if there is none of that number.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    layout: Arc<Layout>,
    lanes: usize,
    tensors: Vec<Vec<f32>>,
}

impl Params {
    /// All zeros, `[lanes, shape…]` a tensor.
    pub fn zeros(layout: &Arc<Layout>, lanes: usize) -> Self {
        let tensors = layout.tensors().iter().map(|tensor| vec![0.0; lanes * tensor.size()]).collect();
        Self { layout: Arc::clone(layout), lanes, tensors }
    }

    /// From one `[lanes, shape…]` buffer a tensor, in layout order.
    ///
    /// # Errors
    /// [`Error::Length`] if the number of buffers or the length of one does not fit.
    pub fn from_tensors(layout: &Arc<Layout>, lanes: usize, tensors: Vec<Vec<f32>>) -> Result<Self> {
        if tensors.len() != layout.len() {
            return Err(Error::Length { what: "tensors".into(), expected: layout.len(), got: tensors.len() });
        }
        for (spec, values) in layout.tensors().iter().zip(&tensors) {
            let expected = lanes * spec.size();
            if values.len() != expected {
                return Err(Error::Length { what: spec.name.clone(), expected, got: values.len() });
            }
        }
        Ok(Self { layout: Arc::clone(layout), lanes, tensors })
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Tensor `index`, all lanes: `[lanes, shape…]`.
    pub fn tensor(&self, index: usize) -> &[f32] {
        &self.tensors[index]
    }

    /// Tensor `index`, all lanes: `[lanes, shape…]`, to be written.
    pub fn tensor_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.tensors[index]
    }

    /// All tensors, all lanes: `[lanes, shape…]` each, to be written.
    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.tensors.iter_mut().map(Vec::as_mut_slice)
    }

    /// Tensor `index` of one lane: `[shape…]`.
    pub fn lane(&self, index: usize, lane: usize) -> &[f32] {
        let size = self.layout.tensors[index].size();
        &self.tensors[index][lane * size..(lane + 1) * size]
    }

    /// Tensor `index` of one lane: `[shape…]`, to be written.
    pub fn lane_mut(&mut self, index: usize, lane: usize) -> &mut [f32] {
        let size = self.layout.tensors[index].size();
        &mut self.tensors[index][lane * size..(lane + 1) * size]
    }

    /// The lanes named, in that order (a lane may repeat).
    #[must_use]
    pub fn select(&self, lanes: &[usize]) -> Self {
        Self::gather(&self.layout, &lanes.iter().map(|&lane| (self, lane)).collect::<Vec<_>>())
    }

    /// Lanes of several parameters of this layout, in order.
    pub(crate) fn gather(layout: &Arc<Layout>, lanes: &[(&Self, usize)]) -> Self {
        let tensors = (0..layout.len())
            .map(|index| lanes.iter().flat_map(|(params, lane)| params.lane(index, *lane)).copied().collect())
            .collect();
        Self { layout: Arc::clone(layout), lanes: lanes.len(), tensors }
    }

    /// Checks that `other` has the same layout and lanes.
    ///
    /// # Errors
    /// [`Error::LayoutMismatch`] for other tensors, [`Error::Lanes`] for another number of lanes, naming `what`.
    pub fn check_like(&self, other: &Self, what: &str) -> Result<()> {
        if self.layout != other.layout {
            return Err(Error::LayoutMismatch {
                what: what.into(),
                expected: Arc::clone(&self.layout),
                got: Arc::clone(&other.layout),
            });
        }
        if self.lanes != other.lanes {
            return Err(Error::Lanes { what: what.into(), expected: self.lanes, got: other.lanes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complex_tensors_are_pairs_of_neighbours() {
        let [re, im] = TensorSpec::complex("conv/w", [2, 3]);
        assert_eq!((re.name(), im.name(), re.part(), im.part()), ("conv/w.re", "conv/w.im", Part::Re, Part::Im));
        let tensors = vec![TensorSpec::new("scale", [3]), re.clone(), im.clone(), TensorSpec::new("shift", [])];
        let layout = Layout::new(tensors).unwrap();
        assert_eq!(layout.pairs().collect::<Vec<_>>(), [(1, 2)]);
        let [_, other] = TensorSpec::complex("other", [3, 2]);
        for broken in [vec![re.clone()], vec![im.clone()], vec![im, re.clone()], vec![re, other]] {
            assert!(matches!(Layout::new(broken), Err(Error::HalfPair { .. })));
        }
    }
}
