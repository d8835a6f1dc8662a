//! Whether a request that would change something comes from a page of ours, opened on this machine.
//!
//! The admin listener speaks plain HTTP, so a token may travel to it on this machine's own address only. Any web page that a
//! person has open can send requests there, and a name that an attacker's DNS points to 127.0.0.1 makes a browser take the
//! attacker's page for one of ours. So the names are compared: what the browser asked (`Host`) must be a name of this machine,
//! and what the form stood on (`Origin`, which browsers set and pages cannot) must be the same name and port.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};

/// Whether tokens may be entered and changes asked for here: the connection comes from this machine, and the browser knows the
/// page by a name of this machine.
pub(super) fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && host(headers).is_some_and(names_this_machine)
}

/// Whether a form was sent by a page of ours. What sends no `Origin` is no browser, or an old one.
pub(super) fn is_own_form(headers: &HeaderMap) -> bool {
    let origin = only(headers, "origin").and_then(|origin| origin.strip_prefix("http://"));
    host(headers).is_some_and(|host| origin == Some(host))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    only(headers, header::HOST.as_str())
}

/// A header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_local() {
        let local = |peer: &str, host: &str| is_local(peer.parse().unwrap(), &headers(&[("host", host)]));
        for host in ["127.0.0.1:7701", "localhost:7701", "[::1]:7701", "localhost"] {
            assert!(
                local("127.0.0.1:5", host) && local("[::1]:5", host) && local("[::ffff:127.0.0.1]:5", host),
                "{host}"
            );
            assert!(!local("10.0.0.7:5", host), "{host} from another machine");
        }
        for host in
            ["evil.example:7701", "localhost.evil.example:7701", "127.0.0.1.nip.io", "evil@localhost:1", "", ":7701"]
        {
            assert!(!local("127.0.0.1:5", host), "{host:?}");
        }
        assert!(!is_local("127.0.0.1:5".parse().unwrap(), &headers(&[])), "no name at all");
        let two = headers(&[("host", "localhost:1"), ("host", "evil.example")]);
        assert!(!is_local("127.0.0.1:5".parse().unwrap(), &two));
    }

    #[test]
    fn a_form_of_another_page_is_not_ours() {
        let own = |origin: &str| is_own_form(&headers(&[("host", "localhost:7701"), ("origin", origin)]));
        assert!(own("http://localhost:7701"));
        for origin in [
            "null",
            "",
            "http://localhost:7702",
            "http://localhost",
            "https://localhost:7701",
            "http://127.0.0.1:7701",
            "http://evil.example",
            "http://localhost:7701.evil.example",
        ] {
            assert!(!own(origin), "{origin:?}");
        }
        assert!(!is_own_form(&headers(&[("host", "localhost:7701")])), "no browser");
    }
}
