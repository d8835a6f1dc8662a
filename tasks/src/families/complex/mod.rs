//! Families of complex-valued networks, on images, sounds, and signals drawn from a seed (shared spec,
//! complex-and-audio.md §6, §8).
//!
//! ```text
//!  ImageSignals │ AudioSignals │ synthetic ─► Examples ─► SignalNet ─► |outputs| ─► cross-entropy
//!                                                                 └──► outputs ──► mean |f − t|²
//! ```

mod audio;
mod image;
mod net;
mod perturb;
mod signals;
mod synthetic;

pub(super) use audio::{Audio, AudioComplex, AudioGraph, AudioReal};
pub(super) use image::ImageComplex;
pub(super) use synthetic::{BnStress, Delay, Mobius, PhaseSum};
