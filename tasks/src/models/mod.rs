//! Networks: their parameters and how they turn images into logits.

mod conv_net;
mod mlp;

pub(crate) use conv_net::{ConvNet, Downsampling};
pub(crate) use mlp::Mlp;

use std::fmt::Debug;

use candle_core::{Result, Tensor};

use crate::problem::{Parameters, Pass};

/// A classifier of images.
pub(crate) trait Model: Debug + Send + Sync {
    /// Its parameters, in the order in which [`Model::logits`] reads them.
    fn parameters(&self) -> &Parameters;

    /// What training changes beside them, likewise.
    fn state(&self) -> Option<&Parameters> {
        None
    }

    /// Logits `[lanes, batch, classes]` of images `[lanes | 1, batch, height, width, channels]`.
    fn logits(&self, pass: &mut Pass<'_>, images: &Tensor) -> Result<Tensor>;

    /// What it is, in a few words.
    fn describe(&self) -> String;
}
