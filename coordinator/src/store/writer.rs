//! The one thread that writes, and its group commit.
//!
//! ```text
//!  actor ─batch 5─► ┌───────┐  takes all that waits: 5, 6, 7
//!        ─batch 6─► │ queue │ ─────────────────────────────► write, one flush ─► "durable up to 7"
//!        ─batch 7─► └───────┘
//! ```

use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, watch};

use super::{Journal, StoreError};
use crate::machine::Record;
use crate::observe::Observer;

/// Batches that may wait for the writer. More only means that the actor stops taking calls until there is room.
const QUEUE: usize = 1024;
/// Batches in one group: bounds the memory of one commit.
const GROUP: usize = 256;

/// Records of one event and their place in the machine's history.
pub(super) type Batch = (u64, Vec<Record>);

/// How far the writer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Everything up to this place is durable.
    pub up_to: u64,
    /// Why nothing more will be written.
    pub broken: Option<String>,
}

/// The writer's thread. It ends when every sender is dropped.
#[derive(Debug)]
pub struct Writer {
    /// Takes batches, in order.
    pub batches: mpsc::Sender<Batch>,
    /// Tells how far it is.
    pub committed: watch::Receiver<Committed>,
    /// Ends with the thread.
    pub thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the system gives no thread.
    pub fn start(journal: Journal) -> Result<Self, StoreError> {
        Self::start_seen(journal, Observer::default())
    }

    /// [`Writer::start`] that tells an observer how long writing takes.
    pub(crate) fn start_seen(journal: Journal, observer: Observer) -> Result<Self, StoreError> {
        let (batches, queue) = mpsc::channel(QUEUE);
        let (tell, committed) = watch::channel(Committed::default());
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(journal, queue, &tell, &observer))
            .map_err(|error| StoreError::Io { reason: format!("start the writer: {error}") })?;
        Ok(Self { batches, committed, thread })
    }
}

fn run(mut journal: Journal, mut queue: mpsc::Receiver<Batch>, tell: &watch::Sender<Committed>, observer: &Observer) {
    observer.journal_holds(journal.result_bytes());
    while let Some((first, records)) = queue.blocking_recv() {
        let mut up_to = first;
        let mut group = vec![records];
        while group.len() < GROUP
            && let Ok((next, records)) = queue.try_recv()
        {
            up_to = next;
            group.push(records);
        }
        match journal.write(&group) {
            Ok(times) => {
                observer.metrics().written(times.whole, &times.flushes);
                observer.journal_holds(journal.result_bytes());
                tell.send_modify(|committed| committed.up_to = up_to);
            }
            Err(error) => {
                // After a failed write nobody knows what this handle holds: it is never used again.
                tracing::error!(%error, "the store can no longer be written");
                tell.send_modify(|committed| committed.broken = Some(error.to_string()));
                return;
            }
        }
    }
}
