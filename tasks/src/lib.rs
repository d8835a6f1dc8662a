//! Inner problems.
#![allow(missing_docs)]
pub mod layers;
use paceline_optimizer_core::task::TaskFamily;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `paceline tasks list` shows of a family.
#[derive(Clone, Debug)]
pub struct FamilyInfo {
    /// Registered name.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// Its settings with defaults, as JSON.
    pub settings: serde_json::Value,
}

/// Every registered family.
pub fn families() -> Vec<FamilyInfo> {
    unimplemented!()
}

/// Builds a family from its recipe entry. Data named by the settings is read from `data_dir`.
///
/// # Errors
/// [`Error`] names the family, setting or file at fault.
pub fn build(
    _family: &str,
    _settings: &serde_json::Map<String, serde_json::Value>,
    _data_dir: Option<&Path>,
) -> Result<Arc<dyn TaskFamily>, Error> {
    unimplemented!()
}

/// What can go wrong before a task runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No family of that name.
    #[error("no task family {got:?}: this build has {}", known.join(", "))]
    UnknownFamily {
        /// The name given.
        got: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A setting is unknown or out of range.
    #[error("task family {family}: {reason}")]
    Setting {
        /// The family.
        family: String,
        /// What is wrong, naming the setting.
        reason: String,
    },
    /// A data file is missing or damaged.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}
