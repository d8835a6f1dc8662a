//! The registered task families: names, settings, and how to build them.

mod choices;
mod classifier;
mod complex;
mod graph_molecules;
mod graph_nodes;
mod image_ae;
mod image_conv;
mod image_mixer;
mod image_mlp;
mod image_resnet;
mod image_vae;
mod image_vit;
mod images;
mod language;
mod learned_optimizer;
mod node_classifier;
mod quadratic;
mod rosenbrock;
mod saddle;
mod sampled;
mod settings;
mod surface;
mod text_rnn;
mod text_transformer;

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::Seed;
use paceline_optimizer_core::task::TaskFamily;
use serde_json::{Map, Value};

use crate::augment::{self, Base, augmented, written};
use crate::problem::TestSplit;
use crate::{Error, Panel};
use complex::{Audio, AudioComplex, AudioGraph, AudioReal, BnStress, Delay, ImageComplex, Mobius, PhaseSum};
use graph_molecules::GraphMolecules;
use graph_nodes::{GraphGat, GraphGcn, GraphSage};
use image_ae::ImageAe;
use image_conv::ImageConv;
use image_mixer::ImageMixer;
use image_mlp::ImageMlp;
use image_resnet::ImageResNet;
use image_vae::ImageVae;
use image_vit::ImageVit;
use learned_optimizer::LearnedOptimizerSettings;
use quadratic::Quadratic;
use rosenbrock::Rosenbrock;
use saddle::Saddle;
use sampled::{
    SampledImageAe, SampledImageConv, SampledImageMlp, SampledImageResNet, SampledImageVae, SampledImageVit,
    SampledLearnedOptimizer, SampledTextRnn, SampledTextTransformer,
};
use settings::{FamilySettings, defaults};
use text_rnn::TextRnn;
use text_transformer::TextTransformer;

/// A task family that can show its data.
pub trait Family: TaskFamily {
    /// A few examples of the task of this seed, to look at.
    fn panels(&self, seed: Seed) -> Vec<Panel>;

    /// How test batches walk through the test split; `None` where the family does not tell.
    fn test_split(&self) -> Option<TestSplit> {
        None
    }

    /// Floating-point operations of an inner step, as in [`TaskFamily::cost`], found without running a whole one.
    fn flop(&self) -> f64 {
        self.cost().flop
    }
}

/// What `paceline tasks list` shows of a family.
#[derive(Clone, Debug)]
pub struct FamilyInfo {
    /// Registered name.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// Its settings with defaults, as JSON.
    pub settings: Value,
}

/// Every registered family.
pub fn families() -> Vec<FamilyInfo> {
    FAMILIES
        .iter()
        .map(|family| FamilyInfo { name: family.name, summary: family.summary, settings: (family.defaults)() })
        .collect()
}

/// Builds a family from its recipe entry. Data named by the settings is read from `data_dir`.
///
/// The `Debug` text of the result tells a person what was built: the network, its size, and the data it really uses.
///
/// # Errors
/// [`Error`] names the family, setting or file at fault.
pub fn build(family: &str, settings: &Map<String, Value>, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
    check_folder(data_dir)?;
    let Split { entry, settings, batch_size, augment } = Split::of(family, settings, data_dir)?;
    let built = (entry.build)(&settings, data_dir)?;
    if augment.is_empty() {
        return Ok(built);
    }
    let data_dir = data_dir.map(Path::to_owned);
    let with_batch = move |batch: usize| {
        let mut settings = settings.clone();
        settings.insert(BATCH_SIZE.into(), batch.into());
        (entry.build)(&settings, data_dir.as_deref())
    };
    augmented(Base { family: built, batch_size, with_batch: Box::new(with_batch) }, augment)
}

/// A recipe entry's settings with every default written out and every choice that they leave to the machine
/// (`data = "auto"`) made from what `data_dir` holds. A run is resolved once, where it is submitted: workers with other
/// folders must not choose for themselves.
///
/// # Errors
/// [`Error`] names the family or setting at fault.
pub fn resolve(
    family: &str,
    settings: &Map<String, Value>,
    data_dir: Option<&Path>,
) -> Result<Map<String, Value>, Error> {
    check_folder(data_dir)?;
    let Split { entry, settings, augment, .. } = Split::of(family, settings, data_dir)?;
    let mut resolved = (entry.resolve)(&settings, data_dir)?;
    if !augment.is_empty() {
        resolved.insert(AUGMENT.into(), written(&augment));
    }
    Ok(resolved)
}

/// The setting that any family takes: how its tasks are made harder (see [`crate::augment`]).
const AUGMENT: &str = "augment";

/// The setting that a reduced batch changes.
const BATCH_SIZE: &str = "batch_size";

/// A recipe entry, its own settings apart from the augmentations.
struct Split {
    entry: &'static Entry,
    settings: Map<String, Value>,
    /// Its batch, where it has one.
    batch_size: Option<usize>,
    augment: Vec<augment::Entry>,
}

impl Split {
    fn of(family: &str, settings: &Map<String, Value>, data_dir: Option<&Path>) -> Result<Self, Error> {
        let entry = find(family)?;
        let mut settings = settings.clone();
        let Some(augment) = settings.remove(AUGMENT) else {
            return Ok(Self { entry, settings, batch_size: None, augment: vec![] });
        };
        let batch_size = (entry.resolve)(&settings, data_dir)?.get(BATCH_SIZE).and_then(Value::as_u64);
        let augment = augment::parse(&augment, batch_size.is_some())
            .map_err(|reason| Error::Setting { family: family.into(), reason })?;
        Ok(Self { entry, settings, batch_size: batch_size.map(|size| size as usize), augment })
    }
}

/// Refuses a folder that is not there, even where no data would be read: whoever names one has mistyped it, and `auto`
/// would train on other data than meant without a word.
fn check_folder(data_dir: Option<&Path>) -> Result<(), Error> {
    let Some(folder) = data_dir.filter(|folder| !folder.is_dir()) else { return Ok(()) };
    let reason = "no such folder: name the folder that holds the data sets, or none to use procedural data".into();
    Err(Error::Data { path: folder.to_owned(), reason })
}

fn find(family: &str) -> Result<&'static Entry, Error> {
    FAMILIES.iter().find(|entry| entry.name == family).ok_or_else(|| {
        let known = FAMILIES.iter().map(|family| family.name).collect();
        Error::UnknownFamily { got: family.into(), known }
    })
}

struct Entry {
    name: &'static str,
    summary: &'static str,
    defaults: fn() -> Value,
    build: Build,
    resolve: Resolve,
}

type Build = fn(&Map<String, Value>, Option<&Path>) -> Result<Arc<dyn Family>, Error>;

type Resolve = fn(&Map<String, Value>, Option<&Path>) -> Result<Map<String, Value>, Error>;

/// The entry of a family whose settings are `S`.
const fn entry<S: FamilySettings>() -> Entry {
    Entry {
        name: S::NAME,
        summary: S::SUMMARY,
        defaults: defaults::<S>,
        build: settings::build::<S>,
        resolve: settings::resolve::<S>,
    }
}

/// Topic by topic; what draws members of other families comes last.
const FAMILIES: &[Entry] = &[
    entry::<ImageMlp>(),
    entry::<ImageConv>(),
    entry::<ImageResNet>(),
    entry::<ImageVit>(),
    entry::<ImageMixer>(),
    entry::<ImageAe>(),
    entry::<ImageVae>(),
    entry::<ImageComplex>(),
    entry::<TextRnn>(),
    entry::<TextTransformer>(),
    entry::<Audio<AudioReal>>(),
    entry::<Audio<AudioComplex>>(),
    entry::<Audio<AudioGraph>>(),
    entry::<GraphGcn>(),
    entry::<GraphGat>(),
    entry::<GraphSage>(),
    entry::<GraphMolecules>(),
    entry::<PhaseSum>(),
    entry::<Delay>(),
    entry::<Mobius>(),
    entry::<BnStress>(),
    entry::<Quadratic>(),
    entry::<Rosenbrock>(),
    entry::<Saddle>(),
    entry::<LearnedOptimizerSettings>(),
    entry::<SampledImageMlp>(),
    entry::<SampledImageConv>(),
    entry::<SampledImageResNet>(),
    entry::<SampledImageVit>(),
    entry::<SampledImageAe>(),
    entry::<SampledImageVae>(),
    entry::<SampledTextRnn>(),
    entry::<SampledTextTransformer>(),
    entry::<SampledLearnedOptimizer>(),
];
