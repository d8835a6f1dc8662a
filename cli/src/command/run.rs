//! `paceline run`: runs of a coordinator.

use std::path::Path;
use std::time::{Duration, Instant};

use paceline_optimizer_core::outer::ResultForm;
use paceline_proto::client::CallResult;
use paceline_proto::model::{FoldedStep, Ledger, RunId, RunSpec, RunState, RunStatus, TaskCost};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::arguments::{Remote, RunCommand};
use crate::command::evaluations;
use crate::command::interchange::check_absent;
use crate::console::{Console, plain_json};
use crate::evaluation::table::plain;
use crate::export::Form;
use crate::failure::{DATA_MISSING, Exit, Failure};
use crate::file::write_atomically;
use crate::live::{Scene, Screen};
use crate::mixture;
use crate::pace::short;
use crate::progress::{RunProgress, on_terminal, status_word};
use crate::recipe::Recipe;
use crate::remote::{Coordinator, request_id, runtime};

/// `paceline run …`.
pub(crate) fn run(command: &RunCommand, remote: &Remote, console: Console) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let coordinator = &Coordinator::of(remote).await?;
        match command {
            RunCommand::Submit { recipe, data_dir, resume } => {
                let mut recipe = Recipe::load(Some(recipe))?;
                let costs = prepare(&mut recipe, data_dir.as_deref(), console)?;
                let created = coordinator.runs.create(&recipe.spec, &costs, &request_id()?, *resume).await;
                let created = coordinator.answer(created)?;
                let did = if created.resumed { "continues" } else { "submitted" };
                console.say(format!("{did}: {}", created.state.run));
                console.say(format!("follow it with `paceline run watch {}`", created.state.run));
                console.emit(&json!({"run": created.state.run, "resumed": created.resumed}));
            }
            RunCommand::List => list(&coordinator.answer(coordinator.runs.list().await)?, console),
            RunCommand::Show { run } => show(&coordinator.answer(coordinator.runs.get(run).await)?, console),
            RunCommand::Watch { run, plain } => return watch(coordinator, run, *plain, console).await,
            RunCommand::Pause { run } => said(&coordinator.answer(coordinator.runs.pause(run).await)?, console),
            RunCommand::Resume { run } => said(&coordinator.answer(coordinator.runs.resume(run).await)?, console),
            RunCommand::Stop { run } => said(&coordinator.answer(coordinator.runs.stop(run).await)?, console),
            RunCommand::Evaluations { run } => {
                evaluations::show(run, &coordinator.answer(coordinator.runs.evaluations(run).await)?, console);
            }
            RunCommand::Export { run, to, output, force } => {
                let state = coordinator.answer(coordinator.runs.get(run).await)?;
                let steps = coordinator.answer(coordinator.runs.steps(run).await)?;
                return export(&state, &steps, *to, output.as_deref(), *force, console);
            }
            RunCommand::Ledger { run } => {
                let state = coordinator.answer(coordinator.runs.get(run).await)?;
                return ledger(&state, console);
            }
        }
        Ok(())
    })
}

/// Makes the recipe what is submitted and answers what its entries cost. The data may be where the workers are, so without a
/// folder it need not be here, and then nothing is known of costs; limits on them cannot do without.
fn prepare(recipe: &mut Recipe, data_dir: Option<&Path>, console: Console) -> Result<Vec<TaskCost>, Failure> {
    match recipe.prepare(data_dir) {
        Err(failure) if failure.reason == DATA_MISSING && data_dir.is_none() && recipe.spec.mixture.is_none() => {
            console.say(format!("not checked, for the data is not here: {}", failure.message));
            recipe.resolve(data_dir)?;
            Ok(Vec::new())
        }
        Err(failure) => Err(failure),
        Ok((built, left_out)) => {
            for line in left_out {
                console.say(line);
            }
            Ok(built.costs())
        }
    }
}

fn list(states: &[RunState], console: Console) {
    console.emit(&json!({"runs": states.iter().map(object).collect::<Vec<_>>()}));
    if states.is_empty() {
        return console.say("no runs yet: `paceline run submit RECIPE` begins one");
    }
    let mut table = plain(&["run", "status", "outer step", "meta-loss", "inner steps", "workers"]);
    for state in states {
        table.add_row([
            state.run.to_string(),
            status_word(state).to_owned(),
            format!("{}/{}", state.outer_step, state.spec.outer.steps),
            number(state.meta_loss),
            short(state.inner_steps as f64),
            state.workers.to_string(),
        ]);
    }
    console.say(table.to_string());
}

fn show(state: &RunState, console: Console) {
    console.emit(&object(state));
    console.say(format!("run                {}", state.run));
    console.say(format!("status             {}{}", status_word(state), in_brackets(why(state))));
    console.say(format!("outer step         {} of {}", state.outer_step, state.spec.outer.steps));
    console.say(format!("meta-loss          {}", number(state.meta_loss)));
    console.say(format!("meta-gradient norm {}", number(state.grad_norm)));
    console.say(format!("signal to noise    {}", number(state.variance.signal_to_noise)));
    console.say(format!("antithetic corr.   {}", number(state.variance.antithetic_correlation)));
    console.say(format!("inner steps        {}", state.inner_steps));
    console.say(format!("diverged lanes     {}", state.diverged_lanes));
    console.say(format!("newest checkpoint  {}@{}", state.run, state.durable_checkpoint));
    console.say(format!("theta              {}", state.theta_hash));
    console.say(format!("workers            {}", state.workers));
    console.say(format!("leases             {}", equation(&state.ledger)));
    if let Ok(form) = state.spec.result_form() {
        console.say(format!("results            {form}"));
    }
    console.say(format!("\n{}", mixture::table(state)));
    match toml::to_string(&state.spec) {
        Ok(recipe) => console.say(format!("\n{}", recipe.trim_end())),
        Err(error) => tracing::warn!(%error, "the recipe cannot be written as TOML"),
    }
}

/// Follows a run until it ends, or until somebody leaves the live view.
async fn watch(coordinator: &Coordinator, run: &RunId, plain: bool, console: Console) -> Result<(), Failure> {
    let first = coordinator.answer(coordinator.runs.get(run).await)?;
    if on_terminal(console) && !plain && !first.status.is_final() {
        let last = watch_live(coordinator, first, console).await?;
        if last.status.is_final() {
            return ended(&last, console);
        }
        console.say(format!("{run} goes on: outer step {} of {}", last.outer_step, last.spec.outer.steps));
        return Ok(());
    }
    let mut progress = RunProgress::new(console, first.spec.outer.steps);
    let mut last = first;
    progress.observe(&last);
    while !last.status.is_final() {
        let mut states = coordinator.answer(coordinator.runs.watch(run).await)?;
        while let Some(state) = states.next().await {
            last = coordinator.answer(state)?;
            progress.observe(&last);
        }
        // The stream ended; unless the run did too, the coordinator restarted and is asked again.
        last = coordinator.answer(coordinator.runs.get(run).await)?;
    }
    progress.finish();
    ended(&last, console)
}

/// Shows a run until it ends or somebody leaves; the last state seen.
async fn watch_live(coordinator: &Coordinator, first: RunState, console: Console) -> Result<RunState, Failure> {
    let began = Instant::now();
    let mut states = follow(coordinator.clone(), first.run.clone());
    let mut scene = Scene::new(first);
    let mut screen = Screen::open(console.color)?;
    let mut redraw = tokio::time::interval(REDRAW);
    while !scene.state.status.is_final() {
        tokio::select! {
            () = screen.left() => break,
            _ = redraw.tick() => {
                scene.pass(began.elapsed());
                screen.draw(&scene)?;
            }
            Some(state) = states.recv() => match state {
                Err(status) if status.code() == Code::Unavailable => scene.connected = false,
                state => scene.observe(began.elapsed(), coordinator.answer(state)?),
            },
        }
    }
    Ok(scene.state)
}

/// States of a run until it ends. A coordinator that does not answer is told of and asked again.
fn follow(coordinator: Coordinator, run: RunId) -> mpsc::Receiver<CallResult<RunState>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            match coordinator.runs.watch(&run).await {
                Err(status) => {
                    if sender.send(Err(status)).await.is_err() {
                        return;
                    }
                }
                Ok(mut states) => {
                    while let Some(state) = states.next().await {
                        if sender.send(state).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    });
    receiver
}

/// Time between two pictures.
const REDRAW: Duration = Duration::from_millis(200);

/// Time until a coordinator whose stream ended is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How a run ended, and exit code 1 if it failed.
fn ended(state: &RunState, console: Console) -> Result<(), Failure> {
    console.emit(&json!({"event": "ended", "state": object(state)}));
    if let RunStatus::Failed { reason } = &state.status {
        return Err(failed(&state.run, reason));
    }
    console.say(format!("{} {} at outer step {}", state.run, status_word(state), state.outer_step));
    console.say(format!("pull its checkpoint with `paceline checkpoint pull {}`", state.run));
    Ok(())
}

/// A run that failed, as an exit code 1.
pub(crate) fn failed(run: &RunId, reason: &str) -> Failure {
    Failure::new(Exit::Failed, "RUN_FAILED", format!("run {run} failed: {reason}"))
        .help("correct the cause and submit the recipe again; its checkpoints stay")
}

fn said(state: &RunState, console: Console) {
    console.say(format!("{} is {} at outer step {}", state.run, status_word(state), state.outer_step));
    console.emit(&object(state));
}

/// Writes the folded steps of a run, which may go on meanwhile.
fn export(
    state: &RunState,
    steps: &[FoldedStep],
    form: Form,
    output: Option<&Path>,
    force: bool,
    console: Console,
) -> Result<(), Failure> {
    let run = state.run.as_str();
    let named = output.map_or_else(|| form.default_name(run).into(), Path::to_owned);
    let file = form.file_in_folder(run).map_or_else(|| named.clone(), |name| named.join(name));
    check_absent(&file, force)?;
    write_atomically(&file, &form.bytes(state, steps))?;
    let missing = state.outer_step.saturating_sub(steps.len() as u64);
    console.say(format!("{}: {} outer steps of {run}", named.display(), steps.len()));
    if missing > 0 {
        console.say(format!("{missing} steps are not there: they were folded by a version that did not keep them"));
    }
    console.emit(&json!({"run": run, "file": file, "steps": steps.len(), "missing": missing}));
    Ok(())
}

fn ledger(state: &RunState, console: Console) -> Result<(), Failure> {
    let balances = state.ledger.balances();
    let verdict = if balances { "balances" } else { "DOES NOT BALANCE" };
    console.say(equation(&state.ledger));
    console.say(format!("the ledger of {} {verdict}", state.run));
    console.emit(&json!({"run": state.run, "ledger": ledger_object(&state.ledger), "balances": balances}));
    if balances {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "LEDGER_IMBALANCE", format!("the ledger of {} does not balance", state.run))
        .help("a lease was lost or counted twice: please report it with the coordinator's log"))
}

fn equation(ledger: &Ledger) -> String {
    let Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = ledger;
    format!(
        "issued {issued} = accepted {accepted} + superseded {superseded} + expired {expired} + released {released} \
         + rejected {rejected} + outstanding {outstanding}"
    )
}

fn ledger_object(ledger: &Ledger) -> Value {
    let Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = ledger;
    json!({"issued": issued, "accepted": accepted, "superseded": superseded, "expired": expired,
           "released": released, "rejected": rejected, "outstanding": outstanding})
}

/// The form in which results travel, and what either form costs the coordinator.
fn results_object(spec: &RunSpec) -> Option<Value> {
    let ResultForm { dense, seed_coded_cost, dense_cost, .. } = spec.result_form().ok()?;
    let form = if dense { "dense" } else { "seed_coded" };
    Some(json!({"form": form, "seed_coded_ns_a_slot": seed_coded_cost, "dense_ns_a_slot": dense_cost}))
}

fn object(state: &RunState) -> Value {
    json!({
        "run": state.run,
        "status": status_word(state),
        "reason": why(state),
        "outer_step": state.outer_step,
        "steps": state.spec.outer.steps,
        "meta_loss": state.meta_loss,
        "grad_norm": state.grad_norm,
        "signal_to_noise": state.variance.signal_to_noise,
        "antithetic_correlation": state.variance.antithetic_correlation,
        "inner_steps": state.inner_steps,
        "diverged_lanes": state.diverged_lanes,
        "durable_checkpoint": state.durable_checkpoint,
        "theta_hash": state.theta_hash.to_string(),
        "workers": state.workers,
        "ledger": ledger_object(&state.ledger),
        "results": results_object(&state.spec),
        "mixture": mixture::objects(state),
        "recipe": plain_json(&state.spec),
    })
}

fn why(state: &RunState) -> &str {
    match &state.status {
        RunStatus::Failed { reason } => reason,
        // A reason that only repeats the status says nothing.
        _ if state.reason == status_word(state) => "",
        _ => &state.reason,
    }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::tests::state;
    use paceline_optimizer_core::outer::Report;

    #[test]
    fn the_ledger_is_shown_as_an_equation_that_must_balance() {
        let console = Console { format: crate::console::Format::Json, color: false };
        let mut state = state(3, 0, None);
        state.ledger = Ledger { issued: 5, accepted: 3, expired: 1, outstanding: 1, ..Ledger::default() };
        assert_eq!(
            equation(&state.ledger),
            "issued 5 = accepted 3 + superseded 0 + expired 1 + released 0 + rejected 0 + outstanding 1"
        );
        assert!(ledger(&state, console).is_ok());
        state.ledger.expired = 0;
        assert_eq!(ledger(&state, console).expect_err("one lease is missing").exit, Exit::Failed);
    }

    #[test]
    fn a_failed_run_ends_with_exit_1_and_its_reason() {
        let console = Console { format: crate::console::Format::Json, color: false };
        let mut state = state(3, 0, None);
        state.status = RunStatus::Failed { reason: "theta is not finite".into() };
        let failure = ended(&state, console).expect_err("it failed");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("theta is not finite"), "{}", failure.message);
        assert_eq!(object(&state)["reason"], "theta is not finite");
    }

    #[test]
    fn the_form_of_results_is_shown_with_what_either_costs() {
        let mut state = state(3, 0, None);
        for (report, form) in [(Report::Dense, "dense"), (Report::SeedCoded, "seed_coded")] {
            state.spec.outer.report = report;
            let results = object(&state)["results"].clone();
            assert_eq!(results["form"], form);
            assert!(results["seed_coded_ns_a_slot"].as_f64() > Some(0.0), "{results}");
            assert!(results["dense_ns_a_slot"].as_f64() > Some(0.0), "{results}");
        }
    }
}
