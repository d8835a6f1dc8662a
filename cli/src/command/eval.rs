//! `paceline eval`: a checkpoint against tuned Adam.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use paceline_optimizer_core::checkpoint::Checkpoint;
use paceline_proto::model::{Evaluation, RunId};
use serde_json::json;

use crate::arguments::EvalArguments;
use crate::command::checkpoint::read_file;
use crate::console::Console;
use crate::evaluation::record::{ends, family_curves};
use crate::evaluation::report::{Report, family_report};
use crate::evaluation::table::{family_table, verdict};
use crate::evaluation::{contenders, processors, run, unit_count};
use crate::failure::{Exit, Failure};
use crate::progress;
use crate::recipe::Recipe;
use crate::remote::{Coordinator, runtime};

/// `paceline eval CHECKPOINT`.
pub(crate) fn eval(arguments: &EvalArguments, console: Console) -> Result<(), Failure> {
    let (checkpoint, _) = read_file(&arguments.checkpoint)?;
    let name = arguments.checkpoint.display();
    let mut recipe = match (&arguments.recipe, &checkpoint.meta.recipe) {
        (Some(recipe), _) => Recipe::load(Some(recipe))?,
        (None, Some(recorded)) => Recipe::recorded(name.to_string(), recorded)?,
        (None, None) => {
            tracing::warn!(
                "{name} was imported and has no recipe: these are the quick start's tasks; --recipe names others"
            );
            Recipe::load(None)?
        }
    };
    recipe.spec.optimizer = checkpoint.meta.optimizer.clone();
    let evaluation = &mut recipe.spec.evaluation;
    evaluation.steps = arguments.steps.unwrap_or(evaluation.steps);
    evaluation.seeds = arguments.seeds.unwrap_or(evaluation.seeds);
    let of_run = arguments.record.then(|| run_of(&checkpoint)).transpose()?;
    let comparison = Comparison {
        checkpoint: &checkpoint,
        recipe: &recipe,
        data_dir: arguments.data_dir.as_deref(),
        threads: arguments.threads.map_or_else(processors, usize::from),
        folder: arguments.output.clone().unwrap_or_else(|| default_folder(&arguments.checkpoint)),
    };
    let Some(run) = of_run else {
        comparison.run(console, &AtomicBool::new(false))?;
        return Ok(());
    };
    let runtime = runtime()?;
    // Before minutes of work: would the coordinator take it?
    let coordinator = runtime.block_on(async {
        let coordinator = Coordinator::of(&arguments.remote).await?;
        is_kept(&coordinator, &run, &checkpoint).await.map(|()| coordinator)
    })?;
    let evaluation = comparison.run(console, &AtomicBool::new(false))?;
    let shown = format!("its page and `paceline run evaluations {run}` show it");
    runtime.block_on(record(&coordinator, &run, &evaluation, &shown, console))
}

/// The run whose checkpoint this is.
fn run_of(checkpoint: &Checkpoint) -> Result<RunId, Failure> {
    let run = &checkpoint.meta.run;
    run.parse().map_err(|error| {
        Failure::new(Exit::BadInput, "RUN_UNKNOWN", format!("the checkpoint is of no run of a coordinator: {run:?}"))
            .cause(error)
            .help("leave --record out: tables and plots need no coordinator")
    })
}

/// Whether the coordinator keeps this checkpoint, for it takes evaluations of no other.
async fn is_kept(coordinator: &Coordinator, run: &RunId, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let outer_step = checkpoint.state.outer_step;
    let info = coordinator.answer(coordinator.checkpoints.get(run, Some(outer_step)).await)?;
    let own = checkpoint.state.theta.hash();
    if info.theta_hash == own {
        return Ok(());
    }
    let what = format!("{run}@{outer_step} at {} has another theta than this file", coordinator.address);
    Err(Failure::new(Exit::BadInput, "CHECKPOINT_FOREIGN", what)
        .cause(format!("theta is {own} here, {} there", info.theta_hash))
        .help(format!("pull it anew with `paceline checkpoint pull {run} --step {outer_step}`")))
}

/// Has the coordinator keep what was found, for the run's page; `shown` says who shows it.
pub(crate) async fn record(
    coordinator: &Coordinator,
    run: &RunId,
    evaluation: &Evaluation,
    shown: &str,
    console: Console,
) -> Result<(), Failure> {
    coordinator.answer(coordinator.runs.record_evaluation(run, evaluation).await)?;
    console.say(format!("recorded with {run}: {shown}"));
    console.emit(&json!({"event": "recorded", "run": run, "outer_step": evaluation.outer_step}));
    Ok(())
}

/// `CHECKPOINT.eval`.
pub(crate) fn default_folder(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.file_name().unwrap_or_default().to_owned();
    name.push(".eval");
    checkpoint.with_file_name(name)
}

/// A comparison about to be made.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    /// Whose theta.
    pub(crate) checkpoint: &'a Checkpoint,
    /// Whose tasks, and how long and how often.
    pub(crate) recipe: &'a Recipe,
    /// Where real data is.
    pub(crate) data_dir: Option<&'a Path>,
    /// Threads that compute.
    pub(crate) threads: usize,
    /// Where tables and plots go.
    pub(crate) folder: PathBuf,
}

impl Comparison<'_> {
    /// Trains everything, writes the report, says what it found and answers what a coordinator may keep of it.
    pub(crate) fn run(&self, console: Console, cancelled: &AtomicBool) -> Result<Evaluation, Failure> {
        let Checkpoint { meta, state } = self.checkpoint;
        let spec = &self.recipe.spec;
        let built = self.recipe.build(self.data_dir)?;
        // Before any work: is there a place for its result?
        std::fs::create_dir_all(&self.folder).map_err(|error| Failure::cannot_create(&self.folder, &error))?;
        let contenders = contenders(&built, spec.seed, &state.theta)?;
        let units = unit_count(&built, &contenders, spec.evaluation);
        let progress = progress::pieces(console, "evaluation trainings", units as u64);
        let curves = run(spec, &built, &contenders, self.threads, cancelled, &progress)?;
        progress.finish_and_clear();
        let families = curves
            .iter()
            .zip(built.descriptions())
            .map(|(curves, description)| family_report(curves, &contenders, description))
            .collect::<Result<Vec<_>, _>>()?;
        let ends = ends(spec.evaluation.steps);
        let kept =
            families.iter().zip(&curves).map(|(family, curves)| family_curves(family, &curves.contenders, &ends));
        let evaluation = Evaluation {
            outer_step: state.outer_step,
            theta_hash: state.theta.hash(),
            recorded_at_ms: 0, // the coordinator's clock says
            seeds: spec.evaluation.seeds,
            families: kept.collect(),
            ends,
        };
        let report = Report {
            run: meta.run.clone(),
            outer_step: state.outer_step,
            theta_hash: state.theta.hash().to_string(),
            steps: spec.evaluation.steps,
            seeds: spec.evaluation.seeds,
            families,
        };
        let files = report.write(&self.folder)?;
        for family in &report.families {
            let (steps, seeds) = (report.steps, report.seeds);
            console.say(format!("\n{}: {seeds} held-out tasks, {steps} inner steps each", family.family));
            console.say(&family.description);
            console.say(family_table(family, report.seeds));
            console.say(verdict(family));
        }
        console.say(format!("\ncurves, tables and plots: {}", self.folder.display()));
        console.emit(&json!({"event": "evaluation", "files": files, "report": report}));
        Ok(evaluation)
    }
}

/// An evaluation that was interrupted, with how to do it later.
pub(crate) fn interrupted(checkpoint: &Path) -> Failure {
    Failure::new(Exit::Interrupted, "INTERRUPTED", "interrupted during the evaluation; the training itself is complete")
        .help(format!("evaluate later with `paceline eval {}`", checkpoint.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_stands_beside_the_checkpoint() {
        assert_eq!(default_folder(Path::new("a/b.safetensors")), Path::new("a/b.safetensors.eval"));
    }
}
