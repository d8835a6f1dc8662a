//! The executor: a fixed number of threads that compute, apart from the threads that talk.
//!
//! ```text
//!  run(closure) ─► queue ─► thread 0 │ thread 1 │ …      each: 16 MiB stack, a rayon pool of itself alone
//!       ◄──────── oneshot ────────┘
//! ```
//!
//! Each thread is its own one-thread rayon pool, so whatever gemm or candle hands to rayon stays on that thread: cores
//! are shared by pairs, never inside a pair, and no other thread's load reaches a pair's timing or order of summation.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::{Error, Result};

/// Reverse-mode graphs of long unrolls recurse deeply when they are dropped.
const STACK_BYTES: usize = 16 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// A closure panicked; the text is its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(String);

/// The threads that compute. Dropping it ends them after the work already queued.
#[derive(Debug)]
pub struct Pool {
    /// Its length is bounded by the pairs of the one lease that is computed at a time. `None` only while dropping.
    queue: Option<mpsc::Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn new(threads: usize) -> Result<Self> {
        let (queue, work) = mpsc::channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        let spawn = |index| {
            let work = Arc::clone(&work);
            std::thread::Builder::new()
                .name(format!("executor-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || execute(&work))
                .map_err(|source| Error::Thread { index, source })
        };
        let threads = (0..threads).map(spawn).collect::<Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Queues a closure. Its value, or its panic, comes back.
    pub fn run<T, F>(&self, closure: F) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(closure)).map_err(|panic| Panicked(message(&*panic)));
            // Whoever asked may have gone; then nobody wants the value.
            drop(answer.send(outcome));
        });
        let queue = self.queue.as_ref().expect("the queue lives until the pool is dropped");
        queue.send(work).expect("executor threads outlive the queue: they catch every panic");
        async move { answered.await.unwrap_or_else(|_| Err(Panicked("the executor ended".into()))) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread catches the panics of its work, so it cannot have ended by one.
            drop(thread.join());
        }
    }
}

fn execute(work: &Mutex<mpsc::Receiver<Work>>) {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(error) = &alone {
        tracing::warn!(%error, "no rayon pool for this executor thread: it shares the process-wide one");
    }
    loop {
        // The lock is held while waiting: one idle thread waits for work, the others wait for the lock.
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(),
            Err(mpsc::RecvError) => return,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_thread_is_a_rayon_pool_of_itself() {
        let pool = Pool::new(2).unwrap();
        let inside = || {
            let caller = std::thread::current().id();
            (rayon::current_num_threads(), rayon::join(|| std::thread::current().id() == caller, || true).0)
        };
        for _ in 0..4 {
            assert_eq!(pool.run(inside).await, Ok((1, true)));
        }
    }

    #[tokio::test]
    async fn a_panic_comes_back_and_the_thread_goes_on() {
        let pool = Pool::new(1).unwrap();
        let lanes = 3;
        assert_eq!(pool.run(move || -> u8 { panic!("lane {lanes}") }).await, Err(Panicked("lane 3".into())));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_runs_at_the_same_time_on_all_threads() {
        let pool = Pool::new(3).unwrap();
        let meet = Arc::new(std::sync::Barrier::new(3));
        let meeting = || {
            let meet = Arc::clone(&meet);
            pool.run(move || meet.wait().is_leader())
        };
        let met = [meeting(), meeting(), meeting()];
        let mut leaders = 0;
        for one in met {
            leaders += u32::from(one.await.unwrap());
        }
        assert_eq!(leaders, 1);
    }
}
