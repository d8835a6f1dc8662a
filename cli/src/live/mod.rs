//! A run as a live picture in the terminal.
//!
//! ```text
//!  states ─► Scene (history, pace) ─► view ─► Screen ─► the terminal, in its other buffer
//!  keys   ─► Screen ─► q, Esc, Ctrl-C: leave; the run goes on
//! ```
//!
//! Whoever follows a run owns the loop; nothing here asks a coordinator.

mod curve;
mod scene;
mod screen;
mod view;

pub(crate) use scene::Scene;
pub(crate) use screen::Screen;
