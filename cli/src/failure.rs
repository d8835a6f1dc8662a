//! What a person is told when a command fails, and the exit code a script sees.
//!
//! ```text
//!  tonic::Status ─┐
//!  core::Error   ─┼─► Failure { exit, reason, message, causes, help } ─► "error: …\n  caused by: …\nhelp: …" or JSON
//!  tasks::Error  ─┘                                                     and the process's exit code
//! ```

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use paceline_proto::fault;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes, stable; `docs/exit-codes.md` explains each. (2, wrong usage, is clap's own.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The run failed, or a check of `doctor` did.
    Failed = 1,
    /// A recipe, checkpoint, data file or name given by the user is wrong.
    BadInput = 64,
    /// The coordinator cannot be reached.
    Unavailable = 69,
    /// A bug, here or in the coordinator.
    Internal = 70,
    /// The store or an output file cannot be created.
    CannotCreate = 73,
    /// Reading, writing or a transfer failed.
    Io = 74,
    /// Busy now; the same command may succeed later.
    TryLater = 75,
    /// Not allowed.
    Permission = 77,
    /// Versions or configurations do not fit.
    Config = 78,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

/// Reason of a failure that data would cure.
pub(crate) const DATA_MISSING: &str = "DATA_MISSING";

/// Why a command ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code of the process.
    pub(crate) exit: Exit,
    /// Stable word for scripts, in upper case.
    pub(crate) reason: String,
    /// What happened, where.
    pub(crate) message: String,
    /// What it follows from, nearest first.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl Failure {
    /// A failure without causes or help.
    pub(crate) fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        Self { exit, reason: reason.to_owned(), message: message.into(), causes: Vec::new(), help: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With one more thing it follows from.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// A file or folder that cannot be created or written.
    pub(crate) fn cannot_create(path: &Path, error: &std::io::Error) -> Self {
        Self::new(Exit::CannotCreate, "CANNOT_CREATE", format!("cannot write {}", path.display()))
            .cause(error)
            .help("choose another folder, or make this one writable and free some space")
    }

    /// A file that cannot be read.
    pub(crate) fn cannot_read(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        // What is there is no file, or no text: repeating the command or mending the disk would not help.
        let exit = match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidData => {
                Exit::BadInput
            }
            _ => Exit::Io,
        };
        Self::new(exit, "CANNOT_READ", format!("cannot read {}", path.display()))
            .cause(error)
            .help("check the name, and that it is a file that may be read")
    }

    /// A file of another program that cannot be read, or a checkpoint that cannot be written for one.
    pub(crate) fn from_foreign(error: &paceline_optimizer_core::Error) -> Self {
        use paceline_optimizer_core::Error;
        let reason = match error {
            Error::Foreign { .. } => "IMPORT_INVALID",
            Error::OptimizerUntold { .. } => "OPTIMIZER_UNKNOWN",
            Error::NoCounterpart { .. } => "EXPORT_UNSUPPORTED",
            Error::Setting { .. } => "SETTING_INVALID",
            other => return Self::bug(other),
        };
        Self::new(Exit::BadInput, reason, error.to_string())
    }

    /// Something that cannot happen unless this program is wrong.
    pub(crate) fn bug(what: impl Display) -> Self {
        Self::new(Exit::Internal, "INTERNAL", what.to_string())
            .help("this is a bug: please report it with the log of -v")
    }

    /// A refused or failed call to `address`.
    pub(crate) fn from_status(status: &Status, address: &str) -> Self {
        let details = status.get_error_details();
        let reason =
            details.error_info().map_or_else(|| fault::code_name(status.code()).to_owned(), |info| info.reason.clone());
        let retryable = details.retry_info().is_some();
        let exit = match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange => Exit::BadInput,
            Code::FailedPrecondition if reason == "VERSION_UNSUPPORTED" => Exit::Config,
            Code::FailedPrecondition => Exit::BadInput,
            Code::Unimplemented => Exit::Config,
            Code::Unavailable if retryable => Exit::TryLater,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Unavailable,
            Code::ResourceExhausted if reason == "MESSAGE_TOO_LARGE" => Exit::BadInput,
            Code::ResourceExhausted | Code::Aborted => Exit::TryLater,
            Code::PermissionDenied | Code::Unauthenticated => Exit::Permission,
            Code::DataLoss => Exit::Io,
            Code::Unknown | Code::Internal if fault::is_transient(status) => Exit::Unavailable,
            Code::Ok | Code::Unknown | Code::Internal => Exit::Internal,
        };
        let mut failure = Self::new(exit, &reason, status.message());
        if let Some(fields) = status.get_details_bad_request() {
            failure.causes =
                fields.field_violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        }
        match exit {
            Exit::Unavailable => {
                failure.message = format!("no answer from the coordinator at {address}");
                failure = failure.cause(status.message()).help(
                    "start one with `paceline-coordinator`, or name it with --coordinator URL or PACELINE_COORDINATOR; one \
                     that speaks TLS is https://host:port",
                );
            }
            // Its message tells the cure.
            Exit::TryLater if failure.reason == "STORE_READ_ONLY" => {}
            Exit::TryLater => failure.help = Some("the coordinator is busy or shutting down: try again later".into()),
            Exit::Config => failure.help = Some("use the same version of paceline on both sides".into()),
            _ => {}
        }
        failure
    }

    /// The failure as people read it, without a final line break.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        for cause in &self.causes {
            text.push_str(&format!("\n  caused by: {}", cause.replace('\n', "\n    ")));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("\nhelp: {help}"));
        }
        text
    }

    /// The failure as scripts read it.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({"error": {
            "code": self.exit as u8,
            "reason": self.reason,
            "message": self.message,
            "causes": self.causes,
            "help": self.help,
        }})
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<paceline_optimizer_core::Error> for Failure {
    fn from(error: paceline_optimizer_core::Error) -> Self {
        use paceline_optimizer_core::Error;
        let (exit, reason) = match &error {
            Error::CheckpointTooNew { .. } => (Exit::Config, "CHECKPOINT_TOO_NEW"),
            Error::Checkpoint { .. } => (Exit::BadInput, "CHECKPOINT_CORRUPT"),
            Error::Setting { .. } => (Exit::BadInput, "SETTING_INVALID"),
            Error::LayoutMismatch { .. } => (Exit::BadInput, "LAYOUT_MISMATCH"),
            Error::Cancelled => (Exit::Interrupted, "INTERRUPTED"),
            _ => (Exit::Internal, "INTERNAL"),
        };
        let failure = Self::new(exit, reason, error.to_string());
        match exit {
            Exit::Internal => failure.help("this is a bug: please report it with the log of -v"),
            _ => failure,
        }
    }
}

impl From<paceline_tasks::Error> for Failure {
    fn from(error: paceline_tasks::Error) -> Self {
        use paceline_tasks::Error;
        let (reason, help) = match &error {
            Error::UnknownFamily { .. } => ("TASK_UNKNOWN", "`paceline tasks list` shows the families"),
            Error::Setting { .. } => ("TASK_SETTING_INVALID", "`paceline tasks show FAMILY` shows its settings"),
            Error::Data { .. } => (
                DATA_MISSING,
                "correct that file or folder, or name another data folder with --data-dir or PACELINE_DATA",
            ),
            _ => ("TASK_INVALID", "`paceline tasks list` and `paceline tasks show FAMILY` show families and settings"),
        };
        Self::new(Exit::BadInput, reason, error.to_string()).help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_exit_code_is_explained_in_the_docs() {
        let page = include_str!("../../docs/exit-codes.md");
        let all = [
            Exit::Failed,
            Exit::BadInput,
            Exit::Unavailable,
            Exit::Internal,
            Exit::CannotCreate,
            Exit::Io,
            Exit::TryLater,
            Exit::Permission,
            Exit::Config,
            Exit::Interrupted,
        ];
        for exit in all {
            assert!(
                page.contains(&format!("| {} |", exit as u8)),
                "docs/exit-codes.md lacks {exit:?} = {}",
                exit as u8
            );
        }
    }

    #[test]
    fn statuses_become_the_documented_exit_codes() {
        let exit = |status: Status| Failure::from_status(&status, "http://x").exit;
        assert_eq!(exit(Status::not_found("run")), Exit::BadInput);
        assert_eq!(exit(Status::unavailable("tcp connect error")), Exit::Unavailable);
        assert_eq!(exit(Status::data_loss("chunk 3")), Exit::Io);
        let retry = ErrorDetails::with_retry_info(Some(std::time::Duration::from_secs(1)));
        assert_eq!(exit(Status::with_error_details(Code::Unavailable, "draining", retry)), Exit::TryLater);
        let version = ErrorDetails::with_error_info("VERSION_UNSUPPORTED", "paceline", [("ours".into(), "2".into())]);
        assert_eq!(exit(Status::with_error_details(Code::FailedPrecondition, "protocol", version)), Exit::Config);
    }

    #[test]
    fn violated_fields_are_all_shown() {
        let mut details = ErrorDetails::with_error_info("FIELD_INVALID", "paceline", [("n".into(), "2".into())]);
        details.add_bad_request_violation("outer.slots", "must be at least 1");
        details.add_bad_request_violation("seed", "must be given");
        let status = Status::with_error_details(Code::InvalidArgument, "2 fields are wrong", details);
        let failure = Failure::from_status(&status, "http://x");
        assert_eq!(failure.reason, "FIELD_INVALID");
        let text = failure.text();
        assert!(text.contains("caused by: outer.slots: must be at least 1"), "{text}");
        assert!(text.contains("caused by: seed: must be given"), "{text}");
        assert_eq!(failure.json()["error"]["code"], 64);
    }
}
