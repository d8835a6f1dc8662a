//! Graphs to learn on: structure, readers and generators. The layers that pass messages over them are elsewhere.
//!
//! ```text
//!  cora: CSV files ──────┐
//!  sbm: drawn by seed ───┼─► NodeData: one Graph, Features, labels, nodes of each split      (shared by Arc)
//!                        │
//!  molecules: by seed ───┴─► MoleculeData ─ batch(split, indices, target) ─► Union of padded, masked graphs
//! ```
//!
//! How a family uses it:
//! - node classification: [`nodes::NodeSettings`]`.load(family, data_dir)`, once; [`sparse::Graph::gcn_normalised`] for a GCN,
//!   [`sparse::Graph::with_self_loops`] for attention; [`nodes::NodeData::nodes`] are the rows that a split scores.
//! - graph-level targets: [`molecules::MoleculeSettings`]`.load(family)`, once; [`molecules::MoleculeData::batch`] for each batch.
//! - weights that change with the batch on edges that do not (the phase graph): a [`sparse::Graph`] once, then
//!   [`sparse::Graph::symmetric_normalisation`].
//!
//! `auto` is decided by [`nodes::NodeSource::resolve`] where a run is submitted: Cora if the data folder has it.

mod cora;
pub(crate) mod features;
pub(crate) mod molecules;
pub(crate) mod neighbourhood;
pub(crate) mod nodes;
pub(crate) mod sbm;
pub(crate) mod sparse;
pub(crate) mod union;
