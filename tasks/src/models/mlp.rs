//! The multilayer perceptron: linear layers with an activation between them, on flattened images.

use candle_core::{Result, Tensor};
use paceline_optimizer_core::feed_forward::Layer;

use super::Model;
use super::blocks::{Norm, affine, drop};
use crate::layers::Nonlinearity;
use crate::problem::{Parameters, ParametersBuilder, Pass};

/// Linear layers with norms, activations and dropout between them.
#[derive(Debug)]
pub(crate) struct Mlp {
    widths: Vec<usize>,
    norm: Norm,
    dropout: f64,
    parameters: Parameters,
    state: Parameters,
}

impl Mlp {
    /// `widths` are the input, the hidden layers, and the classes; `dropout` is the share of hidden units dropped.
    pub(crate) fn new(widths: Vec<usize>, norm: Norm, dropout: f64) -> Self {
        let (mut parameters, mut state) = (ParametersBuilder::default(), ParametersBuilder::default());
        for (index, pair) in widths.windows(2).enumerate() {
            let norm = if index + 2 < widths.len() { norm } else { Norm::None };
            let names = [format!("layer_{index}"), format!("norm_{index}")];
            norm.list_affine([&names[0], &names[1]], pair, &mut parameters, &mut state);
        }
        Self { widths, norm, dropout, parameters: parameters.build(), state: state.build() }
    }
}

impl Model for Mlp {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn state(&self) -> Option<&Parameters> {
        self.state.some()
    }

    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor> {
        let mut values = images.clone();
        for _ in 2..self.widths.len() {
            values = affine(pass, activations, self.norm, &values)?;
            values = drop(pass, self.dropout, &values)?;
        }
        affine(pass, &[Nonlinearity::Identity], Norm::None, &values)
    }

    fn plain_layers(&self) -> Option<Vec<Layer>> {
        if self.norm != Norm::None || self.dropout > 0.0 {
            return None;
        }
        let layers = self.widths[1..].iter().enumerate().map(|(layer, &outputs)| {
            let [weight, bias] = self.parameters.affine(&format!("layer_{layer}"))?;
            Some(Layer::Linear { weight, bias, outputs })
        });
        layers.collect()
    }

    fn describe(&self) -> String {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        let norm = match self.norm {
            Norm::None => "",
            Norm::Layer => ", layer norm",
            Norm::Batch => ", batch norm",
        };
        let dropout = if self.dropout > 0.0 { format!(", dropout {}", self.dropout) } else { String::new() };
        format!("mlp {}{norm}{dropout}", widths.join("-"))
    }
}
