//! Logging in with a token, so that a page may steer runs: on this machine only, and only where callers are asked who they
//! are.
//!
//! | path | does |
//! |---|---|
//! | `GET /login` | a form for a token |
//! | `POST /login` | opens a session, whose id is a cookie |
//! | `POST /logout` | ends it |
//! | `GET /runs/RUN/stop` | asks whether that is meant |
//! | `POST /runs/RUN/pause`, `/resume`, `/stop` | what the calls of these names do, by whoever is logged in |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use paceline_proto::fault::Fault;
use paceline_proto::model::RunId;

use super::super::sessions::{LIFETIME, Sessions};
use super::layout::frame_for;
use super::{Inner, origin, page, refused, said, starting, unknown};
use crate::gate::{Known, Wish, may};
use crate::handle::CoordinatorHandle;

/// Name of the cookie.
const COOKIE: &str = "paceline_session";
/// Most bytes of a form: a token has about a hundred.
const FORM: usize = 1024;
/// Whoever may do this may steer; the others have nothing to log in for.
const STEERS: &str = "/paceline.v1.RunService/PauseRun";

/// Where a request comes from.
pub(super) type Sender = ConnectInfo<SocketAddr>;

/// Who looks at a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Somebody where nobody can log in: pages only show.
    Reader,
    /// Somebody who may log in.
    Stranger,
    /// Somebody who has.
    Known(Known),
}

impl Visitor {
    /// Whoever sent a request.
    pub(super) fn of(inner: &Inner, peer: SocketAddr, headers: &HeaderMap) -> Self {
        let Some(sessions) = inner.sessions().filter(|_| origin::is_local(peer, headers)) else {
            return Self::Reader;
        };
        let known = cookie(headers).and_then(|id| sessions.who(id, Instant::now()));
        known.map_or(Self::Stranger, Self::Known)
    }

    /// What stands in the frame of every page.
    pub(super) fn markup(&self) -> Markup {
        match self {
            Self::Reader => html! {},
            Self::Stranger => html! { p { a href="/login" { "Log in" } } },
            Self::Known(known) => html! {
                form.login method="post" action="/logout" {
                    "Logged in as " (known) " " button #logout type="submit" { "Log out" }
                }
            },
        }
    }
}

pub(super) fn routes(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/login", get(form).post(log_in))
        .route("/logout", post(log_out))
        .route("/runs/{run}/pause", post(pause))
        .route("/runs/{run}/resume", post(resume))
        .route("/runs/{run}/stop", get(confirm).post(stop))
        .layer(DefaultBodyLimit::max(FORM))
        .with_state(inner)
}

/// What can be done to a run.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Pause,
    Resume,
    Stop,
}

impl Deed {
    fn method(self) -> &'static str {
        match self {
            Self::Pause => "/paceline.v1.RunService/PauseRun",
            Self::Resume => "/paceline.v1.RunService/ResumeRun",
            Self::Stop => "/paceline.v1.RunService/StopRun",
        }
    }

    async fn done(self, handle: &CoordinatorHandle, run: RunId) -> Result<(), Fault> {
        let state = match self {
            Self::Pause => handle.pause(run).await,
            Self::Resume => handle.resume(run).await,
            Self::Stop => handle.stop(run).await,
        };
        state.map(drop)
    }
}

/// The session that a browser names.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|pairs| pairs.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// A cookie that lives for so many seconds. Scripts do not see it, and other sites' requests do not carry it. Not `Secure`:
/// it never leaves this machine, on which pages are plain HTTP.
fn set(id: &str, seconds: u64) -> [(axum::http::HeaderName, String); 1] {
    [(header::SET_COOKIE, format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}"))]
}

fn to(address: &str) -> (StatusCode, [(axum::http::HeaderName, String); 1]) {
    (StatusCode::SEE_OTHER, [(header::LOCATION, address.to_owned())])
}

fn nobody_logs_in() -> Response {
    let why = "Logging in needs a coordinator that asks for tokens, and a browser on its own machine that knows it as \
               127.0.0.1 or localhost (docs/security.md). Elsewhere, pages only show.";
    said(StatusCode::NOT_FOUND, "No login here", why)
}

fn login_page(trouble: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Log in" }
        @if let Some(trouble) = trouble { p.banner role="alert" { (trouble) } }
        form.login method="post" action="/login" {
            label for="token" { "Token of a user or an operator" }
            input #token name="token" type="password" autocomplete="off" required;
            button type="submit" { "Log in" }
        }
        p.quiet { "For an hour, or until you log out or the token is revoked. Whoever is logged in may pause, resume and stop runs." }
    };
    frame_for(&Visitor::Stranger, "Log in", &[("/", "Runs")], body)
}

async fn form(State(inner): State<Arc<Inner>>, ConnectInfo(peer): Sender, headers: HeaderMap) -> Response {
    match Visitor::of(&inner, peer, &headers) {
        Visitor::Reader => nobody_logs_in(),
        Visitor::Stranger | Visitor::Known(_) => page(StatusCode::OK, login_page(None)),
    }
}

/// The sessions, for a form that one of our pages sent; else the refusal.
fn sessions(inner: &Inner, peer: SocketAddr, headers: &HeaderMap) -> Result<Arc<Sessions>, Box<Response>> {
    let sessions =
        inner.sessions().filter(|_| origin::is_local(peer, headers)).ok_or_else(|| Box::new(nobody_logs_in()))?;
    if origin::is_own_form(headers) {
        return Ok(sessions);
    }
    let why = "This form was sent by another page than one of this coordinator. Nothing was changed.";
    Err(Box::new(said(StatusCode::FORBIDDEN, "Refused", why)))
}

async fn log_in(
    State(inner): State<Arc<Inner>>,
    ConnectInfo(peer): Sender,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let sessions = match sessions(&inner, peer, &headers) {
        Ok(sessions) => sessions,
        Err(refusal) => return *refusal,
    };
    // The characters of a token stand in a form as they are.
    let token = std::str::from_utf8(&body).ok().and_then(|form| form.strip_prefix("token=")).unwrap_or_default();
    let logged_in = sessions.log_in(token, Instant::now(), |known| may(known, STEERS));
    match logged_in {
        Ok((id, known)) => {
            let token = known.token.map(|token| token.to_string()).unwrap_or_default();
            tracing::info!(target: "audit", method = "login", caller = %known, token, %peer, "page");
            (set(&id, LIFETIME.as_secs()), to("/")).into_response()
        }
        Err(fault) => {
            tracing::info!(target: "audit", method = "login", %peer, reason = fault.reason(), "page");
            let status = match fault {
                Fault::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
                Fault::RoleMissing { .. } => StatusCode::FORBIDDEN,
                _ => StatusCode::UNAUTHORIZED,
            };
            page(status, login_page(Some(&fault.to_string())))
        }
    }
}

async fn log_out(State(inner): State<Arc<Inner>>, ConnectInfo(peer): Sender, headers: HeaderMap) -> Response {
    match sessions(&inner, peer, &headers) {
        Ok(sessions) => {
            if let Some(id) = cookie(&headers) {
                sessions.log_out(id);
            }
            (set("", 0), to("/")).into_response()
        }
        Err(refusal) => *refusal,
    }
}

async fn confirm(
    State(inner): State<Arc<Inner>>,
    ConnectInfo(peer): Sender,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = run.parse::<RunId>() else { return unknown(&run) };
    let visitor = Visitor::of(&inner, peer, &headers);
    match visitor {
        Visitor::Reader => nobody_logs_in(),
        Visitor::Stranger => to("/login").into_response(),
        Visitor::Known(_) => {
            let run_page = format!("/runs/{id}");
            let body = html! {
                h1 { "Stop " (id) "?" }
                p { "It ends after a last checkpoint and cannot be resumed. To go on later, pause it instead." }
                form.login method="post" action={ (run_page) "/stop" } {
                    button #stop type="submit" { "Stop it for good" }
                    a href=(run_page) { "Let it run" }
                }
            };
            page(StatusCode::OK, frame_for(&visitor, "Stop a run", &[("/", "Runs"), (&run_page, id.as_str())], body))
        }
    }
}

async fn pause(inner: State<Arc<Inner>>, peer: Sender, run: Path<String>, headers: HeaderMap) -> Response {
    steer(Deed::Pause, inner.0, peer.0, &run.0, headers).await
}

async fn resume(inner: State<Arc<Inner>>, peer: Sender, run: Path<String>, headers: HeaderMap) -> Response {
    steer(Deed::Resume, inner.0, peer.0, &run.0, headers).await
}

async fn stop(inner: State<Arc<Inner>>, peer: Sender, run: Path<String>, headers: HeaderMap) -> Response {
    steer(Deed::Stop, inner.0, peer.0, &run.0, headers).await
}

async fn steer(deed: Deed, inner: Arc<Inner>, peer: SocketAddr, run: &str, headers: HeaderMap) -> Response {
    if let Err(refusal) = sessions(&inner, peer, &headers) {
        return *refusal;
    }
    let Visitor::Known(known) = Visitor::of(&inner, peer, &headers) else {
        return said(StatusCode::UNAUTHORIZED, "Not logged in", "Log in first: a login lasts an hour.");
    };
    let Some(handle) = inner.handle() else { return starting(&inner) };
    let Ok(id) = run.parse::<RunId>() else { return unknown(run) };
    // On a task of its own: a browser that goes away must not keep the line out of the audit.
    let doing = tokio::spawn(async move {
        let wish = Wish::of(&known, deed.method(), id.as_str(), peer, &headers)?;
        let outcome = deed.done(&handle, id.clone()).await;
        wish.ended(outcome).map(|()| id)
    });
    let outcome = doing.await.unwrap_or_else(|error| Err(Fault::Internal { reason: format!("steer a run: {error}") }));
    match outcome {
        Ok(id) => to(&format!("/runs/{id}")).into_response(),
        Err(fault) => refused(&fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, value.parse().unwrap());
            }
            cookie(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["a=b; paceline_session=77; c=d"]).as_deref(), Some("77"));
        assert_eq!(read(&["a=b", "paceline_session=77"]).as_deref(), Some("77"));
        for other in ["", "paceline_session", "xpaceline_session=1", "paceline_sessions=1"] {
            assert_eq!(read(&[other]), None, "{other:?}");
        }
        let [(_, cookie)] = set("77", 3600);
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Max-Age=3600"), "{cookie}");
    }
}
