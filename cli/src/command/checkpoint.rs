//! `paceline checkpoint`: trained optimizers as files.

use std::path::{Path, PathBuf};

use paceline_optimizer_core::checkpoint::{Checkpoint, FORMAT};
use paceline_proto::model::{RunId, RunSpec};
use serde_json::{Value, json};

use crate::arguments::{CheckpointCommand, Remote};
use crate::command::interchange::{Import, export};
use crate::console::{Console, plain_json};
use crate::evaluation::table::plain;
use crate::failure::{Exit, Failure};
use crate::file::{hex, sha256_hex, size_text, write_atomically};
use crate::remote::{Coordinator, runtime};

/// `paceline checkpoint …`.
pub(crate) fn checkpoint(command: &CheckpointCommand, remote: &Remote, console: Console) -> Result<(), Failure> {
    match command {
        CheckpointCommand::List { run } => runtime()?.block_on(list(remote, run, console)),
        CheckpointCommand::Show { source } => {
            let (name, bytes) = fetch(source, remote)?;
            let checkpoint = read(&name, &bytes)?;
            show(&name, &checkpoint, &bytes, console);
            Ok(())
        }
        CheckpointCommand::Pull { run, step, output } => pull(remote, run, *step, output.as_deref(), console),
        CheckpointCommand::Verify { file } => verify(file, console),
        CheckpointCommand::Import { source, gin, optimizer, output, force } => {
            let (gin, optimizer, output) = (gin.as_deref(), optimizer.as_deref(), output.as_deref());
            Import { source, gin, optimizer, output, force: *force }.run(console)
        }
        CheckpointCommand::Export { source, to, output, force } => export(source, *to, output, *force, remote, console),
    }
}

async fn list(remote: &Remote, run: &RunId, console: Console) -> Result<(), Failure> {
    let coordinator = Coordinator::of(remote).await?;
    let infos = coordinator.answer(coordinator.checkpoints.list(run).await)?;
    let mut table = plain(&["checkpoint", "meta-loss", "inner steps", "size", "theta"]);
    for info in &infos {
        table.add_row([
            format!("{}@{}", info.run, info.outer_step),
            info.meta_loss.map_or("–".to_owned(), |loss| format!("{loss:.4}")),
            info.inner_steps.to_string(),
            size_text(info.size_bytes),
            info.theta_hash.to_string()[..12].to_owned(),
        ]);
    }
    console.say(table.to_string());
    let objects = infos.iter().map(|info| {
        json!({"run": info.run, "outer_step": info.outer_step, "meta_loss": info.meta_loss,
               "inner_steps": info.inner_steps, "size_bytes": info.size_bytes, "sha256": hex(&info.sha256),
               "theta_hash": info.theta_hash.to_string()})
    });
    console.emit(&json!({"checkpoints": objects.collect::<Vec<Value>>()}));
    Ok(())
}

fn pull(
    remote: &Remote,
    run: &RunId,
    step: Option<u64>,
    output: Option<&Path>,
    console: Console,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (info, bytes) = runtime.block_on(async { Coordinator::of(remote).await?.pull(run, step).await })?;
    let name = output.map_or_else(|| file_name(run, info.outer_step), Path::to_owned);
    // The transfer was checked against its hash; this checks that what was stored is a checkpoint.
    read(&format!("{run}@{}", info.outer_step), &bytes)?;
    write_atomically(&name, &bytes)?;
    console.say(format!("{} ({}, outer step {})", name.display(), size_text(info.size_bytes), info.outer_step));
    console.emit(&json!({"file": name, "run": run, "outer_step": info.outer_step, "sha256": hex(&info.sha256)}));
    Ok(())
}

/// `RUN-STEP.safetensors`.
pub(crate) fn file_name(run: &RunId, outer_step: u64) -> PathBuf {
    format!("{run}-{outer_step}.safetensors").into()
}

fn verify(file: &Path, console: Console) -> Result<(), Failure> {
    let (checkpoint, bytes) = read_file(file)?;
    let name = file.display().to_string();
    let optimizer = checkpoint.meta.optimizer.build().map_err(Failure::from)?;
    if optimizer.layout() != checkpoint.state.theta.layout() {
        return Err(damaged(&name, "theta does not have the shapes that its optimizer needs"));
    }
    if let Some(at) = checkpoint.state.theta.values().iter().position(|value| !value.is_finite()) {
        return Err(damaged(&name, &format!("value {at} of theta is not finite")));
    }
    // An imported theta has no recipe.
    let recipe = checkpoint.meta.recipe.clone().map(serde_json::from_value::<RunSpec>);
    recipe.transpose().map_err(|error| damaged(&name, &format!("its recipe cannot be read: {error}")))?;
    let hash = checkpoint.state.theta.hash();
    console.say(format!(
        "{name}: ok (format {}, {}, theta {hash})",
        checkpoint.meta.format,
        size_text(bytes.len() as u64)
    ));
    console.emit(&json!({"file": file, "ok": true, "format": checkpoint.meta.format, "sha256": sha256_hex(&bytes),
                         "theta_hash": hash.to_string()}));
    Ok(())
}

fn damaged(name: &str, what: &str) -> Failure {
    Failure::new(Exit::BadInput, "CHECKPOINT_CORRUPT", format!("{name}: {what}"))
        .help("pull it again, or take another checkpoint of the run")
}

/// A checkpoint file, read and checked.
pub(crate) fn read_file(file: &Path) -> Result<(Checkpoint, Vec<u8>), Failure> {
    let bytes = std::fs::read(file).map_err(|error| Failure::cannot_read(file, &error))?;
    Ok((read(&file.display().to_string(), &bytes)?, bytes))
}

/// A checkpoint from its bytes; `name` is what the message calls it.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Checkpoint, Failure> {
    use paceline_optimizer_core::Error;
    Checkpoint::from_bytes(bytes).map_err(|error| match error {
        Error::CheckpointTooNew { .. } => Failure::new(Exit::Config, "CHECKPOINT_TOO_NEW", format!("{name}: {error}"))
            .help(format!("this is paceline {}, which reads format {FORMAT}", env!("CARGO_PKG_VERSION"))),
        other => damaged(name, &other.to_string()),
    })
}

/// The bytes of a file, or of `RUN[@STEP]` from the coordinator, and what to call them.
pub(crate) fn fetch(source: &str, remote: &Remote) -> Result<(String, Vec<u8>), Failure> {
    let file = Path::new(source);
    if file.exists() {
        let bytes = std::fs::read(file).map_err(|error| Failure::cannot_read(file, &error))?;
        return Ok((source.to_owned(), bytes));
    }
    let (run, step) = run_and_step(source)?;
    let (info, bytes) = runtime()?.block_on(async { Coordinator::of(remote).await?.pull(&run, step).await })?;
    Ok((format!("{run}@{}", info.outer_step), bytes))
}

fn run_and_step(source: &str) -> Result<(RunId, Option<u64>), Failure> {
    let wrong = |cause: &dyn std::fmt::Display| {
        Failure::new(Exit::BadInput, "SOURCE_INVALID", format!("{source:?} is neither a file nor RUN or RUN@STEP"))
            .cause(cause)
    };
    if source.contains('/') || source.ends_with(".safetensors") {
        return Err(wrong(&"there is no such file"));
    }
    let (run, step) = source.split_once('@').map_or((source, None), |(run, step)| (run, Some(step)));
    let run = run.parse().map_err(|error| wrong(&error))?;
    let step = step.map(str::parse).transpose().map_err(|error| wrong(&error))?;
    Ok((run, step))
}

/// How the numbers of a checkpoint are to be understood, from the file's header: 8 bytes of length, then JSON.
fn conventions(bytes: &[u8]) -> Option<Value> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let header: Value = serde_json::from_slice(bytes.get(8..length.checked_add(8)?)?).ok()?;
    let document: Value = serde_json::from_str(header["__metadata__"]["paceline"].as_str()?).ok()?;
    Some(document["conventions"].clone())
}

fn show(name: &str, checkpoint: &Checkpoint, bytes: &[u8], console: Console) {
    let Checkpoint { meta, state } = checkpoint;
    let config = plain_json(&meta.optimizer);
    let kind = config["kind"].as_str().unwrap_or("?").to_owned();
    let recipe = meta.recipe.as_ref();
    let tasks: Vec<String> = recipe
        .and_then(|recipe| recipe["tasks"].as_array())
        .into_iter()
        .flatten()
        .map(|task| format!("{} (weight {})", task["family"].as_str().unwrap_or("?"), task["weight"]))
        .collect();
    let tasks = recipe.map_or_else(|| "unknown: an imported theta has no recipe".into(), |_| tasks.join(", "));
    let parent = meta.parent.as_deref().unwrap_or("none");
    let conventions = conventions(bytes).unwrap_or(Value::Null);
    let layout = state.theta.layout();
    console.say(format!("checkpoint    {name}"));
    console.say(format!("run           {}", meta.run));
    console.say(format!("optimizer     {kind}"));
    console.say(format!("settings      {}", settings_text(&config)));
    console.say(format!("theta         {} values in {} tensors", layout.size(), layout.len()));
    console.say(format!("theta hash    {}", state.theta.hash()));
    console.say(format!("outer steps   {}", state.outer_step));
    console.say(format!("inner steps   {}", state.inner_steps));
    console.say(format!("meta-loss     {}", state.last.map_or("–".into(), |last| format!("{:.4}", last.meta_loss))));
    console.say(format!("tasks         {tasks}"));
    console.say(format!("parent        {parent}"));
    console.say(format!("code version  {}", meta.code_version));
    console.say(format!("format        {}", meta.format));
    for (what, convention) in conventions.as_object().into_iter().flatten() {
        console.say(format!("{what:<13} {}", convention.as_str().unwrap_or("?")));
    }
    console.say(format!("size          {}", size_text(bytes.len() as u64)));
    console.say(format!("sha256        {}", sha256_hex(bytes)));
    console.emit(&json!({
        "name": name,
        "run": meta.run,
        "optimizer": config,
        "theta_size": layout.size(),
        "theta_hash": state.theta.hash().to_string(),
        "outer_step": state.outer_step,
        "inner_steps": state.inner_steps,
        "meta_loss": state.last.map(|last| last.meta_loss),
        "recipe": meta.recipe,
        "parent": meta.parent,
        "code_version": meta.code_version,
        "format": meta.format,
        "conventions": conventions,
        "size_bytes": bytes.len(),
        "sha256": sha256_hex(bytes),
    }));
}

/// Settings of an optimizer in one line, without its kind.
pub(crate) fn settings_text(config: &Value) -> String {
    let settings = config.as_object().into_iter().flatten().filter(|(key, _)| *key != "kind");
    let settings: Vec<String> = settings.map(|(key, value)| format!("{key} {value}")).collect();
    if settings.is_empty() { "none".into() } else { settings.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_run_with_or_without_a_step() {
        assert_eq!(run_and_step("a-1").map(|(run, step)| (run.to_string(), step)), Ok(("a-1".into(), None)));
        assert_eq!(run_and_step("a-1@200").map(|(run, step)| (run.to_string(), step)), Ok(("a-1".into(), Some(200))));
        for wrong in ["a-1@x", "a b", "", "dir/a.bin", "gone.safetensors"] {
            assert_eq!(run_and_step(wrong).expect_err(wrong).exit, Exit::BadInput);
        }
    }
}
