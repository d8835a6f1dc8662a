//! A network that scores whole graphs.
//!
//! ```text
//!  atoms ─► message passing ─ relu ─► … ─► readout of each graph ─► affine ─ relu ─► affine ─► outputs
//!              ▲                    ▲
//!            bonds                bonds
//! ```

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::blocks::{Norm, act, affine};
use crate::graph::sparse::Graph;
use crate::layers::graph::{Membership, MessagePassing, Nodes, Readout, message_passing, readout};
use crate::layers::{Activation, Nonlinearity, reshape};
use crate::problem::{Initial, Parameters, ParametersBuilder, Pass};

/// Rounds of message passing (Gilmer et al., arXiv 1704.01212), a readout, and a hidden layer.
#[derive(Debug)]
pub(crate) struct MessageNet {
    width: usize,
    rounds: usize,
    readout: Readout,
    parameters: Parameters,
}

/// Graphs of a batch as one disjoint union a lane, or one that all lanes share.
#[derive(Debug)]
pub(crate) struct Unions {
    /// One a lane, or one for all.
    pub(crate) graphs: Vec<Arc<Graph>>,
    /// Which nodes are of which graph, likewise.
    pub(crate) members: Vec<Arc<Membership>>,
    /// `[lanes | 1, 1, nodes, features]`.
    pub(crate) nodes: Tensor,
    /// `[lanes | 1, 1, edges, features]`, with room for the most edges that a batch can have.
    pub(crate) edges: Tensor,
}

impl MessageNet {
    /// `width` is that of messages, of nodes between rounds, and of the hidden layer.
    pub(crate) fn new([node, edge]: [usize; 2], width: usize, rounds: usize, readout: Readout, outputs: usize) -> Self {
        let mut parameters = ParametersBuilder::default();
        let mut inputs = node;
        for round in 0..rounds {
            let name = format!("round_{round}");
            parameters.tensor(format!("{name}/source"), [inputs, width], Initial::FAN_IN);
            parameters.affine(&format!("{name}/edge"), [edge, width]);
            parameters.tensor(format!("{name}/message"), [width, width], Initial::FAN_IN);
            parameters.tensor(format!("{name}/own"), [inputs, width], Initial::FAN_IN);
            parameters.tensor(format!("{name}/b"), [width], Initial::ZEROS);
            inputs = width;
        }
        parameters.affine("hidden", [inputs, width]);
        parameters.affine("output", [width, outputs]);
        Self { width, rounds, readout, parameters: parameters.build() }
    }

    /// In the order in which [`MessageNet::outputs`] reads them.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// `[lanes, graphs, outputs]`.
    pub(crate) fn outputs(&self, pass: &mut Pass<'_>, activations: &[Nonlinearity], input: &Unions) -> Result<Tensor> {
        let fused = activations.iter().all(|choice| *choice == Nonlinearity::Relu);
        let activation = if fused { Activation::Relu } else { Activation::Identity };
        let mut values = input.nodes.clone();
        for _ in 0..self.rounds {
            let weights = MessagePassing {
                source: pass.weight()?,
                edge: (pass.weight()?, pass.weight()?),
                message: pass.weight()?,
                own: pass.weight()?,
                bias: pass.weight()?,
            };
            let nodes = Nodes::Dense(&values);
            let passed = message_passing(&mut pass.tape, nodes, &input.edges, &input.graphs, weights, activation)?;
            values = if fused { passed } else { act(pass, activations, &passed)? };
        }
        let together = readout(&mut pass.tape, &values, &input.members, self.readout)?;
        let (lanes, _, graphs, features) = together.dims4()?;
        let together = reshape(&mut pass.tape, &together, &[lanes, graphs, features])?;
        let hidden = affine(pass, activations, Norm::None, &together)?;
        affine(pass, &[Nonlinearity::Identity], Norm::None, &hidden)
    }

    /// What it is, in a few words.
    pub(crate) fn describe(&self) -> String {
        format!("{} rounds of messages of width {}, {:?} readout", self.rounds, self.width, self.readout)
    }
}
