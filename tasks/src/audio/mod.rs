//! Labelled sounds for classification tasks: read from files or drawn from a seed, turned into features, split, shared.
//!
//! ```text
//!  fsdd/<digit>/*.wav, gtzan/<genre>/*.wav ─ wav ─► samples ─┐
//!  procedural, from a seed ──────────────────────────────────┼─► segments ─► front end ─► cut or padded ─► AudioData
//!                                  augment (train only) ─────┘   of tracks   stft mel dct   to `frames`    (by Arc)
//!                                                                                └────── features on disk (cache) ──┘
//! ```
//!
//! A family says what it wants in [`AudioSettings`], beginning from [`AudioSettings::of`] its source, and calls [`load()`]:
//!
//! ```text
//! let source = source.resolve(data_dir);                   // decides what `auto` is, and with it the sizes that suit
//! let mut settings = AudioSettings::of(source);
//! settings.features.kind = FeatureKind::Workflow2;
//! let data = audio::load("audio_wf2", &settings, data_dir, &Cache::standard())?;
//! let [channels, rows, frames] = data.shape();             // re and im are two channels: [examples, 2, rows, frames]
//! let train = data.split(Split::Train);                    // .values, .labels, .phases
//! ```
//!
//! # What is promised
//! Splits, order of examples and waveforms of procedural data are the same bits on every host. Features are computed in
//! f64 in a fixed order, without SIMD paths that depend on the processor, and rounded to f32 once; but sine, logarithm and
//! arc tangent are the system's. So one host gets the same bits every time, two hosts with different mathematics libraries
//! agree to about 1e-7 of the largest value, except where a phase lies at ±π to rounding.
//!
//! # What is done with odd input
//! | input | treatment |
//! |---|---|
//! | stereo and more channels | averaged |
//! | another sample rate than `sample_rate` | error with both rates |
//! | truncated, mislabelled, empty, absurd headers, NaN or infinite samples | error with the file and the sample |
//! | silence (below 1e-8) | kept, not normalised: features of the floors, finite (see [`mfcc`]) |
//! | shorter than a segment | one segment; missing frames are zeros |
//! | shorter than a frame | padded with zeros to one frame |
//! | a last part of a track of at least half a segment | a segment; a shorter rest is dropped |
//! | hidden files, other files than `.wav` | ignored |
//! | a class without a recording, or with fewer than four | error with the folder |

mod augment;
mod cache;
mod data;
mod dct;
mod features;
mod folder;
mod grid;
mod librosa;
mod load;
mod mel;
mod mfcc;
mod procedural;
mod settings;
mod stft;
mod wav;

pub(crate) use cache::Cache;
pub(crate) use data::AudioData;
pub(crate) use folder::SplitBy;
pub(crate) use load::load;
pub(crate) use settings::{AudioSettings, AudioSource, FeatureKind};

use crate::data::data_error;
