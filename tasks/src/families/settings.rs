//! From a recipe's table to a family: parsing, and the limits all families share.

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::task::Split;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::Error;
use crate::families::Family;
use crate::families::choices::Choices;
use crate::models::Tokens;
use crate::problem::{Problem, ProblemFamily};
use crate::text::corpus::TextSettings;
use crate::text::windows::Windows;

/// Most parameters of one lane: 64 MiB of f32.
pub(super) const MAX_PARAMETERS: usize = 1 << 24;
/// Most layers of one kind.
const MAX_LAYERS: usize = 16;
/// Widest layer.
const MAX_WIDTH: usize = 1 << 14;

/// The settings of one family, as a recipe writes them.
pub(super) trait FamilySettings: Default + Serialize + DeserializeOwned {
    /// Registered name.
    const NAME: &'static str;
    /// One line about the family.
    const SUMMARY: &'static str;

    /// These settings with every choice that was left to the machine (`data = "auto"`) made from what `data_dir` holds.
    fn resolve(self, data_dir: Option<&Path>) -> Self;

    /// The family these settings describe. A refusal is a sentence that names the setting.
    fn build(self, data_dir: Option<&Path>) -> Result<Arc<dyn Family>, Error>;
}

/// A refusal of a setting of family `S`.
pub(super) fn refuse<S: FamilySettings>(reason: impl Into<String>) -> Error {
    Error::Setting { family: S::NAME.into(), reason: reason.into() }
}

/// The settings' defaults, as JSON.
pub(super) fn defaults<S: FamilySettings>() -> Value {
    serde_json::to_value(S::default()).expect("settings are plain numbers, words and lists")
}

/// Parses settings, makes the choices they leave open, and writes them out with every default.
pub(super) fn resolve<S: FamilySettings>(
    settings: &Map<String, Value>,
    data_dir: Option<&Path>,
) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(parse::<S>(settings)?.resolve(data_dir)) {
        Ok(Value::Object(settings)) => Ok(settings),
        other => unreachable!("settings are a table of plain values, not {other:?}"),
    }
}

/// Parses settings and builds the family.
pub(super) fn build<S: FamilySettings>(
    settings: &Map<String, Value>,
    data_dir: Option<&Path>,
) -> Result<Arc<dyn Family>, Error> {
    parse::<S>(settings)?.build(data_dir)
}

/// Reads settings. Serde names an unknown key but not the key of a wrong value, so that one is looked for.
fn parse<S: FamilySettings>(settings: &Map<String, Value>) -> Result<S, Error> {
    serde_json::from_value(Value::Object(settings.clone())).map_err(|error| {
        let alone = |(key, value): (&String, &Value)| Value::Object(Map::from_iter([(key.clone(), value.clone())]));
        let culprit = settings.iter().find(|setting| serde_json::from_value::<S>(alone(*setting)).is_err());
        let reason = error.to_string();
        match culprit {
            Some((key, _)) if !reason.contains(&format!("`{key}`")) => refuse::<S>(format!("{key}: {reason}")),
            _ => refuse::<S>(reason),
        }
    })
}

/// Checks a list of layer widths.
pub(super) fn check_widths<S: FamilySettings>(setting: &str, widths: &[usize]) -> Result<(), Error> {
    if widths.len() > MAX_LAYERS {
        return Err(refuse::<S>(format!("{setting} may list up to {MAX_LAYERS} layers (got {})", widths.len())));
    }
    if let Some(width) = widths.iter().find(|width| !(1..=MAX_WIDTH).contains(*width)) {
        return Err(refuse::<S>(format!("each of {setting} must be 1 to {MAX_WIDTH} (got {width})")));
    }
    Ok(())
}

/// The family of a problem, if it is not too large; `setting` is what makes it large.
pub(super) fn family<S: FamilySettings>(
    setting: &str,
    problem: impl Problem + 'static,
) -> Result<Arc<dyn Family>, Error> {
    let parameters = problem.parameters().layout().size();
    if parameters > MAX_PARAMETERS {
        let reason = format!("{setting} makes {parameters} parameters, up to {MAX_PARAMETERS} are allowed");
        return Err(refuse::<S>(reason));
    }
    Ok(Arc::new(ProblemFamily::new(problem)))
}

/// Checks that a batch is not larger than the training set.
pub(super) fn check_batch<S: FamilySettings>(batch_size: usize, train: usize) -> Result<(), Error> {
    if (1..=train).contains(&batch_size) {
        return Ok(());
    }
    Err(refuse::<S>(format!("batch_size must be 1 to {train}, the number of training examples (got {batch_size})")))
}

/// Checks what tasks may draw.
pub(super) fn check_choices<S: FamilySettings>(choices: &Choices) -> Result<(), Error> {
    choices.fault().map_or(Ok(()), |fault| Err(refuse::<S>(fault)))
}

/// Checks a share of values dropped.
pub(super) fn check_dropout<S: FamilySettings>(dropout: f64) -> Result<(), Error> {
    if (0.0..1.0).contains(&dropout) {
        return Ok(());
    }
    Err(refuse::<S>(format!("dropout must be at least 0 and below 1 (got {dropout})")))
}

/// Checks that patches tile an image.
pub(super) fn check_patch<S: FamilySettings>(patch: usize, image_size: usize) -> Result<(), Error> {
    if patch > 0 && image_size.is_multiple_of(patch) {
        return Ok(());
    }
    Err(refuse::<S>(format!("patch must divide image_size {image_size} (got {patch})")))
}

/// Checks a stack of transformer blocks.
pub(super) fn check_tokens<S: FamilySettings>(layers: usize, tokens: &Tokens) -> Result<(), Error> {
    if layers > MAX_LAYERS {
        return Err(refuse::<S>(format!("layers may be up to {MAX_LAYERS} (got {layers})")));
    }
    check_widths::<S>("width, mlp", &[tokens.width, tokens.hidden])?;
    if tokens.heads == 0 || !tokens.width.is_multiple_of(tokens.heads) {
        let reason = format!("heads must divide width {} (got {})", tokens.width, tokens.heads);
        return Err(refuse::<S>(reason));
    }
    Ok(())
}

/// The windows of a text, of `sequence` tokens each, for batches of `batch_size`.
pub(super) fn text<S: FamilySettings>(
    settings: &TextSettings,
    sequence: usize,
    batch_size: usize,
    data_dir: Option<&Path>,
) -> Result<Windows, Error> {
    let windows = Windows::new(S::NAME, settings.load(S::NAME, data_dir)?, sequence)?;
    check_batch::<S>(batch_size, windows.corpus().block(Split::Train).len() - sequence)?;
    Ok(windows)
}
