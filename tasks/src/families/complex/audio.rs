//! `audio_real`, `audio_complex`, `audio_graph`: sounds as features, experiments 2 and 3 of the complex audio study (shared
//! spec, complex-and-audio.md §6.2, §6.3). They differ by their defaults.
//!
//! Training segments may be augmented; all other splits are clean, unlike the study's, whose test sets of complex features
//! were augmented too.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::Split;
use serde::{Deserialize, Serialize};

use super::super::Family;
use super::super::settings::{FamilySettings, check_batch, family, refuse};
use super::net::{Fit, Net, NetSettings};
use super::signals::{Examples, Goal, SignalProblem, Source, Wanted, pictures};
use crate::Error;
use crate::audio::{self, AudioData, AudioSettings, AudioSource, Cache, FeatureKind, SplitBy};
use crate::layers::Tape;
use crate::layers::complex::ComplexInit;
use crate::layers::graph::{PhaseGraph as Compared, phase_distances};
use crate::models::{EdgeWeights, Hidden, PhaseGraph, PhaseGraphNet, SignalNet, WeightMoments};
use crate::problem::{ParametersBuilder, indices};
use crate::sample::Panel;

/// Which of the families.
pub(in super::super) trait Kind: 'static {
    const NAME: &'static str;
    const SUMMARY: &'static str;
    /// Default network.
    const NET: Net;
    /// Default edges of the graph.
    const EDGES: Edges;
}

pub(in super::super) struct AudioReal;
pub(in super::super) struct AudioComplex;
pub(in super::super) struct AudioGraph;

impl Kind for AudioReal {
    const NAME: &'static str = "audio_real";
    const SUMMARY: &'static str = "classify sounds by two real convolutions and two linear layers on MFCCs";
    const NET: Net = Net::Real;
    const EDGES: Edges = Edges::None;
}

impl Kind for AudioComplex {
    const NAME: &'static str = "audio_complex";
    const SUMMARY: &'static str =
        "classify sounds by two complex convolutions and two linear layers on MFCCs with phase";
    const NET: Net = Net::Complex;
    const EDGES: Edges = Edges::None;
}

impl Kind for AudioGraph {
    const NAME: &'static str = "audio_graph";
    const SUMMARY: &'static str =
        "classify sounds by a graph of MFCCs, weighted by their phases, and a complex network";
    const NET: Net = Net::Complex;
    const EDGES: Edges = Edges::BatchMean;
}

/// Edges of the graph of rows in front of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Edges {
    /// No graph.
    None,
    /// By distances of the batch's mean phases.
    BatchMean,
    /// By distances of each example's phases.
    PerSample,
    /// All 1.
    Ones,
    /// Drawn once.
    Random,
    /// By distances of the batch's mean features.
    MagnitudeDifference,
}

impl Edges {
    fn weights(self) -> Option<EdgeWeights> {
        match self {
            Self::None => None,
            Self::BatchMean => Some(EdgeWeights::BatchMean),
            Self::PerSample => Some(EdgeWeights::PerSample),
            Self::Ones => Some(EdgeWeights::Ones),
            Self::Random => Some(EdgeWeights::Random),
            Self::MagnitudeDifference => Some(EdgeWeights::MagnitudeDifference),
        }
    }
}

/// Settings of the audio families. Numbers that are not given are those that suit the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, bound = "")]
pub(in super::super) struct Audio<K: Kind> {
    /// Where sounds come from.
    data: AudioSource,
    /// Seed of procedural data.
    data_seed: u64,
    /// Classes of recordings to tell apart, by folder; none means all.
    classes: Vec<String>,
    /// What of a recording's relatives lies in one split.
    split: SplitBy,
    /// Augmented copies of each training segment.
    augmented: usize,
    /// Whether features are standardised by the training split; the study's are not.
    standardise: bool,
    /// `mfcc_real`, `mfcc_librosa`, `workflow1`, `workflow2` or `stft`.
    features: FeatureKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    /// Samples of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segments_per_track: Option<usize>,
    /// Samples of a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_fft: Option<usize>,
    /// Samples from one frame to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hop: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_mel: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_mfcc: Option<usize>,
    /// Frames of an example.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<usize>,
    /// Weights of a graph in front of the network, or `none`.
    edges: Edges,
    /// `complex`, `real` or `real_matched`.
    net: Net,
    /// Hidden activation.
    activation: Hidden,
    /// Initial weights.
    init: ComplexInit,
    /// Height and width of both kernels.
    kernel: usize,
    /// Output channels of both convolutions.
    channels: [usize; 2],
    /// Width of the hidden layer; 500 in the study.
    hidden: usize,
    /// Examples in a batch.
    batch_size: usize,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Kind> Default for Audio<K> {
    fn default() -> Self {
        Self {
            data: AudioSource::default(),
            data_seed: 0,
            classes: Vec::new(),
            split: SplitBy::Track,
            augmented: 0,
            standardise: true,
            features: FeatureKind::MfccReal,
            sample_rate: None,
            segment: None,
            segments_per_track: None,
            n_fft: None,
            hop: None,
            n_mel: None,
            n_mfcc: None,
            frames: None,
            edges: K::EDGES,
            net: K::NET,
            activation: Hidden::Crelu,
            init: ComplexInit::PolarHe,
            kernel: 2,
            channels: [4, 8],
            hidden: 32,
            batch_size: 32,
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Audio<K> {
    fn sounds(&self, source: AudioSource) -> AudioSettings {
        let mut settings = AudioSettings::of(source);
        settings.classes.clone_from(&self.classes);
        settings.sample_rate = self.sample_rate.unwrap_or(settings.sample_rate);
        settings.segment = self.segment.unwrap_or(settings.segment);
        settings.segments_per_track = self.segments_per_track.unwrap_or(settings.segments_per_track);
        settings.split = self.split;
        settings.augmented = self.augmented;
        settings.standardise = self.standardise;
        settings.data_seed = self.data_seed;
        let features = &mut settings.features;
        features.kind = self.features;
        features.n_fft = self.n_fft.unwrap_or(features.n_fft);
        features.hop = self.hop.unwrap_or(features.hop);
        features.n_mel = self.n_mel.unwrap_or(features.n_mel);
        features.n_mfcc = self.n_mfcc.unwrap_or(features.n_mfcc);
        features.frames = self.frames.unwrap_or(features.frames);
        features.phases = self.edges != Edges::None;
        settings
    }

    fn graph(&self, data: &AudioData, weights: EdgeWeights) -> Result<PhaseGraph, Error> {
        let [_, rows, frames] = data.shape();
        let failed = |error: candle_core::Error| refuse::<Self>(format!("edges: {error}"));
        let moments = moments(data, self.batch_size).map_err(failed)?;
        PhaseGraph::new([rows, frames], weights, moments, Seed::new(self.data_seed)).map_err(failed)
    }
}

/// Moments of the weights that the mean phases of the first training examples, as many as a batch has, would give.
///
/// Uniform weights of a deviation above mean / √3 would not all be positive: it is kept below half the mean.
fn moments(data: &AudioData, batch_size: usize) -> candle_core::Result<WeightMoments> {
    let ([_, rows, frames], train) = (data.shape(), data.split(Split::Train));
    let batch = batch_size.min(train.len());
    let phases = train.phases[..batch * rows * frames].to_vec();
    let phases = candle_core::Tensor::from_vec(phases, (1, batch, rows, frames), &candle_core::Device::Cpu)?;
    let distances = phase_distances(&mut Tape::default(), &phases, Compared::BatchMean)?;
    let distances: Vec<f32> = distances.flatten_all()?.to_vec1()?;
    let pairs: Vec<f64> = (0..rows)
        .flat_map(|row| (0..row).map(move |column| row * rows + column))
        .map(|place| f64::from(distances[place]))
        .collect();
    let count = pairs.len().max(1) as f64;
    let mean = pairs.iter().sum::<f64>() / count;
    let variance = pairs.iter().map(|weight| (weight - mean).powi(2)).sum::<f64>() / count;
    Ok(WeightMoments { mean, deviation: variance.sqrt().min(mean / 2.0) })
}

impl<K: Kind> FamilySettings for Audio<K> {
    const NAME: &'static str = K::NAME;
    const SUMMARY: &'static str = K::SUMMARY;

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Self { data: self.data.resolve(data_dir), ..self }
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        let Self { net, activation, init, kernel, channels, hidden, batch_size, .. } = self;
        let net = NetSettings { net, activation, init, kernel, channels, hidden };
        net.check::<Self>()?;
        if self.edges != Edges::None && self.features != FeatureKind::MfccReal {
            return Err(refuse::<Self>("edges need features = \"mfcc_real\""));
        }
        let sounds = self.sounds(self.data.resolve(data_dir));
        let data = audio::load(Self::NAME, &sounds, data_dir, &Cache::standard())?;
        check_batch::<Self>(batch_size, data.split(Split::Train).len())?;
        let [parts, rows, frames] = data.shape();
        let fit = Fit { image: [rows, frames], channels: 1, classes: data.classes.len(), is_real: parts == 1 };
        let mut lead = ParametersBuilder::default();
        let net: Box<dyn SignalNet> = match self.edges.weights() {
            None => net.build::<Self>(fit, lead)?,
            Some(weights) => {
                let graph = self.graph(&data, weights)?;
                graph.list("graph", &mut lead);
                Box::new(PhaseGraphNet::new(graph, net.build::<Self>(fit, lead)?))
            }
        };
        let source = Sounds { data, features: self.features, edges: self.edges };
        family::<Self>("channels, hidden", SignalProblem::new(Self::NAME, net, Box::new(source), batch_size))
    }
}

struct Sounds {
    data: Arc<AudioData>,
    features: FeatureKind,
    edges: Edges,
}

impl fmt::Debug for Sounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.data, self.features)?;
        if self.edges == Edges::None { Ok(()) } else { write!(f, ", edges {:?}", self.edges) }
    }
}

impl Sounds {
    /// Real and imaginary parts of an example.
    fn parts(&self, split: Split, index: usize) -> (&[f32], Option<&[f32]>) {
        let [channels, rows, frames] = self.data.shape();
        let plane = rows * frames;
        let values = &self.data.split(split).values[index * channels * plane..(index + 1) * channels * plane];
        let (re, im) = values.split_at(plane);
        (re, (channels > 1).then_some(im))
    }
}

impl Source for Sounds {
    fn shape(&self) -> Vec<usize> {
        let [_, rows, frames] = self.data.shape();
        vec![rows, frames, 1]
    }

    fn phases(&self) -> Option<[usize; 2]> {
        let [_, rows, frames] = self.data.shape();
        (self.edges != Edges::None).then_some([rows, frames])
    }

    fn goal(&self) -> Goal {
        Goal::Class(self.data.classes.len())
    }

    fn test_examples(&self) -> Option<usize> {
        Some(self.data.split(Split::Test).len())
    }

    fn append(&self, wanted: Wanted, examples: &mut Examples) {
        let Wanted { seed, split, number, batch_size, size } = wanted;
        let data = self.data.split(split);
        for index in indices(seed, split, number, data.len(), batch_size, size) {
            match self.parts(split, index) {
                (re, Some(im)) => examples.values.extend(re.iter().zip(im).flat_map(|(&re, &im)| [re, im])),
                (re, None) => examples.values.extend(re.iter().flat_map(|&re| [re, 0.0])),
            }
            examples.labels.push(data.labels[index]);
            if let Some([rows, frames]) = self.phases() {
                examples.phases.extend_from_slice(&data.phases[index * rows * frames..(index + 1) * rows * frames]);
            }
        }
    }

    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let ([_, rows, frames], train) = (self.data.shape(), self.data.split(Split::Train));
        let picked = indices(seed, Split::Train, 0, train.len(), 6, 6);
        let panels = picked.into_iter().flat_map(|index| {
            let class = train.labels[index] as usize;
            let title = format!("class {}", self.data.classes.get(class).map_or("?", String::as_str));
            match self.parts(Split::Train, index) {
                (re, Some(im)) => pictures(&title, [rows, frames], re, im).to_vec(),
                (re, None) => vec![Panel::scaled(title, rows, frames, re)],
            }
        });
        panels.collect()
    }
}
