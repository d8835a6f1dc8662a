//! A run's progress: a bar on a terminal, a line every few seconds elsewhere, or one JSON object a state.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paceline_proto::model::RunState;
use serde_json::json;

use crate::console::{Console, Format};
use crate::mixture;
use crate::pace::{Pace, Reading, short, time_text};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how a run goes.
#[derive(Debug)]
pub(crate) struct RunProgress {
    console: Console,
    began: Instant,
    pace: Pace,
    last_line: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl RunProgress {
    /// For a run of so many outer steps.
    pub(crate) fn new(console: Console, steps: u64) -> Self {
        let bar = on_terminal(console).then(|| bar(console, steps, "outer step {pos}/{len} {msg}"));
        Self { console, began: Instant::now(), pace: Pace::default(), last_line: None, bar }
    }

    /// Shows a state.
    pub(crate) fn observe(&mut self, state: &RunState) {
        let reading = self.pace.observe(self.began.elapsed(), state);
        if self.console.format == Format::Json {
            self.console.emit(&event(state, &reading));
        } else if let Some(bar) = &self.bar {
            bar.set_position(state.outer_step);
            bar.set_message(describe(state, &reading));
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) || state.status.is_final() {
            self.last_line = Some(Instant::now());
            eprintln!("outer step {}/{} {}", state.outer_step, state.spec.outer.steps, describe(state, &reading));
        }
    }

    /// Leaves the bar as it stands.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Progress over a number of equal pieces of work: a bar on a terminal, else nothing but a line at the beginning.
pub(crate) fn pieces(console: Console, what: &str, count: u64) -> ProgressBar {
    if on_terminal(console) {
        return bar(console, count, &format!("{what} {{pos}}/{{len}} {{msg}}"));
    }
    if console.format == Format::Text {
        eprintln!("{what}: {count}");
    }
    ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::hidden())
}

/// Whether people see standard error as it is written.
pub(crate) fn on_terminal(console: Console) -> bool {
    console.format == Format::Text && std::io::stderr().is_terminal()
}

fn bar(console: Console, length: u64, rest: &str) -> ProgressBar {
    let colour = if console.color { ".cyan/blue" } else { "" };
    let template = format!("{{bar:24{colour}}} {rest}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style.progress_chars("━╸─"));
    bar.tick();
    bar
}

fn describe(state: &RunState, reading: &Reading) -> String {
    let mut parts = Vec::new();
    if let Some(loss) = reading.meta_loss {
        parts.push(format!("meta-loss {loss:.4}"));
    }
    if let Some(rate) = reading.inner_per_second {
        parts.push(format!("{} inner steps/s", short(rate)));
    }
    if let Some(left) = reading.left.filter(|_| !state.status.is_final()) {
        parts.push(format!("{} left", time_text(left)));
    }
    if !state.reason.is_empty() {
        parts.push(format!("({})", state.reason));
    }
    parts.join(", ")
}

/// The JSON event of a state; see `docs/output.md`.
fn event(state: &RunState, reading: &Reading) -> serde_json::Value {
    json!({
        "event": "progress",
        "run": state.run,
        "status": status_word(state),
        "outer_step": state.outer_step,
        "steps": state.spec.outer.steps,
        "meta_loss": state.meta_loss,
        "meta_loss_smoothed": reading.meta_loss,
        "grad_norm": state.grad_norm,
        "signal_to_noise": state.variance.signal_to_noise,
        "antithetic_correlation": state.variance.antithetic_correlation,
        "diverged_lanes": state.diverged_lanes,
        "inner_steps": state.inner_steps,
        "mixture": mixture::objects(state),
        "inner_steps_per_second": reading.inner_per_second,
        "seconds_left": reading.left.map(|left| left.as_secs()),
        "workers": state.workers,
        "reason": state.reason,
    })
}

/// The status in one lower-case word.
pub(crate) fn status_word(state: &RunState) -> &'static str {
    use paceline_proto::model::RunStatus;
    match state.status {
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Completed => "completed",
        RunStatus::Stopped => "stopped",
        RunStatus::Failed { .. } => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::tests::state;

    #[test]
    fn a_state_is_described_in_words_and_as_an_event() {
        let mut state = state(3, 900, Some(1.5));
        let reading =
            Reading { meta_loss: Some(1.5), inner_per_second: Some(12_345.0), left: Some(Duration::from_secs(61)) };
        assert_eq!(describe(&state, &reading), "meta-loss 1.5000, 12.3k inner steps/s, 1m01s left");
        state.reason = "no workers".into();
        assert!(describe(&state, &reading).ends_with("(no workers)"));
        let event = event(&state, &reading);
        assert_eq!(event["outer_step"], 3);
        assert_eq!(event["seconds_left"], 61);
        assert_eq!(event["status"], "running");
    }
}
