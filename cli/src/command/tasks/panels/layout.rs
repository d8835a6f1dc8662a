//! Where the nodes of a graph are drawn: neighbours near, others apart.
//!
//! Fruchterman and Reingold 1991 ("Graph drawing by force-directed placement"): nodes repel each other with k²/d, edges
//! pull with d²/k, and moves become smaller from step to step. They begin on a spiral, so equal graphs look equal; a weak
//! pull to the centre holds what no edge does.

/// Steps until the nodes rest.
const STEPS: usize = 150;
/// The pull to the centre, as a share of the distance to it.
const GRAVITY: f64 = 0.3;
/// Angle between neighbours on the spiral: the golden one, which never repeats.
const ANGLE: f64 = 2.399_963_229_728_653;

/// Places in `[0, 1]²`, one a node. Edges join nodes below `nodes`.
pub(super) fn places(nodes: usize, edges: &[(usize, usize)]) -> Vec<[f64; 2]> {
    let spread = |node: usize| ((node as f64 + 0.5) / nodes as f64).sqrt();
    let mut at: Vec<[f64; 2]> = (0..nodes)
        .map(|node| {
            let (sin, cos) = (ANGLE * node as f64).sin_cos();
            [spread(node) * cos, spread(node) * sin]
        })
        .collect();
    let apart = (3.0 / nodes.max(1) as f64).sqrt();
    for step in 0..STEPS {
        let reach = 0.2 * (1.0 - step as f64 / STEPS as f64);
        let pulls = forces(&at, edges, apart);
        for (place, [x, y]) in at.iter_mut().zip(pulls) {
            let length = x.hypot(y).max(1e-12);
            let move_by = length.min(reach) / length;
            *place = [place[0] + move_by * x, place[1] + move_by * y];
        }
    }
    into_unit_square(at)
}

/// The force on each node.
fn forces(at: &[[f64; 2]], edges: &[(usize, usize)], apart: f64) -> Vec<[f64; 2]> {
    let mut forces: Vec<[f64; 2]> = at.iter().map(|[x, y]| [-GRAVITY * x, -GRAVITY * y]).collect();
    let mut push = |a: usize, b: usize, strength: &dyn Fn(f64) -> f64| {
        let [x, y] = [at[a][0] - at[b][0], at[a][1] - at[b][1]];
        let distance = x.hypot(y).max(1e-6);
        let share = strength(distance) / distance;
        forces[a] = [forces[a][0] + share * x, forces[a][1] + share * y];
        forces[b] = [forces[b][0] - share * x, forces[b][1] - share * y];
    };
    for a in 0..at.len() {
        for b in 0..a {
            push(a, b, &|distance| apart * apart / distance);
        }
    }
    for &(a, b) in edges.iter().filter(|(a, b)| a != b) {
        push(a, b, &|distance| -distance * distance / apart);
    }
    forces
}

/// Moves and stretches all places alike until they fill the unit square in one direction.
fn into_unit_square(at: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let least = |axis: usize| at.iter().map(|place| place[axis]).fold(f64::INFINITY, f64::min);
    let most = |axis: usize| at.iter().map(|place| place[axis]).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = ([least(0), least(1)], [most(0), most(1)]);
    let span = (high[0] - low[0]).max(high[1] - low[1]);
    let scale = if span > 0.0 { 1.0 / span } else { 0.0 };
    let middle = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);
    at.iter().map(|place| [0, 1].map(|axis| 0.5 + scale * (place[axis] - middle[axis]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
        (a[0] - b[0]).hypot(a[1] - b[1])
    }

    #[test]
    fn places_are_the_same_each_time_and_in_the_unit_square() {
        let edges = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 4)];
        let at = places(6, &edges);
        assert_eq!(at, places(6, &edges));
        assert!(at.iter().flatten().all(|x| (-1e-9..=1.0 + 1e-9).contains(x)), "{at:?}");
        assert_eq!(places(1, &[]), [[0.5, 0.5]]);
        assert!(places(0, &[]).is_empty());
    }

    #[test]
    fn two_cliques_come_apart() {
        // Even nodes know each other, odd nodes too.
        let edges: Vec<_> =
            (0..12).flat_map(|a| (0..a).filter(move |b| (a - b) % 2 == 0).map(move |b| (a, b))).collect();
        let at = places(12, &edges);
        let mean = |same: bool| {
            let pairs = (0..12).flat_map(|a| (0..a).map(move |b| (a, b))).filter(|(a, b)| ((a - b) % 2 == 0) == same);
            let distances: Vec<_> = pairs.map(|(a, b): (usize, usize)| distance(at[a], at[b])).collect();
            distances.iter().sum::<f64>() / distances.len() as f64
        };
        assert!(2.0 * mean(true) < mean(false), "{} {}", mean(true), mean(false));
    }
}
