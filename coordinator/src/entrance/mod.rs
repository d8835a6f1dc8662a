//! How connections come in.
//!
//! ```text
//!  listener ─► accept ─► at most MOST connections ─► TLS, 5 s at most ─► HTTP/2? ─► first call within 10 s
//!                 │                                   │   ▲                  │
//!                 └ one line a second of refusals ◄───┴───│──────────────────┘
//!                                                         └ certificates, read again when their files change
//! ```

mod accept;
mod connection;
mod greeting;
mod throttle;
mod tls;

pub(crate) use accept::incoming;
pub(crate) use connection::Peer;
pub(crate) use throttle::Throttle;
pub(crate) use tls::Reloaded;
pub use tls::TlsFiles;
