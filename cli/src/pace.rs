//! How fast a run goes, from states seen now and then.
//!
//! ```text
//!  (time, outer step, inner steps) … last 20 s … ─► inner steps/s, outer steps/s ─► time left
//!  meta-losses … last 20 outer steps …            ─► smoothed meta-loss
//! ```
//!
//! Time comes in as a value, so nothing here reads a clock.

use std::collections::VecDeque;
use std::time::Duration;

use paceline_proto::model::RunState;

/// Seconds of history that a rate is taken over.
const HISTORY: Duration = Duration::from_secs(20);
/// Outer steps that a smoothed meta-loss is the mean of.
const SMOOTHED_STEPS: usize = 20;

/// Recent history of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    samples: VecDeque<Sample>,
    losses: VecDeque<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at: Duration,
    outer_step: u64,
    inner_steps: u64,
}

/// What is shown of a running run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// Mean of the last meta-losses.
    pub(crate) meta_loss: Option<f64>,
    /// Inner steps a second, all lanes; `None` until two states were seen.
    pub(crate) inner_per_second: Option<f64>,
    /// Time until the last outer step, at this pace.
    pub(crate) left: Option<Duration>,
}

impl Pace {
    /// Takes in a state seen at `now` (since any fixed moment) and returns what to show.
    pub(crate) fn observe(&mut self, now: Duration, state: &RunState) -> Reading {
        let sample = Sample { at: now, outer_step: state.outer_step, inner_steps: state.inner_steps };
        let moved = self.samples.back().is_none_or(|last| last.outer_step != sample.outer_step);
        if moved {
            if let Some(loss) = state.meta_loss.filter(|loss| loss.is_finite()) {
                self.losses.push_back(loss);
            }
            if self.losses.len() > SMOOTHED_STEPS {
                self.losses.pop_front();
            }
            self.samples.push_back(sample);
        }
        while self.samples.len() > 2 && now.saturating_sub(self.samples[0].at) > HISTORY {
            self.samples.pop_front();
        }
        let steps = state.spec.outer.steps;
        let (inner_per_second, outer_per_second) = self.rates(now);
        let left = outer_per_second
            .filter(|rate| *rate > 0.0)
            .and_then(|rate| Duration::try_from_secs_f64(steps.saturating_sub(state.outer_step) as f64 / rate).ok());
        Reading { meta_loss: self.meta_loss(), inner_per_second, left }
    }

    fn meta_loss(&self) -> Option<f64> {
        (!self.losses.is_empty()).then(|| self.losses.iter().sum::<f64>() / self.losses.len() as f64)
    }

    fn rates(&self, now: Duration) -> (Option<f64>, Option<f64>) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return (None, None) };
        let seconds = now.saturating_sub(first.at).as_secs_f64();
        if self.samples.len() < 2 || seconds <= 0.0 {
            return (None, None);
        }
        let rate = |from: u64, to: u64| Some(to.saturating_sub(from) as f64 / seconds);
        (rate(first.inner_steps, last.inner_steps), rate(first.outer_step, last.outer_step))
    }
}

/// A number with at most four digits and a suffix, for example `12.3k`.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1}G", v / 1e9),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

/// A time as people read it, for example `2m05s`.
pub(crate) fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::recipe::tests::quickstart;
    use paceline_optimizer_core::ThetaHash;
    use paceline_proto::model::{Ledger, RunStatus};

    /// A running state of the quick start.
    pub(crate) fn state(outer_step: u64, inner_steps: u64, meta_loss: Option<f64>) -> RunState {
        RunState {
            run: "quickstart-0badcafe".parse().expect("a valid id"),
            spec: quickstart(),
            status: RunStatus::Running,
            reason: String::new(),
            outer_step,
            meta_loss,
            grad_norm: meta_loss.map(|_| 1.0),
            variance: Default::default(),
            inner_steps,
            diverged_lanes: 0,
            theta_hash: ThetaHash([0; 32]),
            durable_checkpoint: 0,
            workers: 1,
            ledger: Ledger::default(),
            costs: Vec::new(),
            entries: Vec::new(),
        }
    }

    #[test]
    fn a_steady_run_shows_its_rate_and_the_time_left() {
        let mut pace = Pace::default();
        let steps = quickstart().outer.steps;
        assert_eq!(pace.observe(Duration::ZERO, &state(0, 0, None)).inner_per_second, None);
        let mut reading = None;
        for step in 1..=100 {
            let seconds = Duration::from_millis(500 * step);
            reading = Some(pace.observe(seconds, &state(step, 640 * step, Some(2.0))));
        }
        let reading = reading.expect("100 states were seen");
        assert_eq!(reading.meta_loss, Some(2.0));
        assert!((reading.inner_per_second.expect("known") - 1280.0).abs() < 1.0, "{reading:?}");
        let left = reading.left.expect("known").as_secs_f64();
        assert!((left - (steps - 100) as f64 / 2.0).abs() < 1.0, "{reading:?}");
    }

    #[test]
    fn a_stalled_run_slows_down_instead_of_keeping_its_last_rate() {
        let mut pace = Pace::default();
        pace.observe(Duration::ZERO, &state(0, 0, None));
        let fast = pace.observe(Duration::from_secs(1), &state(1, 1000, Some(1.0)));
        let slow = pace.observe(Duration::from_secs(10), &state(1, 1000, Some(1.0)));
        assert!(slow.inner_per_second < fast.inner_per_second, "{slow:?} {fast:?}");
    }

    #[test]
    fn the_meta_loss_is_the_mean_of_the_last_steps_and_skips_what_is_not_finite() {
        let mut pace = Pace::default();
        let mut last = None;
        for step in 0..40_u32 {
            let loss = if step == 30 { f64::NAN } else { f64::from(step) };
            last = pace.observe(Duration::from_secs(1), &state(u64::from(step), 0, Some(loss))).meta_loss;
        }
        // Steps 19 to 39 without 30: twenty losses.
        let expected = f64::from((19..40).sum::<u32>() - 30) / 20.0;
        assert_eq!(last, Some(expected));
    }

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!([short(0.0), short(12.34), short(1234.0), short(12_345.0)], ["0.0", "12.3", "1234", "12.3k"]);
        let text = |seconds| time_text(Duration::from_secs(seconds));
        assert_eq!([text(5), text(125), text(7260)], ["5s", "2m05s", "2h01m"]);
    }
}
