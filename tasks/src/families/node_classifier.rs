//! Node classification: a network on a graph of which some nodes are labelled.
//!
//! ```text
//!  graph, features of all nodes ─► network ─► logits of all nodes ─► cross-entropy of those that the batch scores
//!                                                                    + l2 / 2 · |first layer|², while training
//! ```
//!
//! Every pass sees the whole graph. A training batch scores some training nodes, drawn without replacement; on the other
//! splits every batch scores all nodes of the split, as that costs the same.
//!
//! The penalty is Kipf and Welling's: 5e-4 on the first layer alone (arXiv 1609.02907, section 5.2), part of the training
//! loss and so of the gradients. Training batches are scored as training sees them, with penalty and dropout; the other
//! splits without both.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor};
use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};

use super::choices::{Choice, Choices};
use crate::data::shuffled;
use crate::graph::features::Features;
use crate::graph::neighbourhood::{edges_among, neighbourhood};
use crate::graph::nodes::NodeData;
use crate::graph::sbm::{SbmSettings, generate};
use crate::graph::sparse::Graph;
use crate::layers::{Nonlinearity, add, half_squares, token_cross_entropy};
use crate::models::GraphNet;
use crate::problem::{Classified, Initial, Mode, Parameters, Pass, Problem, Scores, TestSplit};
use crate::sample::Panel;

/// The label of nodes that a batch does not score.
const UNSCORED: u32 = u32::MAX;
/// Most nodes of a picture.
const MAX_SHOWN: usize = 120;

/// Softmax cross-entropy of a network on labelled nodes.
pub(super) struct NodeClassifier {
    pub(super) name: &'static str,
    pub(super) net: GraphNet,
    /// The graph that all tasks share.
    pub(super) shared: NodeTask,
    /// How each task draws a graph of its own instead, if it does, and the seed of all such graphs.
    pub(super) own: Option<(SbmSettings, u64)>,
    pub(super) choices: Choices,
    /// Factor of the penalty.
    pub(super) l2: f64,
    /// Training nodes that a batch scores.
    pub(super) batch_size: usize,
}

/// A graph with labels, and as the network takes it.
#[derive(Clone)]
pub(super) struct NodeTask {
    data: Arc<NodeData>,
    graph: Arc<Graph>,
}

impl NodeTask {
    pub(super) fn new(data: Arc<NodeData>, net: &GraphNet) -> Self {
        Self { graph: Arc::new(net.layer().prepare(&data.graph)), data }
    }

    /// The label of each node that batch `number` scores, and [`UNSCORED`] elsewhere.
    fn labels(&self, seed: Seed, split: Split, number: u64, size: usize) -> Vec<u32> {
        let nodes = self.data.nodes(split);
        let mut labels = vec![UNSCORED; self.data.labels.len()];
        let mut score = |node: u32| labels[node as usize] = self.data.labels[node as usize];
        match split {
            Split::Train => {
                let order = shuffled(nodes.len(), seed.purpose(Purpose::Batch).fold_in(number));
                order[..size].iter().for_each(|&place| score(nodes[place]));
            }
            Split::InnerValid | Split::OuterValid | Split::Test => nodes.iter().for_each(|&node| score(node)),
        }
        labels
    }
}

impl NodeClassifier {
    /// The graphs and features of the lanes: one for all where all have the same.
    fn inputs(&self, tasks: &[(Seed, (Choice, NodeTask))]) -> (Vec<Arc<Graph>>, Vec<Arc<Features>>) {
        let tasks = if self.own.is_some() { tasks } else { &tasks[..1] };
        tasks.iter().map(|(_, (_, task))| (Arc::clone(&task.graph), Arc::clone(&task.data.features))).unzip()
    }
}

impl fmt::Debug for NodeClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (net, parameters) = (self.net.describe(), self.parameters().layout().size());
        write!(f, "{net}, {}, {parameters} parameters, ", self.choices)?;
        if self.l2 > 0.0 {
            write!(f, "l2 {} on the first layer, ", self.l2)?;
        }
        let (batch, train) = (self.batch_size, self.shared.data.nodes(Split::Train).len());
        write!(f, "batch {batch} of {train} nodes, data {:?}", self.shared.data)?;
        if self.own.is_some() { write!(f, ", drawn anew for each task") } else { Ok(()) }
    }
}

impl Problem for NodeClassifier {
    type Instance = (Choice, NodeTask);
    /// Labels `[lanes | 1, nodes]` row by row.
    type Batch = Arc<Vec<u32>>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn parameters(&self) -> &Parameters {
        self.net.parameters()
    }

    fn instance(&self, seed: Seed) -> (Choice, NodeTask) {
        let task = match self.own {
            None => self.shared.clone(),
            Some((sbm, data_seed)) => NodeTask::new(Arc::new(generate(seed.fold_in(data_seed), sbm)), &self.net),
        };
        (self.choices.draw(seed), task)
    }

    fn initial(&self, (choice, _): &(Choice, NodeTask), index: usize) -> Initial {
        choice.initial(self.parameters(), index)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Every test batch scores all.
    fn test_split(&self) -> Option<TestSplit> {
        let nodes = self.shared.data.nodes(Split::Test).len();
        TestSplit::new(nodes, nodes)
    }

    fn batch(
        &self,
        tasks: &[(Seed, (Choice, NodeTask))],
        split: Split,
        number: u64,
        size: usize,
    ) -> Result<Arc<Vec<u32>>> {
        let labels = tasks.iter().flat_map(|(seed, (_, task))| task.labels(*seed, split, number, size));
        Ok(Arc::new(labels.collect()))
    }

    fn tensors(_: &Arc<Vec<u32>>) -> Vec<&Tensor> {
        vec![]
    }

    fn losses(
        &self,
        pass: &mut Pass<'_>,
        tasks: &[(Seed, (Choice, NodeTask))],
        labels: &Arc<Vec<u32>>,
    ) -> Result<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, (choice, _))| choice.activation).collect();
        let (graphs, features) = self.inputs(tasks);
        let (logits, first) = self.net.logits(pass, &activations, &graphs, &features)?;
        let mut losses = token_cross_entropy(&mut pass.tape, &logits, labels, Some(UNSCORED))?;
        if self.l2 > 0.0 && pass.mode == Mode::Train {
            for weight in first {
                let penalty = half_squares(&mut pass.tape, weight, self.l2)?;
                losses = add(&mut pass.tape, &losses, &penalty)?;
            }
        }
        let classified = Classified { logits, labels: Arc::clone(labels), padding: Some(UNSCORED) };
        Ok(Scores { losses, classified: Some(classified) })
    }

    /// `clip(loss, 0, 1.5 ln classes)`, as for images; not a number is the ceiling.
    fn normalise(&self, loss: f64) -> f64 {
        let ceiling = 1.5 * (self.shared.data.classes as f64).ln();
        if loss.is_finite() { loss.clamp(0.0, ceiling) } else { ceiling }
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let (_, NodeTask { data, .. }) = self.instance(seed);
        let labelled = data.nodes(Split::Train);
        let start = labelled[Draws::new(seed.purpose(Purpose::Batch)).below(labelled.len() as u32) as usize];
        let nodes = neighbourhood(&data.graph, start as usize, MAX_SHOWN);
        let title = match nodes.len() == data.graph.nodes() {
            true => format!("the graph of {}", data.origin),
            false => format!("the {} nodes nearest to node {start} of {}", nodes.len(), data.origin),
        };
        let edges = edges_among(&data.graph, &nodes);
        vec![Panel::Graph { title, nodes: nodes.iter().map(|&node| data.labels[node]).collect(), edges }]
    }
}
