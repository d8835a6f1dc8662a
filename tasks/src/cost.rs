//! What a step spends, counted where it is spent.
//!
//! ```text
//!  count(|| forward and backward) ─► layers call products(…), the tape calls held(…) ─► Spent
//! ```
//!
//! Matrix products count their multiplications and additions; every layer counts one operation a value of its output,
//! once forward and twice backward. The tape knows what is alive: what each layer keeps for its backward pass, and the
//! gradients on their way. Counters belong to the thread, as everything in this crate runs on the caller's; outside of
//! [`count`] nobody reads them.

use std::cell::Cell;

/// What one step spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent {
    /// Floating-point operations.
    pub(crate) flop: f64,
    /// Most bytes alive at a time.
    pub(crate) bytes: f64,
}

thread_local! {
    static FLOP: Cell<f64> = const { Cell::new(0.0) };
    static ALIVE: Cell<f64> = const { Cell::new(0.0) };
    static MOST: Cell<f64> = const { Cell::new(0.0) };
}

/// Counts floating-point operations.
pub(crate) fn spend(flop: f64) {
    FLOP.set(FLOP.get() + flop);
}

/// Counts bytes that stay alive, or, if negative, no longer do.
pub(crate) fn hold(bytes: f64) {
    ALIVE.set(ALIVE.get() + bytes);
    MOST.set(MOST.get().max(ALIVE.get()));
}

/// What `work` spent on this thread.
pub(crate) fn count<R>(work: impl FnOnce() -> R) -> (R, Spent) {
    let flop = FLOP.get();
    ALIVE.set(0.0);
    MOST.set(0.0);
    let result = work();
    (result, Spent { flop: FLOP.get() - flop, bytes: MOST.get() })
}
