//! The entries of a run's mixture for people: weight, progress and cost of each.
//!
//! ```text
//!  family         weight   contributions   meta-loss first   latest    change   diverged lanes   cost of a step
//!  image_mlp         0.5             412            1.8213   0.9107   -50.0 %                0   1.2M FLOP, 0.31 ms
//!  image_conv #1     1.5             …                            (the index where a family occurs twice)
//! ```

use paceline_proto::model::{EntryProgress, RunState, SpanLoss, TaskCost};
use serde_json::{Value, json};

use crate::evaluation::table::plain;
use crate::pace::short;

/// One entry.
struct Entry<'a> {
    index: usize,
    family: &'a str,
    /// Whether another entry is of the same family.
    repeated: bool,
    /// Weight of trajectories that begin now.
    weight: f64,
    /// Share of it in the sum of all.
    share: f64,
    progress: EntryProgress,
    cost: Option<TaskCost>,
}

fn entries(state: &RunState) -> Vec<Entry<'_>> {
    let tasks = &state.spec.tasks;
    let steps = state.spec.outer.steps;
    // After its last step a run begins no trajectory; what is shown is how it ended.
    let now = state.outer_step.min(steps.saturating_sub(1));
    let weights: Vec<f64> = tasks.iter().map(|task| task.weight.value(now, steps)).collect();
    let total: f64 = weights.iter().sum();
    let entry = |(index, task): (usize, &'_ paceline_proto::model::TaskSpec)| Entry {
        index,
        family: &state.spec.tasks[index].family,
        repeated: tasks.iter().filter(|other| other.family == task.family).count() > 1,
        weight: weights[index],
        share: weights[index] / total,
        progress: state.entries.get(index).copied().unwrap_or_default(),
        cost: state.costs.get(index).copied(),
    };
    tasks.iter().enumerate().map(entry).collect()
}

impl Entry<'_> {
    fn label(&self) -> String {
        if self.repeated { format!("{} #{}", self.family, self.index) } else { self.family.to_owned() }
    }

    /// From the first span to the latest, as a share of the first.
    fn change(&self) -> Option<f64> {
        let (first, latest) = (self.progress.first?.meta_loss, self.progress.latest?.meta_loss);
        Some((latest - first) / first.abs()).filter(|change| change.is_finite())
    }

    fn object(&self) -> Value {
        let EntryProgress { contributions, inner_steps, diverged_lanes, first, latest } = self.progress;
        let span = |span: Option<SpanLoss>| {
            span.map(|SpanLoss { from, to, contributions, meta_loss }| {
                json!({"from": from, "to": to, "contributions": contributions, "meta_loss": meta_loss})
            })
        };
        json!({
            "index": self.index,
            "family": self.family,
            "weight": self.weight,
            "share": self.share,
            "contributions": contributions,
            "inner_steps": inner_steps,
            "diverged_lanes": diverged_lanes,
            "first": span(first),
            "latest": span(latest),
            "change": self.change(),
            "flop": self.cost.map(|cost| cost.flop),
            "bytes": self.cost.map(|cost| cost.bytes),
            "seconds": self.cost.and_then(|cost| cost.seconds),
        })
    }
}

/// One object an entry; see `docs/output.md`.
pub(crate) fn objects(state: &RunState) -> Vec<Value> {
    entries(state).iter().map(Entry::object).collect()
}

/// What the cells of a row are.
pub(crate) const COLUMNS: [&str; 8] =
    ["family", "weight", "contributions", "meta-loss first", "latest", "change", "diverged lanes", "cost of a step"];

/// One row an entry, under [`COLUMNS`].
pub(crate) fn rows(state: &RunState) -> Vec<[String; COLUMNS.len()]> {
    let loss = |span: Option<SpanLoss>| span.map_or("–".to_owned(), |span| format!("{:.4}", span.meta_loss));
    let row = |entry: &Entry<'_>| {
        let progress = &entry.progress;
        [
            entry.label(),
            format!("{:.3} ({:.0} %)", entry.weight, 100.0 * entry.share),
            progress.contributions.to_string(),
            loss(progress.first),
            loss(progress.latest),
            entry.change().map_or("–".to_owned(), |change| format!("{:+.1} %", 100.0 * change)),
            progress.diverged_lanes.to_string(),
            entry.cost.map_or("–".to_owned(), cost_text),
        ]
    };
    entries(state).iter().map(row).collect()
}

/// All of them as a table.
pub(crate) fn table(state: &RunState) -> String {
    let mut table = plain(&COLUMNS);
    for row in rows(state) {
        table.add_row(row);
    }
    table.to_string()
}

fn cost_text(cost: TaskCost) -> String {
    let seconds = cost.seconds.map_or(String::new(), |seconds| format!(", {:.2} ms", 1e3 * seconds));
    format!("{} FLOP{seconds}", short(cost.flop))
}

#[cfg(test)]
mod tests {
    use paceline_optimizer_core::optimizer::Schedule;

    use super::*;
    use crate::pace::tests;

    fn mixed() -> RunState {
        let mut state = tests::state(10, 0, None);
        state.spec.outer.steps = 20;
        let mut other = state.spec.tasks[0].clone();
        other.weight = Schedule::Linear { init_value: 0.0, end_value: 2.0, steps: 20 };
        state.spec.tasks.push(other);
        let span = |from, meta_loss| Some(SpanLoss { from, to: from + 2, contributions: 4, meta_loss });
        let (first, latest) = (span(0, 2.0), span(8, 1.5));
        state.entries = vec![
            EntryProgress { contributions: 9, inner_steps: 90, diverged_lanes: 1, first, latest },
            EntryProgress { contributions: 2, first: span(7, 0.5), ..EntryProgress::default() },
        ];
        state.costs = vec![TaskCost { flop: 1.25e6, bytes: 4096.0, seconds: Some(3e-4) }; 2];
        state
    }

    #[test]
    fn each_entry_has_a_row_with_its_weight_now_and_its_change() {
        let text = table(&mixed());
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = "image_mlp #0 1.000 (50 %) 9 2.0000 1.5000 -25.0 % 1 1.2M FLOP, 0.30 ms";
        assert!(rows.iter().any(|row| row.join(" ") == expected), "{text}");
        let expected = "image_mlp #1 1.000 (50 %) 2 0.5000 – – 0 1.2M FLOP, 0.30 ms";
        assert!(rows.iter().any(|row| row.join(" ") == expected), "{text}");
    }

    #[test]
    fn the_objects_have_the_numbers() {
        let objects = objects(&mixed());
        assert_eq!(objects[0]["change"], -0.25);
        assert_eq!(objects[0]["latest"]["from"], 8);
        assert_eq!(objects[1]["latest"], Value::Null);
        assert_eq!((&objects[1]["weight"], &objects[1]["flop"]), (&json!(1.0), &json!(1.25e6)));
    }

    #[test]
    fn a_run_that_has_not_begun_shows_its_mixture() {
        let mut state = mixed();
        (state.entries, state.costs, state.outer_step) = (Vec::new(), Vec::new(), 0);
        let objects = objects(&state);
        assert_eq!((&objects[0]["share"], &objects[1]["share"]), (&json!(1.0), &json!(0.0)));
        assert_eq!((&objects[0]["contributions"], &objects[0]["flop"]), (&json!(0), &Value::Null));
        assert!(table(&state).contains('–'));
    }
}
