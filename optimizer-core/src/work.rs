//! Independent pieces of work, for whoever has threads.
//!
//! ```text
//!  fold ─► pieces (each owns its part of the sum) ─► Executor ─► any order, any threads ─► the same bits
//! ```
//!
//! This crate starts no threads of its own. Where work falls apart into pieces that touch nothing in common, it hands
//! them to an [`Executor`] of the caller's choice. How work is cut never depends on the executor.

/// One piece of work. It may borrow, and it touches nothing that another piece of the same call writes.
pub type Piece<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs pieces of work.
pub trait Executor: Sync {
    /// Runs all pieces, in any order and on any threads, and returns when all are done.
    fn run(&self, pieces: Vec<Piece<'_>>);
}

/// Runs pieces one after another on the calling thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequential;

impl Executor for Sequential {
    fn run(&self, pieces: Vec<Piece<'_>>) {
        for piece in pieces {
            piece();
        }
    }
}
