//! What operators and their tools ask of a program, over plain HTTP on a port of its own.
//!
//! ```text
//!  kubelet ─► /healthz /readyz /startupz ─┐
//!  scraper ─► /metrics                    ├─► Probes: the program says how it is
//!  person  ─► /version, pages             ┘
//! ```
//!
//! None of these routes changes anything. It is bound before the program does its slow work, so that a probe
//! or a scrape during start-up is answered. Beside it: traces, and what `--print-config` prints.

mod address;
mod exposition;
mod headers;
mod health;
mod probe;
mod routes;
mod sampling;
mod settings;
mod traces;

pub use address::AdminAddress;
pub use exposition::exposition;
pub use health::{Check, Report};
pub use probe::ask;
pub use routes::{Probes, Version, routes, serve};
pub use sampling::RUN;
pub use settings::{Origin, Parsed, Setting, table};
pub use traces::{Traces, place, remote, tracing_is_on};
