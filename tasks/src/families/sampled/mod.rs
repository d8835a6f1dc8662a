//! Families of families: the parametric samplers of the JAX reference (`tasks/parametric/`, google/learned_optimization @
//! 32186aa4), without their faults.
//!
//! ```text
//!  member seed ─► settings of a base family ─► too dear? draw again ─► family of static shapes
//!                 (widths, depth, data, batch)                          └─ task seed ─► activation, weights, batches
//! ```
//!
//! The upper level is the same for all lanes of a lease, so that they share shapes; the lower level is each task's own.
//! What a member would cost is found without its data, so refusing one is cheap.

/// Defines the settings of a sampler, one line a setting with its default and its check, and what all samplers do alike;
/// the caps of cost come last in each.
macro_rules! sampler {
    (
        $(#[$doc:meta])*
        $sampler:ident draws $base:ident as $name:literal, $summary:literal;
        settings { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr, $check:expr;)* }
        impl { $($item:tt)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $sampler {
            $($(#[$field_doc])* $field: $type,)*
            /// Most operations of a member, a lane and inner step; dearer ones are drawn again.
            max_flop: f64,
            /// Most bytes of a member, a lane.
            max_bytes: f64,
        }

        impl Default for $sampler {
            fn default() -> Self {
                let super::Caps { max_flop, max_bytes } = super::Caps::default();
                Self { $($field: $default,)* max_flop, max_bytes }
            }
        }

        impl super::Sampler for $sampler {
            type Base = $base;
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;

            fn fault(&self) -> Option<String> {
                [$($check(stringify!($field), &self.$field)),*].into_iter().flatten().next()
            }

            fn caps(&self) -> super::Caps {
                super::Caps { max_flop: self.max_flop, max_bytes: self.max_bytes }
            }

            $($item)*
        }
    };
}

/// What samplers of problems on images do alike.
macro_rules! image_base {
    ($base:ident) => {
        fn resolve(self, data_dir: Option<&std::path::Path>) -> Self {
            Self { data: self.data.resolve(data_dir), ..self }
        }

        fn examples(base: &$base) -> usize {
            base.batch_size
        }

        fn blank(base: $base) -> $base {
            $base { data: crate::data::ImageSource::Blank(base.data.most().1), ..base }
        }
    };
}

mod dice;
mod image_ae;
mod image_conv;
mod image_mlp;
mod image_resnet;
mod image_vae;
mod image_vit;
mod learned_optimizer;
mod text_rnn;
mod text_transformer;

pub(super) use image_ae::SampledImageAe;
pub(super) use image_conv::SampledImageConv;
pub(super) use image_mlp::SampledImageMlp;
pub(super) use image_resnet::SampledImageResNet;
pub(super) use image_vae::SampledImageVae;
pub(super) use image_vit::SampledImageVit;
pub(super) use learned_optimizer::SampledLearnedOptimizer;
pub(super) use text_rnn::SampledTextRnn;
pub(super) use text_transformer::SampledTextTransformer;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use paceline_optimizer_core::task::{Cost, TaskFamily, TaskLanes};
use paceline_optimizer_core::{Error as CoreError, Layout, Purpose, Result as CoreResult, Seed};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Family;
use super::choices::{Initialiser, OneOf, Scale};
use super::settings::{FamilySettings, refuse};
use crate::data::ImageSource;
use crate::layers::Nonlinearity;
use crate::{Error, Panel};
use dice::Dice;

/// How often a member is drawn again because it is too dear, as in the reference's time filter.
const ATTEMPTS: u64 = 512;
/// Members kept: they hold their data.
const KEPT: usize = 8;

/// A distribution over the settings of a family.
pub(super) trait Sampler:
    Clone + Default + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Settings of a member.
    type Base: FamilySettings + Clone;
    /// Registered name.
    const NAME: &'static str;
    /// One line about the family.
    const SUMMARY: &'static str;

    /// These settings with choices made that were left to the machine.
    fn resolve(self, data_dir: Option<&Path>) -> Self;

    /// What is wrong with the settings, naming the one at fault.
    fn fault(&self) -> Option<String>;

    /// What a member may cost.
    fn caps(&self) -> Caps;

    /// One member's settings.
    fn draw(&self, dice: &mut Dice) -> Self::Base;

    /// Examples in a batch of the member, if each of its parameters acts on each of them; else 1.
    fn examples(base: &Self::Base) -> usize;

    /// Operations that a member takes at least, from its settings alone.
    fn least_flop(base: &Self::Base) -> f64 {
        let _ = base;
        0.0
    }

    /// The same member on no data, of equal shapes.
    fn blank(base: Self::Base) -> Self::Base;
}

/// What a member may cost, a lane and inner step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Caps {
    /// Floating-point operations.
    pub(super) max_flop: f64,
    /// Bytes.
    pub(super) max_bytes: f64,
}

impl Default for Caps {
    /// Some milliseconds on a core, and room for hundreds of lanes.
    fn default() -> Self {
        Self { max_flop: 1e8, max_bytes: 6.4e7 }
    }
}

impl<S: Sampler> FamilySettings for S {
    const NAME: &'static str = <S as Sampler>::NAME;
    const SUMMARY: &'static str = <S as Sampler>::SUMMARY;

    fn resolve(self, data_dir: Option<&Path>) -> Self {
        Sampler::resolve(self, data_dir)
    }

    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
        if let Some(fault) = self.fault() {
            return Err(refuse::<S>(fault));
        }
        let Caps { max_flop, max_bytes } = self.caps();
        for (key, cap) in [("max_flop", max_flop), ("max_bytes", max_bytes)] {
            if cap.is_nan() || cap <= 0.0 {
                return Err(refuse::<S>(format!("{key} must be positive (got {cap})")));
            }
        }
        let typical = member(&self, Seed::new(0), data_dir)?;
        let data_dir = data_dir.map(Path::to_owned);
        Ok(Arc::new(Sampled { settings: self, data_dir, typical, members: Mutex::default() }))
    }
}

/// The member of a seed: the first of [`ATTEMPTS`] draws that is not too dear.
fn member<S: Sampler>(settings: &S, seed: Seed, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error> {
    let Caps { max_flop, max_bytes } = settings.caps();
    let (mut cheapest, mut fault) = (f64::INFINITY, None);
    for attempt in 0..ATTEMPTS {
        let base = settings.draw(&mut Dice::new(seed.fold_in(attempt)));
        let least = S::least_flop(&base);
        if least > max_flop {
            cheapest = cheapest.min(least);
            continue;
        }
        // Beyond the bounds of the base family, for example with too many parameters, is too dear as well.
        let blank = match S::blank(base.clone()).build(None) {
            Ok(blank) => blank,
            Err(error) => {
                fault = Some(error);
                continue;
            }
        };
        // Each parameter takes a multiplication and an addition forward, and twice as many backward; and it is there
        // three times, itself, as a tensor and as a gradient. Most of what is too dear is so already by that.
        let size = blank.layout().size() as f64;
        let least = 6.0 * size * S::examples(&base) as f64;
        if least > max_flop || 12.0 * size > max_bytes {
            cheapest = cheapest.min(least);
            continue;
        }
        let flop = blank.flop();
        cheapest = cheapest.min(flop);
        if flop <= max_flop && blank.cost().bytes <= max_bytes {
            return base.build(data_dir);
        }
    }
    if let Some(fault) = fault.filter(|_| cheapest == f64::INFINITY) {
        return Err(fault);
    }
    Err(refuse::<S>(format!(
        "max_flop {max_flop:e} and max_bytes {max_bytes:e} leave no member: of {ATTEMPTS} drawn the cheapest takes \
         {cheapest:.1e} operations"
    )))
}

/// A family that draws members.
struct Sampled<S> {
    settings: S,
    data_dir: Option<PathBuf>,
    /// The member of seed 0, for whoever wants a layout or a cost.
    typical: Arc<dyn Family>,
    /// Oldest first.
    members: Mutex<VecDeque<(Seed, Arc<dyn Family>)>>,
}

impl<S: Sampler> Sampled<S> {
    fn member(&self, seed: Seed) -> CoreResult<Arc<dyn Family>> {
        // Held while building, so that the pairs of a lease wait for one member instead of each building it. A panic of
        // another holder leaves at worst a missing entry.
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, member)) = members.iter().find(|(of, _)| *of == seed) {
            return Ok(Arc::clone(member));
        }
        let built = member(&self.settings, seed, self.data_dir.as_deref())
            .map_err(|error| CoreError::Task { family: <S as Sampler>::NAME.into(), reason: error.to_string() })?;
        members.push_back((seed, Arc::clone(&built)));
        if members.len() > KEPT {
            members.pop_front();
        }
        Ok(built)
    }
}

impl<S: Sampler> fmt::Debug for Sampled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}; for example {:?}", <S as Sampler>::NAME, self.settings, self.typical)
    }
}

impl<S: Sampler> TaskFamily for Sampled<S> {
    fn name(&self) -> &'static str {
        <S as Sampler>::NAME
    }

    fn layout(&self) -> &Arc<Layout> {
        self.typical.layout()
    }

    fn draw(&self, seed: Seed) -> CoreResult<Option<Arc<dyn TaskFamily>>> {
        Ok(Some(self.member(seed)?))
    }

    fn cost(&self) -> Cost {
        self.typical.cost()
    }

    fn bind<'a>(&'a self, seeds: &[Seed]) -> CoreResult<Box<dyn TaskLanes + 'a>> {
        self.typical.bind(seeds)
    }

    fn normalise(&self, loss: f64) -> f64 {
        self.typical.normalise(loss)
    }
}

impl<S: Sampler> Family for Sampled<S> {
    fn panels(&self, seed: Seed) -> Vec<Panel> {
        let member = self.member(seed.purpose(Purpose::Member));
        member.map_or_else(|_| self.typical.panels(seed), |member| member.panels(seed))
    }

    fn flop(&self) -> f64 {
        self.typical.flop()
    }
}

/// Data that members draw from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Sources {
    /// All have this one.
    One(ImageSource),
    /// Each draws one of these.
    Any(Vec<ImageSource>),
}

impl Sources {
    /// With `auto` decided: one such entry becomes what the folder holds.
    fn resolve(self, data_dir: Option<&Path>) -> Self {
        match self {
            Self::One(source) => Self::One(source.resolve(data_dir)),
            Self::Any(sources) => Self::Any(sources.into_iter().map(|source| source.resolve(data_dir)).collect()),
        }
    }

    fn draw(&self, dice: &mut Dice) -> ImageSource {
        match self {
            Self::One(source) => *source,
            Self::Any(sources) => *dice.pick(sources),
        }
    }
}

/// Procedural data sets that members draw from: as many seeds.
const DATA_SEEDS: u32 = 4;

/// The twelve slots of the reference, relu twice; its `swish` is `silu` under another name.
fn activations() -> OneOf<Nonlinearity> {
    use Nonlinearity::{Cos, Gelu, LeakyRelu, Relu, Relu6, Selu, Sigmoid, Silu, Sin, Tanh};
    OneOf::Any(vec![Relu, Relu, Relu6, Selu, Tanh, Cos, Sin, Sigmoid, Silu, Silu, Gelu, LeakyRelu])
}

/// The five slots of the reference.
fn initialisers() -> OneOf<Initialiser> {
    use Initialiser::{FanAverage, FanIn, FanOut, Orthogonal, UniformFanIn};
    OneOf::Any(vec![Orthogonal, UniformFanIn, FanIn, FanOut, FanAverage])
}

/// The reference's range of weight scales.
const SCALES: Scale = Scale::Between([0.5, 2.0]);

/// A check of a range of whole numbers: in order and within bounds.
fn within([least, most]: [u32; 2]) -> impl Fn(&str, &[u32; 2]) -> Option<String> {
    move |key, &[low, high]| {
        let fine = low <= high && low >= least && high <= most;
        (!fine).then(|| format!("{key} must be a range in order within {least} to {most} (got [{low}, {high}])"))
    }
}

/// A check of a list of whole numbers: not empty, each within bounds.
fn each_within(bounds: [u32; 2]) -> impl Fn(&str, &Vec<u32>) -> Option<String> {
    move |key, values| match values.as_slice() {
        [] => Some(format!("{key} must list at least one")),
        values => values.iter().find_map(|&value| within(bounds)(key, &[value, value])),
    }
}

/// A check of sources: one at least.
fn listed(key: &str, sources: &Sources) -> Option<String> {
    matches!(sources, Sources::Any(sources) if sources.is_empty()).then(|| format!("{key} must list at least one"))
}

/// For what is checked where it is used.
fn unchecked<T>(_: &str, _: &T) -> Option<String> {
    None
}

#[cfg(test)]
mod tests;
