//! How many calls there may be at once, by kind: a flood of one kind never takes the places of another.
//!
//! ```text
//!  call ─► bucket of its connection: too fast? ─► place in its lane: none free? ─► service, a minute at most
//!              └───────────── OVERLOADED, with the time to wait ───┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paceline_proto::fault::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls a second that a connection may make, in the long run. A worker makes a few.
const RATE: f64 = 5_000.0;
/// Calls that a connection may make at once after a pause.
const BURST: f64 = 10_000.0;
/// When to try again after a lane was full.
const RETRY: Duration = Duration::from_secs(1);

/// Calls that share their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Probes of health, and reflection.
    Probes,
    /// Heartbeats: never behind anything else.
    Heartbeats,
    /// Long polls for work, which mostly wait.
    Polls,
    /// Results, registrations and what is given back. A result may take 17 MiB of memory.
    Work,
    /// What people and programs ask for.
    People,
    /// Answers that last: watches and downloads.
    Streams,
}

impl Lane {
    const ALL: [Self; 6] = [Self::Probes, Self::Heartbeats, Self::Polls, Self::Work, Self::People, Self::Streams];

    /// Calls at once.
    const fn places(self) -> usize {
        match self {
            Self::Probes => 1_024,
            Self::Heartbeats => 8_192,
            Self::Polls => 32_768,
            Self::Work => 256,
            Self::People => 256,
            Self::Streams => 2_048,
        }
    }
}

/// The places of all lanes.
#[derive(Debug)]
pub(super) struct Lanes([Arc<Semaphore>; Lane::ALL.len()]);

impl Default for Lanes {
    fn default() -> Self {
        Self(Lane::ALL.map(|lane| Arc::new(Semaphore::new(lane.places()))))
    }
}

impl Lanes {
    /// A place, until it is dropped.
    ///
    /// # Errors
    /// [`Fault::Overloaded`].
    pub(super) fn enter(&self, lane: Lane) -> Result<OwnedSemaphorePermit, Fault> {
        let free = Arc::clone(&self.0[lane as usize]).try_acquire_owned();
        free.map_err(|_| Fault::Overloaded { retry_after: RETRY })
    }
}

/// Lets a connection's calls through at [`RATE`], with bursts.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Pace {
    /// Takes one call out.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] with the time until there is one again.
    pub(crate) fn take(&self) -> Result<(), Fault> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Result<(), Fault> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Bucket { left, at } = bucket.unwrap_or(Bucket { left: BURST, at: now });
        let left = BURST.min(left + now.saturating_duration_since(at).as_secs_f64() * RATE);
        let enough = left >= 1.0;
        *bucket = Some(Bucket { left: if enough { left - 1.0 } else { left }, at: now });
        if enough {
            Ok(())
        } else {
            Err(Fault::Overloaded { retry_after: Duration::from_secs_f64((1.0 - left) / RATE) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_do_not_take_each_others_places() {
        let lanes = Lanes::default();
        let held: Vec<_> = (0..Lane::People.places()).map(|_| lanes.enter(Lane::People).unwrap()).collect();
        assert!(matches!(lanes.enter(Lane::People), Err(Fault::Overloaded { .. })));
        for other in Lane::ALL.into_iter().filter(|lane| *lane != Lane::People) {
            assert!(lanes.enter(other).is_ok(), "{other:?}");
        }
        drop(held);
        assert!(lanes.enter(Lane::People).is_ok());
    }

    #[test]
    fn a_connection_may_burst_and_then_keeps_its_pace() {
        let pace = Pace::default();
        let start = Instant::now();
        let taken = |at: Instant| (0..100_000).take_while(|_| pace.take_at(at).is_ok()).count();
        assert_eq!(taken(start), 10_000);
        let Err(Fault::Overloaded { retry_after }) = pace.take_at(start) else { panic!("it was let through") };
        assert!(retry_after > Duration::ZERO && retry_after < Duration::from_millis(1), "{retry_after:?}");
        assert_eq!(taken(start + Duration::from_millis(100)), 500);
        assert_eq!(taken(start + Duration::from_secs(3600)), 10_000, "no more than a burst is saved up");
    }
}
