//! Graph-level targets drawn from a seed: small graphs that obey a chemist's valences.
//!
//! ```text
//!    O                  atoms   C 4 · N 3 · O 2 · F 1 bonds at most
//!    ‖                  tree    from C, O=C–N or O=C–C–N on, each new atom is bound to one with room left
//!    C ─ N ─ C          rings   0 to 3 closures to rings of five or six
//!    │       │          double  where both ends have room, by chance
//!    C ───── C ─ F
//! ```
//!
//! Targets are closed forms of the structure, so no model of chemistry is hidden in them:
//!
//! | target | what |
//! |---|---|
//! | [`Target::Rings`] | independent rings, bonds − atoms + 1: 0, 1, 2, 3 |
//! | [`Target::Amide`] | whether some C has both =O and –N: 0, 1 |
//! | `scores` | `r/(1 + r) + 2h/n + n/(n + 8)` of `r` rings, `h` atoms other than C, `n` atoms, less the training set's mean, over its deviation |
//!
//! An example is a pure function of (seed, split, index). All graphs are padded to the same number of nodes, so that
//! the shapes of a batch do not depend on the draw: nodes past a molecule's atoms have no edge, zero features and mask
//! 0. Numbers of edges differ. Only integers, sums, products, quotients and square roots take part.

use std::fmt;
use std::sync::Arc;

use paceline_optimizer_core::noise::Draws;
use paceline_optimizer_core::task::Split;
use paceline_optimizer_core::{Purpose, Seed};
use serde::{Deserialize, Serialize};

use super::sparse::Graph;
use super::union::Union;
use crate::Error;
use crate::data::{Shared, Splits, position};

/// Bonds an atom can have: carbon, nitrogen, oxygen, fluorine.
const VALENCES: [u8; ELEMENTS] = [4, 3, 2, 1];
const CARBON: u8 = 0;
const NITROGEN: u8 = 1;
const OXYGEN: u8 = 2;
/// Kinds of atoms: the features of a node, one of them 1.
pub(crate) const ELEMENTS: usize = 4;
/// Of 16 new atoms, so many are of each element.
const ABUNDANCE: [u32; ELEMENTS] = [8, 3, 4, 1];
/// Most rings.
const MAX_RINGS: u32 = 3;
/// Bonds between the ends of a chain that closes to a ring: five and six atoms.
const CHAINS: std::ops::RangeInclusive<u8> = 4..=5;
/// Examples of train, inner_valid, outer_valid, test.
const EXAMPLES: [usize; 4] = [4_000, 500, 500, 1_000];
/// Nodes of a graph.
const NODES: std::ops::RangeInclusive<usize> = 8..=64;

/// A target that is a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// How many rings: 4 classes.
    #[default]
    Rings,
    /// Whether there is an amide group: 2 classes.
    Amide,
}

impl Target {
    /// Number of classes.
    pub(crate) fn classes(self) -> usize {
        match self {
            Self::Rings => MAX_RINGS as usize + 1,
            Self::Amide => 2,
        }
    }
}

/// What a family's settings say about its molecules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MoleculeSettings {
    /// Nodes of every graph after padding: the most atoms of a molecule, which has at least half as many.
    pub(crate) nodes: usize,
    pub(crate) data_seed: u64,
}

impl MoleculeSettings {
    /// The data set, made once in this process for all that use it at the same time.
    ///
    /// # Errors
    /// [`Error::Setting`] names a size out of range.
    pub(crate) fn load(self, family: &str) -> Result<Arc<MoleculeData>, Error> {
        static DRAWN: Shared<MoleculeSettings, MoleculeData> = Shared::new();
        if !NODES.contains(&self.nodes) {
            let reason = format!("nodes must be {} to {} (got {})", NODES.start(), NODES.end(), self.nodes);
            return Err(Error::Setting { family: family.into(), reason });
        }
        DRAWN.get(self, || Ok(MoleculeData::generate(self)))
    }
}

/// Molecules in four splits.
pub(crate) struct MoleculeData {
    nodes: usize,
    splits: Splits<Vec<Molecule>>,
}

impl MoleculeData {
    fn generate(settings: MoleculeSettings) -> Self {
        let seed = Seed::new(settings.data_seed).purpose(Purpose::Data);
        let mut splits = Splits([Split::Train, Split::InnerValid, Split::OuterValid, Split::Test].map(|split| {
            let place = position(split);
            let seed = seed.fold_in(place);
            let molecule = |index| Molecule::draw(seed.fold_in(index), settings.nodes);
            (0..EXAMPLES[place as usize] as u64).map(molecule).collect::<Vec<_>>()
        }));
        let train = splits.get(Split::Train);
        let count = train.len() as f64;
        let mean = train.iter().map(|molecule| molecule.score).sum::<f64>() / count;
        let variance = train.iter().map(|molecule| (molecule.score - mean) * (molecule.score - mean)).sum::<f64>();
        let deviation = (variance / count).sqrt();
        let all = splits.0.iter_mut().flatten();
        all.for_each(|molecule| molecule.score = (molecule.score - mean) / deviation);
        Self { nodes: settings.nodes, splits }
    }

    /// Number of molecules of a split.
    pub(crate) fn len(&self, split: Split) -> usize {
        self.splits.get(split).len()
    }

    /// Nodes of every graph.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Most directed edges of a graph: a tree and the rings, both ways.
    pub(crate) fn max_edges(&self) -> usize {
        2 * (self.nodes - 1 + MAX_RINGS as usize)
    }

    /// The molecules of a split at `indices`, as one graph. Lanes with batches of their own give all their indices, one
    /// lane after the other.
    pub(crate) fn batch(&self, split: Split, indices: &[usize], target: Target) -> MoleculeBatch {
        let all = self.splits.get(split);
        let molecules = || indices.iter().map(|&index| &all[index]);
        let rows = indices.len() * self.nodes;
        let (mut features, mut mask) = (vec![0.0; rows * ELEMENTS], vec![0.0; rows]);
        for (place, molecule) in molecules().enumerate() {
            for (atom, &element) in molecule.elements.iter().enumerate() {
                let row = place * self.nodes + atom;
                features[row * ELEMENTS + element as usize] = 1.0;
                mask[row] = 1.0;
            }
        }
        MoleculeBatch {
            graphs: Union::of(molecules().map(|molecule| &molecule.graph)),
            features,
            mask,
            labels: molecules().map(|molecule| molecule.label(target)).collect(),
            scores: molecules().map(|molecule| molecule.score as f32).collect(),
        }
    }
}

impl fmt::Debug for MoleculeData {
    /// What it is and how large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, inner, outer, test] = self.splits.0.each_ref().map(Vec::len);
        write!(f, "procedural molecules of {} to {} atoms, ", self.nodes / 2, self.nodes)?;
        write!(f, "{train}/{inner}/{outer}/{test} examples")
    }
}

/// Graphs side by side. Nodes of graph `g` are `g · nodes .. (g + 1) · nodes`, so that node values `[batch · nodes, …]`
/// are `[batch, nodes, …]` without moving anything.
#[derive(Debug, PartialEq)]
pub(crate) struct MoleculeBatch {
    /// Both directions of each bond, weighted 1 or 2 by its order.
    pub(crate) graphs: Union,
    /// `[batch · nodes, ELEMENTS]`: the element is 1.
    pub(crate) features: Vec<f32>,
    /// `[batch · nodes]`: 1 for atoms, 0 for padding.
    pub(crate) mask: Vec<f32>,
    /// `[batch]`: the class.
    pub(crate) labels: Vec<u32>,
    /// `[batch]`: the regression target; mean 0 and variance 1 over the training set.
    pub(crate) scores: Vec<f32>,
}

#[derive(Debug, PartialEq)]
struct Molecule {
    elements: Vec<u8>,
    graph: Graph,
    rings: u32,
    amide: bool,
    score: f64,
}

impl Molecule {
    fn draw(seed: Seed, nodes: usize) -> Self {
        let mut draws = Draws::new(seed);
        let atoms = nodes / 2 + draws.below((nodes - nodes / 2 + 1) as u32) as usize;
        let mut skeleton = Skeleton::tree(&mut draws, atoms);
        for _ in 0..draws.below(MAX_RINGS + 1) {
            skeleton.close_ring(&mut draws);
        }
        skeleton.double_bonds(&mut draws);

        let both = skeleton.bonds.iter().flat_map(|&Bond { ends: [a, b], order }| {
            let (a, b, weight) = (a as u32, b as u32, f32::from(order));
            [(a, b, weight), (b, a, weight)]
        });
        let graph = Graph::weighted(nodes, &both.collect::<Vec<_>>()).expect("bonds join two atoms once");
        let rings = (skeleton.bonds.len() + 1 - atoms) as u32;
        let (r, n) = (f64::from(rings), atoms as f64);
        let others = skeleton.elements.iter().filter(|&&element| element != CARBON).count() as f64;
        let score = r / (1.0 + r) + 2.0 * others / n + n / (n + 8.0);
        Self { amide: skeleton.has_amide(), elements: skeleton.elements, graph, rings, score }
    }

    fn label(&self, target: Target) -> u32 {
        match target {
            Target::Rings => self.rings,
            Target::Amide => u32::from(self.amide),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bond {
    ends: [usize; 2],
    order: u8,
}

/// A molecule while it is built.
#[derive(Debug)]
struct Skeleton {
    elements: Vec<u8>,
    /// Bonds each atom could still have.
    room: Vec<u8>,
    bonds: Vec<Bond>,
}

impl Skeleton {
    /// A tree of this many atoms, at least 4.
    fn tree(draws: &mut Draws, atoms: usize) -> Self {
        let mut tree = Self { elements: Vec::new(), room: Vec::new(), bonds: Vec::new() };
        tree.add(CARBON);
        // By chance alone one molecule in twenty has an amide group. Half of them get one, and half of the others the
        // same groups on two atoms, so that counting elements and bonds does not tell.
        match draws.below(4) {
            0 => {}
            1 => {
                tree.add(OXYGEN);
                tree.add(CARBON);
                tree.add(NITROGEN);
                tree.bind([0, 1], 2);
                tree.bind([0, 2], 1);
                tree.bind([2, 3], 1);
            }
            _ => {
                tree.add(OXYGEN);
                tree.add(NITROGEN);
                tree.bind([0, 1], 2);
                tree.bind([0, 2], 1);
            }
        }
        for atom in tree.elements.len()..atoms {
            let open: Vec<usize> = (0..atom).filter(|&other| tree.room[other] > 0).collect();
            let other = open[draws.below(open.len() as u32) as usize];
            let element = draw_element(draws);
            // The last place of all must not be closed while atoms are to come.
            let rooms: u32 = tree.room.iter().map(|&room| u32::from(room)).sum();
            tree.add(if rooms == 1 && VALENCES[element as usize] == 1 { CARBON } else { element });
            tree.bind([other, atom], 1);
        }
        tree
    }

    fn add(&mut self, element: u8) {
        self.elements.push(element);
        self.room.push(VALENCES[element as usize]);
    }

    fn bind(&mut self, ends: [usize; 2], order: u8) {
        ends.into_iter().for_each(|atom| self.room[atom] -= order);
        self.bonds.push(Bond { ends, order });
    }

    /// Binds the ends of a chain of suitable length, if one has room at both ends.
    fn close_ring(&mut self, draws: &mut Draws) {
        let neighbours = self.neighbours();
        let mut chains = Vec::new();
        for a in (0..self.elements.len()).filter(|&a| self.room[a] > 0) {
            let distances = distances(&neighbours, a);
            chains.extend((0..a).filter(|&b| self.room[b] > 0 && CHAINS.contains(&distances[b])).map(|b| (b, a)));
        }
        if !chains.is_empty() {
            let (a, b) = chains[draws.below(chains.len() as u32) as usize];
            self.bind([a, b], 1);
        }
    }

    /// Doubles every second single bond that can be.
    fn double_bonds(&mut self, draws: &mut Draws) {
        for bond in &mut self.bonds {
            let [a, b] = bond.ends;
            if bond.order == 1 && self.room[a] > 0 && self.room[b] > 0 && draws.below(2) == 0 {
                bond.order = 2;
                self.room[a] -= 1;
                self.room[b] -= 1;
            }
        }
    }

    fn neighbours(&self) -> Vec<Vec<usize>> {
        let mut neighbours = vec![Vec::new(); self.elements.len()];
        for &Bond { ends: [a, b], .. } in &self.bonds {
            neighbours[a].push(b);
            neighbours[b].push(a);
        }
        neighbours
    }

    /// Whether some carbon has a doubly bound oxygen and a singly bound nitrogen.
    fn has_amide(&self) -> bool {
        let mut found = vec![[false; 2]; self.elements.len()];
        for &Bond { ends: [a, b], order } in &self.bonds {
            for (carbon, other) in [(a, b), (b, a)] {
                let [oxygen, nitrogen] = &mut found[carbon];
                *oxygen |= order == 2 && self.elements[other] == OXYGEN;
                *nitrogen |= order == 1 && self.elements[other] == NITROGEN;
            }
        }
        self.elements.iter().zip(&found).any(|(&element, found)| element == CARBON && *found == [true, true])
    }
}

fn draw_element(draws: &mut Draws) -> u8 {
    let mut draw = draws.below(ABUNDANCE.iter().sum());
    let mut element = 0;
    while draw >= ABUNDANCE[element] {
        draw -= ABUNDANCE[element];
        element += 1;
    }
    element as u8
}

/// Bonds from `start` to each atom of a connected molecule.
fn distances(neighbours: &[Vec<usize>], start: usize) -> Vec<u8> {
    let mut distances = vec![u8::MAX; neighbours.len()];
    distances[start] = 0;
    let mut reached = vec![start];
    let mut next = 0;
    while let Some(&atom) = reached.get(next) {
        next += 1;
        for &other in &neighbours[atom] {
            if distances[other] == u8::MAX {
                distances[other] = distances[atom] + 1;
                reached.push(other);
            }
        }
    }
    distances
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn molecules_obey_valences_and_hang_together(seed: u64, nodes in NODES) {
            let molecule = Molecule::draw(Seed::new(seed), nodes);
            prop_assert_eq!(&molecule, &Molecule::draw(Seed::new(seed), nodes));
            let atoms = molecule.elements.len();
            prop_assert!((nodes / 2..=nodes).contains(&atoms));
            let graph = &molecule.graph;
            prop_assert_eq!(graph.nodes(), nodes);
            for node in 0..nodes {
                let bonds: f32 = graph.incoming(node).map(|edge| graph.weight(edge)).sum();
                let most = molecule.elements.get(node).map_or(0, |&element| VALENCES[element as usize]);
                prop_assert!(bonds <= f32::from(most), "{} bonds at node {}", bonds, node);
            }
            let neighbours: Vec<Vec<usize>> = (0..atoms)
                .map(|atom| graph.incoming(atom).map(|edge| graph.sources()[edge] as usize).collect())
                .collect();
            prop_assert!(distances(&neighbours, 0).iter().all(|&distance| distance < u8::MAX), "in one piece");
            prop_assert_eq!(graph.edges() / 2 + 1 - atoms, molecule.rings as usize);
            prop_assert!(molecule.rings <= MAX_RINGS);
        }
    }

    #[test]
    fn an_amide_is_a_carbon_with_both() {
        let skeleton = |elements: &[u8], bonds: &[([usize; 2], u8)]| Skeleton {
            elements: elements.to_vec(),
            room: Vec::new(),
            bonds: bonds.iter().map(|&(ends, order)| Bond { ends, order }).collect(),
        };
        let [c, n, o] = [CARBON, NITROGEN, OXYGEN];
        assert!(skeleton(&[c, o, n], &[([0, 1], 2), ([2, 0], 1)]).has_amide());
        assert!(!skeleton(&[c, o, n], &[([0, 1], 1), ([2, 0], 1)]).has_amide(), "no double bond");
        assert!(!skeleton(&[c, o, n], &[([0, 1], 2), ([2, 0], 2)]).has_amide(), "no single bond");
        assert!(!skeleton(&[c, o, c, n], &[([0, 1], 2), ([0, 2], 1), ([2, 3], 1)]).has_amide(), "on two carbons");
        assert!(!skeleton(&[n, o, n], &[([0, 1], 2), ([2, 0], 1)]).has_amide(), "on a nitrogen");
    }

    #[test]
    fn targets_are_varied_and_standardised() {
        let data = MoleculeSettings { nodes: 20, data_seed: 1 }.load("f").unwrap();
        let indices: Vec<usize> = (0..data.len(Split::Train)).collect();
        for target in [Target::Rings, Target::Amide] {
            let batch = data.batch(Split::Train, &indices, target);
            let mut counts = vec![0; target.classes()];
            batch.labels.iter().for_each(|&label| counts[label as usize] += 1);
            assert!(counts.iter().all(|&count| count * target.classes() > indices.len() / 2), "{target:?}: {counts:?}");
            let count = indices.len() as f64;
            let mean = batch.scores.iter().map(|&score| f64::from(score)).sum::<f64>() / count;
            let power = batch.scores.iter().map(|&score| f64::from(score).powi(2)).sum::<f64>() / count;
            assert!(mean.abs() < 1e-6 && (power - 1.0).abs() < 1e-6, "{mean} {power}");
        }
    }

    #[test]
    fn the_bits_are_pinned() {
        // Recorded runs depend on them.
        let data = MoleculeSettings { nodes: 16, data_seed: 0 }.load("f").unwrap();
        let batch = data.batch(Split::Test, &Vec::from_iter(0..data.len(Split::Test)), Target::Amide);
        let sum: f64 = batch.scores.iter().map(|&score| f64::from(score)).sum();
        let labels: usize = batch.labels.iter().enumerate().map(|(i, &label)| i * label as usize).sum();
        let sources = batch.graphs.graph.sources().iter();
        let ends: usize = sources.enumerate().map(|(i, &source)| i * (source as usize % 16)).sum();
        assert_eq!((sum, labels, ends), PINNED);
    }

    const PINNED: (f64, usize, usize) = (22.633_356_902_748_346, 276_661, 1_562_429_769);

    #[test]
    fn a_batch_is_its_molecules_side_by_side() {
        let settings = MoleculeSettings { nodes: 12, data_seed: 3 };
        let data = settings.load("f").unwrap();
        assert!(Arc::ptr_eq(&data, &settings.load("g").unwrap()));
        assert_eq!(format!("{data:?}"), "procedural molecules of 6 to 12 atoms, 4000/500/500/1000 examples");
        let of = |indices: &[usize]| data.batch(Split::InnerValid, indices, Target::Rings);
        let (both, first, second) = (of(&[4, 7]), of(&[4]), of(&[7]));
        assert_eq!(both.graphs.graph, Union::of([&first.graphs.graph, &second.graphs.graph].into_iter()).graph);
        assert_eq!(both.graphs.node_offsets, [0, 12, 24]);
        assert_eq!(both.features, [first.features, second.features].concat());
        assert_eq!(both.mask, [first.mask, second.mask].concat());
        assert_eq!(both.labels, [first.labels, second.labels].concat());
        assert_eq!(both.scores, [first.scores, second.scores].concat());
        assert_eq!((both.mask.len(), both.features.len()), (2 * data.nodes(), 2 * data.nodes() * ELEMENTS));
        for (node, &mask) in both.mask.iter().enumerate() {
            let features = &both.features[node * ELEMENTS..][..ELEMENTS];
            assert_eq!(features.iter().sum::<f32>(), mask, "one element an atom");
            assert_eq!(both.graphs.graph.outgoing(node).is_empty(), mask == 0.0, "padding is alone");
        }
        let other = data.batch(Split::OuterValid, &[4, 7], Target::Rings);
        assert_ne!(both, other, "splits differ");
    }

    #[test]
    fn sizes_out_of_range_are_refused_by_name() {
        for nodes in [7, 65] {
            let error = MoleculeSettings { nodes, data_seed: 0 }.load("f").unwrap_err().to_string();
            assert!(error.contains(&format!("nodes must be 8 to 64 (got {nodes})")), "{error}");
        }
    }
}
