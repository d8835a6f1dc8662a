//! The page of one run: curves, evaluations, leases, families, checkpoints, its recipe.

use std::collections::BTreeMap;

use maud::{Markup, html};
use paceline_proto::model::{CheckpointInfo, Evaluation, FoldedStep, Ledger, RunState, RunStatus, SpanLoss};

use super::chart::{Line, MOST_LINES, figure};
use super::evaluations;
use super::layout::{Cell, table};
use super::words::{bytes, count, number, reason, status, time};
use crate::machine::RunView;

/// The main part.
pub(super) fn render(
    view: &RunView,
    may_steer: bool,
    steps: &[FoldedStep],
    evaluations: &[Evaluation],
    checkpoints: &[CheckpointInfo],
) -> Markup {
    let state = &view.state;
    let word = status(&state.status);
    html! {
        h1 { "Run " (state.run) }
        section #standing data-live data-news={ (state.run) " is " (word) } aria-labelledby="standing-title" {
            h2 #standing-title { "Where it stands" }
            p { span class={ "state " (word) } { (word) } @if !reason(state).is_empty() { " – " (reason(state)) } }
            (standing(view))
            @if may_steer && !state.status.is_final() { (steering(state)) }
        }
        section #curves data-live aria-labelledby="curves-title" {
            h2 #curves-title { "Curves" }
            (curves(state, steps))
        }
        section #evaluations data-live data-news=(evaluations::news(evaluations)) aria-labelledby="evaluations-title" {
            h2 #evaluations-title { "Evaluations" }
            (evaluations::render(&state.run, evaluations))
        }
        section #leases data-live aria-labelledby="leases-title" { h2 #leases-title { "Leases and results" } (leases(view)) }
        section #families data-live aria-labelledby="families-title" { h2 #families-title { "Families" } (families(view)) }
        section #checkpoints data-live aria-labelledby="checkpoints-title" {
            h2 #checkpoints-title { "Checkpoints" }
            (files(state, checkpoints))
        }
        section aria-labelledby="recipe-title" {
            h2 #recipe-title { "Recipe" }
            details #recipe {
                summary { "Everything that decides its results" }
                pre { (serde_json::to_string_pretty(&state.spec).unwrap_or_default()) }
            }
        }
    }
}

/// What somebody who has logged in may do.
fn steering(state: &RunState) -> Markup {
    let (deed, word) = match state.status {
        RunStatus::Paused => ("resume", "Resume"),
        _ => ("pause", "Pause"),
    };
    html! {
        form.login method="post" action={ "/runs/" (state.run) "/" (deed) } {
            button id=(deed) type="submit" { (word) }
            a #stop href={ "/runs/" (state.run) "/stop" } { "Stop…" }
        }
    }
}

fn standing(view: &RunView) -> Markup {
    let state = &view.state;
    let or_dash = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    let facts = [
        ("outer step", format!("{} of {}", count(state.outer_step), count(state.spec.outer.steps))),
        ("meta-loss", or_dash(state.meta_loss)),
        ("meta-gradient norm", or_dash(state.grad_norm)),
        ("signal to noise", or_dash(state.variance.signal_to_noise)),
        ("antithetic correlation", or_dash(state.variance.antithetic_correlation)),
        ("inner steps", count(state.inner_steps)),
        ("diverged lanes", count(state.diverged_lanes)),
        ("place in trajectories", or_dash(view.unroll_position)),
        ("newest checkpoint", format!("step {}", count(state.durable_checkpoint))),
        ("live workers", state.workers.to_string()),
    ];
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

fn curves(state: &RunState, steps: &[FoldedStep]) -> Markup {
    let line = |name: &str, value: fn(&FoldedStep) -> Option<f64>| {
        Line::new(name, steps.iter().filter_map(|step| Some((step.outer_step as f64, value(step)?))).collect())
    };
    let families = family_lines(state, steps);
    html! {
        div.charts {
            (figure("meta-loss", "Meta-loss", &[line("meta-loss", |step| Some(step.meta_loss))]))
            @if families.len() > 1 {
                (figure("family-loss", "Meta-loss by family", &families))
            }
            (figure("gradient-norm", "Meta-gradient norm", &[line("norm", |step| Some(step.grad_norm))]))
            (figure("signal-to-noise", "Signal to noise", &[line("signal to noise", |step| step.variance.signal_to_noise)]))
            (figure("update-norm", "Norm of the update", &[line("norm", |step| Some(step.update_norm))]))
        }
        @if families.len() > MOST_LINES {
            p.quiet { "Only the first " (MOST_LINES) " of " (families.len()) " families are drawn; the table below has all." }
        }
    }
}

/// One line a family: means over its entries that had a slot in a step.
fn family_lines(state: &RunState, steps: &[FoldedStep]) -> Vec<Line> {
    let mut names: Vec<&str> = Vec::new();
    for task in &state.spec.tasks {
        if !names.contains(&task.family.as_str()) {
            names.push(&task.family);
        }
    }
    let mut points: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for step in steps {
        for name in &names {
            let of_family = state.spec.tasks.iter().zip(&step.entry_losses).filter(|(task, _)| task.family == *name);
            let losses: Vec<f64> = of_family.filter_map(|(_, loss)| *loss).collect();
            if !losses.is_empty() {
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                points.entry(name).or_default().push((step.outer_step as f64, mean));
            }
        }
    }
    names.iter().map(|name| Line::new(*name, points.remove(name).unwrap_or_default())).collect()
}

fn leases(view: &RunView) -> Markup {
    let Ledger { issued, accepted, superseded, expired, released, rejected, outstanding } = view.state.ledger;
    let counts = [
        ("given", issued, "leases given, ever"),
        ("accepted", accepted, "results that fill their slot"),
        ("superseded", superseded, "another lease filled the slot first"),
        ("expired", expired, "no heartbeat in time"),
        ("handed back", released, "by workers that stop"),
        ("refused", rejected, "results refused, and tasks that could not be computed"),
        ("held", outstanding, "somebody works on it"),
    ];
    let rows = counts
        .iter()
        .map(|(name, number, meaning)| (html! { (name) }, vec![Cell::text(count(*number)), Cell::text(meaning)]));
    let tally = &view.tally;
    let refusals =
        tally.refused.iter().map(|(reason, number)| (html! { code { (reason) } }, vec![Cell::text(count(*number))]));
    html! {
        (table("What became of the leases; they add up", &["leases", "number", "meaning"], rows.collect()))
        p {
            "Slots without a result: " (view.pending_slots) ". "
            @if let Some(age) = view.oldest_lease { "Oldest lease held: " (time(age)) ". " }
            "Since this start of the coordinator, " (count(tally.late)) " of " (count(tally.judged))
            " results came late; on average the run was " (format!("{:.1}", tally.staleness())) " steps ahead of a result."
        }
        @if !tally.refused.is_empty() {
            (table("Results refused since this start, by reason (docs/errors.md)", &["reason", "number"], refusals.collect()))
        }
        @if !view.trouble.is_empty() { p { "The latest: " (view.trouble) } }
    }
}

fn families(view: &RunView) -> Markup {
    let span = |span: Option<SpanLoss>| {
        span.map(|span| format!("{} (steps {}–{})", number(span.meta_loss), span.from, span.to))
    };
    let rows = view.state.spec.tasks.iter().enumerate().map(|(index, task)| {
        let entry = view.state.entries.get(index).copied().unwrap_or_default();
        let last = view.entry_losses.get(index).copied().flatten();
        let cells = vec![
            Cell::text(count(entry.contributions)),
            Cell::maybe(last.map(number)),
            Cell::maybe(span(entry.first)),
            Cell::maybe(span(entry.latest)),
            Cell::text(count(entry.inner_steps)),
            Cell::text(count(entry.diverged_lanes)),
        ];
        (html! { (task.family) }, cells)
    });
    let columns = ["family", "contributions", "last step", "began at", "is at", "inner steps", "diverged lanes"];
    table("Entries of the mixture: mean meta-losses", &columns, rows.collect())
}

fn files(state: &RunState, checkpoints: &[CheckpointInfo]) -> Markup {
    if checkpoints.is_empty() {
        return html! { p { "None yet." } };
    }
    let rows = checkpoints.iter().map(|info| {
        let step = info.outer_step;
        let address = format!("/runs/{}/checkpoints/{step}", state.run);
        let hash: String = info.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let link = html! { a href=(address) id={ "checkpoint-" (step) } download { "Download step " (step) } };
        let cells = vec![
            Cell::Shown(link),
            Cell::text(bytes(info.size_bytes)),
            Cell::maybe(info.meta_loss.map(number)),
            Cell::text(count(info.inner_steps)),
            Cell::Shown(html! { code { (hash) } }),
        ];
        (html! { (count(step)) }, cells)
    });
    let columns = ["outer step", "file", "size", "meta-loss", "inner steps", "SHA-256"];
    table("Checkpoints that are kept, newest first", &columns, rows.collect())
}
