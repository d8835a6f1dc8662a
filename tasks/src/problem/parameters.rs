//! What a model's parameters are and how they begin, listed together.

use std::sync::Arc;

use paceline_optimizer_core::{Layout, TensorSpec};

use super::Initial;

/// Names, shapes and initial values, in the order in which a model reads them.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    layout: Arc<Layout>,
    initial: Vec<Initial>,
}

impl Parameters {
    /// Names and shapes.
    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// This list, if it lists anything.
    pub(crate) fn some(&self) -> Option<&Self> {
        (!self.layout.is_empty()).then_some(self)
    }

    /// Which tensors are the weight and the bias that [`ParametersBuilder::affine`] listed.
    pub(crate) fn affine(&self, name: &str) -> Option<[usize; 2]> {
        Some([self.layout.index_of(&format!("{name}/w"))?, self.layout.index_of(&format!("{name}/b"))?])
    }

    /// How tensor `index` begins.
    pub(crate) fn initial(&self, index: usize) -> &Initial {
        &self.initial[index]
    }
}

/// Lists parameters one after the other.
#[derive(Debug, Default)]
pub(crate) struct ParametersBuilder {
    tensors: Vec<TensorSpec>,
    initial: Vec<Initial>,
}

impl ParametersBuilder {
    /// One real tensor.
    pub(crate) fn tensor(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>, initial: Initial) {
        self.tensors.push(TensorSpec::new(name, shape));
        self.initial.push(initial);
    }

    /// A complex tensor as its real and imaginary parts, `<name>.re` and `<name>.im`, tagged as a pair.
    pub(crate) fn complex(&mut self, name: &str, shape: impl Into<Vec<usize>>, initial: Initial) {
        self.tensors.extend(TensorSpec::complex(name, shape));
        self.initial.extend([initial.clone(), initial]);
    }

    /// A weight `<name>/w`, whose last axis counts outputs, by Haiku's default, and a bias `<name>/b` of zeros.
    pub(crate) fn affine(&mut self, name: &str, shape: impl Into<Vec<usize>>) {
        let shape = shape.into();
        let outputs = shape.last().copied().unwrap_or(1);
        self.tensor(format!("{name}/w"), shape, Initial::FAN_IN);
        self.tensor(format!("{name}/b"), vec![outputs], Initial::ZEROS);
    }

    /// A complex weight `<name>/w`, whose last axis counts outputs, and a complex bias `<name>/b`, which begin as told.
    pub(crate) fn complex_affine(&mut self, name: &str, shape: impl Into<Vec<usize>>, [weight, bias]: [Initial; 2]) {
        let shape = shape.into();
        let outputs = shape.last().copied().unwrap_or(1);
        self.complex(&format!("{name}/w"), shape, weight);
        self.complex(&format!("{name}/b"), [outputs], bias);
    }

    /// Scale `<name>/scale` of ones and shift `<name>/shift` of zeros of a norm over `channels`.
    pub(crate) fn norm(&mut self, name: &str, channels: usize) {
        self.tensor(format!("{name}/scale"), vec![channels], Initial::Constant(1.0));
        self.tensor(format!("{name}/shift"), vec![channels], Initial::ZEROS);
    }

    /// The list.
    pub(crate) fn build(self) -> Parameters {
        let layout = Layout::new(self.tensors).expect("models name their tensors apart");
        Parameters { layout, initial: self.initial }
    }
}
