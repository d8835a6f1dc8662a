//! Networks: their parameters and how they turn images into logits.

mod blocks;
mod complex_mlp;
mod complex_net;
mod complex_parts;
mod conv_net;
mod graph_net;
mod language;
mod message_net;
mod mixer;
mod mlp;
mod phase_graph;
mod res_net;
mod signals;
mod vae;
mod vit;

pub(crate) use blocks::{Norm, Tokens};
pub(crate) use complex_mlp::{ComplexMlp, DelayNet};
pub(crate) use complex_net::{ComplexNet, NetSizes, RealNet};
pub(crate) use complex_parts::Hidden;
pub(crate) use conv_net::{ConvNet, Downsampling};
pub(crate) use graph_net::{GraphLayer, GraphNet};
pub(crate) use language::{DecoderModel, RnnModel, RnnSizes, TokenModel};
pub(crate) use message_net::{MessageNet, Unions};
pub(crate) use mixer::{Mixer, MixerSizes};
pub(crate) use mlp::Mlp;
pub(crate) use phase_graph::{EdgeWeights, PhaseGraph, WeightMoments};
pub(crate) use res_net::{ResNet, Stem};
pub(crate) use signals::{PhaseGraphNet, SignalNet, Signals};
pub(crate) use vae::Vae;
pub(crate) use vit::Vit;

use std::fmt::Debug;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::feed_forward::Layer;

use crate::layers::Nonlinearity;
use crate::problem::{Parameters, Pass};

/// A classifier of images.
pub(crate) trait Model: Debug + Send + Sync {
    /// Its parameters, in the order in which [`Model::logits`] reads them.
    fn parameters(&self) -> &Parameters;

    /// What training changes beside them, likewise.
    fn state(&self) -> Option<&Parameters> {
        None
    }

    /// Logits `[lanes, batch, classes]` of images `[lanes | 1, batch, height, width, channels]`, with one hidden
    /// activation a lane.
    fn logits(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], images: &Tensor) -> Result<Tensor>;

    /// Its layers, if it is nothing but these, with an activation behind all that have weights but the last.
    fn plain_layers(&self) -> Option<Vec<Layer>> {
        None
    }

    /// What it is, in a few words.
    fn describe(&self) -> String;
}
