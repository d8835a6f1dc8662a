//! Networks on complex signals, and a graph layer in front of one.

use std::fmt::Debug;

use candle_core::{Result, Tensor, bail};

use super::phase_graph::PhaseGraph;
use crate::layers::complex::ComplexTensor;
use crate::layers::reshape;
use crate::problem::{Parameters, Pass};

/// A batch of complex signals.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// `[lanes | 1, batch, …, channels]`.
    pub(crate) values: ComplexTensor,
    /// The phase matrix of each, `[lanes | 1, batch, rows, columns]`, for a [`PhaseGraphNet`].
    pub(crate) phases: Option<Tensor>,
}

/// A network on complex signals.
pub(crate) trait SignalNet: Debug + Send + Sync {
    /// Its parameters, in the order in which [`SignalNet::outputs`] reads them.
    fn parameters(&self) -> &Parameters;

    /// What training changes beside them, likewise.
    fn state(&self) -> Option<&Parameters>;

    /// `[lanes, batch, outputs]`; moduli are what a classifier takes for logits.
    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor>;

    /// What it is, in a few words.
    fn describe(&self) -> String;
}

/// A graph of an example's rows, whose values over its columns are features of nodes, and a network behind it.
#[derive(Debug)]
pub(crate) struct PhaseGraphNet {
    graph: PhaseGraph,
    net: Box<dyn SignalNet>,
}

impl PhaseGraphNet {
    /// The parameters of `net` begin with those of the graph.
    pub(crate) fn new(graph: PhaseGraph, net: Box<dyn SignalNet>) -> Self {
        Self { graph, net }
    }
}

impl SignalNet for PhaseGraphNet {
    fn parameters(&self) -> &Parameters {
        self.net.parameters()
    }

    fn state(&self) -> Option<&Parameters> {
        self.net.state()
    }

    fn outputs(&self, pass: &mut Pass<'_>, signals: &Signals) -> Result<ComplexTensor> {
        let Some(phases) = &signals.phases else { bail!("a graph of phases needs signals with phases") };
        let (features, _) = signals.values.parts(&mut pass.tape)?;
        let features = reshape(&mut pass.tape, &features, phases.dims())?;
        let nodes = self.graph.apply(pass, &features, phases)?;
        let images = reshape(&mut pass.tape, &nodes, &[nodes.dims(), &[1]].concat())?;
        let values = ComplexTensor::from_real(&mut pass.tape, &images)?;
        self.net.outputs(pass, &Signals { values, phases: None })
    }

    fn describe(&self) -> String {
        format!("graph of feature rows, {}", self.net.describe())
    }
}
