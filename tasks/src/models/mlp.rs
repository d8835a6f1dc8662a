//! The multilayer perceptron: linear layers with relu between them, on flattened images.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::Layout;

use super::{Model, weights_and_biases};
use crate::layers::{Activation, Tape, linear};

/// Linear layers with relu between them.
#[derive(Debug)]
pub(crate) struct Mlp {
    widths: Vec<usize>,
    layout: Arc<Layout>,
}

impl Mlp {
    /// `widths` are the input, the hidden layers, and the classes.
    pub(crate) fn new(widths: Vec<usize>) -> Self {
        let layers = widths.windows(2).enumerate();
        let layout = weights_and_biases(layers.map(|(index, pair)| (format!("layer_{index}"), pair.to_vec())));
        Self { widths, layout }
    }
}

impl Model for Mlp {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn logits(&self, tape: &mut Tape, weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let layers = weights.chunks_exact(2);
        let last = layers.len() - 1;
        layers.enumerate().try_fold(images.clone(), |activations, (index, layer)| {
            let activation = if index == last { Activation::Identity } else { Activation::Relu };
            linear(tape, &activations, &layer[0], &layer[1], activation)
        })
    }

    fn describe(&self) -> String {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        format!("mlp {} relu", widths.join("-"))
    }
}
