//! Threads for a fold, for as long as it takes.
//!
//! ```text
//!  pieces ─► queue ─┬─► calling thread
//!                   ├─► thread 1        each takes the next piece until none is left
//!                   └─► thread 2
//! ```
//!
//! A fold is seconds of arithmetic at most a few times a minute, so threads are made for it and end with it.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use paceline_optimizer_core::work::{Executor, Piece};

/// Runs pieces of work on this many threads, the calling one among them. Their number does not show in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// This many.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self(threads)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.get()
    }

    /// As many as the machine runs at once.
    pub fn all() -> Self {
        Self(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

impl Executor for Threads {
    fn run(&self, pieces: Vec<Piece<'_>>) {
        let helpers = self.0.get().min(pieces.len()).saturating_sub(1);
        let queue = Mutex::new(pieces.into_iter());
        // A piece runs outside the lock, so a panic in one cannot leave the queue half changed.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(piece) = next() {
                piece();
            }
        };
        thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(work);
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_piece_runs_once_and_threads_run_at_once() {
        for threads in [1, 2, 5] {
            let executor = Threads::new(NonZeroUsize::new(threads).unwrap());
            let mut done = vec![0; 100];
            let pieces = done.iter_mut().map(|done| -> Piece<'_> { Box::new(move || *done += 1) });
            executor.run(pieces.collect());
            assert_eq!(done, [1; 100]);
            executor.run(Vec::new());
            // As many pieces as threads, each waiting for all others.
            let (barrier, seen) = (Barrier::new(threads), Mutex::new(HashSet::new()));
            let meet = || {
                barrier.wait();
                seen.lock().unwrap().insert(thread::current().id());
            };
            executor.run((0..threads).map(|_| -> Piece<'_> { Box::new(meet) }).collect());
            assert_eq!(seen.lock().unwrap().len(), threads);
        }
    }
}
