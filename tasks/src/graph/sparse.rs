//! A directed graph as a compressed edge list.
//!
//! Messages go from source to target. Edges are stored by target, then source, so that a target's messages are summed
//! in one fixed order; the backward pass walks the same edges by source.
//!
//! ```text
//!  edge      0  1  2  3  4       incoming(2) = edges 1, 2, 3      (messages that reach node 2)
//!  target    0  2  2  2  3
//!  source    2  0  1  3  2       outgoing(2) = edges 0, 4         (where node 2's gradient comes from)
//! ```
//!
//! | in the input | treatment |
//! |---|---|
//! | an end that is no node | refused |
//! | a repeated edge; in an undirected list also its reverse | refused: a sum of two weights is seldom meant |
//! | a self loop | kept in a directed graph; refused in an undirected list |
//! | a weight that is not finite | refused |

use std::ops::Range;

/// An edge that no graph can have, by its place in the list it was given in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("edge {edge} ({from} → {to}) {fault}")]
pub(crate) struct EdgeError {
    pub(crate) edge: usize,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) fault: EdgeFault,
}

/// What is wrong with an edge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum EdgeFault {
    /// An end is not a node.
    #[error("dangles: node {node} is not one of the {nodes} nodes, which count from 0")]
    Dangling { node: u32, nodes: usize },
    /// Both ends are one node, in an undirected list.
    #[error("joins a node to itself")]
    SelfLoop,
    /// The edge was there before.
    #[error("repeats edge {first}")]
    Duplicate { first: usize },
    /// The weight is infinite or not a number.
    #[error("has the weight {weight}, which is not finite")]
    Weight { weight: f32 },
}

/// A directed graph; see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Graph {
    nodes: usize,
    /// Source and target of each edge, ordered by target, then source.
    sources: Vec<u32>,
    targets: Vec<u32>,
    weights: Option<Vec<f32>>,
    /// Edges into node `n` are `incoming[n]..incoming[n + 1]`.
    incoming: Vec<usize>,
    /// Edges out of node `n` are `by_source[outgoing[n]..outgoing[n + 1]]`, ascending.
    outgoing: Vec<usize>,
    by_source: Vec<u32>,
}

/// The edges at one end of each node, in a fixed order, and what is at their other ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    offsets: &'a [usize],
    /// `None` if places are edges.
    order: Option<&'a [u32]>,
    /// The node at the other end of each edge.
    pub(crate) ends: &'a [u32],
}

impl Walk<'_> {
    /// Where the edges of a node are.
    #[inline(always)]
    pub(crate) fn places(&self, node: usize) -> Range<usize> {
        self.offsets[node]..self.offsets[node + 1]
    }

    /// The edge at a place.
    #[inline(always)]
    pub(crate) fn edge(&self, place: usize) -> usize {
        match self.order {
            None => place,
            Some(order) => order[place] as usize,
        }
    }
}

impl Graph {
    /// A graph of unweighted `(source, target)` edges.
    ///
    /// # Errors
    /// [`EdgeError`] names the first edge of the list that dangles; if none does, the first that repeats another.
    pub(crate) fn new(nodes: usize, edges: &[(u32, u32)]) -> Result<Self, EdgeError> {
        let order = validated_order(nodes, edges)?;
        Ok(Self::from_sorted(nodes, order.iter().map(|&edge| edges[edge]).unzip(), None))
    }

    /// A graph of `(source, target, weight)` edges.
    ///
    /// # Errors
    /// [`EdgeError`], as for [`Self::new`]; if the ends are right, the first weight that is not finite.
    pub(crate) fn weighted(nodes: usize, edges: &[(u32, u32, f32)]) -> Result<Self, EdgeError> {
        let ends: Vec<(u32, u32)> = edges.iter().map(|&(from, to, _)| (from, to)).collect();
        let order = validated_order(nodes, &ends)?;
        if let Some(edge) = edges.iter().position(|edge| !edge.2.is_finite()) {
            let (from, to, weight) = edges[edge];
            return Err(EdgeError { edge, from, to, fault: EdgeFault::Weight { weight } });
        }
        let weights = order.iter().map(|&edge| edges[edge].2).collect();
        Ok(Self::from_sorted(nodes, order.iter().map(|&edge| ends[edge]).unzip(), Some(weights)))
    }

    /// Both directions of each undirected pair.
    ///
    /// # Errors
    /// [`EdgeError`], as for [`Self::new`], of a place in `pairs`. `(a, b)` after `(b, a)` is a repetition.
    pub(crate) fn undirected(nodes: usize, pairs: &[(u32, u32)]) -> Result<Self, EdgeError> {
        if let Some(edge) = pairs.iter().position(|(from, to)| from == to) {
            let (from, to) = pairs[edge];
            return Err(EdgeError { edge, from, to, fault: EdgeFault::SelfLoop });
        }
        let both: Vec<(u32, u32)> = pairs.iter().flat_map(|&(from, to)| [(from, to), (to, from)]).collect();
        Self::new(nodes, &both).map_err(|error| {
            let edge = error.edge / 2;
            let (from, to) = pairs[edge];
            let fault = match error.fault {
                EdgeFault::Duplicate { first } => EdgeFault::Duplicate { first: first / 2 },
                other => other,
            };
            EdgeError { edge, from, to, fault }
        })
    }

    /// A graph of valid edges, `(sources, targets)` in order.
    pub(super) fn from_sorted(nodes: usize, ends: (Vec<u32>, Vec<u32>), weights: Option<Vec<f32>>) -> Self {
        let (sources, targets) = ends;
        let incoming = offsets(nodes, &targets);
        let outgoing = offsets(nodes, &sources);
        let mut by_source = vec![0; sources.len()];
        let mut next = outgoing.clone();
        for (edge, &source) in sources.iter().enumerate() {
            let place = &mut next[source as usize];
            by_source[*place] = u32::try_from(edge).expect("an edge takes eight bytes and more: fewer than 2³² fit");
            *place += 1;
        }
        Self { nodes, sources, targets, weights, incoming, outgoing, by_source }
    }

    /// Number of nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Number of directed edges.
    pub(crate) fn edges(&self) -> usize {
        self.sources.len()
    }

    /// Where each edge comes from.
    pub(crate) fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// Where each edge goes, ascending.
    pub(crate) fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Weight of each edge; `None` stands for ones.
    pub(crate) fn weights(&self) -> Option<&[f32]> {
        self.weights.as_deref()
    }

    /// Weight of one edge.
    pub(crate) fn weight(&self, edge: usize) -> f32 {
        self.weights.as_ref().map_or(1.0, |weights| weights[edge])
    }

    /// The edges into each node, from their sources.
    pub(crate) fn by_target(&self) -> Walk<'_> {
        Walk { offsets: &self.incoming, order: None, ends: &self.sources }
    }

    /// The edges out of each node, to their targets.
    pub(crate) fn by_source(&self) -> Walk<'_> {
        Walk { offsets: &self.outgoing, order: Some(&self.by_source), ends: &self.targets }
    }

    /// The edges into a node.
    pub(crate) fn incoming(&self, node: usize) -> Range<usize> {
        self.incoming[node]..self.incoming[node + 1]
    }

    /// The edges out of a node, ascending.
    #[cfg(test)]
    pub(crate) fn outgoing(&self, node: usize) -> &[u32] {
        &self.by_source[self.outgoing[node]..self.outgoing[node + 1]]
    }

    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        let of_edges = size_of_val(&*self.sources) + size_of_val(&*self.targets) + size_of_val(&*self.by_source);
        let of_nodes = size_of_val(&*self.incoming) + size_of_val(&*self.outgoing);
        of_edges + of_nodes + self.weights.as_ref().map_or(0, |weights| size_of_val(&**weights))
    }

    /// `A + I`: a self loop of weight 1 on each node, added to the weight of one that is there.
    #[must_use]
    pub(crate) fn with_self_loops(&self) -> Self {
        let room = self.edges() + self.nodes;
        let (mut sources, mut targets) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut weights = Vec::with_capacity(room);
        for node in 0..self.nodes {
            let this = node as u32;
            let edges = self.incoming(node);
            let before = edges.start + self.sources[edges.clone()].partition_point(|&source| source < this);
            let is_loop = before < edges.end && self.sources[before] == this;
            let mut push = |source: u32, weight: f32| {
                sources.push(source);
                targets.push(this);
                weights.push(weight);
            };
            (edges.start..before).for_each(|edge| push(self.sources[edge], self.weight(edge)));
            push(this, if is_loop { self.weight(before) + 1.0 } else { 1.0 });
            (before + usize::from(is_loop)..edges.end).for_each(|edge| push(self.sources[edge], self.weight(edge)));
        }
        Self::from_sorted(self.nodes, (sources, targets), Some(weights))
    }

    /// `D^-1/2 A D^-1/2` for other weights of the same edges (self loops are not added): one weight an edge, in and
    /// out. `D` sums incoming weights in the order of the edges; a node whose sum is not positive passes nothing.
    pub(crate) fn symmetric_normalisation(&self, weights: &[f64]) -> Vec<f64> {
        assert_eq!(weights.len(), self.edges(), "one weight an edge");
        let scale: Vec<f64> = (0..self.nodes)
            .map(|node| {
                let degree: f64 = weights[self.incoming(node)].iter().sum();
                // A sum that is not a number must stay one.
                if degree <= 0.0 { 0.0 } else { 1.0 / degree.sqrt() }
            })
            .collect();
        let ends = self.sources.iter().zip(&self.targets).zip(weights);
        ends.map(|((&source, &target), weight)| scale[target as usize] * weight * scale[source as usize]).collect()
    }

    /// The propagation matrix of a GCN, `D^-1/2 (A + I) D^-1/2` with `D` the incoming weights of `A + I` (Kipf and
    /// Welling, arXiv 1609.02907, equation 2), computed in f64.
    #[must_use]
    pub(crate) fn gcn_normalised(&self) -> Self {
        let mut graph = self.with_self_loops();
        let weights: Vec<f64> = (0..graph.edges()).map(|edge| f64::from(graph.weight(edge))).collect();
        graph.weights = Some(graph.symmetric_normalisation(&weights).into_iter().map(|weight| weight as f32).collect());
        graph
    }
}

/// The places of `edges` by target, then source.
fn validated_order(nodes: usize, edges: &[(u32, u32)]) -> Result<Vec<usize>, EdgeError> {
    let at = |edge: usize, fault| EdgeError { edge, from: edges[edge].0, to: edges[edge].1, fault };
    for (edge, &(from, to)) in edges.iter().enumerate() {
        if let Some(node) = [from, to].into_iter().find(|&node| node as usize >= nodes) {
            return Err(at(edge, EdgeFault::Dangling { node, nodes }));
        }
    }
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_unstable_by_key(|&edge| (edges[edge].1, edges[edge].0, edge));
    let repeats = order.windows(2).filter(|pair| edges[pair[0]] == edges[pair[1]]);
    match repeats.min_by_key(|pair| pair[1]) {
        Some(pair) => Err(at(pair[1], EdgeFault::Duplicate { first: pair[0] })),
        None => Ok(order),
    }
}

/// For each value below `count`, where its run would begin if `values` were sorted; and the end of the last.
fn offsets(count: usize, values: &[u32]) -> Vec<usize> {
    let mut offsets = vec![0; count + 1];
    values.iter().for_each(|&value| offsets[value as usize + 1] += 1);
    for index in 0..count {
        offsets[index + 1] += offsets[index];
    }
    offsets
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn edges_are_ordered_by_target_and_walked_both_ways() {
        let graph = Graph::weighted(5, &[(3, 2, 0.3), (0, 2, 0.1), (2, 3, 0.4), (2, 0, 0.0), (1, 2, 0.2)]).unwrap();
        assert_eq!((graph.nodes(), graph.edges()), (5, 5));
        assert_eq!(graph.sources(), [2, 0, 1, 3, 2]);
        assert_eq!(graph.targets(), [0, 2, 2, 2, 3]);
        assert_eq!(graph.weights(), Some(&[0.0, 0.1, 0.2, 0.3, 0.4][..]));
        assert_eq!((graph.incoming(2), graph.incoming(4)), (1..4, 5..5));
        assert_eq!((graph.outgoing(2), graph.outgoing(4)), (&[0, 4][..], &[][..]));
    }

    #[test]
    fn impossible_edges_are_named() {
        let cases = [
            (Graph::new(3, &[(0, 1), (1, 3), (9, 0)]), "edge 1 (1 → 3) dangles: node 3 is not one of the 3 nodes"),
            (Graph::new(0, &[(0, 0)]), "edge 0 (0 → 0) dangles"),
            (Graph::new(3, &[(0, 1), (1, 0), (2, 2), (0, 1), (0, 1)]), "edge 3 (0 → 1) repeats edge 0"),
            (Graph::undirected(3, &[(0, 2), (0, 1), (1, 0)]), "edge 2 (1 → 0) repeats edge 1"),
            (Graph::undirected(3, &[(0, 2), (1, 1)]), "edge 1 (1 → 1) joins a node to itself"),
            (Graph::undirected(3, &[(0, 2), (1, 7)]), "edge 1 (1 → 7) dangles: node 7"),
            (Graph::weighted(2, &[(0, 1, 1.0), (1, 0, f32::NAN)]), "edge 1 (1 → 0) has the weight NaN"),
        ];
        for (result, expected) in cases {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(Graph::new(2, &[(1, 1)]).unwrap().incoming(1), 0..1, "a directed self loop is an edge");
    }

    #[test]
    fn self_loops_are_added_to_what_is_there() {
        let graph = Graph::weighted(3, &[(0, 1, 2.0), (1, 1, 0.5), (2, 1, 3.0)]).unwrap().with_self_loops();
        let expected = [(0, 0, 1.0), (0, 1, 2.0), (1, 1, 1.5), (2, 1, 3.0), (2, 2, 1.0)];
        assert_eq!(graph, Graph::weighted(3, &expected).unwrap());
    }

    #[test]
    fn a_node_without_incoming_weight_passes_nothing() {
        let graph = Graph::new(3, &[(0, 1), (1, 2)]).unwrap();
        assert_eq!(graph.symmetric_normalisation(&[4.0, 1.0]), [0.0, 0.5], "node 0 has no degree");
        assert!(graph.symmetric_normalisation(&[f64::NAN, 1.0])[1].is_nan(), "not hidden");
    }

    fn golden() -> PathBuf {
        match std::env::var_os("PACELINE_GOLDEN") {
            Some(golden) => PathBuf::from(golden).join("complex"),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/complex"),
        }
    }

    /// One f64 or i64 tensor as f64.
    fn tensor(case: &str, name: &str) -> (Vec<usize>, Vec<f64>) {
        let bytes = std::fs::read(golden().join(format!("f64/{case}.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let words = tensor.data().as_chunks::<8>().0;
        let values = match tensor.dtype() {
            safetensors::Dtype::I64 => words.iter().map(|word| i64::from_le_bytes(*word) as f64).collect(),
            safetensors::Dtype::F64 => words.iter().map(|word| f64::from_le_bytes(*word)).collect(),
            other => panic!("{case}/{name} is {other:?}"),
        };
        (tensor.shape().to_vec(), values)
    }

    /// The golden's edges.
    fn golden_edges(case: &str) -> Vec<(u32, u32, f64)> {
        let off_diagonal = |nodes: usize, weight: &dyn Fn(usize) -> f64| {
            let places = (0..nodes * nodes).filter(|place| place / nodes != place % nodes);
            places.map(|place| ((place % nodes) as u32, (place / nodes) as u32, weight(place))).collect()
        };
        match case {
            "gcn_directed_sparse" => {
                let (index, weights) = (tensor(case, "in.edge_index").1, tensor(case, "in.edge_w").1);
                let (from, to) = index.split_at(weights.len());
                let ends = from.iter().zip(to).zip(&weights);
                ends.map(|((&from, &to), &weight)| (from as u32, to as u32, weight)).collect()
            }
            "gcn_phase_weighted" => {
                let (shape, weights) = tensor(case, "out.edge_weight");
                off_diagonal(shape[0], &|place| weights[place])
            }
            _ => off_diagonal(tensor(case, "out.norm").0[0], &|_| 1.0),
        }
    }

    #[test]
    fn the_normalisation_is_the_golden_one() {
        let manifest = std::fs::read_to_string(golden().join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let cases = manifest["cases"].as_array().unwrap().iter();
        let cases: Vec<_> = cases.filter(|case| case["case"].as_str().unwrap().starts_with("gcn_")).collect();
        assert!(cases.len() >= 3, "{cases:?}");
        for case in cases {
            let name = case["case"].as_str().unwrap();
            let (shape, expected) = tensor(name, "out.norm");
            let edges = golden_edges(name);
            let single: Vec<_> = edges.iter().map(|&(from, to, weight)| (from, to, weight as f32)).collect();
            let plain = Graph::weighted(shape[0], &single).unwrap();
            // In f64 the weights come from outside: ones for the loops, the golden's for the rest.
            let looped = plain.with_self_loops();
            let ends: Vec<_> = looped.sources().iter().copied().zip(looped.targets().iter().copied()).collect();
            let known =
                |end: &(u32, u32)| edges.iter().find(|edge| (edge.0, edge.1) == *end).map_or(1.0, |edge| edge.2);
            let double = looped.symmetric_normalisation(&ends.iter().map(known).collect::<Vec<_>>());
            let single = plain.gcn_normalised().weights().unwrap().iter().map(|&weight| f64::from(weight)).collect();
            for (weights, tolerance) in [(double, "f64_atol"), (single, "f32_atol")] {
                let tolerance = case["tensors"]["out.norm"][tolerance].as_f64().unwrap();
                let mut got = vec![0.0; expected.len()];
                ends.iter()
                    .zip(weights)
                    .for_each(|(end, weight)| got[end.1 as usize * shape[0] + end.0 as usize] = weight);
                for (place, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    assert!((got - expected).abs() <= tolerance, "{name} at {place}: {got}, not {expected}");
                }
            }
        }
    }

    /// Edges without repetitions in any order, among `nodes` nodes.
    pub(crate) fn any_edges() -> impl Strategy<Value = (usize, Vec<(u32, u32, f32)>)> {
        (1..12_u32).prop_flat_map(|nodes| {
            let edges = prop::collection::btree_map((0..nodes, 0..nodes), 0.1..2.0_f32, 0..40);
            let listed = edges.prop_map(|edges: BTreeMap<_, _>| {
                edges.into_iter().map(|((from, to), weight)| (from, to, weight)).collect::<Vec<_>>()
            });
            (Just(nodes as usize), listed.prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn every_edge_is_found_once_from_either_end((nodes, edges) in any_edges()) {
            let graph = Graph::weighted(nodes, &edges).unwrap();
            let edge = |e: usize| (graph.sources()[e], graph.targets()[e], graph.weight(e));
            let sorted = |edges: &mut Vec<(u32, u32, f32)>| edges.sort_by_key(|&(from, to, _)| (from, to));
            let mut expected = edges.clone();
            sorted(&mut expected);
            let mut into = Vec::new();
            let mut out = Vec::new();
            for node in 0..nodes {
                for e in graph.incoming(node) {
                    prop_assert_eq!(graph.targets()[e] as usize, node);
                    into.push(edge(e));
                }
                prop_assert!(graph.outgoing(node).is_sorted());
                for &e in graph.outgoing(node) {
                    prop_assert_eq!(graph.sources()[e as usize] as usize, node);
                    out.push(edge(e as usize));
                }
            }
            sorted(&mut into);
            sorted(&mut out);
            prop_assert_eq!(&into, &expected);
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(&graph, &Graph::weighted(nodes, &expected).unwrap(), "the order of the list is not seen");
        }

        #[test]
        fn undirected_graphs_are_symmetric((nodes, edges) in any_edges()) {
            let pairs: Vec<(u32, u32)> = edges.iter().map(|&(a, b, _)| (a, b)).filter(|(a, b)| a < b).collect();
            let graph = Graph::undirected(nodes, &pairs).unwrap();
            prop_assert_eq!(graph.edges(), 2 * pairs.len());
            prop_assert_eq!(graph.weights(), None);
            let normalised = graph.gcn_normalised();
            for edge in 0..normalised.edges() {
                let (from, to) = (normalised.sources()[edge], normalised.targets()[edge]);
                let back = normalised.incoming(from as usize).find(|&e| normalised.sources()[e] == to).unwrap();
                prop_assert!((normalised.weight(edge) - normalised.weight(back)).abs() < 1e-6);
            }
        }
    }
}
