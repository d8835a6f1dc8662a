//! What the picture shows: the run's last state, and what was seen on the way to it.

use std::time::Duration;

use paceline_proto::model::RunState;

use super::curve::Curve;
use crate::pace::{Pace, Reading};

/// Time between two points of the inner steps a second.
const RATE_EVERY: Duration = Duration::from_millis(500);

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pace: Pace,
    last_rate: Option<Duration>,
    /// The last state.
    pub(crate) state: RunState,
    /// Its pace.
    pub(crate) reading: Reading,
    /// Meta-loss over outer steps, as seen since the watch began.
    pub(crate) losses: Curve,
    /// Inner steps a second over seconds.
    pub(crate) rates: Curve,
    /// Whether the coordinator answers.
    pub(crate) connected: bool,
}

impl Scene {
    /// That begins with this state, at time zero.
    pub(crate) fn new(state: RunState) -> Self {
        let mut pace = Pace::default();
        let reading = pace.observe(Duration::ZERO, &state);
        let mut scene = Self {
            pace,
            last_rate: None,
            state,
            reading,
            losses: Curve::default(),
            rates: Curve::default(),
            connected: true,
        };
        scene.remember_loss();
        scene
    }

    /// Takes in a state seen at `now`, since the first.
    pub(crate) fn observe(&mut self, now: Duration, state: RunState) {
        let moved = state.outer_step != self.state.outer_step;
        self.state = state;
        self.connected = true;
        if moved {
            self.remember_loss();
        }
        self.pass(now);
    }

    /// Lets time pass without a new state: a run that stands still slows down.
    pub(crate) fn pass(&mut self, now: Duration) {
        self.reading = self.pace.observe(now, &self.state);
        if self.last_rate.is_none_or(|last| now.saturating_sub(last) >= RATE_EVERY)
            && let Some(rate) = self.reading.inner_per_second
        {
            self.rates.push(now.as_secs_f64(), rate);
            self.last_rate = Some(now);
        }
    }

    /// Share of the outer steps that are folded, 0 to 1.
    pub(crate) fn done(&self) -> f64 {
        (self.state.outer_step as f64 / self.state.spec.outer.steps.max(1) as f64).clamp(0.0, 1.0)
    }

    fn remember_loss(&mut self) {
        if let Some(loss) = self.state.meta_loss {
            self.losses.push(self.state.outer_step as f64, loss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::tests::state;

    #[test]
    fn a_loss_is_remembered_once_a_step_and_a_stall_shows() {
        let mut scene = Scene::new(state(1, 100, Some(2.0)));
        scene.observe(Duration::from_secs(1), state(2, 1100, Some(1.5)));
        scene.observe(Duration::from_secs(1), state(2, 1100, Some(1.5)));
        assert_eq!(scene.losses.points(), [(1.0, 2.0), (2.0, 1.5)]);
        let running = scene.reading.inner_per_second.unwrap();
        scene.pass(Duration::from_secs(10));
        assert!(scene.reading.inner_per_second.unwrap() < running / 5.0);
        assert_eq!(scene.rates.points().len(), 2);
        assert!((scene.done() - 2.0 / scene.state.spec.outer.steps as f64).abs() < 1e-12);
    }
}
