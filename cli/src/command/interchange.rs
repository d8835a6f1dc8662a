//! `paceline checkpoint import` and `export`: trained optimizers from and for other programs.
//!
//! ```text
//!  folder or file ─► theta file ─┐
//!  config.gin beside it, --gin ──┼─► import ─► checkpoint, in one step          exists already: --force, or exit 73
//!  --optimizer ──────────────────┘
//!  checkpoint ─► params, config.gin │ theta.state, config.gin │ x.safetensors
//! ```

use std::path::{Path, PathBuf};

use paceline_optimizer_core::Error;
use paceline_optimizer_core::interchange::{
    Description, Form, Imported, Source, import as read_foreign, write_flax, write_safetensors,
};
use paceline_optimizer_core::learned::LearnedOptimizerConfig;
use serde_json::json;

use crate::arguments::{ForeignFormat, Remote};
use crate::command::checkpoint::{fetch, read, settings_text};
use crate::console::{Console, plain_json};
use crate::failure::{Exit, Failure};
use crate::file::{sha256_hex, size_text, write_atomically};

/// Names of files that hold theta, in a folder.
const THETA_FILES: [&str; 2] = ["params", "theta.state"];

/// Name of the file that describes the optimizer.
const GIN_FILE: &str = "config.gin";

/// `paceline checkpoint import …`.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    pub(crate) source: &'a Path,
    pub(crate) gin: Option<&'a Path>,
    pub(crate) optimizer: Option<&'a str>,
    pub(crate) output: Option<&'a Path>,
    pub(crate) force: bool,
}

impl Import<'_> {
    /// Reads the files, checks them and writes the checkpoint.
    pub(crate) fn run(&self, console: Console) -> Result<(), Failure> {
        let file = self.theta_file()?;
        let output = self.output.map_or_else(|| default_output(self.source), Path::to_owned);
        check_absent(&output, self.force)?;
        let bytes = std::fs::read(&file).map_err(|error| Failure::cannot_read(&file, &error))?;
        let sha256 = sha256_hex(&bytes);
        let imported = self.import(&file, &bytes)?;
        let (source, ignored) = (imported.source, imported.ignored.clone());
        let checkpoint = imported.into_checkpoint(sha256.clone(), env!("CARGO_PKG_VERSION").into());
        let written = checkpoint.to_bytes()?;
        write_atomically(&output, &written)?;

        let (meta, state) = (&checkpoint.meta, &checkpoint.state);
        let config = plain_json(&meta.optimizer);
        let hash = state.theta.hash();
        console.say(format!("{} ({})", output.display(), size_text(written.len() as u64)));
        console.say(format!("from          {}: {}", file.display(), source_words(source)));
        console.say(format!("optimizer     {}", config["kind"].as_str().unwrap_or("?")));
        console.say(format!("settings      {}", settings_text(&config)));
        console.say(format!(
            "theta         {} values in {} tensors",
            state.theta.values().len(),
            state.theta.layout().len()
        ));
        console.say(format!("run           {}, outer step {}", meta.run, state.outer_step));
        if !ignored.is_empty() {
            console.say(format!("ignored       {}", ignored.join(", ")));
        }
        console.emit(&json!({
            "file": output,
            "source": {"file": file, "form": source_word(source), "sha256": sha256},
            "optimizer": config,
            "theta_size": state.theta.values().len(),
            "theta_hash": hash.to_string(),
            "run": meta.run,
            "outer_step": state.outer_step,
            "ignored": ignored,
            "sha256": sha256_hex(&written),
        }));
        Ok(())
    }

    /// The file that holds theta: the source, or the one in it that has its name.
    fn theta_file(&self) -> Result<PathBuf, Failure> {
        if !self.source.is_dir() {
            return Ok(self.source.to_owned());
        }
        let mut files = THETA_FILES.map(|name| self.source.join(name)).into_iter().filter(|file| file.exists());
        match (files.next(), files.next()) {
            (Some(only), None) => Ok(only),
            (found, _) => {
                let what = if found.is_some() { "both" } else { "neither" };
                let [params, state] = THETA_FILES;
                let message =
                    format!("{} holds {what} {params} {} {state}", self.source.display(), nor(found.is_some()));
                Err(Failure::new(Exit::BadInput, "SOURCE_INVALID", message).help("name the file that holds theta"))
            }
        }
    }

    fn import(&self, file: &Path, bytes: &[u8]) -> Result<Imported, Failure> {
        let beside = file.with_file_name(GIN_FILE);
        let gin = match (self.optimizer, self.gin) {
            (Some(_), _) => None,
            (None, Some(gin)) => Some(gin.to_owned()),
            (None, None) => beside.is_file().then_some(beside),
        };
        let settings = self.optimizer.map(optimizer).transpose()?;
        let text = gin.as_ref().map(|gin| read_text(gin)).transpose()?;
        let description = match (&settings, &text) {
            (Some(settings), _) => Description::Settings(settings),
            (None, Some(text)) => Description::Gin(text),
            (None, None) => Description::None,
        };
        read_foreign(bytes, description).map_err(|error| refused(file, gin.as_deref(), &error))
    }
}

fn nor(both: bool) -> &'static str {
    if both { "and" } else { "nor" }
}

/// A refusal, which names the files it may be about.
fn refused(file: &Path, gin: Option<&Path>, error: &Error) -> Failure {
    let files = match gin {
        Some(gin) => format!("{} with {}", file.display(), gin.display()),
        None => file.display().to_string(),
    };
    let mut failure = Failure::from_foreign(error);
    failure.message = format!("{files}: {}", failure.message);
    match error {
        Error::OptimizerUntold { .. } => failure.help(
            "name it with --gin config.gin, or --optimizer: a kind such as adafac_mlp, or its settings such as \
             '{\"kind\": \"celo2\", \"form\": \"base\"}'",
        ),
        _ => failure,
    }
}

/// Text of a gin file.
fn read_text(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| Failure::cannot_read(file, &error))
}

/// Settings as typed: a kind, JSON, TOML, or a file of TOML or JSON; with or without an `[optimizer]` table, as in a
/// recipe.
fn optimizer(typed: &str) -> Result<LearnedOptimizerConfig, Failure> {
    let wrong = |cause: &dyn std::fmt::Display| {
        Failure::new(Exit::BadInput, "OPTIMIZER_INVALID", format!("--optimizer {typed:?} describes no learned optimizer"))
            .cause(cause)
            .help("give a kind (adafac_mlp), settings ('{\"kind\": \"adafac_mlp\"}') or a TOML file with an [optimizer] table")
    };
    let word = !typed.is_empty() && typed.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let file = Path::new(typed);
    let text = if word && !file.exists() {
        format!("kind = \"{typed}\"")
    } else if file.is_file() {
        read_text(file)?
    } else {
        typed.to_owned()
    };
    let value = parse(&text).map_err(|error| wrong(&error))?;
    let settings = value.get("optimizer").cloned().unwrap_or(value);
    serde_json::from_value(settings).map_err(|error| wrong(&error))
}

/// JSON, a TOML inline table, or a TOML document.
fn parse(text: &str) -> Result<serde_json::Value, toml::de::Error> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    match text.trim_start().starts_with('{') {
        true => toml::from_str(&format!("optimizer = {text}")),
        false => toml::from_str(text),
    }
}

/// `NAME.safetensors` in this folder, NAME the source's; never the source itself.
fn default_output(source: &Path) -> PathBuf {
    let canonical = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let folder = canonical.parent().and_then(Path::file_name);
    let name = match canonical.file_name().map(|name| name.to_string_lossy().into_owned()) {
        Some(name) if THETA_FILES.contains(&name.as_str()) && folder.is_some() => {
            folder.map(|f| f.to_string_lossy().into_owned())
        }
        other => other,
    };
    let name = name.unwrap_or_else(|| "imported".into());
    match name.strip_suffix(".safetensors") {
        Some(stem) => format!("{stem}-imported.safetensors").into(),
        None => format!("{name}.safetensors").into(),
    }
}

/// Refuses to replace a file, unless it shall be.
pub(crate) fn check_absent(file: &Path, force: bool) -> Result<(), Failure> {
    if force || !file.exists() {
        return Ok(());
    }
    Err(Failure::new(Exit::CannotCreate, "EXISTS", format!("{} exists already", file.display()))
        .help("choose another name with -o, or replace it with --force"))
}

fn source_word(source: Source) -> &'static str {
    match source {
        Source::Flax(Form::Checkpoint) => "flax_checkpoint",
        Source::Flax(Form::Triple) => "flax_triple",
        Source::Flax(Form::Theta) => "flax_theta",
        Source::Safetensors => "safetensors",
    }
}

fn source_words(source: Source) -> &'static str {
    match source {
        Source::Flax(Form::Checkpoint) => "a flax checkpoint",
        Source::Flax(Form::Triple) => "a flax checkpoint of the oldest form",
        Source::Flax(Form::Theta) => "a bare theta of flax",
        Source::Safetensors => "plain safetensors",
    }
}

/// `paceline checkpoint export …`.
pub(crate) fn export(
    source: &str,
    to: ForeignFormat,
    output: &Path,
    force: bool,
    remote: &Remote,
    console: Console,
) -> Result<(), Failure> {
    let (name, bytes) = fetch(source, remote)?;
    let checkpoint = read(&name, &bytes)?;
    let failed = |error: Error| {
        let mut failure = Failure::from_foreign(&error);
        failure.message = format!("{name}: {}", failure.message);
        failure
    };
    // Theta comes last: whoever finds it finds its description too.
    let files = match to {
        ForeignFormat::Safetensors => vec![(output.to_owned(), write_safetensors(&checkpoint).map_err(failed)?)],
        ForeignFormat::Flax => {
            let flax = write_flax(&checkpoint).map_err(failed)?;
            let gin = flax.gin.map(|gin| (output.join(GIN_FILE), gin.into_bytes()));
            gin.into_iter().chain([(output.join(flax.name), flax.theta)]).collect()
        }
    };
    for (file, _) in &files {
        check_absent(file, force)?;
    }
    for (file, bytes) in &files {
        write_atomically(file, bytes)?;
        console.say(format!("{} ({})", file.display(), size_text(bytes.len() as u64)));
    }
    console.emit(&json!({
        "files": files.iter().map(|(file, bytes)| json!({"file": file, "sha256": sha256_hex(bytes)})).collect::<Vec<_>>(),
        "run": checkpoint.meta.run,
        "outer_step": checkpoint.state.outer_step,
        "theta_hash": checkpoint.state.theta.hash().to_string(),
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optimizer_may_be_typed_in_many_ways() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("recipe.toml");
        std::fs::write(&file, "name = \"x\"\n[optimizer]\nkind = \"adafac_mlp\"\nhidden_size = 3\n").expect("written");
        let expected = optimizer(r#"{"kind": "adafac_mlp", "hidden_size": 3}"#).expect("JSON");
        for typed in [
            r#"{kind = "adafac_mlp", hidden_size = 3}"#,
            "kind = \"adafac_mlp\"\nhidden_size = 3",
            file.to_str().expect("UTF-8"),
        ] {
            assert_eq!(optimizer(typed), Ok(expected.clone()), "{typed}");
        }
        assert!(optimizer("learnable_adam").is_ok());
        for wrong in ["velo", "", "{", "gone/file.toml", r#"{"kind": "adafac_mlp", "hidden": 3}"#] {
            let failure = optimizer(wrong).expect_err(wrong);
            assert_eq!((failure.exit, failure.reason.as_str()), (Exit::BadInput, "OPTIMIZER_INVALID"), "{wrong}");
        }
    }

    #[test]
    fn the_default_output_is_named_after_the_source() {
        for (source, output) in [
            ("gone/velo.checkpoint", "velo.checkpoint.safetensors"),
            ("gone/velo/params", "velo.safetensors"),
            ("gone/x.safetensors", "x-imported.safetensors"),
        ] {
            assert_eq!(default_output(Path::new(source)), Path::new(output));
        }
    }
}
