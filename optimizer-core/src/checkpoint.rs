//! Checkpoints that describe themselves: one safetensors file that any tool can open and only the right bytes load
//! from.
//!
//! ```text
//!  header   "__metadata__": { "paceline": "{\"digest\":…,\"conventions\":…,\"counters\":…,\"meta\":…,\"theta_hash\":…}" }
//!  F64      outer/pending/<name>                             meta-gradients not yet applied
//!  F32      outer/moment1/<name>  outer/moment2/<name>       what Adam remembers
//!  F32      theta/<name>                                     the learned optimizer
//! ```
//!
//! Equal checkpoints are equal bytes, and a flipped bit anywhere is found: the metadata begins with a digest of all the
//! rest (`sealed.rs`). Layout, tensors and optimizer are checked against each other when reading, and numbers must be
//! finite.

use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::learned::LearnedOptimizerConfig;
use crate::outer::{OuterState, StepSummary, Variance};
use crate::params::Layout;
use crate::sealed::{self, Sealed};
use crate::tensor_file::{self, TensorFile};
use crate::{Error, Result, Theta, noise, strict_json};

/// Newest format this program reads and the one it writes.
pub const FORMAT: u32 = 2;

/// Oldest format this program reads. It knew no variance of a step, and every checkpoint had a recipe.
const OLDEST: u32 = 1;

/// Key of the metadata in the safetensors header.
const KEY: &str = "paceline";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointMeta {
    /// Format version; [`FORMAT`] in everything written now.
    pub format: u32,
    /// Name of the run that wrote it.
    pub run: String,
    /// The learned optimizer and its settings.
    pub optimizer: LearnedOptimizerConfig,
    /// The whole recipe (`RunSpec`), task mixture included, as JSON. `None` for a theta that was imported: nobody knows it.
    pub recipe: Option<serde_json::Value>,
    /// Hex SHA-256 of the checkpoint this one continues, or of the file it was imported from.
    pub parent: Option<String>,
    /// Version of the code that wrote it.
    pub code_version: String,
}

/// Theta with the state of its outer loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What it says of itself.
    pub meta: CheckpointMeta,
    /// Theta, moments and counters.
    pub state: OuterState,
}

/// All metadata but the digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    conventions: Conventions,
    counters: Counters,
    meta: CheckpointMeta,
    theta_hash: String,
}

/// How the numbers are to be understood. A reader with other conventions must refuse them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conventions {
    /// Order of axes.
    axes: String,
    /// Version of the features that learned optimizers read.
    features: String,
    /// Version of the noise.
    noise: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    diverged_lanes: u64,
    inner_steps: u64,
    last: Option<Last>,
    outer_step: u64,
    pending_steps: u32,
    updates: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    antithetic_correlation: Option<f64>,
    grad_norm: f64,
    meta_loss: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal_to_noise: Option<f64>,
}

impl From<StepSummary> for Last {
    fn from(summary: StepSummary) -> Self {
        let StepSummary { meta_loss, grad_norm, variance } = summary;
        let Variance { signal_to_noise, antithetic_correlation } = variance;
        Self { antithetic_correlation, grad_norm, meta_loss, signal_to_noise }
    }
}

impl From<Last> for StepSummary {
    fn from(last: Last) -> Self {
        let Last { antithetic_correlation, grad_norm, meta_loss, signal_to_noise } = last;
        Self { meta_loss, grad_norm, variance: Variance { signal_to_noise, antithetic_correlation } }
    }
}

impl Conventions {
    fn ours() -> Self {
        Self {
            axes: "linear [in,out], conv [height,width,in,out]".into(),
            features: "features/v1".into(),
            noise: noise::VERSION.into(),
        }
    }
}

impl Checkpoint {
    /// Deterministic safetensors bytes: equal checkpoints are equal bytes.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the state does not hold together: another format, several lanes, vectors that are not
    /// as long as theta, numbers that are not finite. [`Error::Setting`] if `meta.optimizer` has settings out of range,
    /// [`Error::LayoutMismatch`] if theta is not one of `meta.optimizer`: nothing is written that could not be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let optimizer = self.meta.optimizer.build()?;
        if optimizer.layout() != self.state.theta.layout() {
            let (expected, got) = (Arc::clone(optimizer.layout()), Arc::clone(self.state.theta.layout()));
            return Err(Error::LayoutMismatch { what: "theta of a checkpoint".into(), expected, got });
        }
        self.encode()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let Self { meta, state } = self;
        if meta.format != FORMAT {
            return Err(damaged(format!("format {} cannot be written, only {FORMAT}", meta.format)));
        }
        if state.theta.lanes() != 1 {
            return Err(damaged(format!("theta has {} lanes, a checkpoint holds one", state.theta.lanes())));
        }
        let layout = state.theta.layout();
        let buffers = [
            ("theta", Buffer::F32(state.theta.values())),
            ("outer/moment1", Buffer::F32(&state.moment1)),
            ("outer/moment2", Buffer::F32(&state.moment2)),
            ("outer/pending", Buffer::F64(&state.pending)),
        ];
        let mut tensors = vec![];
        for (group, buffer) in &buffers {
            buffer.check(group, layout.size())?;
            for (index, tensor) in layout.tensors().iter().enumerate() {
                let start = layout.offset(index);
                let data = buffer.bytes(start..start + tensor.size());
                tensors.push((format!("{group}/{}", tensor.name()), buffer.dtype(), tensor.shape().to_vec(), data));
            }
        }
        let views: Vec<(String, TensorView<'_>)> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| Ok((name.clone(), TensorView::new(*dtype, shape.clone(), data)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()
            .map_err(|error| damaged(error.to_string()))?;
        sealed::seal(KEY, &document(meta, state)?, views).map_err(damaged)
    }

    /// Reads and verifies them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for damage, saying what differs; [`Error::CheckpointTooNew`] for a format above
    /// [`FORMAT`]; [`Error::Setting`] if the optimizer it names has settings out of range.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let sealed = Sealed::read(KEY, bytes).map_err(damaged)?;
        let value = strict_json::parse(sealed.unverified()).map_err(|error| damaged(format!("metadata: {error}")))?;
        let format = value["meta"]["format"].as_u64().unwrap_or_default();
        if format > u64::from(FORMAT) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(Error::CheckpointTooNew { found, supported: FORMAT });
        }
        let (_, file) = sealed.verified().map_err(damaged)?;
        let document: Document =
            serde_json::from_value(value).map_err(|error| damaged(format!("metadata: {error}")))?;
        document.open(&file)
    }
}

impl Document {
    /// The checkpoint of this metadata and these tensors, once everything fits.
    fn open(self, file: &TensorFile<'_>) -> Result<Checkpoint> {
        let Self { conventions, counters, mut meta, theta_hash } = self;
        if !(OLDEST..=FORMAT).contains(&meta.format) {
            let format = meta.format;
            return Err(damaged(format!("format {format} is unknown, this program reads {OLDEST} to {FORMAT}")));
        }
        // All that an older format holds is part of this one.
        meta.format = FORMAT;
        if conventions != Conventions::ours() {
            return Err(damaged(format!("conventions {conventions:?} are not ours, {:?}", Conventions::ours())));
        }
        let optimizer = meta.optimizer.build()?;
        let layout = optimizer.layout();
        let expected = 4 * layout.len();
        if file.len() != expected {
            return Err(damaged(format!("{} tensors, but {:?} has {expected}", file.len(), meta.optimizer)));
        }
        let f32s = |group| values(file, layout, group, tensor_file::Dtype::F32, |bytes| f32::from_le_bytes(*bytes));
        let theta = Theta::new(layout, 1, f32s("theta")?)?;
        if theta.hash().to_string() != theta_hash && !cfg!(fuzzing) {
            return Err(damaged(format!("theta hashes to {}, not the stated {theta_hash}", theta.hash())));
        }
        let state = OuterState {
            moment1: f32s("outer/moment1")?,
            moment2: f32s("outer/moment2")?,
            pending: values(file, layout, "outer/pending", tensor_file::Dtype::F64, |bytes| {
                f64::from_le_bytes(*bytes)
            })?,
            pending_steps: counters.pending_steps,
            updates: counters.updates,
            outer_step: counters.outer_step,
            inner_steps: counters.inner_steps,
            diverged_lanes: counters.diverged_lanes,
            last: counters.last.map(StepSummary::from),
            theta,
        };
        Ok(Checkpoint { meta, state })
    }
}

fn damaged(reason: String) -> Error {
    Error::Checkpoint { reason }
}

/// Values of one group of tensors, to be written.
enum Buffer<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl Buffer<'_> {
    fn check(&self, group: &str, size: usize) -> Result<()> {
        let (length, finite) = match self {
            Self::F32(values) => (values.len(), values.iter().all(|value| value.is_finite())),
            Self::F64(values) => (values.len(), values.iter().all(|value| value.is_finite())),
        };
        if length != size {
            return Err(damaged(format!("{group} has {length} values, theta {size}")));
        }
        if finite { Ok(()) } else { Err(damaged(format!("{group} holds a number that is not finite"))) }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    fn bytes(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        match self {
            Self::F32(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F64(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// The metadata without its digest, as canonical JSON.
fn document(meta: &CheckpointMeta, state: &OuterState) -> Result<String> {
    let last = state.last.map(Last::from);
    let numbers = |last: &Last| {
        let always = [Some(last.grad_norm), Some(last.meta_loss)];
        always.into_iter().chain([last.signal_to_noise, last.antithetic_correlation]).flatten().collect::<Vec<f64>>()
    };
    if last.as_ref().is_some_and(|last| !numbers(last).iter().all(|number| number.is_finite())) {
        return Err(damaged("the summary of the last step holds a number that is not finite".into()));
    }
    let counters = Counters {
        diverged_lanes: state.diverged_lanes,
        inner_steps: state.inner_steps,
        last,
        outer_step: state.outer_step,
        pending_steps: state.pending_steps,
        updates: state.updates,
    };
    let theta_hash = state.theta.hash().to_string();
    let document = Document { conventions: Conventions::ours(), counters, meta: meta.clone(), theta_hash };
    sealed::document(&document).map_err(damaged)
}

/// One group's tensors, in layout order. All are found to fit before anything is allocated for them.
fn values<T: Copy + Into<f64>, const WIDTH: usize>(
    file: &TensorFile<'_>,
    layout: &Arc<Layout>,
    group: &str,
    dtype: tensor_file::Dtype,
    decode: impl Fn(&[u8; WIDTH]) -> T,
) -> Result<Vec<T>> {
    let mut tensors = Vec::with_capacity(layout.len());
    for spec in layout.tensors() {
        let name = format!("{group}/{}", spec.name());
        let tensor = file.tensor(&name).ok_or_else(|| damaged(format!("tensor {name:?} is missing")))?;
        if tensor.dtype != dtype || tensor.shape != spec.shape() {
            let (found, shape) = (tensor.dtype, tensor.shape);
            let expected = spec.shape();
            return Err(damaged(format!("tensor {name:?} is {found:?} {shape:?}, expected {dtype:?} {expected:?}")));
        }
        tensors.push((name, tensor));
    }
    let mut all = Vec::with_capacity(layout.size());
    for (name, tensor) in tensors {
        let start = all.len();
        all.extend(tensor.data.as_chunks::<WIDTH>().0.iter().map(&decode));
        if !all[start..].iter().all(|value| Into::<f64>::into(*value).is_finite()) {
            return Err(damaged(format!("tensor {name:?} holds a number that is not finite")));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::learned::AdafacMlpConfig;

    /// A sealed file whose tensors are not those of the optimizer it names: only the layout can tell.
    fn mislabelled(label: LearnedOptimizerConfig) -> Checkpoint {
        let optimizer = LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default());
        let state = OuterState::new(optimizer.build().unwrap().init_theta(Seed::new(3)));
        let (run, code_version) = ("run".into(), "0.1.0".into());
        let meta = CheckpointMeta { format: FORMAT, run, optimizer: label, recipe: None, parent: None, code_version };
        Checkpoint { meta, state }
    }

    #[test]
    fn tensors_of_another_optimizer_are_neither_written_nor_read() {
        let wider = AdafacMlpConfig { hidden_size: 8, ..AdafacMlpConfig::default() };
        for (label, word) in [
            (LearnedOptimizerConfig::LearnableAdam, "tensors"),
            (LearnedOptimizerConfig::AdafacMlp(wider), "expected F32"),
        ] {
            let checkpoint = mislabelled(label);
            assert!(matches!(checkpoint.to_bytes(), Err(Error::LayoutMismatch { .. })));
            let error = Checkpoint::from_bytes(&checkpoint.encode().unwrap()).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should say {word}");
        }
    }

    #[test]
    fn other_conventions_are_refused_by_name() {
        let checkpoint = mislabelled(LearnedOptimizerConfig::AdafacMlp(AdafacMlpConfig::default()));
        let text = document(&checkpoint.meta, &checkpoint.state).unwrap().replace("noise/v1", "noise/v2");
        let bytes = checkpoint.encode().unwrap();
        let views = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
        let sealed = sealed::seal(KEY, &text, views).unwrap();
        let error = Checkpoint::from_bytes(&sealed).unwrap_err().to_string();
        assert!(error.contains("noise/v2") && error.contains("noise/v1"), "{error}");
    }
}
