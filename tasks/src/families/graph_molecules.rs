//! `graph_molecules`: tell rings, amide groups or a score of small procedural molecules.
//!
//! ```text
//!  task seed ─► molecules of (split, batch) ─► one disjoint union a lane ─► MessageNet ─► cross-entropy or squared error
//! ```
//!
//! Unions of lanes differ in their number of bonds. Tensors of bonds have room for the most that a batch can have, so
//! that no lane's shapes depend on its neighbours.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::Family;
use super::choices::{Choice, Choices, Initialiser, OneOf, Scale};
use super::settings::{FamilySettings, check_batch, check_choices, check_widths, family, refuse};
use crate::Error;
use crate::cost;
use crate::graph::molecules::{ELEMENTS, MoleculeData, MoleculeSettings, Target};
use crate::graph::neighbourhood::edges_among;
use crate::layers::graph::{Membership, Readout};
use crate::layers::{Nonlinearity, cross_entropy, mean_squared_error};
use crate::models::{MessageNet, Unions};
use crate::problem::{Classified, Initial, Parameters, Pass, Problem, Scores, TestSplit, indices};
use crate::sample::Panel;

/// Most rounds of messages.
const MAX_ROUNDS: usize = 16;
/// Molecules of a sample.
const SHOWN: usize = 6;
/// Mean squared error beyond which a regression counts as lost: ten times that of always guessing the mean.
const WORST_ERROR: f64 = 10.0;

/// What is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// How many rings: 4 classes.
    #[default]
    Rings,
    /// Whether there is an amide group: 2 classes.
    Amide,
    /// A number of mean 0 and variance 1 (see [`crate::graph::molecules`]).
    Score,
}

impl Told {
    /// The target as a class.
    fn class(self) -> Option<Target> {
        match self {
            Self::Rings => Some(Target::Rings),
            Self::Amide => Some(Target::Amide),
            Self::Score => None,
        }
    }
}

/// Settings of `graph_molecules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GraphMolecules {
    /// What is to be told: `rings`, `amide` or `score`.
    target: Told,
    /// Seed of the molecules.
    data_seed: u64,
    /// Most atoms of a molecule; each has at least half as many.
    atoms: usize,
    /// Rounds of messages.
    rounds: usize,
    /// Width of messages, of atoms between rounds, and of the hidden layer.
    width: usize,
    /// What a molecule gets of its atoms: their `sum`, `mean` or `max`.
    readout: Readout,
    /// Hidden activation: one, or several of which each task draws one. Messages have relu.
    activation: OneOf<Nonlinearity>,
    /// Initial weights: one law, or several of which each task draws one.
    initialiser: OneOf<Initialiser>,
    /// Factor of the initial weights, or a range from which each task draws one.
    initial_scale: Scale,
    /// Molecules in a batch.
    batch_size: usize,
}

impl Default for GraphMolecules {
    fn default() -> Self {
        Self {
            target: Told::default(),
            data_seed: 0,
            atoms: 12,
            rounds: 2,
            width: 16,
            readout: Readout::Sum,
            activation: OneOf::One(Nonlinearity::Relu),
            initialiser: OneOf::One(Initialiser::Default),
            initial_scale: Scale::Fixed(1.0),
            batch_size: 32,
        }
    }
}

impl FamilySettings for GraphMolecules {
    const NAME: &'static str = "graph_molecules";
    const SUMMARY: &'static str = "tell rings, amide groups or a score of small molecules by message passing";

    fn resolve(self, _: Option<&Path>) -> Self {
        self
    }

    fn build(self, _: Option<&Path>) -> std::result::Result<Arc<dyn Family>, Error> {
        check_widths::<Self>("width", &[self.width])?;
        if !(1..=MAX_ROUNDS).contains(&self.rounds) {
            return Err(refuse::<Self>(format!("rounds must be 1 to {MAX_ROUNDS} (got {})", self.rounds)));
        }
        let choices = Choices { activation: self.activation, initialiser: self.initialiser, scale: self.initial_scale };
        check_choices::<Self>(&choices)?;
        let settings = MoleculeSettings { nodes: self.atoms, data_seed: self.data_seed };
        let data = settings.load(Self::NAME).map_err(|error| match error {
            Error::Setting { family, reason } => Error::Setting { family, reason: reason.replace("nodes", "atoms") },
            other => other,
        })?;
        check_batch::<Self>(self.batch_size, data.len(Split::Train))?;
        let outputs = self.target.class().map_or(1, Target::classes);
        let net = MessageNet::new([ELEMENTS, 1], self.width, self.rounds, self.readout, outputs);
        family::<Self>("width", Molecules { net, data, target: self.target, choices, batch_size: self.batch_size })
    }
}

struct Molecules {
    net: MessageNet,
    data: Arc<MoleculeData>,
    target: Told,
    choices: Choices,
    batch_size: usize,
}

impl fmt::Debug for Molecules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (net, parameters) = (self.net.describe(), self.parameters().layout().size());
        write!(f, "{net}, {}, {parameters} parameters, target {:?}, ", self.choices, self.target)?;
        write!(f, "batch {}, data {:?}", self.batch_size, self.data)
    }
}

/// Molecules and their targets.
struct Batch {
    unions: Unions,
    labels: Arc<Vec<u32>>,
    /// `[lanes | 1, batch, 1]`.
    scores: Tensor,
}

impl Problem for Molecules {
    type Instance = Choice;
    type Batch = Batch;

    fn name(&self) -> &'static str {
        GraphMolecules::NAME
    }

    fn parameters(&self) -> &Parameters {
        self.net.parameters()
    }

    fn instance(&self, seed: Seed) -> Choice {
        self.choices.draw(seed)
    }

    fn initial(&self, choice: &Choice, index: usize) -> Initial {
        choice.initial(self.parameters(), index)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn test_split(&self) -> Option<TestSplit> {
        TestSplit::new(self.data.len(Split::Test), self.batch_size)
    }

    fn batch(&self, tasks: &[(Seed, Choice)], split: Split, number: u64, size: usize) -> Result<Batch> {
        let (lanes, nodes, edges) = (tasks.len(), size * self.data.nodes(), size * self.data.max_edges());
        let (mut graphs, mut members) = (Vec::with_capacity(lanes), Vec::with_capacity(lanes));
        let mut features = Vec::with_capacity(lanes * nodes * ELEMENTS);
        let mut bonds = vec![0.0; lanes * edges];
        let (mut labels, mut scores) = (Vec::with_capacity(lanes * size), Vec::with_capacity(lanes * size));
        for (&(seed, _), bonds) in tasks.iter().zip(bonds.chunks_exact_mut(edges)) {
            let picked = indices(seed, split, number, self.data.len(split), self.batch_size, size);
            let batch = self.data.batch(split, &picked, self.target.class().unwrap_or_default());
            let graph = batch.graphs.graph;
            bonds.iter_mut().zip(0..graph.edges()).for_each(|(bond, edge)| *bond = graph.weight(edge));
            features.extend(batch.features);
            labels.extend(batch.labels);
            scores.extend(batch.scores);
            members.push(Arc::new(Membership::padded(self.data.nodes(), &batch.mask)?));
            cost::hold(graph.bytes() as f64);
            graphs.push(Arc::new(graph));
        }
        let unions = Unions {
            graphs,
            members,
            nodes: Tensor::from_vec(features, (lanes, 1, nodes, ELEMENTS), &Device::Cpu)?,
            edges: Tensor::from_vec(bonds, (lanes, 1, edges, 1), &Device::Cpu)?,
        };
        let scores = Tensor::from_vec(scores, (lanes, size, 1), &Device::Cpu)?;
        Ok(Batch { unions, labels: Arc::new(labels), scores })
    }

    fn tensors(batch: &Batch) -> Vec<&Tensor> {
        vec![&batch.unions.nodes, &batch.unions.edges, &batch.scores]
    }

    fn losses(&self, pass: &mut Pass<'_>, tasks: &[(Seed, Choice)], batch: &Batch) -> Result<Scores> {
        let activations: Vec<Nonlinearity> = tasks.iter().map(|(_, choice)| choice.activation).collect();
        let outputs = self.net.outputs(pass, &activations, &batch.unions)?;
        if self.target.class().is_none() {
            let losses = mean_squared_error(&mut pass.tape, &outputs, &batch.scores)?;
            return Ok(Scores { losses, classified: None });
        }
        let losses = cross_entropy(&mut pass.tape, &outputs, &batch.labels)?;
        let classified = Classified { logits: outputs, labels: Arc::clone(&batch.labels), padding: None };
        Ok(Scores { losses, classified: Some(classified) })
    }

    /// Of classes `clip(loss, 0, 1.5 ln classes)`; of scores `ln(1 + loss)`, so that an error tenfold too large is not
    /// all that counts, up to an error of 10. Not a number is the ceiling.
    fn normalise(&self, loss: f64) -> f64 {
        let scaled = |loss: f64| match self.target.class() {
            Some(target) => loss.clamp(0.0, 1.5 * (target.classes() as f64).ln()),
            None => loss.clamp(0.0, WORST_ERROR).ln_1p(),
        };
        scaled(if loss.is_finite() { loss } else { f64::MAX })
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let picked = indices(seed, Split::Train, 0, self.data.len(Split::Train), SHOWN, SHOWN);
        let shown = picked.into_iter().map(|index| {
            let molecule = self.data.batch(Split::Train, &[index], self.target.class().unwrap_or_default());
            let atoms =
                molecule.features.chunks_exact(ELEMENTS).filter_map(|atom| atom.iter().position(|&is| is > 0.0));
            let nodes: Vec<u32> = atoms.map(|element| element as u32).collect();
            let told = match self.target {
                Told::Rings => format!("{} rings", molecule.labels[0]),
                Told::Amide => ["no amide group", "an amide group"][molecule.labels[0] as usize].into(),
                Told::Score => format!("score {:.2}", molecule.scores[0]),
            };
            let edges = edges_among(&molecule.graphs.graph, &Vec::from_iter(0..nodes.len()));
            Panel::Graph { title: format!("{told} (0 is C, 1 N, 2 O, 3 F)"), nodes, edges }
        });
        shown.collect()
    }
}
