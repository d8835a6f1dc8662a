//! Everything a stranger can do wrong, against the real program over TLS: the right code and reason, no change, no panic, at
//! most one line a second in its log, and no secret in it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use paceline_proto::access::{AccessToken, Role};
use paceline_proto::client::{Access, FleetClient, Link, RunClient, TokenSource};
use paceline_proto::fault;
use paceline_proto::model::{NewToken, Revocation};
use paceline_proto::pb;
use paceline_proto::tls::Trust;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::authority::{Authority, Kind};
use crate::cluster::spec;
use crate::raw::{self, Raw};

/// Longest that the coordinator may take to cut a connection that says nothing; generous, for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, its log, and an operator at it.
pub(crate) struct Target {
    child: Child,
    log: std::thread::JoinHandle<String>,
    port: u16,
    trust: Trust,
    begun: Instant,
    pub(crate) operator: AccessToken,
    folder: tempfile::TempDir,
}

impl Target {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let server = ours.sign(1, Kind::Server, &["localhost"]);
        let data = folder.path().join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_paceline-coordinator"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PACELINE_")) {
            command.env_remove(name);
        }
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        command.args(["--listen", "127.0.0.1:0", "--cert", &text(&server.certificate), "--key", &text(&server.key)]);
        command.args(["--data", &text(&data)]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').expect("an address").1.parse().unwrap();
        let operator = TokenSource::File(data.join("operator.token")).read().unwrap().unwrap();
        let trust = Trust { ca: Some(ours.file()), ..Trust::default() };
        Self { child, log, port, trust, begun: Instant::now(), operator, folder }
    }

    pub(crate) fn link(&self, token: Option<&AccessToken>) -> Link {
        let token = token.map_or(TokenSource::None, |token| TokenSource::Text(token.text().clone()));
        Access { trust: self.trust.clone(), token }.link(&format!("https://localhost:{}", self.port)).unwrap()
    }

    async fn token(&self, role: Role, holder: &str, lifetime: Option<Duration>) -> AccessToken {
        let token = AccessToken::draw(holder.parse().unwrap()).unwrap();
        let new = NewToken { id: token.id(), holder: token.holder().clone(), role, hash: token.hash(), lifetime };
        FleetClient::new(self.link(Some(&self.operator))).create(&new).await.unwrap();
        token
    }

    /// A TLS stream that speaks no HTTP yet.
    pub(crate) async fn stream(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        raw::stream(&self.trust, self.port).await.unwrap()
    }

    /// Stops it; answers its log and how long it lived.
    pub(crate) async fn stop(mut self) -> (String, Duration) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || (self.child.wait().unwrap().code(), self.log.join().unwrap()));
        let (code, log) = ended.await.unwrap();
        assert_eq!(code, Some(0), "{log}");
        (log, self.begun.elapsed())
    }
}

/// A message as it travels.
fn frame(message: &[u8]) -> Bytes {
    framed(0, u32::try_from(message.len()).unwrap(), message)
}

/// A message behind any head.
fn framed(compressed: u8, length: u32, message: &[u8]) -> Bytes {
    [&[compressed][..], &length.to_be_bytes(), message].concat().into()
}

const GET: &str = "/paceline.v1.RunService/GetRun";
const LIST: &str = "/paceline.v1.RunService/ListRuns";
const CREATE: &str = "/paceline.v1.RunService/CreateRun";
const BEAT: &str = "/paceline.v1.WorkerService/Heartbeat";
const LEASE: &str = "/paceline.v1.WorkerService/LeaseWork";
const SUBMIT: &str = "/paceline.v1.WorkerService/SubmitResult";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_by_name_and_change_nothing() {
    let target = Target::start().await;
    let user = target.token(Role::User, "ann", None).await;
    let worker = target.token(Role::Worker, "gpu-7", None).await;
    let brief = target.token(Role::User, "brief", Some(Duration::from_secs(1))).await;
    let revoked = target.token(Role::User, "gone", None).await;
    FleetClient::new(target.link(Some(&target.operator))).revoke(&Revocation::Token(revoked.id())).await.unwrap();
    let runs = RunClient::new(target.link(Some(&user)));
    let before = runs.create(&spec("untouched"), &[], "r1", false).await.unwrap().state;
    let tokens_before = FleetClient::new(target.link(Some(&target.operator))).list().await.unwrap().len();
    while RunClient::new(target.link(Some(&brief))).list().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let secret = user.text().expose().rsplit_once('.').unwrap().1;
    let (text, head) = (user.text().expose(), user.text().expose().rsplit_once('.').unwrap().0);
    let bearer = |token: &str| format!("Bearer {token}").into_bytes();
    let (good, works) = (bearer(text), bearer(worker.text().expose()));
    let forged = bearer(&format!("{head}.{}", "0".repeat(64)));
    let (long, cut) = (bearer(&"x".repeat(10_000)), bearer(&text[..60]));
    let (old, dead) = (bearer(brief.text().expose()), bearer(revoked.text().expose()));
    let basic = format!("Basic {text}").into_bytes();
    let crab = "Bearer \u{1f980}".as_bytes();
    let vast = vec![b'a'; 64 << 10];

    let none = frame(&[]);
    let named = |run: &str| frame(&pb::GetRunRequest { run: run.into() }.encode_to_vec());
    let limit = 64 << 10;
    let of_size = |size: usize| framed(0, u32::try_from(size).unwrap(), &long_name(size));
    let many_leases = pb::HeartbeatRequest {
        worker: "gpu-7".into(),
        leases: vec![pb::LeaseKey::default(); 1_000_000],
        ..Default::default()
    };
    let foreign = frame(&pb::HeartbeatRequest { worker: "gpu-8".into(), ..Default::default() }.encode_to_vec());
    let page =
        |size, token: &str| frame(&pb::ListRunsRequest { page_size: size, page_token: token.into() }.encode_to_vec());
    // A page size of -1 as a varint of ten bytes, which protobuf cuts to 32 bits.
    let minus_one = frame(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let create = |change: fn(&mut pb::RunSpec)| {
        let mut new: pb::CreateRunRequest = pb::CreateRunRequest {
            spec: Some(pb::RunSpec::from(spec("bad"))),
            request_id: "r2".into(),
            ..Default::default()
        };
        change(new.spec.as_mut().unwrap());
        frame(&new.encode_to_vec())
    };
    // The id of the run that is there, with another seed.
    let another = pb::CreateRunRequest {
        spec: Some(pb::RunSpec { seed: 8, ..pb::RunSpec::from(spec("untouched")) }),
        request_id: "r1".into(),
        ..Default::default()
    };
    let reused = frame(&another.encode_to_vec());
    let tokens_page = next_page_of_tokens(&target).await;

    type Row<'a> = (&'a str, &'a str, Vec<(&'a str, &'a [u8])>, Bytes, Code, &'a str);
    let table: Vec<Row<'_>> = vec![
        // Credentials.
        ("no token", LIST, vec![], none.clone(), Code::Unauthenticated, "CREDENTIAL_MISSING"),
        (
            "an empty header",
            LIST,
            vec![("authorization", b"")],
            none.clone(),
            Code::Unauthenticated,
            "CREDENTIAL_INVALID",
        ),
        (
            "another scheme",
            LIST,
            vec![("authorization", &basic)],
            none.clone(),
            Code::Unauthenticated,
            "CREDENTIAL_INVALID",
        ),
        (
            "a wrong secret",
            LIST,
            vec![("authorization", &forged)],
            none.clone(),
            Code::Unauthenticated,
            "CREDENTIAL_INVALID",
        ),
        ("10 kB", LIST, vec![("authorization", &long)], none.clone(), Code::Unauthenticated, "CREDENTIAL_INVALID"),
        (
            "half a token",
            LIST,
            vec![("authorization", &cut)],
            none.clone(),
            Code::Unauthenticated,
            "CREDENTIAL_INVALID",
        ),
        ("an emoji", LIST, vec![("authorization", crab)], none.clone(), Code::Unauthenticated, "CREDENTIAL_INVALID"),
        (
            "two tokens",
            LIST,
            vec![("authorization", &good), ("authorization", &good)],
            none.clone(),
            Code::Unauthenticated,
            "CREDENTIAL_INVALID",
        ),
        ("expired", LIST, vec![("authorization", &old)], none.clone(), Code::Unauthenticated, "CREDENTIAL_EXPIRED"),
        ("revoked", LIST, vec![("authorization", &dead)], none.clone(), Code::Unauthenticated, "CREDENTIAL_REVOKED"),
        ("wrong role", LIST, vec![("authorization", &works)], none.clone(), Code::PermissionDenied, "ROLE_MISSING"),
        ("a user at work", BEAT, vec![("authorization", &good)], none.clone(), Code::PermissionDenied, "ROLE_MISSING"),
        ("another's id", BEAT, vec![("authorization", &works)], foreign, Code::PermissionDenied, "WORKER_FOREIGN"),
        // Methods and encodings.
        (
            "no such method",
            "/paceline.v1.RunService/Rm",
            vec![("authorization", &good)],
            none.clone(),
            Code::Unimplemented,
            "",
        ),
        ("no such method, no token", "/x/y", vec![], none.clone(), Code::Unauthenticated, "CREDENTIAL_MISSING"),
        (
            "gzip",
            LIST,
            vec![("authorization", &good), ("grpc-encoding", b"gzip")],
            framed(1, 3, b"\x1f\x8b\x08"),
            Code::Unimplemented,
            "",
        ),
        // Messages.
        ("an empty body", GET, vec![("authorization", &good)], Bytes::new(), Code::InvalidArgument, "FIELD_INVALID"),
        ("no fields", GET, vec![("authorization", &good)], none.clone(), Code::InvalidArgument, "FIELD_INVALID"),
        (
            "a cut message",
            GET,
            vec![("authorization", &good)],
            framed(0, 10, b"abc"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "4 GiB announced",
            GET,
            vec![("authorization", &good)],
            framed(0, u32::MAX, b"abc"),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        ("the limit", GET, vec![("authorization", &good)], of_size(limit), Code::InvalidArgument, "FIELD_INVALID"),
        (
            "one byte more",
            GET,
            vec![("authorization", &good)],
            of_size(limit + 1),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        ("no protobuf", GET, vec![("authorization", &good)], frame(&[0xff; 9]), Code::InvalidArgument, "FIELD_INVALID"),
        (
            "nested 101 deep",
            GET,
            vec![("authorization", &good)],
            frame(&nested(101)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "another wire type",
            GET,
            vec![("authorization", &good)],
            frame(b"\x08\x01"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "compressed, which nothing said",
            GET,
            vec![("authorization", &good)],
            framed(1, 3, b"abc"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "two messages",
            GET,
            vec![("authorization", &good)],
            [named("a"), named("b")].concat().into(),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "no UTF-8",
            GET,
            vec![("authorization", &good)],
            frame(b"\x0a\x02\xff\xfe"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        ("..", GET, vec![("authorization", &good)], named("../../etc/passwd"), Code::InvalidArgument, "FIELD_INVALID"),
        ("a NUL", GET, vec![("authorization", &good)], named("a\0b"), Code::InvalidArgument, "FIELD_INVALID"),
        (
            "an emoji name",
            GET,
            vec![("authorization", &good)],
            named("\u{1f980}"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "10 kB of name",
            GET,
            vec![("authorization", &good)],
            named(&"a".repeat(10_000)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        ("no such run", GET, vec![("authorization", &good)], named("gone-00000000"), Code::NotFound, "RUN_NOT_FOUND"),
        (
            "10^6 leases",
            BEAT,
            vec![("authorization", &works)],
            frame(&many_leases.encode_to_vec()),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        // Nothing in them, and a hundred bytes of memory for each.
        (
            "17 MiB of empty holdings",
            SUBMIT,
            vec![("authorization", &works)],
            frame(&[0x52, 0].repeat((17 << 20) / 2)),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        (
            "2 MiB of empty holdings",
            LEASE,
            vec![("authorization", &works)],
            frame(&[0x1a, 0].repeat((2 << 20) / 2)),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        (
            "1 MiB of empty costs",
            CREATE,
            vec![("authorization", &good)],
            frame(&[0x2a, 0].repeat((1 << 20) / 2)),
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
        ),
        ("page size 10^9", LIST, vec![("authorization", &good)], page(1_000_000_000, ""), Code::Ok, ""),
        ("page size -1", LIST, vec![("authorization", &good)], minus_one, Code::Ok, ""),
        (
            "a forged page",
            LIST,
            vec![("authorization", &good)],
            page(1, "deadbeef"),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "a page of another list",
            LIST,
            vec![("authorization", &good)],
            page(1, &tokens_page),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "an id used for another run",
            CREATE,
            vec![("authorization", &good)],
            reused,
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
        ),
        // Numbers.
        (
            "NaN",
            CREATE,
            vec![("authorization", &good)],
            create(|spec| sigma(spec, f64::NAN)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "infinite",
            CREATE,
            vec![("authorization", &good)],
            create(|spec| sigma(spec, f64::INFINITY)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "negative",
            CREATE,
            vec![("authorization", &good)],
            create(|spec| sigma(spec, -1.0)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "zero",
            CREATE,
            vec![("authorization", &good)],
            create(|spec| sigma(spec, 0.0)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "an unknown enum",
            CREATE,
            vec![("authorization", &good)],
            create(|spec| report(spec, 99)),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        // Time.
        ("a year", LIST, vec![("authorization", &good), ("grpc-timeout", b"31536000S")], none.clone(), Code::Ok, ""),
        (
            "a time that is none",
            LIST,
            vec![("authorization", &good), ("grpc-timeout", b"soon")],
            none.clone(),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "a time in the past",
            LIST,
            vec![("authorization", &good), ("grpc-timeout", b"-1S")],
            none.clone(),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        // It would create a run, had it time.
        (
            "no time",
            CREATE,
            vec![("authorization", &good), ("grpc-timeout", b"0n")],
            create(|_| ()),
            Code::DeadlineExceeded,
            "",
        ),
    ];
    let raw = Raw::new(&target.trust, target.port);
    let mut wrong = String::new();
    for (what, path, headers, body, code, reason) in table {
        match raw.call(path, &headers, body).await {
            Ok((200, status)) => {
                let got = fault::reason(&status).unwrap_or_default();
                if (status.code(), got.as_str()) != (code, reason) {
                    let _ = writeln!(wrong, "{what}: wanted {code:?} {reason}, got {}", fault::describe(&status));
                }
                assert!(!status.message().contains(secret), "{what}: {status:?}");
            }
            other => {
                let _ = writeln!(wrong, "{what}: {other:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");

    // 64 kB of metadata: refused before anything is looked at.
    let headers = [("authorization", &good[..]), ("x-vast", &vast[..])];
    match raw.call(LIST, &headers, none.clone()).await {
        Ok((http, _)) => assert_eq!(http, 431),
        Err(broken) => assert!(!broken.is_empty()),
    }

    what_is_no_grpc_is_told_by_http(&raw, &good).await;
    a_body_byte_by_byte_ends_with_its_deadline(&raw, &good).await;
    silence_is_cut(&target).await;
    resets_hurt_nobody(&target, &user).await;

    let after = runs.get(&before.run).await.unwrap();
    assert_eq!((after.ledger, after.theta_hash, after.status), (before.ledger, before.theta_hash, before.status));
    assert_eq!(runs.list().await.unwrap().len(), 1);
    let tokens = FleetClient::new(target.link(Some(&target.operator))).list().await.unwrap().len();
    assert_eq!(tokens, tokens_before);

    let all = [&user, &worker, &brief, &revoked, &target.operator].map(|token| token.text().expose().to_owned());
    let journal = walk(&target.folder.path().join("data"));
    let (log, lived) = target.stop().await;
    assert!(!log.contains("panicked"), "{log}");
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count() as u64;
    for kind in ["call refused", "TLS handshake failed"] {
        assert!(count(kind) >= 1 && count(kind) <= lived.as_secs() + 2, "{kind}: {} lines in {lived:?}", count(kind));
    }
    let audited = ["CreateRun", "CreateToken", "RevokeTokens"];
    assert!(audited.iter().all(|method| log.contains(method)), "{log}");
    for text in all {
        let secret = text.rsplit_once('.').unwrap().1;
        assert!(!log.contains(secret), "a secret stands in the log");
        for (path, bytes) in journal.iter().filter(|(path, _)| !path.ends_with("operator.token")) {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret stands in {path}");
        }
    }
}

/// The token of the second page of tokens, which is of no use in any other list.
async fn next_page_of_tokens(target: &Target) -> String {
    let mut fleet = pb::fleet_service_client::FleetServiceClient::new(target.link(Some(&target.operator)));
    let request = pb::ListTokensRequest { page_size: 1, ..Default::default() };
    let token = fleet.list_tokens(request).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    token
}

/// A browser, or a client of something else.
async fn what_is_no_grpc_is_told_by_http(raw: &Raw, good: &[u8]) {
    let empty = || Body::new(http_body_util::Full::new(frame(&[])));
    for (method, kind, status, field) in [
        ("POST", "text/html", 415, "content-type"),
        ("POST", "application/json", 415, "content-type"),
        ("POST", "application/grpc-web+proto", 415, "content-type"),
        ("POST", "", 415, "content-type"),
        ("GET", "application/grpc", 405, "method"),
    ] {
        let headers = [("authorization", good), ("content-type", kind.as_bytes())];
        let (http, refusal) = raw.send(method, LIST, &headers, empty()).await.unwrap();
        assert_eq!((http, refusal.code()), (status, Code::InvalidArgument), "{method} {kind}: {refusal:?}");
        assert!(refusal.message().contains(field) && refusal.message().contains("gRPC"), "{refusal:?}");
    }
}

/// A message that never gets whole.
async fn a_body_byte_by_byte_ends_with_its_deadline(raw: &Raw, good: &[u8]) {
    let bytes = tokio_stream::iter(frame(&[7; 1000]));
    let slowly =
        bytes.throttle(Duration::from_millis(50)).map(|byte| Ok::<_, Status>(Frame::data(Bytes::from(vec![byte]))));
    let headers = [("authorization", good), ("grpc-timeout", b"400m")];
    let (http, refusal) = raw.send("POST", GET, &headers, Body::new(StreamBody::new(slowly))).await.unwrap();
    assert_eq!((http, refusal.code()), (200, Code::DeadlineExceeded), "{refusal:?}");
    assert!(refusal.message().contains("400ms"), "{refusal:?}");
}

/// Sockets that say nothing, or little, are cut.
async fn silence_is_cut(target: &Target) {
    let silent = async {
        let mut socket = TcpStream::connect(("127.0.0.1", target.port)).await.unwrap();
        let _ = socket.read(&mut [0; 1]).await;
    };
    let speechless = async {
        let mut stream = target.stream().await;
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    };
    // A preface, then a byte of a head now and then.
    let slow = async {
        let mut stream = target.stream().await;
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        loop {
            let write = stream.write_all(&[0]).await;
            let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 256])).await;
            if write.is_err() || matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    let old = async {
        let mut stream = target.stream().await;
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 505 ") && said.contains("--admin-address"), "{said}");
    };
    let plain = async {
        let mut socket = TcpStream::connect(("127.0.0.1", target.port)).await.unwrap();
        let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let all = async { tokio::join!(silent, speechless, slow, old, plain) };
    tokio::time::timeout(PATIENCE, all).await.expect("whoever says nothing is cut off");
}

/// Calls begun and given up by the thousand.
async fn resets_hurt_nobody(target: &Target, user: &AccessToken) {
    let link = target.link(Some(user));
    let runs = RunClient::new(link.clone());
    runs.list().await.unwrap();
    for _ in 0..3000 {
        let runs = runs.clone();
        let call = tokio::spawn(async move { runs.list().await });
        tokio::task::yield_now().await;
        call.abort();
    }
    // The flood may have cost the flooder's connection, and nobody else's.
    assert_eq!(RunClient::new(target.link(Some(user))).list().await.unwrap().len(), 1);
}

fn long_name(size: usize) -> Vec<u8> {
    let mut message = pb::GetRunRequest { run: "a".repeat(size) }.encode_to_vec();
    while message.len() > size {
        let over = message.len() - size;
        message = pb::GetRunRequest { run: "a".repeat(size - over) }.encode_to_vec();
    }
    message
}

/// An unknown group within a group, and so on.
fn nested(depth: usize) -> Vec<u8> {
    // Field 15, wire types 3 (begin) and 4 (end).
    [vec![0x7b; depth], vec![0x7c; depth]].concat()
}

fn sigma(spec: &mut pb::RunSpec, sigma: f64) {
    spec.estimator.as_mut().unwrap().sigma = sigma;
}

fn report(spec: &mut pb::RunSpec, report: i32) {
    spec.outer.as_mut().unwrap().report = report;
}

/// All files beneath a folder, and what they hold.
fn walk(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}
