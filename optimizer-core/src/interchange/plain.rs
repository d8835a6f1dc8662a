//! Theta alone as safetensors: any program that knows the names can read and write it.
//!
//! ```text
//!  header  "__metadata__": { "paceline_theta": "{\"optimizer\":…,\"outer_step\":…,\"run\":…}" }      optional
//!  F32     nn/~/w0  nn/~/b0  …                                 names and shapes as in the optimizer's layout
//! ```

use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::import::{Description, Imported, Source, untold};
use super::quote::{Names, lacking, quoted};
use crate::checkpoint::Checkpoint;
use crate::learned::LearnedOptimizerConfig;
use crate::strict_json;
use crate::tensor_file::{Dtype as Stored, TensorFile};
use crate::{Error, Result, TensorSpec, Theta};

/// Key of our metadata.
const KEY: &str = "paceline_theta";

/// What a file may say of its theta.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    optimizer: LearnedOptimizerConfig,
    outer_step: u64,
    run: String,
}

/// Writes the theta of a checkpoint as plain safetensors, with what is known of it in one metadata key.
///
/// # Errors
/// [`Error::Checkpoint`] if it cannot be written.
pub fn write_safetensors(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let Checkpoint { meta, state } = checkpoint;
    let failed = |reason: String| Error::Checkpoint { reason };
    let about = About { optimizer: meta.optimizer.clone(), outer_step: state.outer_step, run: meta.run.clone() };
    let about = serde_json::to_string(&about).map_err(|error| failed(error.to_string()))?;
    let layout = state.theta.layout();
    let data: Vec<Vec<u8>> = (0..layout.len())
        .map(|index| state.theta.tensor(0, index).iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = layout
        .tensors()
        .iter()
        .zip(&data)
        .map(|(tensor, data)| Ok((tensor.name(), TensorView::new(Dtype::F32, tensor.shape().to_vec(), data)?)));
    views
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .and_then(|views| safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), about)]))))
        .map_err(|error| failed(error.to_string()))
}

/// Reads theta from plain safetensors.
pub(super) fn read(bytes: &[u8], description: Description<'_>) -> Result<Imported> {
    let file = TensorFile::parse(bytes).map_err(|reason| Error::foreign("safetensors", "a whole file", reason))?;
    if file.metadata("paceline").is_some() {
        return Err(Error::foreign("safetensors", "theta alone", "a checkpoint of paceline, which needs no import"));
    }
    let about = file.metadata(KEY).map(about).transpose()?;
    let (run, outer_step) = about.as_ref().map_or_else(Default::default, |about| (about.run.clone(), about.outer_step));
    let (optimizer, ignored) = match (description, about) {
        (Description::Settings(settings), _) => (settings.clone(), vec![]),
        (Description::Gin(text), _) => {
            let described = super::classes::describe(text)?;
            (described.optimizer, described.ignored)
        }
        (Description::None, Some(about)) => (about.optimizer, vec![]),
        (Description::None, None) => return Err(untold("a safetensors file without our metadata")),
    };
    let learned = optimizer.build()?;
    let layout = learned.layout();
    let (mut missing, mut surplus) = (Names::default(), Names::default());
    let names: BTreeSet<&str> = layout.tensors().iter().map(TensorSpec::name).collect();
    names.iter().filter(|name| file.tensor(name).is_none()).for_each(|name| missing.push(name));
    file.names().filter(|name| !names.contains(name)).for_each(|name| surplus.push(name));
    if !missing.is_empty() || !surplus.is_empty() {
        let expected = format!("the {} tensors of this optimizer", layout.len());
        return Err(Error::foreign("safetensors", expected, lacking(&missing, &surplus)));
    }
    for tensor in layout.tensors() {
        let Some(found) = file.tensor(tensor.name()) else { continue };
        if found.dtype != Stored::F32 || found.shape != tensor.shape() {
            let expected = format!("F32 {:?}", tensor.shape());
            return Err(Error::foreign(tensor.name(), expected, format!("{:?} {:?}", found.dtype, found.shape)));
        }
    }
    let mut theta = Theta::zeros(layout, 1);
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let words = file.tensor(tensor.name()).map_or(&[][..], |found| found.data.as_chunks::<4>().0);
        for (at, (to, word)) in theta.tensor_mut(0, index).iter_mut().zip(words).enumerate() {
            *to = f32::from_le_bytes(*word);
            if !to.is_finite() {
                return Err(Error::foreign(tensor.name(), "finite numbers", format!("{to} at index {at}")));
            }
        }
    }
    Ok(Imported { source: Source::Safetensors, optimizer, theta, run, outer_step, ignored })
}

fn about(text: &str) -> Result<About> {
    let wrong = |error: String| Error::foreign(format!("safetensors metadata {KEY:?}"), "what we write there", error);
    let value = strict_json::parse(text).map_err(wrong)?;
    let about: About = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    match about.run.chars().any(char::is_control) {
        true => Err(wrong(format!("the run {}", quoted(&about.run)))),
        false => Ok(about),
    }
}
