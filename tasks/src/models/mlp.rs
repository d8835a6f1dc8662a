//! The multilayer perceptron: linear layers with relu between them, on flattened images.

use candle_core::{Result, Tensor};

use super::Model;
use crate::layers::{Activation, linear};
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// Linear layers with relu between them.
#[derive(Debug)]
pub(crate) struct Mlp {
    widths: Vec<usize>,
    parameters: Parameters,
}

impl Mlp {
    /// `widths` are the input, the hidden layers, and the classes.
    pub(crate) fn new(widths: Vec<usize>) -> Self {
        let mut parameters = ParametersBuilder::default();
        for (index, pair) in widths.windows(2).enumerate() {
            parameters.affine(&format!("layer_{index}"), pair);
        }
        Self { widths, parameters: parameters.build() }
    }
}

impl Model for Mlp {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Tensor> {
        let layers = self.widths.len() - 1;
        (1..=layers).try_fold(images.clone(), |activations, layer| {
            let activation = if layer == layers { Activation::Identity } else { Activation::Relu };
            let (weight, bias) = (pass.weight()?, pass.weight()?);
            linear(&mut pass.tape, &activations, weight, bias, activation)
        })
    }

    fn describe(&self) -> String {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        format!("mlp {} relu", widths.join("-"))
    }
}
