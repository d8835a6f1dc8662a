//! Threads that compute pairs, as a worker's do.
//!
//! ```text
//!  closures ─► queue ─► thread 0 │ thread 1 │ …      each is a rayon pool of itself alone
//! ```
//!
//! They outlive a measurement's repeats, so that neither their start nor what they keep between pairs is counted anew.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use crate::failure::{Exit, Failure};

/// As a worker's threads: reverse-mode graphs of long unrolls recurse deeply when they are dropped.
const STACK_BYTES: usize = 16 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// Some threads. Dropping them ends them after the work already queued.
#[derive(Debug)]
pub(super) struct Executors {
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Executors {
    /// Starts `threads` threads.
    pub(super) fn new(threads: usize) -> Result<Self, Failure> {
        let (queue, work) = mpsc::channel::<Work>();
        let work = Arc::new(Mutex::new(work));
        let spawn = |index: usize| {
            let work = Arc::clone(&work);
            let builder = thread::Builder::new().name(format!("bench-{index}")).stack_size(STACK_BYTES);
            builder.spawn(move || execute(&work)).map_err(|error| {
                Failure::new(Exit::CannotCreate, "THREAD", format!("cannot start thread {index} of {threads}"))
                    .cause(error)
                    .help("ask for fewer with --threads")
            })
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// What `run` gives for each number below `count`, in order.
    pub(super) fn map<T: Send + 'static>(
        &self,
        count: usize,
        run: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Failure> {
        let (answer, answers) = mpsc::channel();
        let run = Arc::new(run);
        let queue = self.queue.as_ref().ok_or_else(|| Failure::bug("work for threads that have ended"))?;
        for index in 0..count {
            let (answer, run) = (answer.clone(), Arc::clone(&run));
            // Whoever asked waits for all answers.
            let work = Box::new(move || drop(answer.send((index, run(index)))));
            queue.send(work).map_err(|_| Failure::bug("every computing thread has ended"))?;
        }
        drop(answer);
        let mut done: Vec<(usize, T)> = answers.into_iter().collect();
        if done.len() < count {
            return Err(Failure::bug("a computing thread panicked"));
        }
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, value)| value).collect())
    }
}

impl Drop for Executors {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic was told already, by whoever missed its answer.
            drop(thread.join());
        }
    }
}

fn execute(work: &Mutex<mpsc::Receiver<Work>>) {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    if let Err(error) = &alone {
        eprintln!("warning: no pool of its own for a computing thread, times are not a worker's: {error}");
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
