//! What can go wrong with a store: what, where, and the cure.

use std::path::PathBuf;

use paceline_proto::fault::Fault;

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open.
    #[error(
        "data folder {} is in use by another coordinator: stop it, or give this one a folder of its own with --data",
        path.display()
    )]
    Locked {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("data folder {} cannot be used: {reason}; check that it exists, is writable and has free space", path.display())]
    Unusable {
        /// The data folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The store was written by a newer program.
    #[error("data folder has format {found}, this program reads up to {supported}: start it with a newer paceline")]
    FormatTooNew {
        /// Format version found.
        found: u32,
        /// Newest version understood.
        supported: u32,
    },
    /// A stored value is damaged.
    #[error("stored {what} is damaged: {reason}; restore the data folder from a backup")]
    Damaged {
        /// What the value is.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("store: {reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
}

impl StoreError {
    pub(super) fn damaged(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged { what: what.into(), reason: reason.to_string() }
    }

    /// What a caller is told whose call could not be stored.
    pub fn to_fault(&self) -> Fault {
        Fault::StoreReadOnly { reason: self.to_string() }
    }
}
