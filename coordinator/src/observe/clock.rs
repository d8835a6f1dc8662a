//! How long the phases of an outer step take. Pure: whoever asks says what time it is.
//!
//! ```text
//!  step opens ──dispatch──► last slot leased ──wait──► all filled ──aggregate──► folded ──commit──► durable
//! ```

use std::time::Duration;

/// A phase of an outer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Until somebody works on every slot.
    Dispatch,
    /// Until every slot is filled.
    Wait,
    /// Until theta has moved.
    Aggregate,
    /// Until that is durable.
    Commit,
}

impl Phase {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Wait => "wait",
            Self::Aggregate => "aggregate",
            Self::Commit => "commit",
        }
    }
}

/// Where one run's step stands, in time since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepClock {
    opened: Option<Duration>,
    dispatched: Option<Duration>,
    filled: Option<Duration>,
}

impl StepClock {
    /// A lease was given and `open` slots are left that nobody works on. Ends the dispatch, once a step.
    pub(crate) fn leased(&mut self, open: usize, now: Duration) -> Option<(Phase, Duration)> {
        let opened = *self.opened.get_or_insert(now);
        if open > 0 || self.dispatched.is_some() {
            return None;
        }
        self.dispatched = Some(now);
        Some((Phase::Dispatch, now.saturating_sub(opened)))
    }

    /// Every slot is filled.
    pub(crate) fn filled(&mut self, now: Duration) -> Option<(Phase, Duration)> {
        self.filled = Some(now);
        self.dispatched.map(|dispatched| (Phase::Wait, now.saturating_sub(dispatched)))
    }

    /// Theta has moved, and the next step is open.
    pub(crate) fn folded(&mut self, now: Duration) -> Option<(Phase, Duration)> {
        let filled = self.filled;
        *self = Self { opened: Some(now), ..Self::default() };
        filled.map(|filled| (Phase::Aggregate, now.saturating_sub(filled)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_step_has_its_phases_in_order() {
        let mut clock = StepClock::default();
        assert_eq!(clock.leased(1, S), None, "a slot is still open");
        assert_eq!(clock.leased(0, 3 * S), Some((Phase::Dispatch, 2 * S)));
        assert_eq!(clock.leased(0, 4 * S), None, "a hedge or a retry dispatches nothing");
        assert_eq!(clock.filled(9 * S), Some((Phase::Wait, 6 * S)));
        assert_eq!(clock.folded(10 * S), Some((Phase::Aggregate, S)));
        assert_eq!(clock.leased(0, 12 * S), Some((Phase::Dispatch, 2 * S)), "from when the step opened");
    }

    #[test]
    fn a_restart_in_the_middle_times_nothing_wrong() {
        let mut clock = StepClock::default();
        assert_eq!(clock.filled(S), None, "nobody saw the dispatch");
        assert_eq!(clock.folded(2 * S), Some((Phase::Aggregate, S)));
        assert_eq!(StepClock::default().folded(S), None);
    }
}
