//! The registered task families: names, settings, and how to build them.

mod classifier;
mod image_conv;
mod image_mlp;
mod settings;

use std::path::Path;
use std::sync::Arc;

use paceline_optimizer_core::task::TaskFamily;
use serde_json::{Map, Value};

use crate::Error;
use image_conv::ImageConv;
use image_mlp::ImageMlp;
use settings::{FamilySettings, defaults};

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
pub fn build(
    family: &str,
    settings: &Map<String, Value>,
    data_dir: Option<&Path>,
) -> Result<Arc<dyn TaskFamily>, Error> {
    let Some(entry) = FAMILIES.iter().find(|entry| entry.name == family) else {
        let known = FAMILIES.iter().map(|family| family.name).collect();
        return Err(Error::UnknownFamily { got: family.into(), known });
    };
    // Even where no data would be read: whoever names a folder that is not there has mistyped it, and `auto` would train
    // on other data than meant without a word.
    if let Some(folder) = data_dir.filter(|folder| !folder.is_dir()) {
        let reason = "no such folder: name the folder that holds the data sets, or none to use procedural data".into();
        return Err(Error::Data { path: folder.to_owned(), reason });
    }
    (entry.build)(settings, data_dir)
}

struct Entry {
    name: &'static str,
    summary: &'static str,
    defaults: fn() -> Value,
    build: Build,
}

type Build = fn(&Map<String, Value>, Option<&Path>) -> Result<Arc<dyn TaskFamily>, Error>;

/// The entry of a family whose settings are `S`.
const fn entry<S: FamilySettings>() -> Entry {
    Entry { name: S::NAME, summary: S::SUMMARY, defaults: defaults::<S>, build: settings::build::<S> }
}

const FAMILIES: &[Entry] = &[entry::<ImageMlp>(), entry::<ImageConv>()];
