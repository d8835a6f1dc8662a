//! What every call passes before a service sees it.
//!
//! ```text
//!  call ─► gRPC? ─► connection's certificate still good? ─► token good? ─► table: may this role? ─► service ─► audit line
//!            └──────────── no: refused by name, one line a second in the log ──────────┘  (place    └ stream: looked
//!                                                                                           in lane)    at every 10 s
//! ```

mod allowance;
mod audit;
mod bounded;
mod caller;
mod guard;
mod lanes;
mod policy;
mod protocol;
mod wish;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use paceline_proto::access::AccessToken;
use paceline_proto::fault::{Fault, code_name};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use crate::credentials::Credentials;
use crate::entrance::{Peer, Throttle};
use allowance::{Allowance, Share};
use audit::Entry;
use bounded::Bounded;
use guard::Guarded;
use lanes::Lanes;
use policy::{Rule, Who};

pub(crate) use audit::about;
pub(crate) use caller::{Caller, Known};
pub(crate) use lanes::Pace;
pub(crate) use wish::{Wish, may};

/// Longest a call may take until its answer begins: far longer than any takes, long polls of 20 s included. A body that
/// comes byte by byte ends here.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// Passes calls, or refuses them.
#[derive(Debug)]
pub(crate) struct Gate {
    credentials: Arc<Credentials>,
    /// Whether callers must say who they are.
    asks: bool,
    lanes: Lanes,
    allowance: Arc<Allowance>,
    refused: Throttle,
}

/// A call that may pass.
struct Pass {
    rule: &'static Rule,
    caller: Caller,
    peer: Peer,
    token: Option<AccessToken>,
    place: OwnedSemaphorePermit,
    /// How long it may take until its answer begins.
    patience: Duration,
}

/// Why a call may not pass: what the caller is told, and the fault if there is one of a stable reason.
type Refusal = (Status, Option<Fault>);

impl Gate {
    pub(crate) fn new(credentials: Arc<Credentials>, asks: bool) -> Self {
        Self { credentials, asks, lanes: Lanes::default(), allowance: Arc::default(), refused: Throttle::default() }
    }

    /// Decides about a call, and logs a refusal.
    fn admit(&self, request: &http::Request<Body>) -> Result<Pass, Box<http::Response<Body>>> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            let fault = Fault::Internal { reason: "a call came from no connection".to_owned() };
            return Err(Box::new(Status::from(fault).into_http()));
        };
        let path = request.uri().path();
        let foreign = protocol::foreign(request);
        let judged = match foreign.clone() {
            None => self.judge(peer, path, request.headers()),
            Some((_, fault)) => Err(peer.pace().take().map_or_else(told, |()| told(fault))),
        };
        let (status, fault) = match judged {
            Ok(pass) => return Ok(pass),
            Err(refusal) => refusal,
        };
        if let Some(unsaid) = self.refused.pass() {
            let reason = fault.as_ref().map_or(code_name(status.code()), Fault::reason);
            let path: String = path.chars().take(120).collect();
            tracing::warn!(peer = %peer.address(), ?path, reason, unsaid, "call refused: {}", status.message());
        }
        let mut response = Box::new(status.into_http());
        if let Some((status, _)) = foreign {
            *response.status_mut() = status;
        }
        Err(response)
    }

    fn judge(&self, peer: &Peer, path: &str, headers: &http::HeaderMap) -> Result<Pass, Refusal> {
        peer.pace().take().map_err(told)?;
        let rule = policy::rule_of(path);
        let anyone = !self.asks || rule.is_some_and(|rule| rule.who == Who::Anyone);
        let token = if anyone { None } else { shown(headers).map_err(told)? };
        let known = self.who(peer, token.as_ref(), anyone).map_err(told)?;
        if known.is_none() && !anyone {
            return Err(told(Fault::CredentialMissing));
        }
        let Some(rule) = rule else {
            return Err((
                Status::unimplemented("this coordinator has no such method: is it of another version?"),
                None,
            ));
        };
        let caller = match known {
            _ if !self.asks => Caller::Anyone,
            known => {
                policy::allow(rule, known.as_ref()).map_err(told)?;
                known.map_or(Caller::Stranger, Caller::Known)
            }
        };
        let patience = protocol::deadline(headers).map_err(told)?.map_or(LONGEST_CALL, |own| own.min(LONGEST_CALL));
        if patience.is_zero() {
            return Err((late(patience), None));
        }
        let place = self.lanes.enter(rule.lane).map_err(told)?;
        Ok(Pass { rule, caller, peer: peer.clone(), token, place, patience })
    }

    /// Who is at the other end, by what holds now.
    fn who(&self, peer: &Peer, token: Option<&AccessToken>, anyone: bool) -> Result<Option<Known>, Fault> {
        let spoiled = |reason| Fault::CertificateRefused { reason, cure: "show a good one".to_owned() };
        peer.calls().map_err(spoiled)?;
        if anyone {
            return Ok(None);
        }
        let named = peer.certificate().map(caller::named).transpose()?.flatten();
        let token = token.map(|token| self.credentials.check(token)).transpose()?;
        let token = token.map(|record| Known { role: record.role, holder: record.holder, token: Some(record.id) });
        caller::unite(named, token)
    }
}

fn told(fault: Fault) -> Refusal {
    (Status::from(fault.clone()), Some(fault))
}

/// What a call is told that took as long as this.
fn late(patience: Duration) -> Status {
    Status::deadline_exceeded(if patience < LONGEST_CALL {
        format!("not done within the {patience:?} that the caller gave: give more time, or ask for less")
    } else {
        format!("not done within {} s: send the whole message at once", LONGEST_CALL.as_secs())
    })
}

/// The token a call shows, if it shows one.
fn shown(headers: &http::HeaderMap) -> Result<Option<AccessToken>, Fault> {
    let invalid = |reason: &str| Fault::CredentialInvalid { reason: reason.to_owned() };
    let mut all = headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(invalid("the call shows two"));
    }
    let text = first.to_str().map_err(|_| invalid("it is no text"))?;
    let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let Some(token) = scheme.and_then(|_| text.get(7..)) else {
        return Err(invalid("the header authorization must be: Bearer TOKEN"));
    };
    token.trim().parse().map(Some).map_err(|error| invalid(&format!("{error}")))
}

/// A service behind a gate.
#[derive(Clone, Debug)]
pub(crate) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Gated<S> {
    pub(crate) fn new(gate: Arc<Gate>, inner: S) -> Self {
        Self { gate, inner }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Pass { rule, caller, peer, token, place, patience } = match self.gate.admit(&request) {
            Ok(pass) => pass,
            Err(refusal) => return Box::pin(async { Ok(*refusal) }),
        };
        let known = matches!(caller, Caller::Known(_));
        let entry = Entry::new(rule, caller.clone(), peer.clone(), request.headers());
        // What services and logs behind this have no need to see.
        request.headers_mut().remove(http::header::AUTHORIZATION);
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(entry.subject());
        let gate = Arc::clone(&self.gate);
        let share = Share::new(&gate.allowance);
        let request = request.map(|body| Body::new(Bounded::new(body, rule, Arc::clone(&share))));
        // Its time begins now, before that of tonic, which would call a late answer a cancelled call.
        let answering = timeout(patience, self.inner.call(request));
        Box::pin(async move {
            let response = match answering.await {
                Ok(answered) => answered?,
                Err(_) => late(patience).into_http(),
            };
            // The message is gone by now.
            drop(share);
            entry.ended(response.headers());
            let check = move || if known { gate.who(&peer, token.as_ref(), false).map(|_| ()) } else { Ok(()) };
            Ok(response.map(|body| Body::new(Guarded::new(body, place, Box::new(check)))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that never answers.
    #[derive(Clone)]
    struct Stuck;

    impl Service<http::Request<Body>> for Stuck {
        type Response = http::Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_sheds_and_a_stuck_call_ends() {
        let gate = Arc::new(Gate::new(Arc::new(Credentials::open(None).unwrap()), false));
        let call = |method: &str| {
            // Each on a connection of its own, as a fleet's are.
            let request = http::Request::post(format!("/{method}")).header("content-type", "application/grpc");
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(Peer::local());
            Gated::new(Arc::clone(&gate), Stuck).call(request)
        };
        let code = |response: http::Response<Body>| Status::from_header_map(response.headers()).unwrap().code();
        let submit = "paceline.v1.WorkerService/SubmitResult";
        let stuck: Vec<_> = (0..256).map(|_| call(submit)).collect();
        assert_eq!(code(call(submit).await.unwrap()), tonic::Code::ResourceExhausted);
        let begun = tokio::time::Instant::now();
        let beat = call("paceline.v1.WorkerService/Heartbeat").await.unwrap();
        assert_eq!(code(beat), tonic::Code::DeadlineExceeded, "heartbeats have places of their own");
        assert!(begun.elapsed() >= LONGEST_CALL, "{:?}", begun.elapsed());
        for ended in stuck {
            assert_eq!(code(ended.await.unwrap()), tonic::Code::DeadlineExceeded);
        }
        assert_eq!(code(call(submit).await.unwrap()), tonic::Code::DeadlineExceeded, "places are free again");
    }

    #[test]
    fn tokens_in_headers_are_read_strictly() {
        let token = AccessToken::draw("w".parse().unwrap()).unwrap();
        let text = token.text().expose();
        let read = |values: &[&[u8]]| {
            let mut headers = http::HeaderMap::new();
            for value in values {
                headers.append("authorization", http::HeaderValue::from_bytes(value).unwrap());
            }
            shown(&headers)
        };
        assert_eq!(read(&[]), Ok(None));
        for good in [format!("Bearer {text}"), format!("bearer {text}"), format!("BEARER  {text} ")] {
            assert_eq!(read(&[good.as_bytes()]).unwrap().as_ref(), Some(&token), "{good}");
        }
        let (good, basic, cut) = (format!("Bearer {text}"), format!("Basic {text}"), format!("Bearer {}", &text[..50]));
        for wrong in [
            &[text.as_bytes()][..],
            &[good.as_bytes(), good.as_bytes()],
            &[basic.as_bytes()],
            &[cut.as_bytes()],
            &[b"Bearer "],
            &[b"Bearer"],
            &[b""],
            &[b"Bearer \xff\xfe"],
            &["Bearer \u{e9}".as_bytes()],
        ] {
            let fault = read(wrong).unwrap_err();
            assert!(matches!(fault, Fault::CredentialInvalid { .. }), "{wrong:?}");
            assert!(!fault.to_string().contains(&text[20..40]), "{fault}");
        }
    }
}
