//! What a step spends, counted where it is spent.
//!
//! ```text
//!  count(|| forward and backward) ─► layers call products(…), the tape calls held(…) ─► Spent
//! ```
//!
//! Matrix products count their multiplications and additions; every layer counts one operation a value of its output,
//! once forward and twice backward. The tape knows what is alive: what each layer keeps for its backward pass, each
//! buffer once however many tensors share it, and the gradients on their way. Counters belong to the thread, as everything in this crate runs on the caller's; outside of
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
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether somebody counts: what is only looked up for the count need not be looked up otherwise.
pub(crate) fn counting() -> bool {
    COUNTING.get()
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
    let outer = COUNTING.replace(true);
    let result = work();
    COUNTING.set(outer);
    (result, Spent { flop: FLOP.get() - flop, bytes: MOST.get() })
}
