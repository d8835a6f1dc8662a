//! Node classification: one graph, the class of each node, and which nodes each split scores.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::sbm::SbmSettings;
use super::sparse::Graph;
use super::{cora, sbm};
use crate::Error;
use crate::data::{Shared, Splits, data_folder};

/// A graph whose nodes are classified. All splits see the whole graph and all features; they differ in the nodes whose
/// labels count.
#[derive(PartialEq)]
pub(crate) struct NodeData {
    /// What it is and where it came from, for people.
    pub(crate) origin: String,
    /// Both directions of each edge, unweighted, no self loops.
    pub(crate) graph: Graph,
    pub(crate) features: Arc<Features>,
    /// The class of each node.
    pub(crate) labels: Vec<u32>,
    pub(crate) classes: usize,
    /// The nodes of each split: ascending, disjoint, none empty. Some nodes may be in none.
    pub(crate) splits: Splits<Vec<u32>>,
}

impl NodeData {
    /// The nodes whose labels count in a split, ascending.
    pub(crate) fn nodes(&self, split: Split) -> &[u32] {
        self.splits.get(split)
    }
}

impl fmt::Debug for NodeData {
    /// What it is and how large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, edges) = (self.graph.nodes(), self.graph.edges() / 2);
        let [train, inner, outer, test] = self.splits.0.each_ref().map(Vec::len);
        let (features, classes) = (self.features.columns(), self.classes);
        write!(f, "{}, {nodes} nodes, {edges} edges, {features} features, {classes} classes, ", self.origin)?;
        write!(f, "{train}/{inner}/{outer}/{test} labelled nodes")
    }
}

/// Where the graph comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeSource {
    /// A stochastic block model drawn from `data_seed`; needs no files.
    #[default]
    Procedural,
    /// Cora if the data folder has it, else procedural.
    Auto,
    /// `<data folder>/cora/{nodes,edges}.csv`.
    Cora,
}

impl NodeSource {
    /// This source, with `auto` decided by what the data folder holds.
    #[must_use]
    pub(crate) fn resolve(self, data_dir: Option<&Path>) -> Self {
        let has_cora = || data_dir.is_some_and(|folder| folder.join("cora").join("nodes.csv").is_file());
        match self {
            Self::Auto if has_cora() => Self::Cora,
            Self::Auto => Self::Procedural,
            decided => decided,
        }
    }
}

/// What a family's settings say about its graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NodeSettings {
    pub(crate) source: NodeSource,
    /// Whether Cora's features sum to 1 in each row instead of being 0 and 1. Procedural features are as they are.
    pub(crate) normalise: bool,
    /// The procedural graph; real data ignore it.
    pub(crate) sbm: SbmSettings,
    /// Seed of the procedural graph; real data ignore it.
    pub(crate) data_seed: u64,
}

impl NodeSettings {
    /// The graph, made or read once in this process for all that use it at the same time.
    ///
    /// # Errors
    /// [`Error::Data`] names the file and line at fault, [`Error::Setting`] a setting out of range.
    pub(crate) fn load(self, family: &str, data_dir: Option<&Path>) -> Result<Arc<NodeData>, Error> {
        static READ: Shared<(PathBuf, bool), NodeData> = Shared::new();
        static DRAWN: Shared<(SbmSettings, u64), NodeData> = Shared::new();
        if self.source.resolve(data_dir) == NodeSource::Cora {
            let folder = data_folder(data_dir, "cora")?;
            return READ.get((folder.clone(), self.normalise), || cora::read(&folder, self.normalise));
        }
        self.sbm.check(family)?;
        DRAWN.get((self.sbm, self.data_seed), || Ok(sbm::generate(Seed::new(self.data_seed), self.sbm)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(source: NodeSource) -> NodeSettings {
        NodeSettings { source, normalise: true, sbm: SbmSettings::default(), data_seed: 1 }
    }

    #[test]
    fn auto_takes_cora_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for (source, expected) in [(NodeSource::Auto, NodeSource::Procedural), (NodeSource::Cora, NodeSource::Cora)] {
            assert_eq!(source.resolve(None), expected);
            assert_eq!(source.resolve(Some(folder.path())), expected);
        }
        std::fs::create_dir(folder.path().join("cora")).unwrap();
        std::fs::write(folder.path().join("cora/nodes.csv"), "").unwrap();
        assert_eq!(NodeSource::Auto.resolve(Some(folder.path())), NodeSource::Cora);
        assert_eq!(NodeSource::Procedural.resolve(Some(folder.path())), NodeSource::Procedural);
        let error = settings(NodeSource::Auto).load("f", Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("nodes.csv: is empty"), "damaged data are not replaced by procedural data: {error}");
    }

    #[test]
    fn one_graph_is_shared_and_missing_data_are_named() {
        let one = settings(NodeSource::Procedural).load("f", None).unwrap();
        assert!(Arc::ptr_eq(&one, &settings(NodeSource::Auto).load("f", None).unwrap()));
        let other = NodeSettings { data_seed: 2, ..settings(NodeSource::Auto) }.load("f", None).unwrap();
        assert_ne!(one, other);
        assert_eq!(
            format!("{one:?}"),
            format!(
                "procedural block model, 400 nodes, {} edges, 16 features, 4 classes, 80/80/80/160 labelled nodes",
                one.graph.edges() / 2
            )
        );
        let error = settings(NodeSource::Cora).load("f", None).unwrap_err().to_string();
        assert!(error.starts_with("cora: no data folder was given"), "{error}");
    }
}
