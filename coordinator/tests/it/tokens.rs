//! Tokens over the wire: who may do what, and for how long.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use paceline_coordinator::Security;
use paceline_proto::access::{AccessToken, Role, Secret};
use paceline_proto::client::{Access, CallResult, FleetClient, Link, RunClient, TokenSource, WorkerClient};
use paceline_proto::model::{Directive, NewToken, Revocation, Verdict};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::authority::{Authority, Kind, Pair};
use crate::certificates::{access, fresh, security};
use crate::cluster::{Cluster, refused, registration, result};

/// Longest that a change may take to show; generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator that asks for tokens, and an operator at it.
struct Guarded {
    ours: Authority,
    cluster: Cluster<Link>,
    fleet: FleetClient,
    _folder: tempfile::TempDir,
}

impl Guarded {
    async fn start(strict: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(folder.path(), "ours");
        let file = folder.path().join("operator.token");
        let server = ours.sign(1, Kind::Server, &["localhost"]);
        let mut security = Security { asks: true, operator_token: Some(file.clone()), ..security(&server) };
        let own = strict.then(|| ours.sign(2, Kind::Client, &["nobody.in.particular"]));
        if strict {
            security.tls.as_mut().unwrap().client_ca = Some(ours.file());
        }
        let tls = access(&ours, own.as_ref());
        let cluster =
            Cluster::guarded(security, |address| tls.link(&format!("https://localhost:{}", address.port())).unwrap())
                .await;
        let operator = wait_for(&file).await;
        let link = fresh(&cluster, "localhost", &with(&tls, &operator));
        Self { ours, cluster, fleet: FleetClient::new(link), _folder: folder }
    }

    /// A token for this role, made known.
    async fn token(&self, role: Role, holder: &str, lifetime: Option<Duration>) -> AccessToken {
        let token = AccessToken::draw(holder.parse().unwrap()).unwrap();
        let new = NewToken { id: token.id(), holder: token.holder().clone(), role, hash: token.hash(), lifetime };
        assert_eq!(self.fleet.create(&new).await.unwrap().id, token.id());
        token
    }

    fn link(&self, token: &AccessToken) -> Link {
        fresh(&self.cluster, "localhost", &with(&access(&self.ours, None), token))
    }

    fn shown(&self, pair: &Pair, token: Option<&AccessToken>) -> Link {
        let access = access(&self.ours, Some(pair));
        fresh(&self.cluster, "localhost", &token.map_or_else(|| access.clone(), |token| with(&access, token)))
    }
}

fn with(access: &Access, token: &AccessToken) -> Access {
    Access { token: TokenSource::Text(Secret::new(token.text().expose())), ..access.clone() }
}

/// The operator's token, once the coordinator has written it.
async fn wait_for(file: &Path) -> AccessToken {
    let written = async {
        loop {
            match TokenSource::File(file.to_owned()).read() {
                Ok(Some(token)) => return token,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("an operator's token is written")
}

/// Repeats a call until it is refused.
async fn until_refused<T, F: Future<Output = CallResult<T>>>(call: impl Fn() -> F) -> Status {
    let refusal = async {
        loop {
            match call().await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, refusal).await.expect("it is refused in the end")
}

#[tokio::test]
async fn a_token_opens_until_it_is_revoked_and_a_stream_ends_with_it() {
    let guarded = Guarded::start(false).await;
    let user = guarded.token(Role::User, "ann", None).await;
    let runs = RunClient::new(guarded.link(&user));
    let created = runs.create(&crate::cluster::spec("hers"), &[], "r1", false).await.unwrap();
    let mut states = runs.watch(&created.state.run).await.unwrap();
    states.next().await.unwrap().unwrap();
    let listed = guarded.fleet.list().await.unwrap();
    let hers = listed.iter().find(|info| info.id == user.id()).expect("it is listed");
    assert!(listed.len() == 2 && hers.holder.as_str() == "ann" && hers.last_used.is_some(), "{listed:?}");

    let revoked = guarded.fleet.revoke(&Revocation::Token(user.id())).await.unwrap();
    assert!(revoked[0].revoked.is_some());
    refused(runs.list().await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    let ended = async {
        loop {
            if let Err(status) = states.next().await.expect("a refusal comes before the end") {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.expect("the stream ends");
    refused(Err::<(), _>(status), Code::Unauthenticated, "CREDENTIAL_REVOKED");
    refused(
        guarded.fleet.revoke(&Revocation::Token("00000000".parse().unwrap())).await,
        Code::NotFound,
        "TOKEN_NOT_FOUND",
    );
}

#[tokio::test]
async fn time_ends_a_token_without_a_restart() {
    let guarded = Guarded::start(false).await;
    let brief = guarded.token(Role::User, "ann", Some(Duration::from_secs(2))).await;
    let runs = RunClient::new(guarded.link(&brief));
    let status = until_refused(|| runs.list()).await;
    refused(Err::<(), _>(status), Code::Unauthenticated, "CREDENTIAL_EXPIRED");
}

#[tokio::test]
async fn a_lease_is_its_holders_alone() {
    let guarded = Guarded::start(false).await;
    let user = guarded.token(Role::User, "ann", None).await;
    let runs = RunClient::new(guarded.link(&user));
    let run = runs.create(&crate::cluster::spec("shared"), &[], "r1", false).await.unwrap().state.run;
    let mut workers = Vec::new();
    for holder in ["gpu-1", "gpu-2"] {
        let token = guarded.token(Role::Worker, holder, None).await;
        let client = WorkerClient::new(guarded.link(&token));
        let id = format!("{holder}.rack");
        client.register(registration(&id)).await.unwrap();
        workers.push((client, id.parse().unwrap()));
    }
    let [(first, mine), (second, theirs)] = &workers[..] else { unreachable!() };
    let lease = first.lease(mine, Duration::from_secs(20), Vec::new()).await.unwrap().unwrap();

    // The thief knows the lease's token, and says it is itself, or the holder.
    let foreign = |outcome| refused::<()>(outcome, Code::PermissionDenied, "WORKER_FOREIGN");
    let stolen = result(mine, &lease);
    foreign(second.submit(&stolen).await.map(drop));
    foreign(second.lease(mine, Duration::ZERO, Vec::new()).await.map(drop));
    foreign(second.heartbeat(mine, std::slice::from_ref(&lease.key), 0, 0).await.map(drop));
    foreign(second.release(mine, std::slice::from_ref(&lease.key)).await.map(drop));
    foreign(second.register(registration(mine.as_str())).await.map(drop));
    let as_themselves = result(theirs, &lease);
    refused(second.submit(&as_themselves).await, Code::PermissionDenied, "LEASE_TOKEN_FOREIGN");
    let beat = second.heartbeat(theirs, std::slice::from_ref(&lease.key), 0, 0).await.unwrap();
    assert_eq!(beat.directives, [Directive::Cancel]);
    assert_eq!(second.release(theirs, std::slice::from_ref(&lease.key)).await.unwrap(), 0);

    let ledger = runs.get(&run).await.unwrap().ledger;
    assert_eq!((ledger.outstanding, ledger.accepted, ledger.released), (1, 0, 0), "{ledger:?}");
    assert_eq!(first.submit(&stolen).await.unwrap().verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_certificate_that_names_its_holder_needs_no_token() {
    let guarded = Guarded::start(true).await;
    let named = guarded.ours.sign(3, Kind::Client, &["paceline:worker/gpu-7"]);
    let worker = WorkerClient::new(guarded.shown(&named, None));
    worker.register(registration("gpu-7.rack")).await.unwrap();
    let other = worker.register(registration("gpu-8")).await;
    refused(other, Code::PermissionDenied, "WORKER_FOREIGN");
    let runs = RunClient::new(guarded.shown(&named, None));
    refused(runs.list().await, Code::PermissionDenied, "ROLE_MISSING");

    // A token on top must be of the same holder and role.
    for (role, holder, reason) in
        [(Role::Worker, "gpu-8", "CREDENTIAL_MISMATCH"), (Role::Operator, "gpu-7", "CREDENTIAL_MISMATCH")]
    {
        let token = guarded.token(role, holder, None).await;
        let runs = RunClient::new(guarded.shown(&named, Some(&token)));
        refused(runs.list().await, Code::Unauthenticated, reason);
    }
    let unnamed = guarded.ours.sign(4, Kind::Client, &["somebody"]);
    refused(RunClient::new(guarded.shown(&unnamed, None)).list().await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    let misnamed = guarded.ours.sign(5, Kind::Client, &["paceline:root/all"]);
    refused(RunClient::new(guarded.shown(&misnamed, None)).list().await, Code::Unauthenticated, "CREDENTIAL_INVALID");
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Every method that is served, from the descriptors.
fn methods() -> BTreeSet<String> {
    let sets = [
        paceline_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = BTreeSet::new();
    for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
        for service in &file.service {
            let names = service.method.iter().map(|method| method.name());
            methods.extend(names.map(|method| format!("{}.{}/{method}", file.package(), service.name())));
        }
    }
    methods
}

/// Whether a method lets a caller in, whatever it says of an empty message.
async fn lets_in(link: &Link, method: &str) -> bool {
    let mut client = tonic::client::Grpc::new(link.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = format!("/{method}").parse().unwrap();
    let request = Request::new(tokio_stream::iter([Bytes::new()]));
    match client.streaming(request, path, Raw).await {
        Ok(_) => true,
        Err(status) => match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => false,
            Code::Unimplemented | Code::Internal | Code::Unknown | Code::Unavailable => panic!("{method}: {status:?}"),
            _ => true,
        },
    }
}

#[tokio::test]
async fn every_method_asks_every_caller() {
    let guarded = Guarded::start(false).await;
    let mut callers = vec![(None, fresh(&guarded.cluster, "localhost", &access(&guarded.ours, None)))];
    for role in Role::ALL {
        let token = guarded.token(role, role.as_str(), None).await;
        callers.push((Some(role), guarded.link(&token)));
    }
    let methods = methods();
    assert!(methods.len() >= 22, "{methods:?}");
    for method in &methods {
        let service = method.rsplit_once('/').unwrap().0.rsplit_once('.').unwrap().1;
        for (role, link) in &callers {
            let expected = match service {
                "WorkerService" => *role == Some(Role::Worker),
                "RunService" | "CheckpointService" => matches!(role, Some(Role::User | Role::Operator)),
                "FleetService" => *role == Some(Role::Operator),
                "ServerReflection" => role.is_some(),
                "Health" => true,
                other => panic!("{other}: say here who may call it"),
            };
            assert_eq!(lets_in(link, method).await, expected, "{method} by {role:?}");
        }
    }
}
