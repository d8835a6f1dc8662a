//! Networks that classify the nodes of a graph.
//!
//! ```text
//!  features ─ dropout ─► layer ─ activation ─ dropout ─► layer ─► … ─► logits of every node
//!  (sparse)                ▲                               ▲
//!                          └────────── graph ──────────────┘
//! ```
//!
//! Weights begin as Glorot and Bengio's (2010), uniform of variance 2 / (in + out), as in the papers of all three layers.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::blocks::{act, drop};
use crate::cost;
use crate::graph::features::Features;
use crate::graph::sparse::Graph;
use crate::layers::graph::{Attention, Heads, Nodes, Sage, gat, gcn, mean_weights, sage};
use crate::layers::{Activation, Nonlinearity, reshape};
use crate::problem::{Initial, Mode, Parameters, ParametersBuilder, Pass};

/// How nodes see their neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GraphLayer {
    /// Sums normalised by degrees (Kipf and Welling, arXiv 1609.02907).
    Gcn,
    /// Attention (Veličković et al., arXiv 1710.10903).
    Gat {
        /// Heads of a hidden layer, side by side.
        heads: usize,
        /// Heads of the last layer, averaged.
        output_heads: usize,
    },
    /// The node itself and the mean of its neighbours, apart (Hamilton, Ying and Leskovec, arXiv 1706.02216).
    Sage,
}

impl GraphLayer {
    /// The graph as this layer takes it.
    pub(crate) fn prepare(self, graph: &Graph) -> Graph {
        match self {
            Self::Gcn => graph.gcn_normalised(),
            Self::Gat { .. } => graph.with_self_loops(),
            Self::Sage => graph.clone(),
        }
    }

    /// Features of a node behind a hidden layer of this width.
    fn outputs(self, width: usize) -> usize {
        match self {
            Self::Gat { heads, .. } => heads * width,
            Self::Gcn | Self::Sage => width,
        }
    }

    fn list(self, name: &str, inputs: usize, width: usize, last: bool, parameters: &mut ParametersBuilder) {
        match self {
            Self::Gcn => parameters.tensor(format!("{name}/w"), [inputs, width], glorot(inputs, width)),
            Self::Gat { heads, output_heads } => {
                let heads = if last { output_heads } else { heads };
                parameters.tensor(format!("{name}/w"), [inputs, heads * width], glorot(inputs, heads * width));
                parameters.tensor(format!("{name}/source"), [heads, width], glorot(width, 1));
                parameters.tensor(format!("{name}/target"), [heads, width], glorot(width, 1));
            }
            Self::Sage => {
                parameters.tensor(format!("{name}/own"), [inputs, width], glorot(inputs, width));
                parameters.tensor(format!("{name}/neighbour"), [inputs, width], glorot(inputs, width));
            }
        }
        let outputs = if last { width } else { self.outputs(width) };
        parameters.tensor(format!("{name}/b"), [outputs], Initial::ZEROS);
    }

    /// The output, and the matrices that its input was multiplied by.
    fn apply<'a>(
        self,
        pass: &mut Pass<'a>,
        nodes: Nodes<'_>,
        graphs: &[Arc<Graph>],
        last: bool,
        activation: Activation,
    ) -> Result<(Tensor, Vec<&'a Tensor>)> {
        match self {
            Self::Gcn => {
                let (weight, bias) = (pass.weight()?, pass.weight()?);
                let output = gcn(&mut pass.tape, nodes, graphs, None, (weight, bias), activation)?;
                Ok((output, vec![weight]))
            }
            Self::Gat { .. } => {
                let weight = pass.weight()?;
                let weights =
                    Attention { weight, source: pass.weight()?, target: pass.weight()?, bias: pass.weight()? };
                let heads = if last { Heads::Mean } else { Heads::Concat };
                Ok((gat(&mut pass.tape, nodes, graphs, weights, heads, activation)?, vec![weight]))
            }
            Self::Sage => {
                let (own, neighbour) = (pass.weight()?, pass.weight()?);
                let mean = mean_weights(graphs, own.dtype())?;
                let weights = Sage { own, neighbour, bias: pass.weight()? };
                let output = sage(&mut pass.tape, nodes, graphs, &mean, weights, activation)?;
                Ok((output, vec![own, neighbour]))
            }
        }
    }
}

fn glorot(inputs: usize, outputs: usize) -> Initial {
    Initial::Uniform { limit: (6.0 / (inputs + outputs) as f32).sqrt() }
}

/// Graph layers with activations and dropout between them.
#[derive(Debug)]
pub(crate) struct GraphNet {
    layer: GraphLayer,
    widths: Vec<usize>,
    dropout: f64,
    parameters: Parameters,
}

impl GraphNet {
    /// `widths` are the features, the hidden layers (of a head, where there are heads), and the classes; `dropout` is the
    /// share of each layer's inputs dropped.
    pub(crate) fn new(layer: GraphLayer, widths: Vec<usize>, dropout: f64) -> Self {
        let mut parameters = ParametersBuilder::default();
        let mut inputs = widths[0];
        for (index, &width) in widths[1..].iter().enumerate() {
            layer.list(&format!("layer_{index}"), inputs, width, index + 2 == widths.len(), &mut parameters);
            inputs = layer.outputs(width);
        }
        Self { layer, widths, dropout, parameters: parameters.build() }
    }

    /// In the order in which [`GraphNet::logits`] reads them.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How its layers see the graph.
    pub(crate) fn layer(&self) -> GraphLayer {
        self.layer
    }

    /// Logits `[lanes, nodes, classes]` of all nodes, and the matrices of the first layer. `graphs` are
    /// [prepared](GraphLayer::prepare), they and `features` one for all lanes or one a lane.
    pub(crate) fn logits<'a>(
        &self,
        pass: &mut Pass<'a>,
        activations: &[Nonlinearity],
        graphs: &[Arc<Graph>],
        features: &[Arc<Features>],
    ) -> Result<(Tensor, Vec<&'a Tensor>)> {
        let dropped = self.drop_features(pass, features);
        let features = dropped.as_deref().unwrap_or(features);
        let layers = self.widths.len() - 1;
        let fused = activations.iter().all(|choice| *choice == Nonlinearity::Relu);
        let activation = |last: bool| if fused && !last { Activation::Relu } else { Activation::Identity };
        let (mut values, first) =
            self.layer.apply(pass, Nodes::Sparse(features), graphs, layers == 1, activation(layers == 1))?;
        for index in 1..layers {
            if !fused {
                values = act(pass, activations, &values)?;
            }
            values = drop(pass, self.dropout, &values)?;
            let last = index + 1 == layers;
            values = self.layer.apply(pass, Nodes::Dense(&values), graphs, last, activation(last))?.0;
        }
        let (lanes, _, nodes, classes) = values.dims4()?;
        Ok((reshape(&mut pass.tape, &values, &[lanes, nodes, classes])?, first))
    }

    /// The features of each lane in this step, if some are dropped.
    fn drop_features(&self, pass: &mut Pass<'_>, features: &[Arc<Features>]) -> Option<Vec<Arc<Features>>> {
        if self.dropout == 0.0 || pass.mode == Mode::Evaluate {
            return None;
        }
        let each = pass.next_seeds().into_iter().enumerate().map(|(lane, seed)| {
            let features = if features.len() == 1 { &features[0] } else { &features[lane] };
            let dropped = features.dropped(self.dropout, seed);
            // The first layer's backward pass is the last of a step: they live as long as the step.
            cost::hold(dropped.bytes() as f64);
            Arc::new(dropped)
        });
        Some(each.collect())
    }

    /// What it is, in a few words.
    pub(crate) fn describe(&self) -> String {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        let layer = match self.layer {
            GraphLayer::Gcn => "gcn".into(),
            GraphLayer::Gat { heads, output_heads } => format!("gat of {heads} heads ({output_heads} last)"),
            GraphLayer::Sage => "sage".into(),
        };
        let dropout = if self.dropout > 0.0 { format!(", dropout {}", self.dropout) } else { String::new() };
        format!("{layer} {}{dropout}", widths.join("-"))
    }
}
