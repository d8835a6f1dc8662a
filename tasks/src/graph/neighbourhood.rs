//! A part of a graph that is small enough to be looked at.

use super::sparse::Graph;

/// The nodes nearest to `start`, nearest first and by number where equally near, at most `most`; of a graph that has no
/// more, all of them. What cannot be reached from `start` comes last.
pub(crate) fn neighbourhood(graph: &Graph, start: usize, most: usize) -> Vec<usize> {
    let mut seen = vec![false; graph.nodes()];
    let mut reached = Vec::new();
    let mut next = 0;
    let mut reach = |node: usize, reached: &mut Vec<usize>| {
        if !std::mem::replace(&mut seen[node], true) {
            reached.push(node);
        }
    };
    reach(start, &mut reached);
    while let Some(&node) = reached.get(next).filter(|_| reached.len() < most) {
        next += 1;
        graph.incoming(node).for_each(|edge| reach(graph.sources()[edge] as usize, &mut reached));
    }
    if graph.nodes() <= most {
        (0..graph.nodes()).for_each(|node| reach(node, &mut reached));
    }
    reached.truncate(most);
    reached
}

/// The edges among these nodes, each direction once if both are there, in places of `nodes`.
pub(crate) fn edges_among(graph: &Graph, nodes: &[usize]) -> Vec<(u32, u32)> {
    let mut place = vec![None; graph.nodes()];
    nodes.iter().enumerate().for_each(|(index, &node)| place[node] = Some(index as u32));
    let ends = graph.sources().iter().zip(graph.targets());
    let pairs = ends.filter_map(|(&source, &target)| place[source as usize].zip(place[target as usize]));
    let mut pairs: Vec<_> = pairs.map(|(a, b)| (a.min(b), a.max(b))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        // 0 ─ 1 ─ 2 ─ 3   4 ─ 5
        let graph = Graph::undirected(6, &[(0, 1), (1, 2), (2, 3), (4, 5)]).unwrap();
        assert_eq!(neighbourhood(&graph, 2, 4), [2, 1, 3, 0]);
        assert_eq!(neighbourhood(&graph, 2, 2), [2, 1]);
        assert_eq!(neighbourhood(&graph, 4, 5), [4, 5]);
        assert_eq!(neighbourhood(&graph, 4, 6), [4, 5, 0, 1, 2, 3], "all of a small graph");
        assert_eq!(edges_among(&graph, &[2, 1, 0, 5]), [(0, 1), (1, 2)]);
    }
}
