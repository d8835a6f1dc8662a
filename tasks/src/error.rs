//! What can go wrong before a task runs.

use std::path::PathBuf;

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
