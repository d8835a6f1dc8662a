//! Many graphs as one.
//!
//! ```text
//!  graphs           0 ─ 1    0 ─ 1 ─ 2
//!  as one           0 ─ 1    2 ─ 3 ─ 4        nothing passes between them
//!  graph_of_node    0   0    1   1   1        node_offsets 0, 2, 5
//! ```

use super::sparse::Graph;

/// Graphs side by side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Union {
    /// All nodes and edges. It has weights if one of the graphs has.
    pub(crate) graph: Graph,
    /// Nodes of graph `g` are `node_offsets[g]..node_offsets[g + 1]`.
    pub(crate) node_offsets: Vec<usize>,
    /// The graph of each node.
    pub(crate) graph_of_node: Vec<u32>,
}

impl Union {
    /// The graphs in this order.
    pub(crate) fn of<'a>(graphs: impl Iterator<Item = &'a Graph> + Clone) -> Self {
        let edges = graphs.clone().map(Graph::edges).sum();
        let (mut sources, mut targets) = (Vec::with_capacity(edges), Vec::with_capacity(edges));
        let mut weights = graphs.clone().any(|graph| graph.weights().is_some()).then(|| Vec::with_capacity(edges));
        let (mut node_offsets, mut graph_of_node, mut nodes) = (vec![0], Vec::new(), 0);
        for (place, graph) in graphs.enumerate() {
            let offset = u32::try_from(nodes).expect("nodes are numbered in 32 bits");
            sources.extend(graph.sources().iter().map(|source| source + offset));
            targets.extend(graph.targets().iter().map(|target| target + offset));
            if let Some(weights) = &mut weights {
                weights.extend((0..graph.edges()).map(|edge| graph.weight(edge)));
            }
            nodes += graph.nodes();
            node_offsets.push(nodes);
            graph_of_node.resize(nodes, place as u32);
        }
        // Targets ascend from graph to graph, so the edges are in order.
        Self { graph: Graph::from_sorted(nodes, (sources, targets), weights), node_offsets, graph_of_node }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sparse::tests::any_edges;
    use super::*;

    #[test]
    fn nodes_and_edges_are_renumbered() {
        let pair = Graph::weighted(2, &[(0, 1, 0.5)]).unwrap();
        let path = Graph::undirected(3, &[(0, 1), (1, 2)]).unwrap();
        let none = Graph::new(0, &[]).unwrap();
        let union = Union::of([&pair, &none, &path].into_iter());
        let edges = [(0, 1, 0.5), (2, 3, 1.0), (3, 2, 1.0), (3, 4, 1.0), (4, 3, 1.0)];
        assert_eq!(union.graph, Graph::weighted(5, &edges).unwrap());
        assert_eq!(union.node_offsets, [0, 2, 2, 5]);
        assert_eq!(union.graph_of_node, [0, 0, 2, 2, 2]);
        assert_eq!(Union::of([&path, &path].into_iter()).graph.weights(), None);
        assert_eq!(Union::of(std::iter::empty()).graph, none);
    }

    proptest! {
        #[test]
        fn normalising_a_union_is_the_union_of_the_normalised(a in any_edges(), b in any_edges()) {
            let (a, b) = (Graph::weighted(a.0, &a.1).unwrap(), Graph::weighted(b.0, &b.1).unwrap());
            let union = Union::of([&a, &b].into_iter()).graph;
            let parts = [a.gcn_normalised(), b.gcn_normalised()];
            prop_assert_eq!(union.gcn_normalised(), Union::of(parts.iter()).graph);
        }
    }
}
