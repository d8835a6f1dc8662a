//! Node classification drawn from a seed: a stochastic block model whose nodes have noisy features of their class
//! (Holland, Laskey, Leinhardt 1983; with features as in Deshpande et al., arXiv 1807.09596).
//!
//! ```text
//!  class of node ─┬─ prototype + noise ─► features            alone not enough,
//!                 └─ edge of i and j with probability p_in    but neighbours are mostly of the same class:
//!                    (same class) or p_out                    averaging over them tells
//! ```
//!
//! Classes are of equal size, give or take a node. Of each class, 2 in 10 nodes are in train, inner_valid and
//! outer_valid each, and 4 in 10 in test.
//!
//! Only sums, products, square roots and [`noise`] take part, so the bits are the same on every host.

use std::sync::Arc;

use paceline_optimizer_core::noise::{self, Draws};
use paceline_optimizer_core::{Purpose, Seed};

use super::features::Features;
use super::nodes::NodeData;
use super::sparse::Graph;
use crate::Error;
use crate::data::{Splits, shuffled};

/// Most nodes: each pair is drawn for.
const MAX_NODES: usize = 4_096;
const MAX_CLASSES: usize = 64;
const MAX_FEATURES: usize = 1_024;
/// Place in [`Splits`] of a class's nodes by turns.
const TURNS: [usize; 10] = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3];

/// The parameters of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SbmSettings {
    pub(crate) nodes: usize,
    pub(crate) classes: usize,
    /// Probability of an edge within a class.
    pub(crate) p_in: f64,
    /// Probability of an edge between classes.
    pub(crate) p_out: f64,
    /// Features of a node.
    pub(crate) features: usize,
    /// Deviation of a node's features from its class's prototype, relative to that of prototypes from each other. All
    /// are scaled to variance 1 in the end.
    pub(crate) noise: f64,
}

impl Default for SbmSettings {
    /// About five neighbours within a class and three without; features alone classify about half the nodes.
    fn default() -> Self {
        Self { nodes: 400, classes: 4, p_in: 0.05, p_out: 0.01, features: 16, noise: 3.0 }
    }
}

impl SbmSettings {
    /// Refuses what has no meaning or no end.
    pub(crate) fn check(self, family: &str) -> Result<(), Error> {
        let Self { nodes, classes, p_in, p_out, features, noise } = self;
        let least = TURNS.len() * classes;
        let reason = if !(2..=MAX_CLASSES).contains(&classes) {
            format!("classes must be 2 to {MAX_CLASSES} (got {classes})")
        } else if !(least..=MAX_NODES).contains(&nodes) {
            format!("nodes must be {least} ({} a class) to {MAX_NODES} (got {nodes})", TURNS.len())
        } else if let Some((name, p)) =
            [("p_in", p_in), ("p_out", p_out)].into_iter().find(|(_, p)| !(0.0..=1.0).contains(p))
        {
            format!("{name} must be 0 to 1 (got {p})")
        } else if !(1..=MAX_FEATURES).contains(&features) {
            format!("features must be 1 to {MAX_FEATURES} (got {features})")
        } else if !(0.0..=1e3).contains(&noise) {
            format!("noise must be 0 to 1000 (got {noise})")
        } else {
            return Ok(());
        };
        Err(Error::Setting { family: family.into(), reason })
    }
}

/// The graph of a seed. The settings are checked.
pub(crate) fn generate(seed: Seed, settings: SbmSettings) -> NodeData {
    let SbmSettings { nodes, classes, .. } = settings;
    let seed = seed.purpose(Purpose::Data);
    let mut labels = vec![0; nodes];
    let mut splits = Splits::<Vec<u32>>::default();
    for (place, node) in shuffled(nodes, seed.fold_in(0)).into_iter().enumerate() {
        labels[node] = (place % classes) as u32;
        splits.0[TURNS[place / classes % TURNS.len()]].push(node as u32);
    }
    splits.0.iter_mut().for_each(|nodes| nodes.sort_unstable());
    NodeData {
        origin: "procedural block model".into(),
        graph: draw_graph(seed.fold_in(1), settings, &labels),
        features: Arc::new(draw_features(seed.fold_in(2), settings, &labels)),
        labels,
        classes,
        splits,
    }
}

fn draw_graph(seed: Seed, settings: SbmSettings, labels: &[u32]) -> Graph {
    // A word is below p · 2³² with probability p, to 2⁻³².
    let [inside, outside] = [settings.p_in, settings.p_out].map(|p| (p * 4_294_967_296.0) as u64);
    let mut draws = Draws::new(seed);
    let mut pairs = Vec::new();
    for (second, label) in labels.iter().enumerate() {
        for (first, other) in labels[..second].iter().enumerate() {
            if u64::from(draws.word()) < if label == other { inside } else { outside } {
                pairs.push((first as u32, second as u32));
            }
        }
    }
    Graph::undirected(settings.nodes, &pairs).expect("each pair was drawn for once")
}

fn draw_features(seed: Seed, settings: SbmSettings, labels: &[u32]) -> Features {
    let SbmSettings { nodes, classes, features, noise, .. } = settings;
    let mut prototypes = vec![0.0; classes * features];
    noise::normals(seed.fold_in(0), 0, &mut prototypes);
    let mut values = vec![0.0; nodes * features];
    noise::normals(seed.fold_in(1), 0, &mut values);
    let (scale, noise) = ((1.0 / (1.0 + noise * noise).sqrt()) as f32, noise as f32);
    for (row, &label) in values.chunks_exact_mut(features).zip(labels) {
        let prototype = &prototypes[label as usize * features..][..features];
        row.iter_mut().zip(prototype).for_each(|(value, mean)| *value = scale * (mean + noise * *value));
    }
    Features::full(features, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_splits_are_even() {
        let settings = SbmSettings { nodes: 103, classes: 3, ..SbmSettings::default() };
        let data = generate(Seed::new(1), settings);
        let mut counts = [[0; 3]; 4];
        for (split, nodes) in data.splits.0.iter().enumerate() {
            assert!(nodes.is_sorted());
            nodes.iter().for_each(|&node| counts[split][data.labels[node as usize] as usize] += 1);
        }
        assert_eq!(counts, [[8, 8, 8], [8, 8, 8], [7, 6, 6], [12, 12, 12]], "{counts:?}");
        let mut all = data.splits.0.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..103), "each node once");
    }

    #[test]
    fn edges_come_as_often_as_asked() {
        let settings = SbmSettings { nodes: 1_000, p_in: 0.03, p_out: 0.02, ..SbmSettings::default() };
        let data = generate(Seed::new(2), settings);
        let ends = data.graph.sources().iter().zip(data.graph.targets());
        let same = ends.filter(|(a, b)| data.labels[**a as usize] == data.labels[**b as usize]).count() / 2;
        let other = data.graph.edges() / 2 - same;
        // 4 · 250 · 249 / 2 pairs within, 6 · 250² between; five deviations of the binomial.
        assert!(same.abs_diff(3_735) < 301, "{same}");
        assert!(other.abs_diff(7_500) < 429, "{other}");
        for (p, edges) in [(0.0, 0), (1.0, 400 * 399)] {
            let all = SbmSettings { p_in: p, p_out: p, ..SbmSettings::default() };
            assert_eq!(generate(Seed::new(2), all).graph.edges(), edges);
        }
    }

    /// How many nodes are nearest to the mean of their class.
    fn nearest_mean(rows: &[f32], columns: usize, labels: &[u32], classes: usize) -> f64 {
        let mut means = vec![0.0_f64; classes * columns];
        let size = labels.len() as f64 / classes as f64;
        for (row, &label) in rows.chunks(columns).zip(labels) {
            let mean = &mut means[label as usize * columns..][..columns];
            mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value) / size);
        }
        let right = rows.chunks(columns).zip(labels).filter(|&(row, &label)| {
            let distance = |class: usize| -> f64 {
                let mean = &means[class * columns..][..columns];
                row.iter().zip(mean).map(|(&value, mean)| (f64::from(value) - mean).powi(2)).sum()
            };
            (0..classes).all(|class| distance(label as usize) <= distance(class))
        });
        right.count() as f64 / labels.len() as f64
    }

    #[test]
    fn neighbours_tell_more_than_a_node_alone() {
        let data = generate(Seed::new(3), SbmSettings::default());
        let (columns, rows) = (data.features.columns(), data.features.to_dense());
        let graph = data.graph.gcn_normalised();
        let mut smooth = vec![0.0; rows.len()];
        for edge in 0..graph.edges() {
            let [from, to] = [graph.sources()[edge], graph.targets()[edge]].map(|node| node as usize * columns);
            (0..columns).for_each(|column| smooth[to + column] += graph.weight(edge) * rows[from + column]);
        }
        let alone = nearest_mean(&rows, columns, &data.labels, data.classes);
        let together = nearest_mean(&smooth, columns, &data.labels, data.classes);
        assert!((0.4..0.8).contains(&alone) && (alone + 0.1..0.99).contains(&together), "{alone} → {together}");
        let power = rows.iter().map(|value| value * value).sum::<f32>() / rows.len() as f32;
        assert!((power - 1.0).abs() < 0.1, "{power}");
    }

    #[test]
    fn the_bits_are_pinned() {
        // Recorded runs depend on them.
        let data = generate(Seed::new(0), SbmSettings::default());
        let sum: f64 = data.features.to_dense().iter().map(|&value| f64::from(value)).sum();
        let labels: usize = data.labels.iter().enumerate().map(|(i, &label)| i * label as usize).sum();
        let ends: usize = data.graph.sources().iter().enumerate().map(|(i, &source)| i * source as usize).sum();
        assert_eq!((sum, labels, ends), PINNED);
    }

    const PINNED: (f64, usize, usize) = (82.014_686_296_053_7, 118_728, 981_414_283);

    #[test]
    fn a_seed_draws_one_graph() {
        let of = |seed| generate(Seed::new(seed), SbmSettings::default());
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).graph, of(2).graph);
        assert_ne!(of(1).features, of(2).features);
    }

    #[test]
    fn settings_without_meaning_are_refused_by_name() {
        let good = SbmSettings::default();
        good.check("f").unwrap();
        let cases = [
            (SbmSettings { classes: 1, ..good }, "classes must be 2 to 64 (got 1)"),
            (SbmSettings { nodes: 39, ..good }, "nodes must be 40 (10 a class) to 4096 (got 39)"),
            (SbmSettings { nodes: 5_000, ..good }, "(got 5000)"),
            (SbmSettings { p_in: 1.1, ..good }, "p_in must be 0 to 1 (got 1.1)"),
            (SbmSettings { p_out: f64::NAN, ..good }, "p_out must be 0 to 1 (got NaN)"),
            (SbmSettings { features: 0, ..good }, "features must be 1 to 1024 (got 0)"),
            (SbmSettings { noise: f64::INFINITY, ..good }, "noise must be 0 to 1000 (got inf)"),
        ];
        for (settings, expected) in cases {
            let error = settings.check("f").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
