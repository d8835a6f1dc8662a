//! Where the admin listener is: what a person writes, and what it means.

use std::fmt;
use std::str::FromStr;

/// A wish for an admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// No listener.
    Off,
    /// `host:port`, not yet looked up.
    At(String),
}

impl AdminAddress {
    /// What stands beside a service that listens on `listen` when nobody says: this machine's own address, on the port
    /// after the service's, so that two services on one machine do not meet. Any free port where the service takes one.
    pub fn beside(listen: &str) -> Self {
        let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(0);
        // There is no port after the last.
        let next = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
        Self::At(format!("127.0.0.1:{next}"))
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ if text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) => {
                Ok(Self::At(text.to_owned()))
            }
            _ => Err(format!("{text:?} is neither off nor host:port, for example 127.0.0.1:7701")),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_service_is_the_next_port_of_this_machine() {
        for (listen, admin) in [
            ("127.0.0.1:7700", "127.0.0.1:7701"),
            ("0.0.0.0:9000", "127.0.0.1:9001"),
            ("[::]:9000", "127.0.0.1:9001"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:65535", "127.0.0.1:0"),
            ("nonsense", "127.0.0.1:0"),
        ] {
            assert_eq!(AdminAddress::beside(listen).to_string(), admin, "{listen}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["off", "127.0.0.1:7701", "[::1]:0", "localhost:80"] {
            assert_eq!(good.parse::<AdminAddress>().unwrap().to_string(), good);
        }
        for bad in ["", "on", "7701", ":7701", "host:", "host:70000", "host:-1"] {
            let refused = bad.parse::<AdminAddress>().unwrap_err();
            assert!(refused.contains("host:port"), "{bad:?}: {refused}");
        }
    }
}
