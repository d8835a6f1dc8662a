//! Where a coordinator listens.

use std::time::Duration;

use tonic::transport::{Endpoint, Uri};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead connection is noticed within interval and timeout together, even while no call is made.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An address no coordinator can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("coordinator address {address:?}: {reason}; give host:port, for example 127.0.0.1:7700")]
pub struct InvalidAddress {
    /// The address given.
    pub address: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An endpoint with Paceline's deadlines and keep-alive. Takes `host:port`, `http://host:port` or `https://host:port`,
/// which only [`Access::link`](super::Access::link) can connect to. Does not connect yet.
///
/// # Errors
/// [`InvalidAddress`].
pub fn endpoint(address: &str) -> Result<Endpoint, InvalidAddress> {
    let invalid = |reason: &str| InvalidAddress { address: address.to_owned(), reason: reason.to_owned() };
    let text = address.trim();
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|error| invalid(&format!("{error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(invalid("the scheme must be http or https")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid("names no host"));
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err(invalid("names no port from 1 to 65535"));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err(invalid("has something after the port"));
    }
    let endpoint = Endpoint::from(uri)
        .user_agent(concat!("paceline/", env!("CARGO_PKG_VERSION")))
        .expect("a version is a valid header value");
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn addresses_with_and_without_scheme_are_taken() {
        for (address, uri) in [
            ("127.0.0.1:7700", "http://127.0.0.1:7700/"),
            ("http://coordinator.example:7700", "http://coordinator.example:7700/"),
            ("http://localhost:7700/", "http://localhost:7700/"),
            ("https://coordinator.example:7700", "https://coordinator.example:7700/"),
            (" [::1]:7700 ", "http://[::1]:7700/"),
        ] {
            assert_eq!(endpoint(address).unwrap().uri().to_string(), uri);
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_cure() {
        for (address, reason) in [
            ("", "empty"),
            ("localhost", "names no port"),
            ("localhost:0", "names no port"),
            ("https://localhost", "names no port"),
            ("ftp://localhost:7700", "scheme must be http or https"),
            ("localhost:7700/runs", "after the port"),
            (":7700", ""),
            ("a b:7700", "invalid"),
        ] {
            let error = endpoint(address).expect_err(address).to_string();
            assert!(error.contains(reason) && error.ends_with("127.0.0.1:7700"), "{address:?}: {error}");
        }
    }
}
