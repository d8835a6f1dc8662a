//! Networks: the shapes of their parameters and how they turn images into logits.

mod conv_net;
mod mlp;

pub(crate) use conv_net::{ConvNet, Downsampling};
pub(crate) use mlp::Mlp;

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::{Layout, TensorSpec};

use crate::layers::Tape;

/// A classifier of images.
pub(crate) trait Model: Debug + Send + Sync {
    /// Names and shapes of its parameters. Tensors of one axis are biases, of more axes weights whose last axis is the
    /// output.
    fn layout(&self) -> &Arc<Layout>;

    /// Logits `[lanes, batch, classes]` of images `[lanes | 1, batch, height, width, channels]` under weights
    /// `[lanes, shape…]` in the order of the layout; `tape` remembers the way.
    fn logits(&self, tape: &mut Tape, weights: &[Tensor], images: &Tensor) -> Result<Tensor>;

    /// What it is, in a few words.
    fn describe(&self) -> String;
}

/// The layout of alternating weights and biases: `<name>/w` of the shape given and `<name>/b` of its last axis.
fn weights_and_biases(layers: impl Iterator<Item = (String, Vec<usize>)>) -> Arc<Layout> {
    let tensors = layers.flat_map(|(name, shape)| {
        let outputs = shape.last().copied().unwrap_or(1);
        [TensorSpec::new(format!("{name}/w"), shape), TensorSpec::new(format!("{name}/b"), vec![outputs])]
    });
    Layout::new(tensors.collect()).expect("layers have distinct names")
}
