//! The Cora citation graph, from two CSV files.
//!
//! ```text
//!  nodes.csv  node,label,split,word_indices      0,3,train,19 81 146        nodes count up from 0
//!  edges.csv  source,target                      0,633                      each undirected edge once
//! ```
//!
//! 2,708 papers, 1,433 words, 7 classes (Sen et al. 2008) in the split of Yang, Cohen and Salakhutdinov (arXiv
//! 1603.08861): 140 `train`, 500 `valid`, 1,000 `test`, the rest `none`. Nodes of `valid` go to inner_valid and
//! outer_valid by turns, 250 each. Smaller graphs in the same form are read too.
//!
//! Refused with file and line: an end that is no node, an edge given twice (also the other way round), a self loop, a
//! repeated word, a word, label or split that does not exist.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::features::Features;
use super::nodes::NodeData;
use super::sparse::{EdgeFault, Graph};
use crate::Error;
use crate::data::{Splits, data_error, read_utf8};

/// Most bytes read of a file: thirty times Cora's.
const MAX_BYTES: u64 = 8 << 20;
/// Words of the data set's dictionary.
const WORDS: usize = 1_433;
/// Subjects of its papers.
const CLASSES: usize = 7;
/// Line of the first row: one for the header, and people count from one.
const FIRST: usize = 2;

/// Reads `nodes.csv` and `edges.csv` of a folder. With `normalise`, a node's features sum to 1 (a node without words
/// keeps its zeros), else they are 0 and 1.
///
/// # Errors
/// [`Error::Data`] names the file and line at fault.
pub(super) fn read(folder: &Path, normalise: bool) -> Result<NodeData, Error> {
    let path = folder.join("nodes.csv");
    let text = read_utf8(&path, MAX_BYTES)?;
    let Nodes { labels, features, splits } =
        parse_nodes(&text, normalise).map_err(|reason| data_error(&path, reason))?;
    let path = folder.join("edges.csv");
    let text = read_utf8(&path, MAX_BYTES)?;
    let graph = parse_edges(&text, labels.len()).map_err(|reason| data_error(&path, reason))?;
    Ok(NodeData {
        origin: format!("cora from {}", folder.display()),
        graph,
        features: Arc::new(features),
        labels,
        classes: CLASSES,
        splits,
    })
}

/// What `nodes.csv` tells.
#[derive(Debug)]
struct Nodes {
    labels: Vec<u32>,
    features: Features,
    splits: Splits<Vec<u32>>,
}

fn parse_nodes(text: &str, normalise: bool) -> Result<Nodes, String> {
    let mut nodes = Nodes { labels: Vec::new(), features: Features::empty(WORDS), splits: Splits::default() };
    let mut valid = 0;
    for (row, line) in rows(text, "node,label,split,word_indices")?.enumerate() {
        let mut parse = |line: &str| -> Result<(), String> {
            let [node, label, split, words] = columns(line)?;
            if number::<usize>("node", node)? != row {
                return Err(format!("is of node {node}, expected node {row}: nodes count up from 0"));
            }
            let label: u32 = number("label", label)?;
            if label as usize >= CLASSES {
                return Err(format!("has label {label}, expected 0 to {}", CLASSES - 1));
            }
            let mut words = words.split_ascii_whitespace().map(|word| number("word index", word));
            let mut words = words.by_ref().collect::<Result<Vec<u32>, _>>()?;
            words.sort_unstable();
            if let Some(&word) = words.last().filter(|&&word| word as usize >= WORDS) {
                return Err(format!("has word index {word}, expected 0 to {}", WORDS - 1));
            }
            if let Some(pair) = words.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(format!("has word index {} twice", pair[0]));
            }
            let [train, inner_valid, outer_valid, test] = &mut nodes.splits.0;
            match split {
                "train" => train.push(row as u32),
                "valid" => {
                    let half = if valid % 2 == 0 { inner_valid } else { outer_valid };
                    half.push(row as u32);
                    valid += 1;
                }
                "test" => test.push(row as u32),
                "none" => {}
                other => return Err(format!("has split {other:?}, expected train, valid, test or none")),
            }
            nodes.labels.push(label);
            nodes.features.push_constant(&words, if normalise { 1.0 / words.len().max(1) as f32 } else { 1.0 });
            Ok(())
        };
        parse(line).map_err(|reason| format!("line {} {reason}", row + FIRST))?;
    }
    let counts = nodes.splits.0.each_ref().map(Vec::len);
    if counts.contains(&0) {
        let [train, _, _, test] = counts;
        return Err(format!(
            "has {train} train, {valid} valid and {test} test nodes: at least 1, 2 and 1 are needed; fetch it again"
        ));
    }
    Ok(nodes)
}

fn parse_edges(text: &str, nodes: usize) -> Result<Graph, String> {
    let mut pairs = Vec::new();
    for (row, line) in rows(text, "source,target")?.enumerate() {
        let parse = |line| -> Result<(u32, u32), String> {
            let [source, target] = columns(line)?;
            Ok((number("source", source)?, number("target", target)?))
        };
        pairs.push(parse(line).map_err(|reason| format!("line {} {reason}", row + FIRST))?);
    }
    Graph::undirected(nodes, &pairs).map_err(|error| {
        let what = match error.fault {
            EdgeFault::Duplicate { first } => {
                format!("repeats line {}: each undirected edge is given once", first + FIRST)
            }
            EdgeFault::Dangling { node, nodes } => format!("names node {node}, but nodes.csv has {nodes} (from 0)"),
            fault => fault.to_string(),
        };
        format!("line {} ({},{}) {what}", error.edge + FIRST, error.from, error.to)
    })
}

/// The lines after the header.
fn rows<'a>(text: &'a str, header: &str) -> Result<std::str::Lines<'a>, String> {
    let mut lines = text.lines();
    match lines.next() {
        Some(first) if first == header => Ok(lines),
        other => Err(format!("line 1 should be {header:?} but is {:?}", excerpt(other.unwrap_or_default()))),
    }
}

fn columns<const N: usize>(line: &str) -> Result<[&str; N], String> {
    let columns: Vec<&str> = line.split(',').collect();
    let found = columns.len();
    columns.try_into().map_err(|_| format!("has {found} columns, expected {N}: {:?}", excerpt(line)))
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T, String> {
    // The standard parser takes "+1", which no writer of these files makes.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("has {what} {:?}, not a number in range", excerpt(text)))
}

/// So much of a damaged line as an error should show.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::task::Split;
    use proptest::prelude::*;

    use super::*;

    const NODES: &str = "node,label,split,word_indices\n0,3,train,2 1432\n1,0,valid,7\n2,6,valid,\n3,1,test,0 1 2 3\n";
    const EDGES: &str = "source,target\n0,1\n3,1\n";

    fn folder(nodes: &str, edges: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nodes.csv"), nodes).unwrap();
        std::fs::write(folder.path().join("edges.csv"), edges).unwrap();
        folder
    }

    #[test]
    fn a_small_graph_is_read() {
        let data = read(folder(NODES, EDGES).path(), true).unwrap();
        assert_eq!(data.labels, [3, 0, 6, 1]);
        assert_eq!(data.graph, Graph::new(4, &[(0, 1), (1, 0), (1, 3), (3, 1)]).unwrap());
        assert_eq!(data.splits.0, [vec![0], vec![1], vec![2], vec![3]]);
        assert_eq!(data.features.row(0), (&[2, 1432][..], &[0.5, 0.5][..]));
        assert_eq!(data.features.row(2), (&[][..], &[][..]), "a paper without words");
        assert_eq!(data.features.row(3).1, [0.25; 4]);
        let windows = folder(&NODES.replace('\n', "\r\n"), &EDGES.replace('\n', "\r\n"));
        let binary = read(windows.path(), false).unwrap();
        assert_eq!((binary.graph, binary.labels), (data.graph, data.labels));
        assert_eq!(binary.features.row(0).1, [1.0, 1.0]);
    }

    #[test]
    fn damaged_files_are_named_with_line_and_fault() {
        let node = |from: &str, to: &str| NODES.replace(from, to);
        let edge = |more: &str| format!("{EDGES}{more}\n");
        let nodes_cases = [
            (String::new(), "is empty"),
            ("<html>".into(), "line 1 should be \"node,label,split,word_indices\" but is \"<html>\""),
            ("node,label,split,word_indices\n".into(), "has 0 train, 0 valid and 0 test"),
            (node("1,0,valid", "1,0,none"), "1 valid"),
            (node("0,3,train,2 1432", "0,3,train"), "line 2 has 3 columns, expected 4: \"0,3,train\""),
            (node("1,0,valid,7\n", "1,0,valid,7\n\n"), "line 4 has 1 columns"),
            (node("2,6", "1,6"), "line 4 is of node 1, expected node 2"),
            (node("2,6", "-2,6"), "line 4 has node \"-2\""),
            (node("2,6", "2,7"), "line 4 has label 7, expected 0 to 6"),
            (node("2,6", "2,nan"), "line 4 has label \"nan\""),
            (node("test", "tset"), "line 5 has split \"tset\", expected train, valid, test or none"),
            (node("1432", "1433"), "line 2 has word index 1433, expected 0 to 1432"),
            (node("1432", "99999999999999999999"), "line 2 has word index \"99999999999999999999\", not a number"),
            (node("1432", "+14"), "line 2 has word index \"+14\""),
            (node("2 1432", "2 9 2"), "line 2 has word index 2 twice"),
        ];
        for (nodes, expected) in nodes_cases {
            let error = read(folder(&nodes, EDGES).path(), false).unwrap_err().to_string();
            assert!(error.contains("nodes.csv") && error.contains(expected), "{expected}: {error}");
        }
        let edge_cases = [
            (String::new(), "is empty"),
            ("target,source\n0,1\n".into(), "line 1 should be \"source,target\""),
            (edge("0,4"), "line 4 (0,4) names node 4, but nodes.csv has 4"),
            (edge("0,1"), "line 4 (0,1) repeats line 2"),
            (edge("1,3"), "line 4 (1,3) repeats line 3"),
            (edge("2,2"), "line 4 (2,2) joins a node to itself"),
            (edge("2,1.5"), "line 4 has target \"1.5\""),
            (edge("2"), "line 4 has 1 columns"),
        ];
        for (edges, expected) in edge_cases {
            let error = read(folder(NODES, &edges).path(), false).unwrap_err().to_string();
            assert!(error.contains("edges.csv") && error.contains(expected), "{expected}: {error}");
        }
        let folder = folder(NODES, EDGES);
        std::fs::remove_file(folder.path().join("edges.csv")).unwrap();
        assert!(read(folder.path(), false).unwrap_err().to_string().contains("edges.csv: cannot be opened"));
    }

    proptest! {
        #[test]
        fn no_damage_makes_a_panic(place in 0..NODES.len(), with in "[-0-9a-z,\n\r é]{0,3}", edges in any::<bool>()) {
            let mut text = if edges { EDGES } else { NODES }.to_owned();
            let place = place % text.len();
            text.replace_range(place..=place, &with);
            let result = if edges { parse_edges(&text, 4).map(drop) } else { parse_nodes(&text, false).map(drop) };
            if let Err(reason) = result {
                prop_assert!(reason.starts_with("line ") || reason.starts_with("has "), "{}", reason);
            }
        }
    }

    #[test]
    fn the_real_graph_is_whole() {
        let Some(folder) = crate::data::real_data("cora") else { return };
        let data = read(&folder.join("cora"), true).unwrap();
        let described = format!("{data:?}");
        let counts = "2708 nodes, 5278 edges, 1433 features, 7 classes, 140/250/250/1000 labelled nodes";
        assert!(described.contains(counts), "{described}");
        let mut labelled = data.splits.0.concat();
        labelled.sort_unstable();
        assert!(labelled.windows(2).all(|pair| pair[0] < pair[1]), "splits are disjoint");
        let mut per_class = [0; CLASSES];
        data.nodes(Split::Train).iter().for_each(|&node| per_class[data.labels[node as usize] as usize] += 1);
        assert_eq!(per_class, [20; CLASSES], "twenty labels a class");
        for row in 0..data.features.rows() {
            let sum: f32 = data.features.row(row).1.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "node {row}: {sum}");
        }
        let graph = data.graph.gcn_normalised();
        assert_eq!(graph.edges(), 2 * 5278 + 2708);
        assert!(graph.weights().unwrap().iter().all(|weight| (0.0..=1.0).contains(weight)));
    }
}
