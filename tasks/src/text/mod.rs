//! Text to learn on: read from a file or drawn from a seed, cut into characters or word pieces, in windows. The
//! language models are elsewhere.
//!
//! ```text
//!  <data folder>/text/<file> ─┐
//!  procedural, by seed ───────┴─► blocks ─► characters | pieces ─► fold ─► Corpus (shared by Arc)
//!                                 80/5/5/10 %                                │ Windows::new(corpus, length)
//!                                                                            ▼
//!                                               batch(seed, split, batch, size) ─► obs, target [size, length]
//! ```
//!
//! How a family uses it: [`corpus::TextSettings`]`.load(family, data_dir)` once, [`windows::Windows::new`] with it, and
//! [`windows::Windows::batch`] for each batch. Numbers are below `corpus().vocabulary().size()`, which is the number of
//! rows of the embedding and of classes; targets of [`vocab::PADDING`] are not scored. `auto` is decided by
//! [`corpus::TextSource::resolve`] where a run is submitted: the file if the data folder has it.

pub(crate) mod corpus;
mod pieces;
mod procedural;
pub(crate) mod vocab;
pub(crate) mod windows;
