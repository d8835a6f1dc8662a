//! The routes every program has, and the server under them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::headers::guarded;
use crate::health::Report;

/// Media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Media type of Prometheus' own, older format.
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a program answers for itself. Each answer is quick and waits for nothing.
pub trait Probes: Send + Sync + 'static {
    /// Whether the program should be left alive. Never about load or peers: a busy program is not a dead one.
    fn health(&self) -> Report;
    /// Whether work can be given to it.
    fn readiness(&self) -> Report;
    /// Whether it has finished starting.
    fn startup(&self) -> Report;
    /// What it is.
    fn version(&self) -> Version;
    /// Its metrics, as OpenMetrics or in Prometheus' older format.
    fn metrics(&self, open_metrics: bool) -> String;
}

/// What a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Name of the program.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What else it speaks or writes, by name: protocol, formats.
    pub speaks: Vec<(&'static str, u32)>,
}

/// The routes of `probes`, to be merged with a program's own.
pub fn routes<P: Probes>(probes: Arc<P>) -> Router {
    Router::new()
        .route("/healthz", get(|State(probes): State<Arc<P>>| async move { probe(&probes.health()) }))
        .route("/readyz", get(|State(probes): State<Arc<P>>| async move { probe(&probes.readiness()) }))
        .route("/startupz", get(|State(probes): State<Arc<P>>| async move { probe(&probes.startup()) }))
        .route("/version", get(|State(probes): State<Arc<P>>| async move { version(&probes.version()) }))
        .route("/metrics", get(metrics::<P>))
        .with_state(probes)
}

fn probe(report: &Report) -> Response {
    let status = if report.passes() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json_body(&report.to_json())).into_response()
}

fn version(version: &Version) -> Response {
    let Version { program, version, speaks } = version;
    let mut body = json!({"program": program, "version": version});
    for (name, number) in speaks {
        body[*name] = json!(number);
    }
    json_body(&body).into_response()
}

fn json_body(value: &Value) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n"))
}

async fn metrics<P: Probes>(State(probes): State<Arc<P>>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open = accepted.contains("application/openmetrics-text");
    let media = if open { OPEN_METRICS } else { PLAIN_METRICS };
    // Asking a store for its size reads a folder.
    match tokio::task::spawn_blocking(move || probes.metrics(open)).await {
        Ok(body) => ([(header::CONTENT_TYPE, media)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written: see the log\n").into_response()
        }
    }
}

async fn nowhere() -> Response {
    (StatusCode::NOT_FOUND, "there is no such page: /healthz, /readyz, /startupz, /version and /metrics are\n")
        .into_response()
}

async fn only_reading() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "this page only reads: use GET\n").into_response()
}

/// Serves `router` on a bound listener until `stop` is cancelled, with headers that keep browsers careful. What a router
/// does not know is answered in words.
///
/// # Errors
/// If the listener fails.
pub async fn serve(router: Router, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let router = guard(router).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    // An open connection must not hold up the end of the program.
    tokio::select! {
        served = serving.into_future() => served,
        () = stop.cancelled() => Ok(()),
    }
}

fn guard(router: Router) -> Router {
    router.method_not_allowed_fallback(only_reading).fallback(nowhere).layer(axum::middleware::from_fn(guarded))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Method, Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::health::Check;

    struct Sick;

    impl Probes for Sick {
        fn health(&self) -> Report {
            Report::of([Check::passing("event_loop", Duration::from_millis(20), "ticked")])
        }
        fn readiness(&self) -> Report {
            Report::of([Check::failing("journal", Duration::from_secs(3), "no space left")])
        }
        fn startup(&self) -> Report {
            Report::default()
        }
        fn version(&self) -> Version {
            Version { program: "p", version: "1.2.3", speaks: vec![("protocol", 4)] }
        }
        fn metrics(&self, open_metrics: bool) -> String {
            if open_metrics { "# EOF\n".to_owned() } else { String::new() }
        }
    }

    async fn ask(method: Method, path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        let response = guard(routes(Arc::new(Sick))).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn probes_answer_with_a_status_and_a_reason() {
        assert_eq!(ask(Method::GET, "/healthz", "").await.0, StatusCode::OK);
        assert_eq!(ask(Method::GET, "/startupz", "").await.0, StatusCode::OK);
        let (status, headers, body) = ask(Method::GET, "/readyz", "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["failing"], &body["checks"][0]["age_seconds"]), (&json!("journal"), &json!(3.0)));
        let (_, _, version) = ask(Method::GET, "/version", "").await;
        let version: Value = serde_json::from_str(&version).unwrap();
        assert_eq!(version, json!({"program": "p", "version": "1.2.3", "protocol": 4}));
    }

    #[tokio::test]
    async fn the_format_of_metrics_is_what_the_scraper_accepts() {
        let (_, headers, body) = ask(Method::GET, "/metrics", "application/openmetrics-text;version=1.0.0,*/*").await;
        assert_eq!((headers[header::CONTENT_TYPE].to_str().unwrap(), body.as_str()), (OPEN_METRICS, "# EOF\n"));
        let (_, headers, _) = ask(Method::GET, "/metrics", "*/*").await;
        assert_eq!(headers[header::CONTENT_TYPE], PLAIN_METRICS);
    }

    #[tokio::test]
    async fn nothing_can_be_changed_and_unknown_pages_are_told() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let (status, headers, body) = ask(method, "/metrics", "").await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
            assert!(headers[header::ALLOW].to_str().unwrap().contains("GET") && body.contains("use GET"), "{body}");
        }
        let (status, headers, body) = ask(Method::GET, "/nowhere", "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains("no such page"), "{body}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
