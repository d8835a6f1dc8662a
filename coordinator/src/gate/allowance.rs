//! Memory that the messages of all calls may take together while they come and are worked on.
//!
//! ```text
//!  body of a call ─ beyond its first 4 KiB ─► counted ─► let go of when the call is answered or given up
//!                                               └─ no more room: OVERLOADED, try again soon
//! ```
//!
//! Bounds on single messages and on calls at once multiply to more than a machine has. What workers say all day is small and
//! never counted, so a flood of large messages takes no heartbeat's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use paceline_proto::fault::Fault;

/// Bytes that messages may take together, as they travel; decoded they take up to as much again, or twice that.
const MOST: usize = 512 << 20;
/// Bytes of a call that are free.
const FREE: usize = 4 << 10;
/// When to try again: messages are worked on in milliseconds.
const RETRY: Duration = Duration::from_millis(200);

/// What is left for all.
#[derive(Debug)]
pub(super) struct Allowance {
    taken: AtomicUsize,
    most: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { taken: AtomicUsize::new(0), most: MOST }
    }
}

/// What one call has taken of it, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Allowance>,
    /// Bytes that came.
    came: AtomicUsize,
}

impl Share {
    /// Nothing yet.
    pub(super) fn new(of: &Arc<Allowance>) -> Arc<Self> {
        Arc::new(Self { of: Arc::clone(of), came: AtomicUsize::new(0) })
    }

    /// So many bytes more.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] if there is no room for them.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Fault> {
        let before = self.came.fetch_add(bytes, Ordering::Relaxed);
        let more = counted(before + bytes) - counted(before);
        let taken = self.of.taken.fetch_add(more, Ordering::Relaxed) + more;
        if more > 0 && taken > self.of.most { Err(Fault::Overloaded { retry_after: RETRY }) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(counted(*self.came.get_mut()), Ordering::Relaxed);
    }
}

/// Of so many bytes, those that are counted.
fn counted(came: usize) -> usize {
    came.saturating_sub(FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_share_a_room_and_small_ones_need_none() {
        let room = Arc::new(Allowance { taken: AtomicUsize::new(0), most: 1000 });
        let (first, second, small) = (Share::new(&room), Share::new(&room), Share::new(&room));
        assert_eq!(first.take(FREE).and_then(|()| first.take(600)), Ok(()));
        assert!(matches!(second.take(FREE + 401), Err(Fault::Overloaded { .. })));
        assert_eq!(small.take(FREE), Ok(()), "though the room is full");
        drop(second);
        let third = Share::new(&room);
        assert_eq!(third.take(FREE + 400), Ok(()), "what was refused is let go of too");
        assert!(matches!(first.take(1), Err(Fault::Overloaded { .. })));
        drop((first, third, small));
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}
