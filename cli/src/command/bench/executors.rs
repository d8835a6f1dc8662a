//! A worker's threads, for a caller that waits.
//!
//! They outlive a measurement's repeats, so that neither their start nor what they keep between pairs is counted anew.

use std::sync::Arc;

use paceline_worker::Pool;
use tokio::runtime::{Builder, Runtime};

use crate::failure::{Exit, Failure};

/// Some threads. Dropping them ends them after the work already queued.
#[derive(Debug)]
pub(super) struct Executors {
    pool: Pool,
    /// Only waits for answers.
    waiting: Runtime,
}

impl Executors {
    /// Starts `threads` threads, or one.
    pub(super) fn new(threads: usize) -> Result<Self, Failure> {
        let pool = Pool::new(threads.max(1)).map_err(|error| {
            Failure::new(Exit::CannotCreate, "THREAD", format!("cannot start {threads} computing threads"))
                .cause(error)
                .help("ask for fewer with --threads")
        })?;
        Ok(Self { pool, waiting: Builder::new_current_thread().build().map_err(Failure::bug)? })
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.pool.threads()
    }

    /// What `run` gives for each number below `count`, in order.
    pub(super) fn map<T: Send + 'static>(
        &self,
        count: usize,
        run: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Failure> {
        let run = Arc::new(run);
        let queue = |index| {
            let run = Arc::clone(&run);
            self.pool.run(move || run(index))
        };
        // All are queued before the first is waited for.
        let answers: Vec<_> = (0..count).map(queue).collect();
        answers.into_iter().map(|answer| self.waiting.block_on(answer).map_err(Failure::bug)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_from_threads_alone_in_their_pool() {
        let executors = Executors::new(3).unwrap();
        for _ in 0..2 {
            let answers = executors.map(20, |index| (index, rayon::current_num_threads())).unwrap();
            assert_eq!(answers, (0..20).map(|index| (index, 1)).collect::<Vec<_>>());
        }
        assert_eq!(executors.count(), 3);
    }

    #[test]
    fn a_panic_is_a_failure() {
        let executors = Executors::new(1).unwrap();
        let failed = executors.map(2, |index| assert_eq!(index, 0, "the second fails")).unwrap_err();
        assert!(failed.message.contains("panicked"), "{}", failed.message);
    }
}
