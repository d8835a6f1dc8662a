//! `paceline train`: coordinator, workers and evaluation in one process.
//!
//! ```text
//!  recipe ─check─► cluster ─create or continue─► watch … ─► newest checkpoint ─► file ─► evaluation
//!                                                 └─ Ctrl-C: drain, checkpoint, "continue with …", exit 130
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_proto::client::{Created, RunStates};
use paceline_proto::fault;
use paceline_proto::model::{Evaluation, RunId, RunState, RunStatus, TaskCost};
use serde_json::json;
use tokio_stream::StreamExt;

use crate::arguments::TrainArguments;
use crate::cluster::Cluster;
use crate::command::checkpoint::{file_name, read_file};
use crate::command::eval::{Comparison, default_folder, interrupted, record};
use crate::command::run::failed;
use crate::console::Console;
use crate::evaluation::processors;
use crate::failure::{Exit, Failure};
use crate::file::write_atomically;
use crate::interrupt::Interrupt;
use crate::progress::RunProgress;
use crate::recipe::Recipe;
use crate::remote::{Coordinator, request_id, runtime};

/// How long the coordinator may be away while it opens its store anew.
const AWAY: Duration = Duration::from_secs(20);
/// When it is asked again meanwhile.
const AGAIN: Duration = Duration::from_millis(200);

/// `paceline train [RECIPE]`.
pub(crate) fn train(arguments: &TrainArguments, console: Console) -> Result<(), Failure> {
    let mut recipe = Recipe::load(arguments.recipe.as_deref())?;
    recipe.spec.outer.steps = arguments.steps.unwrap_or(recipe.spec.outer.steps);
    let (built, left_out) = recipe.prepare(arguments.data_dir.as_deref())?;
    for line in left_out {
        console.say(line);
    }
    for description in built.descriptions() {
        console.say(format!("task family: {description}"));
    }
    let costs = built.costs();
    let runtime = runtime()?;
    let (interrupt, trained) = runtime.block_on(async {
        let interrupt = Interrupt::listen();
        let trained = on_a_cluster(arguments, &recipe, &costs, console, &interrupt).await;
        (interrupt, trained)
    });
    let file = trained?;
    if arguments.no_eval {
        return Ok(());
    }
    let (checkpoint, _) = read_file(&file)?;
    let comparison = Comparison {
        checkpoint: &checkpoint,
        recipe: &recipe,
        data_dir: arguments.data_dir.as_deref(),
        threads: arguments
            .threads
            .map_or_else(processors, |threads| usize::from(threads) * usize::from(arguments.workers)),
        folder: default_folder(&file),
    };
    let evaluation = comparison.run(console, &interrupt.flag).map_err(|failure| match failure.exit {
        Exit::Interrupted => interrupted(&file),
        _ => failure,
    })?;
    runtime.block_on(record_in(&arguments.store, &checkpoint, &evaluation, console))
}

/// Has the run's own store keep the evaluation. Its coordinator slept while all processors evaluated.
async fn record_in(
    store: &Path,
    checkpoint: &Checkpoint,
    evaluation: &Evaluation,
    console: Console,
) -> Result<(), Failure> {
    let run = checkpoint.meta.run.parse();
    let run = run.map_err(|error| Failure::bug(format!("the run of a checkpoint just made: {error}")))?;
    let folder = store.join("coordinator");
    let cluster = Cluster::start(&folder).await?;
    let shown = format!("`paceline-coordinator --data {}` shows it on the run's page", folder.display());
    let recorded = record(&cluster.coordinator, &run, evaluation, &shown, console).await;
    let stopped = cluster.stop().await;
    recorded.and(stopped)
}

/// Trains to the end and returns the file of the last checkpoint. However it goes, the cluster is stopped in order.
async fn on_a_cluster(
    arguments: &TrainArguments,
    recipe: &Recipe,
    costs: &[TaskCost],
    console: Console,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    let folder = arguments.store.join("coordinator");
    std::fs::create_dir_all(&folder).map_err(|error| Failure::cannot_create(&folder, &error))?;
    let mut cluster = Cluster::start(&folder).await?;
    let trained = train_and_save(arguments, recipe, costs, console, interrupt, &mut cluster).await;
    let stopped = cluster.stop().await;
    // What went wrong first is what a person must know.
    trained.and_then(|file| stopped.map(|()| file))
}

async fn train_and_save(
    arguments: &TrainArguments,
    recipe: &Recipe,
    costs: &[TaskCost],
    console: Console,
    interrupt: &Interrupt,
    cluster: &mut Cluster,
) -> Result<PathBuf, Failure> {
    let coordinator = cluster.coordinator.clone();
    // Before a run is begun that nobody will compute.
    let unavailable =
        |error: paceline_worker::DeviceUnavailable| Failure::new(Exit::Config, "DEVICE_UNAVAILABLE", error.to_string());
    let device = arguments.device.choose().map_err(unavailable)?;
    let begun = begin(&coordinator, recipe, costs, arguments.fresh, console).await?;
    let threads = arguments.threads.map_or_else(|| processors() / usize::from(arguments.workers), usize::from).max(1);
    cluster.add_workers(arguments.workers, threads, device, arguments.data_dir.as_deref())?;
    let Some(last) = follow(cluster, &begun, console, interrupt).await? else {
        console.say("stopping: workers hand back their work, the coordinator saves the run …");
        let state = coordinator.answer(coordinator.runs.get(&begun.run).await)?;
        return Err(stopped(arguments, &state));
    };
    match &last.status {
        RunStatus::Failed { reason } => Err(failed(&last.run, reason)),
        _ => save(&coordinator, &last, &arguments.store, console).await,
    }
}

/// Creates the run or continues it, alone: other unfinished runs of the store are paused until they are asked for.
async fn begin(
    coordinator: &Coordinator,
    recipe: &Recipe,
    costs: &[TaskCost],
    fresh: bool,
    console: Console,
) -> Result<RunState, Failure> {
    let before = coordinator.answer(coordinator.runs.list().await)?;
    let created = coordinator.runs.create(&recipe.spec, costs, &request_id()?, !fresh).await;
    let Created { mut state, resumed } = coordinator.answer(created)?;
    let finished = before.iter().find(|old| old.spec == recipe.spec && old.status.is_final());
    if resumed {
        console
            .say(format!("{} continues at outer step {} of {}", state.run, state.outer_step, state.spec.outer.steps));
    } else {
        if let Some(old) = finished {
            console
                .say(format!("{} is finished already with this recipe; only unfinished runs are continued", old.run));
        }
        console.say(format!("{} starts: {} outer steps", state.run, state.spec.outer.steps));
    }
    console.emit(&json!({"event": "started", "run": state.run, "resumed": resumed, "outer_step": state.outer_step}));
    for other in before.iter().filter(|other| other.run != state.run && other.status == RunStatus::Running) {
        coordinator.answer(coordinator.runs.pause(&other.run).await)?;
        console.say(format!("{} is unfinished and waits, paused, until it is trained again", other.run));
    }
    if state.status == RunStatus::Paused {
        state = coordinator.answer(coordinator.runs.resume(&state.run).await)?;
    }
    Ok(state)
}

/// Shows progress until the run ends; `None` if a person interrupted it first.
async fn follow(
    cluster: &mut Cluster,
    begun: &RunState,
    console: Console,
    interrupt: &Interrupt,
) -> Result<Option<RunState>, Failure> {
    let coordinator = cluster.coordinator.clone();
    let mut progress = RunProgress::new(console, begun.spec.outer.steps);
    progress.observe(begun);
    let mut states = coordinator.answer(coordinator.runs.watch(&begun.run).await)?;
    let end = loop {
        tokio::select! {
            biased;
            () = interrupt.token.cancelled() => break Ok(None),
            failure = cluster.failed() => break Err(failure),
            next = states.next() => match next {
                // A coordinator that begins anew on its store ends all streams.
                Some(Err(status)) if fault::is_transient(&status) => states = watch_again(&coordinator, &begun.run).await?,
                Some(state) => {
                    let state = coordinator.answer(state)?;
                    progress.observe(&state);
                    if state.status.is_final() {
                        break Ok(Some(state));
                    }
                }
                None => states = watch_again(&coordinator, &begun.run).await?,
            },
        }
    };
    progress.finish();
    end
}

/// Watches a run whose stream ended before it did.
async fn watch_again(coordinator: &Coordinator, run: &RunId) -> Result<RunStates, Failure> {
    let begun = tokio::time::Instant::now();
    loop {
        match coordinator.runs.watch(run).await {
            Err(status) if fault::is_transient(&status) && begun.elapsed() < AWAY => tokio::time::sleep(AGAIN).await,
            outcome => return coordinator.answer(outcome),
        }
    }
}

/// Writes the newest checkpoint as a file.
async fn save(coordinator: &Coordinator, last: &RunState, store: &Path, console: Console) -> Result<PathBuf, Failure> {
    let (info, bytes) = coordinator.pull(&last.run, None).await?;
    let file = store.join("checkpoints").join(file_name(&last.run, info.outer_step));
    write_atomically(&file, &bytes)?;
    console.say(format!("the trained optimizer: {}", file.display()));
    console.emit(&json!({"event": "checkpoint", "run": last.run, "outer_step": info.outer_step, "file": file}));
    Ok(file)
}

fn stopped(arguments: &TrainArguments, state: &RunState) -> Failure {
    let message = format!("interrupted: {} stands at outer step {} and is saved", state.run, state.outer_step);
    Failure::new(Exit::Interrupted, "INTERRUPTED", message)
        .help(format!("continue it with `{}`", command_line(arguments)))
}

/// The command that continues this training: what decides the run, and where it is.
fn command_line(arguments: &TrainArguments) -> String {
    let mut words = vec!["paceline train".to_owned()];
    words.extend(arguments.recipe.as_deref().map(quoted));
    words.extend(arguments.steps.map(|steps| format!("--steps {steps}")));
    words.extend(arguments.data_dir.as_deref().map(|folder| format!("--data-dir {}", quoted(folder))));
    if arguments.store != Path::new("./paceline-data") {
        words.push(format!("--store {}", quoted(&arguments.store)));
    }
    words.join(" ")
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn parsed(line: &[&str]) -> TrainArguments {
        match Arguments::parse_from(line).command {
            Command::Train(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_that_continues_a_run_leads_to_the_same_run() {
        let line =
            command_line(&parsed(&["paceline", "train", "my recipe.toml", "--steps", "9", "--store", "s", "--fresh"]));
        assert_eq!(line, "paceline train 'my recipe.toml' --steps 9 --store s");
    }
}
