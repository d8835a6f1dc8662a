//! A graph: nodes coloured by class, edges between them.

use std::collections::{BTreeSet, VecDeque};

use super::layout::places;
use super::{Block, LINE, WIDTH, color, hex, line};

/// Nodes drawn, at most: more are a knot, and take long to place.
const MOST: usize = 250;
/// Height of the drawing.
const HEIGHT: f64 = 480.0;
/// Radius of a node.
const RADIUS: f64 = 5.0;
/// Classes named.
const NAMED: usize = 10;

/// The drawing of a graph; of a large one, what is nearest to node 0.
pub(super) fn block(title: &str, nodes: &[u32], edges: &[(u32, u32)]) -> Block {
    let joined: BTreeSet<(usize, usize)> =
        edges.iter().map(|&(a, b)| (a.min(b) as usize, a.max(b) as usize)).filter(|&(_, b)| b < nodes.len()).collect();
    let shown = nearest(nodes.len(), &joined);
    let mut rank = vec![None; nodes.len()];
    for (place, &node) in shown.iter().enumerate() {
        rank[node] = Some(place);
    }
    let drawn: Vec<(usize, usize)> = joined.iter().filter_map(|&(a, b)| rank[a].zip(rank[b])).collect();
    let at = places(shown.len(), &drawn);
    // Room for the circles and the lines of words above.
    let (top, size) = (2.0 * LINE + RADIUS, HEIGHT - 2.0 * (LINE + RADIUS));
    let left = (WIDTH - size) / 2.0;
    let point = |node: usize| (left + size * at[node][0], top + size * at[node][1]);
    let part =
        if shown.len() < nodes.len() { format!(" ({} of {} nodes)", shown.len(), nodes.len()) } else { String::new() };
    let mut body = line(0.0, 12.0, &format!("{title}{part}"), "");
    for &(a, b) in drawn.iter().filter(|(a, b)| a != b) {
        let ((x1, y1), (x2, y2)) = (point(a), point(b));
        body.push_str(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#999999\" stroke-width=\"0.8\"/>\n"
        ));
    }
    for (place, &node) in shown.iter().enumerate() {
        let ((x, y), class) = (point(place), nodes[node]);
        body.push_str(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\" fill=\"{}\" stroke=\"#333333\" stroke-width=\"0.5\">\
             <title>node {node}, class {class}</title></circle>\n",
            hex(color(class as usize)),
        ));
    }
    body.push_str(&legend(&shown.iter().map(|&node| nodes[node]).collect()));
    Block { height: HEIGHT, body }
}

/// The classes and their colours.
fn legend(classes: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    for (nth, &class) in classes.iter().take(NAMED).enumerate() {
        let y = 2.0 * LINE + 10.0 + LINE * nth as f64;
        text.push_str(&format!(
            "<circle cx=\"6\" cy=\"{:.1}\" r=\"{RADIUS}\" fill=\"{}\"/>\n",
            y - 4.0,
            hex(color(class as usize))
        ));
        text.push_str(&line(18.0, y, &format!("class {class}"), "font-size=\"12\""));
    }
    if classes.len() > NAMED {
        let y = 2.0 * LINE + 10.0 + LINE * NAMED as f64;
        text.push_str(&line(
            18.0,
            y,
            &format!("and {} more; colours repeat", classes.len() - NAMED),
            "font-size=\"12\"",
        ));
    }
    text
}

/// At most [`MOST`] nodes: breadth first from node 0, then from the first that this did not reach.
fn nearest(nodes: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<usize> {
    if nodes <= MOST {
        return (0..nodes).collect();
    }
    let mut neighbours = vec![Vec::new(); nodes];
    for &(a, b) in edges {
        neighbours[a].push(b);
        neighbours[b].push(a);
    }
    let (mut found, mut seen) = (Vec::new(), vec![false; nodes]);
    for start in 0..nodes {
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            found.push(node);
            if found.len() == MOST {
                return found;
            }
            queue.extend(&neighbours[node]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_edges_are_drawn_once() {
        // One edge both ways, one twice, a loop, and one to a node that is not there.
        let edges = [(0, 1), (1, 0), (1, 2), (1, 2), (2, 2), (2, 9)];
        let block = block("small", &[0, 1, 1, 3], &edges);
        assert_eq!(block.body.matches("<title>").count(), 4, "{}", block.body);
        assert_eq!(block.body.matches("<line ").count(), 2, "{}", block.body);
        assert_eq!(block.body.matches(">class ").count(), 3, "{}", block.body);
        assert!(block.body.contains("<title>node 3, class 3</title>"), "{}", block.body);
    }

    #[test]
    fn of_a_large_graph_the_nearest_nodes_are_drawn() {
        // A path through every other node, and the rest alone.
        let edges: BTreeSet<_> = (0..1000).map(|i| (2 * i, 2 * i + 2)).filter(|(_, b)| *b < 2000).collect();
        let found = nearest(2000, &edges);
        assert_eq!(found, (0..MOST).map(|i| 2 * i).collect::<Vec<_>>());
        let nodes = vec![7; 2000];
        let edges: Vec<_> = edges.iter().map(|&(a, b)| (a as u32, b as u32)).collect();
        let block = block("path", &nodes, &edges);
        assert!(block.body.contains("path (250 of 2000 nodes)"), "{}", &block.body[..200]);
        assert_eq!(block.body.matches("<line ").count(), MOST - 1);
    }

    #[test]
    fn an_empty_graph_is_drawn_as_nothing() {
        assert_eq!(block("none", &[], &[(0, 1)]).body.matches("<circle").count(), 0);
    }
}
