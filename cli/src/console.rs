//! Where words go: results to standard output, progress and complaints to standard error.
//!
//! ```text
//!  --format text │ stdout: tables and sentences      stderr: progress bar, logs, "error: …"
//!  --format json │ stdout: one object a line          stderr: logs, {"error": {…}}
//! ```

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use paceline_admin::Setting;
use serde::Serialize;

use crate::failure::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// For scripts: one JSON object, or one a line for each event.
    Json,
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// The two streams and how to write on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    /// How results are written.
    pub(crate) format: Format,
    /// Whether standard error may hold colours.
    pub(crate) color: bool,
}

impl Console {
    /// For these flags on this terminal.
    pub(crate) fn new(format: Format, color: Color) -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let color = color == Color::Auto && allowed && std::io::stderr().is_terminal();
        Self { format, color }
    }

    /// A line for people; nothing in JSON.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if self.format == Format::Text {
            write_line(line.as_ref());
        }
    }

    /// An object for scripts; nothing in text.
    pub(crate) fn emit(&self, object: &impl Serialize) {
        if self.format == Format::Json {
            // Values made of numbers, text and lists always serialise; non-finite numbers become null.
            write_line(
                &serde_json::to_string(object).unwrap_or_else(|error| format!("{{\"unprintable\":\"{error}\"}}")),
            );
        }
    }

    /// What `--print-config` prints.
    pub(crate) fn settings(&self, settings: &[Setting]) {
        self.say(paceline_admin::table(settings).trim_end());
        let object = |setting: &Setting| {
            let origin = setting.value.as_ref().map(|_| setting.origin.to_string());
            serde_json::json!({"name": setting.name, "value": setting.value, "origin": origin})
        };
        self.emit(&serde_json::json!({"settings": settings.iter().map(object).collect::<Vec<_>>()}));
    }

    /// The failure that ends the command.
    pub(crate) fn fail(&self, failure: &Failure) {
        match self.format {
            Format::Json => eprintln!("{}", failure.json()),
            Format::Text if self.color => {
                eprintln!("{}", failure.text().replacen("error:", "\u{1b}[1;31merror:\u{1b}[0m", 1));
            }
            Format::Text => eprintln!("{}", failure.text()),
        }
    }
}

/// A value as JSON with numbers as short as in its text: 32-bit numbers would otherwise show all digits of their 64-bit
/// image.
pub(crate) fn plain_json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_string(value).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

/// Writes a line to standard output; a reader that has gone away (`| head`) ends the process quietly.
fn write_line(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Sends logs to standard error: warnings, or more with each `-v`; `PACELINE_LOG` decides if it is set.
pub(crate) fn log_to_stderr(verbose: u8, color: bool) {
    let level = match verbose {
        0 => "warn",
        1 => "warn,paceline=info,paceline_coordinator=info,paceline_worker=info",
        _ => "info,paceline=debug,paceline_coordinator=debug,paceline_worker=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PACELINE_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(std::io::stderr).init();
}
