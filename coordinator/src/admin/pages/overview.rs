//! The first page: all runs, all workers, the newest run's curve.

use maud::{Markup, html};
use paceline_proto::model::FoldedStep;

use super::chart::{Line, figure};
use super::layout::{Cell, table};
use super::words::{count, number, reason, status, time};
use crate::machine::{RunView, Survey};
use crate::observe::{Refusal, Refusals, Seen};

/// The main part. `trouble` is what every reader should know first; `steps` belong to the newest run.
pub(super) fn render(seen: &Seen, trouble: Option<&str>, refusals: &Refusals, steps: &[FoldedStep]) -> Markup {
    let Survey { runs, more_ended, .. } = &*seen.survey;
    html! {
        h1 { "Runs and workers" }
        div #trouble data-live data-news=(trouble.unwrap_or_default()) {
            @if let Some(trouble) = trouble { p.banner role="alert" { (trouble) } }
        }
        section #runs data-live data-news=(news(runs)) aria-labelledby="runs-title" {
            h2 #runs-title { "Runs" }
            @if runs.is_empty() {
                p { "No runs yet: " code { "paceline run submit RECIPE" } " begins one." }
            } @else {
                (runs_table(runs))
                @if *more_ended > 0 {
                    p.quiet { (more_ended) " more ended runs: " code { "paceline run list" } " tells them all." }
                }
            }
        }
        section #workers data-live aria-labelledby="workers-title" {
            h2 #workers-title { "Workers" }
            (workers(&seen.survey))
        }
        section #refused data-live aria-labelledby="refused-title" {
            h2 #refused-title { "Refused callers" }
            (refused(refusals))
        }
        section #newest data-live aria-labelledby="newest-title" {
            h2 #newest-title { "Newest run" }
            @if let Some(newest) = runs.first() {
                div.charts {
                    (figure("newest-loss", &format!("Meta-loss of {}", newest.state.run), &[Line::new(
                        "meta-loss",
                        steps.iter().map(|step| (step.outer_step as f64, step.meta_loss)).collect(),
                    )]))
                }
            } @else {
                p.quiet { "Its curve will stand here." }
            }
        }
        section #coordinator data-live aria-labelledby="coordinator-title" {
            h2 #coordinator-title { "Coordinator" }
            p { "Start number " (seen.epoch) " on this store." }
        }
    }
}

/// What a screen reader is told when it changes: how each run is, not every step.
fn news(runs: &[RunView]) -> String {
    let told = runs.iter().map(|view| format!("{} {}", view.state.run, status(&view.state.status)));
    told.collect::<Vec<_>>().join(", ")
}

fn runs_table(runs: &[RunView]) -> Markup {
    let columns = [
        "run",
        "state",
        "why",
        "outer step",
        "meta-loss",
        "gradient norm",
        "signal to noise",
        "inner steps",
        "leases",
        "refused",
    ];
    let rows = runs.iter().map(|view| {
        let state = &view.state;
        let word = status(&state.status);
        let run = html! { a href={ "/runs/" (state.run) } id={ "run-" (state.run) } { (state.run) } };
        let leases =
            (!state.status.is_final()).then(|| format!("{} held, {} slots open", view.held, view.pending_slots));
        let cells = vec![
            Cell::Shown(html! { span class={ "state " (word) } { (word) } }),
            Cell::text(reason(state)),
            Cell::text(format!("{} of {}", count(state.outer_step), count(state.spec.outer.steps))),
            Cell::maybe(state.meta_loss.map(number)),
            Cell::maybe(state.grad_norm.map(number)),
            Cell::maybe(state.variance.signal_to_noise.map(number)),
            Cell::text(count(state.inner_steps)),
            Cell::maybe(leases),
            Cell::text(count(state.ledger.rejected)),
        ];
        (run, cells)
    });
    table("Runs that go on and the last that ended, newest first", &columns, rows.collect())
}

/// Why somebody who calls is not heard, with what they were told to do.
fn refused(refusals: &Refusals) -> Markup {
    let rows = refusals.latest().into_iter().map(|(reason, refusal)| {
        let Refusal { times, last, method, said } = refusal;
        let cells = vec![
            Cell::text(count(*times)),
            Cell::text(format!("{} ago", time(last.elapsed()))),
            Cell::text(method),
            Cell::text(said),
        ];
        (html! { code { (reason) } }, cells)
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return html! { p.quiet { "None since this start." } };
    }
    table(
        "Refusals that somebody has to mend, since this start, the latest first",
        &["reason", "times", "last", "call", "what was said"],
        rows,
    )
}

fn workers(survey: &Survey) -> Markup {
    if survey.workers.is_empty() {
        return html! { p { "No live workers: " code { "paceline-worker --coordinator URL" } " starts one." } };
    }
    let rows = survey.workers.iter().map(|group| {
        let cells = vec![
            Cell::text(group.active.to_string()),
            Cell::text(group.suspect.to_string()),
            Cell::text(count(group.threads)),
            Cell::text(count(group.inner_steps_per_second.round() as u64)),
        ];
        (html! { (group.device.name()) }, cells)
    });
    html! {
        (table(
            "Live workers by class of device; a suspect one has been silent for longer than a lease lives",
            &["device", "active", "suspect", "threads", "inner steps a second"],
            rows.collect(),
        ))
        p.quiet { (survey.waiting) " of them wait for a lease." }
    }
}
