//! Whether a call is gRPC at all, and how long its caller waits.

use std::time::Duration;

use paceline_proto::fault::{Fault, FieldFault};
use tonic::codegen::http;
use tonic::codegen::http::{HeaderMap, Method, StatusCode, header};

/// Longest piece of a header that is repeated in a refusal.
const SHOWN: usize = 60;
/// Digits of a deadline, as gRPC has them.
const DIGITS: usize = 8;

/// What is wrong with a request that is no gRPC call, and the status of HTTP that says so to whatever sent it.
pub(super) fn foreign<B>(request: &http::Request<B>) -> Option<(StatusCode, Fault)> {
    if request.method() != Method::POST {
        let reason = format!("is {}, must be POST: this port speaks gRPC", request.method());
        return Some((StatusCode::METHOD_NOT_ALLOWED, invalid("method", reason)));
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| is_grpc(kind.as_bytes())) {
        return None;
    }
    let found = kind.map_or_else(|| "missing".to_owned(), shown);
    let reason = format!("is {found}, must be application/grpc: this port speaks gRPC");
    Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, invalid("content-type", reason)))
}

/// gRPC with protobuf; gRPC-Web and other forms of messages begin alike.
fn is_grpc(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// How long the caller waits for the answer, if it says so.
///
/// # Errors
/// [`Fault::FieldsInvalid`].
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(text) = headers.get("grpc-timeout") else { return Ok(None) };
    let parse = || {
        let (digits, unit) = text.to_str().ok()?.split_at_checked(text.len().checked_sub(1)?)?;
        let sound = (1..=DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = sound.then(|| digits.parse().ok())??;
        Some(match unit {
            "H" => Duration::from_secs(count * 3600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    };
    parse().map(Some).ok_or_else(|| {
        let must = "must be one to eight digits and one of H, M, S, m, u, n";
        invalid("grpc-timeout", format!("is {}, {must}", shown(text)))
    })
}

/// A header in a refusal: it comes from outside.
fn shown(value: &http::HeaderValue) -> String {
    let text: String = String::from_utf8_lossy(value.as_bytes()).chars().take(SHOWN).collect();
    format!("{text:?}")
}

fn invalid(field: &str, reason: String) -> Fault {
    Fault::FieldsInvalid(vec![FieldFault { field: field.to_owned(), reason }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_with_protobuf_is_a_call() {
        let status = |method: &str, kind: Option<&str>| {
            let mut request = http::Request::builder().method(method).uri("/a.B/C");
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            foreign(&request.body(()).unwrap()).map(|(status, _)| status.as_u16())
        };
        for kind in
            ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8", "Application/GRPC"]
        {
            assert_eq!(status("POST", Some(kind)), None, "{kind}");
            assert_eq!(status("GET", Some(kind)), Some(405), "{kind}");
        }
        let others = ["", "text/html", "application/json", "application/grpc-web", "application/grpc+json", "grpc"];
        for kind in others.map(Some).into_iter().chain([None]) {
            assert_eq!(status("POST", kind), Some(415), "{kind:?}");
        }
    }

    #[test]
    fn deadlines_are_read_strictly() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            deadline(&headers)
        };
        assert_eq!(deadline(&HeaderMap::new()), Ok(None));
        for (text, seconds) in
            [("0n", 0.0), ("1S", 1.0), ("31536000S", 31_536_000.0), ("99999999H", 359_999_996_400.0), ("5m", 0.005)]
        {
            assert_eq!(read(text), Ok(Some(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["", "S", "5", "-1S", "+1S", "1.5S", "123456789S", "5s", "5 S", "soon", "\u{e9}", "1\u{e9}"] {
            let fault = read(text).unwrap_err();
            assert!(fault.to_string().contains("grpc-timeout: is"), "{text}: {fault}");
        }
    }
}
