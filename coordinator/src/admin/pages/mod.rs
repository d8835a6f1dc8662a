//! Pages for people: how runs and workers are, on the server's own HTML, readable by anybody. Changes are asked for by whoever
//! has logged in: see [`login`].
//!
//! | path | shows |
//! |---|---|
//! | `/` | all runs that go on and the last that ended, workers, the newest run's curve |
//! | `/runs/RUN` | one run: curves, evaluations, leases, families, checkpoints, its recipe |
//! | `/runs/RUN/checkpoints/STEP` | a checkpoint's file |
//! | `/assets/…` | style, script, icon |

mod chart;
mod evaluations;
mod layout;
mod login;
mod origin;
mod overview;
mod run;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use paceline_proto::fault::Fault;
use paceline_proto::model::{Evaluation, FoldedStep, RunId};

use super::{Inner, Stage};
use crate::handle::CoordinatorHandle;
use crate::machine::RunView;
use layout::{frame, frame_for};
use login::{Sender, Visitor};

/// Folded steps a curve is drawn from.
const POINTS: usize = 300;

const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/live.js");
const ICON: &str = include_str!("../assets/icon.svg");

pub(super) fn routes(inner: Arc<Inner>) -> Router {
    let asset =
        |media: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, media)], text) });
    Router::new()
        .route("/", get(overview))
        .route("/runs/{run}", get(one_run))
        .route("/runs/{run}/checkpoints/{step}", get(checkpoint))
        .route("/assets/style.css", asset("text/css; charset=utf-8", STYLE))
        .route("/assets/live.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/assets/icon.svg", asset("image/svg+xml", ICON))
        .with_state(Arc::clone(&inner))
        .merge(login::routes(inner))
}

async fn overview(State(inner): State<Arc<Inner>>, sender: Sender, headers: HeaderMap) -> Response {
    let visitor = Visitor::of(&inner, sender.0, &headers);
    let Some(handle) = inner.handle() else { return starting(&inner) };
    let seen = inner.observer.seen();
    let steps = match seen.survey.runs.first() {
        Some(newest) => steps(&handle, &newest.state.run).await,
        None => Vec::new(),
    };
    let main = overview::render(&seen, inner.trouble().as_deref(), &inner.observer.refusals(), &steps);
    page(StatusCode::OK, frame_for(&visitor, "Runs", &[], main))
}

async fn one_run(
    State(inner): State<Arc<Inner>>,
    sender: Sender,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Response {
    let visitor = Visitor::of(&inner, sender.0, &headers);
    let Some(handle) = inner.handle() else { return starting(&inner) };
    let Ok(id) = run.parse::<RunId>() else { return unknown(&run) };
    let surveyed = inner.observer.seen().survey.runs.iter().find(|view| view.state.run == id).cloned();
    let view = match surveyed {
        Some(view) => view,
        None => match handle.get(id.clone()).await {
            Ok(state) => RunView::of_ended(state),
            Err(fault) => return refused(&fault),
        },
    };
    match handle.checkpoints(id.clone()).await {
        Ok(checkpoints) => {
            let (steps, evaluations) = (steps(&handle, &id).await, evaluations(&handle, &id).await);
            let trail = [("/", "Runs")];
            let may_steer = matches!(visitor, Visitor::Known(_));
            let main = run::render(&view, may_steer, &steps, &evaluations, &checkpoints);
            page(StatusCode::OK, frame_for(&visitor, id.as_str(), &trail, main))
        }
        Err(fault) => refused(&fault),
    }
}

async fn checkpoint(State(inner): State<Arc<Inner>>, Path((run, step)): Path<(String, String)>) -> Response {
    let Some(handle) = inner.handle() else { return starting(&inner) };
    let (Ok(id), Ok(step)) = (run.parse::<RunId>(), step.parse::<u64>()) else { return unknown(&run) };
    match handle.checkpoint(id.clone(), Some(step)).await {
        Ok((_, bytes)) => {
            // Ids hold no quotes, so the name needs no escaping.
            let name = format!("attachment; filename=\"{id}-{step}.safetensors\"");
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, name)];
            (headers, bytes).into_response()
        }
        Err(fault) => refused(&fault),
    }
}

/// A curve is no reason to fail a page: without it, the page says that there is none.
async fn steps(handle: &CoordinatorHandle, run: &RunId) -> Vec<FoldedStep> {
    handle.steps(run.clone(), 1..=u64::MAX, POINTS).await.unwrap_or_else(|fault| {
        tracing::warn!(%run, "its curve cannot be shown: {fault}");
        Vec::new()
    })
}

/// Nor is an evaluation.
async fn evaluations(handle: &CoordinatorHandle, run: &RunId) -> Vec<Evaluation> {
    handle.evaluations(run.clone()).await.unwrap_or_else(|fault| {
        tracing::warn!(%run, "its evaluations cannot be shown: {fault}");
        Vec::new()
    })
}

fn page(status: StatusCode, markup: Markup) -> Response {
    (status, Html(markup.into_string())).into_response()
}

fn said(status: StatusCode, title: &str, text: &str) -> Response {
    let body = html! { h1 { (title) } p { (text) } p { a href="/" { "All runs" } } };
    page(status, frame(title, &[("/", "Runs")], body))
}

fn starting(inner: &Inner) -> Response {
    let words = match inner.stage().0 {
        Stage::Stopped => "The coordinator has stopped.",
        Stage::Starting | Stage::Open(_) | Stage::Draining(_) => "The store is being opened and runs are rebuilt.",
    };
    let body = html! { section #state data-live { h1 { "Not ready" } p { (words) " This page goes on by itself." } } };
    page(StatusCode::OK, frame("Not ready", &[], body))
}

fn unknown(run: &str) -> Response {
    let shown: String = run.chars().take(80).collect();
    said(StatusCode::NOT_FOUND, "No such run", &format!("There is no run {shown:?} here."))
}

fn refused(fault: &Fault) -> Response {
    match fault {
        Fault::RunNotFound { run } => unknown(run),
        Fault::RunFinished { .. } => said(StatusCode::CONFLICT, "The run has ended", &fault.to_string()),
        Fault::RoleMissing { .. } => said(StatusCode::FORBIDDEN, "Not allowed", &fault.to_string()),
        Fault::CheckpointNotFound { .. } => said(
            StatusCode::NOT_FOUND,
            "No such checkpoint",
            &format!("{fault}. Old checkpoints are dropped; the run's page lists those that are kept."),
        ),
        Fault::CheckpointCorrupt { .. } => {
            said(StatusCode::INTERNAL_SERVER_ERROR, "Damaged checkpoint", &fault.to_string())
        }
        other => said(StatusCode::SERVICE_UNAVAILABLE, "Not available", &other.to_string()),
    }
}
