//! Logging in on the pages: who may, from where, and what they may do then.

use paceline_coordinator::Security;
use paceline_proto::access::{AccessToken, Role, Secret};
use paceline_proto::client::{Access, FleetClient, Link, RunClient, TokenSource};
use paceline_proto::model::{NewToken, Revocation, RunId, RunStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, spec};

/// A coordinator that asks for tokens, an operator's token and a run.
pub(crate) struct Guarded {
    pub(crate) cluster: Cluster<Link>,
    pub(crate) operator: String,
    pub(crate) runs: RunClient,
    fleet: FleetClient,
    _folder: tempfile::TempDir,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("operator.token");
        let security = Security { asks: true, operator_token: Some(file.clone()), ..Security::default() };
        let cluster =
            Cluster::guarded(security, |address| Access::default().link(&format!("http://{address}")).unwrap());
        let cluster = cluster.await;
        // It is answered once the store is open, and the token is there before that.
        while crate::admin::ask(&cluster.admin, "GET", "/startupz", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        let operator = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        let access = Access { token: TokenSource::Text(Secret::new(operator.clone())), ..Access::default() };
        let link = access.link(&format!("http://{}", cluster.address)).unwrap();
        let (runs, fleet) = (RunClient::new(link.clone()), FleetClient::new(link));
        Self { cluster, operator, runs, fleet, _folder: folder }
    }

    pub(crate) async fn run(&self) -> RunId {
        self.runs.create(&spec("steered"), &[], "steered", false).await.unwrap().state.run
    }

    async fn token(&self, role: Role) -> AccessToken {
        let token = AccessToken::draw("ann".parse().unwrap()).unwrap();
        let (id, holder, hash) = (token.id(), token.holder().clone(), token.hash());
        self.fleet.create(&NewToken { id, holder, role, hash, lifetime: None }).await.unwrap();
        token
    }

    /// Status, headers and body of a request with these headers, beside `Host`.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.cluster.admin).await.unwrap();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (headers, body) = answer.split_once("\r\n\r\n").expect("headers end");
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, headers.to_owned(), body.to_owned())
    }

    /// What a page of ours sends.
    fn own(&self, cookie: &str) -> String {
        let admin = &self.cluster.admin;
        format!("host: {admin}\r\norigin: http://{admin}\r\ncookie: a=b; {cookie}\r\n")
    }

    /// Logs in and answers the cookie.
    async fn log_in(&self, token: &str) -> String {
        let (status, headers, body) = self.send("POST", "/login", &self.own(""), &format!("token={token}")).await;
        assert_eq!(status, 303, "{body}");
        let cookie = headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Strict; Max-Age=3600"), "{cookie}");
        cookie.split(';').next().expect("a pair").to_owned()
    }

    async fn status(&self, run: &RunId) -> RunStatus {
        self.runs.get(run).await.unwrap().status
    }
}

#[tokio::test]
async fn a_user_pauses_resumes_and_stops_a_run_on_its_page() {
    let guarded = Guarded::start().await;
    let (run, user) = (guarded.run().await, guarded.token(Role::User).await);
    let page = format!("/runs/{run}");
    let (_, _, seen) = guarded.send("GET", &page, &guarded.own(""), "").await;
    assert!(seen.contains("href=\"/login\"") && !seen.contains("/pause"), "{seen}");
    let cookie = guarded.log_in(user.text().expose()).await;
    let own = guarded.own(&cookie);
    let (_, _, seen) = guarded.send("GET", &page, &own, "").await;
    assert!(seen.contains("Logged in as user/ann") && seen.contains(&format!("{page}/pause")), "{seen}");
    for (deed, status) in [("pause", RunStatus::Paused), ("resume", RunStatus::Running), ("stop", RunStatus::Stopped)] {
        let (code, headers, body) = guarded.send("POST", &format!("{page}/{deed}"), &own, "").await;
        assert!(code == 303 && headers.contains(&format!("location: {page}")), "{deed}: {code} {body}");
        assert_eq!(guarded.status(&run).await, status, "{deed}");
    }
    let (code, _, body) = guarded.send("POST", &format!("{page}/pause"), &own, "").await;
    assert!(code == 409 && body.contains("has ended"), "{code} {body}");
    assert_eq!(guarded.send("POST", "/runs/nobody-1234/pause", &own, "").await.0, 404);

    assert_eq!(guarded.send("POST", "/logout", &own, "").await.0, 303);
    assert_eq!(guarded.send("POST", &format!("{page}/pause"), &own, "").await.0, 401, "logged out");
}

#[tokio::test]
async fn what_no_page_of_ours_sent_changes_nothing() {
    let guarded = Guarded::start().await;
    let run = guarded.run().await;
    let cookie = guarded.log_in(&guarded.operator).await;
    let (pause, admin) = (format!("/runs/{run}/pause"), &guarded.cluster.admin);
    let port = admin.rsplit_once(':').unwrap().1;
    let with = |host: &str, origin: &str| format!("host: {host}\r\n{origin}cookie: {cookie}\r\n");
    for (headers, expected, what) in [
        (with(admin, ""), 403, "no origin"),
        (with(admin, "origin: null\r\n"), 403, "a sandboxed page"),
        (with(admin, "origin: http://evil.example\r\n"), 403, "another site"),
        (with(admin, "origin: http://127.0.0.1:1\r\n"), 403, "another port of this machine"),
        (
            with(&format!("evil.example:{port}"), &format!("origin: http://evil.example:{port}\r\n")),
            404,
            "a name that points here",
        ),
        (guarded.own(""), 401, "nobody"),
        (guarded.own("paceline_session=0000"), 401, "a made-up session"),
    ] {
        assert_eq!(guarded.send("POST", &pause, &headers, "").await.0, expected, "{what}");
        let login = guarded.send("POST", "/login", &headers, "token=x").await.0;
        assert_eq!(login, if expected == 401 { 401 } else { expected }, "{what}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(guarded.send(method, &pause, &guarded.own(&cookie), "").await.0, 405, "{method}");
    }
    assert_eq!(guarded.status(&run).await, RunStatus::Running);
    assert_eq!(guarded.send("POST", &pause, &guarded.own(&cookie), "").await.0, 303, "the session itself is good");
}

#[tokio::test]
async fn a_worker_has_nothing_to_log_in_for_and_a_revoked_token_ends_its_session() {
    let guarded = Guarded::start().await;
    let run = guarded.run().await;
    let worker = guarded.token(Role::Worker).await;
    let form = format!("token={}", worker.text().expose());
    let (status, headers, body) = guarded.send("POST", "/login", &guarded.own(""), &form).await;
    assert!(status == 403 && !headers.contains("set-cookie"), "{status} {headers}");
    assert!(!body.contains(worker.text().expose()), "a token must not come back");
    let user = guarded.token(Role::User).await;
    let own = guarded.own(&guarded.log_in(user.text().expose()).await);
    guarded.fleet.revoke(&Revocation::Token(user.id())).await.unwrap();
    assert_eq!(guarded.send("POST", &format!("/runs/{run}/pause"), &own, "").await.0, 401);
    let (status, _, body) =
        guarded.send("POST", "/login", &guarded.own(""), &format!("token={}", user.text().expose())).await;
    assert!(status == 401 && body.contains("role=\"alert\""), "{body}");
    for _ in 0..10 {
        guarded.send("POST", "/login", &guarded.own(""), "token=guess").await;
    }
    assert_eq!(guarded.send("POST", "/login", &guarded.own(""), "token=guess").await.0, 429, "too many tries");
}

#[tokio::test]
async fn where_nobody_is_asked_nobody_logs_in() {
    let cluster = Cluster::start().await;
    let run = cluster.create("here").await;
    assert_eq!(crate::admin::ask(&cluster.admin, "GET", "/login", "").await.0, 404);
    let page = crate::admin::get(&cluster.admin, &format!("/runs/{run}")).await;
    assert!(!page.contains("/login") && page.contains("This page only shows"), "{page}");
    assert_eq!(crate::admin::ask(&cluster.admin, "POST", &format!("/runs/{run}/stop"), "").await.0, 404);
    assert_eq!(cluster.runs.get(&run).await.unwrap().status, RunStatus::Running);
}

#[tokio::test]
async fn refused_callers_are_named_on_the_first_page_with_the_cure() {
    let guarded = Guarded::start().await;
    let page = || crate::admin::get(&guarded.cluster.admin, "/");
    assert!(page().await.contains("None since this start."));
    let link = Access::default().link(&format!("http://{}", guarded.cluster.address)).unwrap();
    for _ in 0..2 {
        RunClient::new(link.clone()).list().await.unwrap_err();
    }
    let found = page().await;
    for told in ["<code>CREDENTIAL_MISSING</code>", "paceline.v1.RunService/ListRuns", "--token-file FILE"] {
        assert!(found.contains(told), "{told} is not on the page");
    }
}
