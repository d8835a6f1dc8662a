//! `graph_gcn`, `graph_gat`, `graph_sage`: classify the nodes of a graph.
//!
//! With `data = "cora"` the other defaults of `graph_gcn` are the recipe of Kipf and Welling (arXiv 1609.02907, section
//! 5.2): one hidden layer of 16, dropout 0.5, l2 5e-4, rows of features that sum to 1, all 140 labelled nodes in every
//! step. They train it for 200 steps of Adam at 0.01.

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choices, Initialiser, OneOf, Scale};
use super::node_classifier::{NodeClassifier, NodeTask};
use super::settings::{FamilySettings, check_choices, check_dropout, check_widths, family, refuse};
use crate::Error;
use crate::graph::nodes::{NodeSettings, NodeSource};
use crate::graph::sbm::SbmSettings;
use crate::layers::Nonlinearity;
use crate::models::{GraphLayer, GraphNet};

/// Nodes a batch of a procedural graph scores by default: fewer than there are, so that batches differ.
const DRAWN: usize = 32;

/// Whose graph it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GraphOf {
    /// All tasks have the graph of `data_seed`; they differ in weights and batches.
    #[default]
    Family,
    /// Each task draws its own procedural graph.
    Task,
}

/// How many training nodes a batch scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum BatchSize {
    /// So many, drawn for each batch.
    Nodes(usize),
    /// As the word says.
    Word(BatchWord),
}

/// See [`BatchSize`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BatchWord {
    /// All of Cora, as published; 32 of a procedural graph (or all, if it has no more).
    Auto,
    /// All.
    All,
}

/// What the settings of all three families say.
struct Common {
    data: NodeSource,
    graph: GraphOf,
    sbm: SbmSettings,
    data_seed: u64,
    normalise: bool,
    hidden: Vec<usize>,
    dropout: f64,
    l2: f64,
    choices: Choices,
    batch_size: BatchSize,
}

fn build<S: FamilySettings>(
    common: Common,
    layer: GraphLayer,
    data_dir: Option<&Path>,
) -> Result<Arc<dyn Family>, Error> {
    let Common { data: source, graph, sbm, data_seed, normalise, hidden, dropout, l2, choices, batch_size } = common;
    check_widths::<S>("hidden", &hidden)?;
    check_dropout::<S>(dropout)?;
    check_choices::<S>(&choices)?;
    if let GraphLayer::Gat { heads, output_heads } = layer {
        check_widths::<S>("heads, output_heads", &[heads, output_heads])?;
        let outputs: Vec<usize> = hidden.iter().map(|width| heads * width).collect();
        check_widths::<S>("hidden times heads", &outputs)?;
    }
    if !(0.0..=1.0).contains(&l2) {
        return Err(refuse::<S>(format!("l2 must be 0 to 1 (got {l2})")));
    }
    let source = source.resolve(data_dir);
    if graph == GraphOf::Task && source == NodeSource::Cora {
        return Err(refuse::<S>("graph = \"task\" draws procedural graphs, but data is cora, of which there is one"));
    }
    let data = NodeSettings { source, normalise, sbm, data_seed }.load(S::NAME, data_dir)?;
    let train = data.nodes(Split::Train).len();
    let batch_size = match batch_size {
        BatchSize::Nodes(nodes) if (1..=train).contains(&nodes) => nodes,
        BatchSize::Nodes(nodes) => {
            let reason = format!("batch_size must be \"auto\", \"all\" or 1 to {train}, the labelled training nodes");
            return Err(refuse::<S>(format!("{reason} (got {nodes})")));
        }
        BatchSize::Word(BatchWord::Auto) if source != NodeSource::Cora => DRAWN.min(train),
        BatchSize::Word(BatchWord::Auto | BatchWord::All) => train,
    };
    let mut widths = vec![data.features.columns()];
    widths.extend(hidden);
    widths.push(data.classes);
    let net = GraphNet::new(layer, widths, dropout);
    let shared = NodeTask::new(data, &net);
    let own = (graph == GraphOf::Task).then_some((sbm, data_seed));
    family::<S>("hidden", NodeClassifier { name: S::NAME, net, shared, own, choices, l2, batch_size })
}

/// The settings of one family: those that all have, and its own.
macro_rules! node_family {
    (
        $family:ident, $name:literal, $summary:literal, hidden $hidden:expr,
        { $($(#[$doc:meta])* $own:ident: $type:ty = $default:expr,)* }, $layer:expr
    ) => {
        #[doc = concat!("Settings of `", $name, "`.")]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $family {
            /// Where the graph comes from.
            data: NodeSource,
            /// Whether tasks share the graph: `family` or `task`.
            graph: GraphOf,
            /// Seed of a procedural graph.
            data_seed: u64,
            /// Nodes of a procedural graph.
            nodes: usize,
            /// Classes of a procedural graph.
            classes: usize,
            /// Probability of an edge within a class of a procedural graph.
            p_in: f64,
            /// Probability of an edge between classes of a procedural graph.
            p_out: f64,
            /// Features of a node of a procedural graph.
            features: usize,
            /// How far the features of a node are from its class's, in a procedural graph.
            noise: f64,
            /// Whether Cora's features sum to 1 in each row instead of being 0 and 1.
            normalise_rows: bool,
            /// Widths of the hidden layers.
            hidden: Vec<usize>,
            $($(#[$doc])* $own: $type,)*
            /// Share of each layer's inputs dropped while training: of the features, those that are not zero.
            dropout: f64,
            /// Factor of half the squares of the first layer's matrices, added to the training loss.
            l2: f64,
            /// Hidden activation: one, or several of which each task draws one.
            activation: OneOf<Nonlinearity>,
            /// Initial weights: one law, or several of which each task draws one; `default` is Glorot's.
            initialiser: OneOf<Initialiser>,
            /// Factor of the initial weights, or a range from which each task draws one.
            initial_scale: Scale,
            /// Training nodes that a batch scores: a number, `all`, or `auto` (all of Cora, 32 of a procedural graph).
            batch_size: BatchSize,
        }

        impl Default for $family {
            fn default() -> Self {
                let SbmSettings { nodes, classes, p_in, p_out, features, noise } = SbmSettings::default();
                Self {
                    data: NodeSource::default(),
                    graph: GraphOf::default(),
                    data_seed: 0,
                    nodes,
                    classes,
                    p_in,
                    p_out,
                    features,
                    noise,
                    normalise_rows: true,
                    hidden: $hidden,
                    $($own: $default,)*
                    dropout: 0.5,
                    l2: 5e-4,
                    activation: OneOf::One(Nonlinearity::Relu),
                    initialiser: OneOf::One(Initialiser::Default),
                    initial_scale: Scale::Fixed(1.0),
                    batch_size: BatchSize::Word(BatchWord::Auto),
                }
            }
        }

        impl FamilySettings for $family {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;

            fn resolve(self, data_dir: Option<&Path>) -> Self {
                Self { data: self.data.resolve(data_dir), ..self }
            }

            fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
                let layer = ($layer)(&self);
                let Self { nodes, classes, p_in, p_out, features, noise, activation, initialiser, .. } = self;
                let common = Common {
                    data: self.data,
                    graph: self.graph,
                    sbm: SbmSettings { nodes, classes, p_in, p_out, features, noise },
                    data_seed: self.data_seed,
                    normalise: self.normalise_rows,
                    hidden: self.hidden,
                    dropout: self.dropout,
                    l2: self.l2,
                    choices: Choices { activation, initialiser, scale: self.initial_scale },
                    batch_size: self.batch_size,
                };
                build::<Self>(common, layer, data_dir)
            }
        }
    };
}

node_family!(GraphGcn, "graph_gcn", "classify nodes with graph convolutions", hidden vec![16], {}, |_: &Self| {
    GraphLayer::Gcn
});

node_family!(
    GraphGat,
    "graph_gat",
    "classify nodes with graph attention",
    hidden vec![8],
    {
        /// Attention heads of a hidden layer, side by side.
        heads: usize = 4,
        /// Attention heads of the last layer, averaged.
        output_heads: usize = 1,
    },
    |settings: &Self| GraphLayer::Gat { heads: settings.heads, output_heads: settings.output_heads }
);

node_family!(
    GraphSage,
    "graph_sage",
    "classify nodes by themselves and the mean of their neighbours",
    hidden vec![16],
    {},
    |_: &Self| GraphLayer::Sage
);
